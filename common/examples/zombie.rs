//! A zombie: a child that has ended and whose parent has not yet asked how.
//!
//! Section "Understanding Process". Run it: `cargo run -p common --example zombie`
//!
//! Predict: a child ends at once. Is it in the process table before its parent joins it? After a
//! `SIGKILL`? After the join?
//!
//! Expect: state `Z` twice, since nothing is left that a signal could kill: only its pid and exit
//! status wait to be read. `join` reads them (it *reaps* the child), and the entry is gone.

use std::fs;

use anyhow::Result;
use common::spawn;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// The state of a process, `R`unning, `S`leeping, `Z`ombie and so on; see `proc_pid_stat(5)`.
fn state(pid: u32) -> String {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return "gone".into() };
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    after_name.chars().take(1).collect()
}

fn main() -> Result<()> {
    let child = spawn("Child", || Ok(()))?;
    let pid = child.pid();

    // Waits until the child has ended, and does not reap it.
    waitid(Id::Pid(Pid::from_raw(pid as i32)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    println!("ended:  {}", state(pid));

    child.kill()?;
    println!("killed: {}", state(pid));

    child.join()?;
    println!("joined: {}", state(pid));
    Ok(())
}
