//! Programs as nobody would hand them in, for the tests of the checker: which one, says the first
//! argument.

use std::env::{args, current_exe};
use std::os::unix::process::CommandExt;
use std::process::{Command, exit, id};
use std::thread::park;

use anyhow::{Context, Result};
use common::{join_all, spawn};
use exercise_kit::Lab;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

fn main() -> Result<()> {
    let lab = Lab::new(2)?;
    let me = Pid::from_raw(id() as i32);
    let which = args().nth(1).context("which one?")?;
    let again = |argument: &str| {
        let mut command = Command::new(current_exe()?);
        command.arg(argument);
        anyhow::Ok(command)
    };
    match which.as_str() {
        "hangs" => forever(),
        "forks-and-hangs" => spawn("hanging", || forever())?.join()?,
        "is-killed" => kill(me, Signal::SIGKILL)?,
        "floods" => loop {
            println!("no end of it");
        },
        "floods-the-lab" => loop {
            lab.work(1);
        },
        "counts-for-ever" => loop {
            std::hint::spin_loop();
        },
        // It holds stdout open, in a group of its own.
        "leaks-a-grandchild" => {
            again("leaks-a-child")?.status()?;
        }
        "leaks-a-child" => drop(again("hangs")?.process_group(0).spawn()?),
        "leaves-a-zombie" => {
            let child = Command::new("true").spawn()?;
            while lab.idle() == 0 {}
            drop(child);
        }
        "stops-itself-and-its-child" => {
            let child = spawn("stopping", || Ok(kill(Pid::this(), Signal::SIGSTOP)?))?;
            kill(me, Signal::SIGSTOP)?;
            child.join()?;
        }
        "ignores-signals" => {
            SigSet::all().thread_block()?;
            forever();
        }
        // Each makes two of itself, in groups of their own: with an end, lest a test of a broken
        // checker bring the machine down.
        "bomb" => {
            for _ in 0..2 {
                again("bomb")?.env("DEPTH", (depth() + 1).to_string()).process_group(0).spawn()?;
            }
            forever();
        }
        "right-answer" => {
            println!("100 of 100");
            lab.result(100);
        }
        // All that the real one tells, but from one process.
        "right-answer-alone" => {
            let lab = Lab::new(1)?;
            lab.meet();
            (0..100).for_each(|_| lab.pause());
            lab.result(100);
        }
        "sequential" => {
            for name in ["Adder-1", "Adder-2"] {
                let add = || {
                    lab.meet();
                    (0..50).for_each(|_| lab.pause());
                    Ok(())
                };
                join_all([spawn(name, add)?])?;
            }
            lab.result(100);
        }
        "reports-a-deadlock" => {
            eprintln!(
                "a line before\ndeadlock: every process waits\n  process {me} waits for itself"
            );
            exit(1);
        }
        unknown => anyhow::bail!("'{unknown}' is none of these"),
    }
    Ok(())
}

fn depth() -> u32 {
    let depth = std::env::var("DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(0);
    if depth >= 8 {
        forever();
    }
    depth
}

fn forever() -> ! {
    loop {
        park();
    }
}
