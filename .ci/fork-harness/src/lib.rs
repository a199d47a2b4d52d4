//! Runs tests that fork.
//!
//! Rust's own harness runs each test in a thread, and a process with threads must not fork. This one
//! starts the test binary anew for every test: the test runs there in `main`, the only thread, in a
//! process group of its own. A watchdog kills the whole group when the time is up and reports a
//! hang; and a test that leaves a process behind, running or unreaped, fails for that.
//!
//! A test is a function that returns `Result<(), E>` and is named in [`tests!`], in a test target
//! with `harness = false`. The command line is the usual one (a part of a name, `--exact`,
//! `--ignored`, `--list`). What a test prints is shown when it fails; of one that passes, the lines
//! that begin with `## `: its counts.

pub mod deadlocks;
pub mod tracer;
pub mod watch;

use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

mod examples;
mod observe;
pub mod program;

pub use examples::{check_examples, run_example};
pub use observe::*;

/// Tells the binary, started anew, which test to run.
const TEST: &str = "FORK_HARNESS_TEST";

/// How long a test may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(180);
/// The same for a long form.
const LONG_LIMIT: Duration = Duration::from_secs(3600);
/// How long processes that a test killed may take to be gone after it.
const GRACE: Duration = Duration::from_secs(2);

/// A test: its name, its function, and whether it is a long form, run only with `--ignored`.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// The function's name.
    pub name: &'static str,
    /// Runs it; an error is told as text.
    pub run: fn() -> Result<(), String>,
    /// Whether it takes too long for every day.
    pub long: bool,
}

/// Writes the `main` of a test target: `tests! { one_test, another; long: a_long_one }`.
#[macro_export]
macro_rules! tests {
    ($($quick:ident),* $(,)? $(; long: $($long:ident),* $(,)?)?) => {
        fn main() -> std::process::ExitCode {
            $crate::main(&[
                $($crate::tests!(@test $quick, false),)*
                $($($crate::tests!(@test $long, true),)*)?
            ])
        }
    };
    (@test $name:ident, $long:literal) => {
        $crate::Test { name: stringify!($name), run: || $crate::told($name()), long: $long }
    };
}

/// Turns a test's error into text.
pub fn told<E: Debug>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| format!("{error:?}"))
}

/// Runs the test that the environment names, or, as usual, all that the command line selects.
pub fn main(tests: &[Test]) -> ExitCode {
    if let Ok(name) = std::env::var(TEST) {
        let test = tests.iter().find(|test| test.name == name).expect("no such test");
        return in_own_process(test);
    }
    // Processes that a dead test leaves behind come to us, so that we can see and reap them.
    nix::sys::prctl::set_child_subreaper(true).expect("prctl");
    let trials = tests
        .iter()
        .copied()
        .map(|test| Trial::test(test.name, move || supervise(test)).with_ignored_flag(test.long));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn in_own_process(test: &Test) -> ExitCode {
    if let Err(error) = (test.run)() {
        eprintln!("Error: {error}");
        return ExitCode::FAILURE;
    }
    // Every child must be reaped by now.
    match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        Err(Errno::ECHILD) => ExitCode::SUCCESS,
        left => {
            eprintln!("Error: the test left a child behind: {left:?}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(test: Test) -> Result<(), Failed> {
    let limit = if test.long { LONG_LIMIT } else { LIMIT };
    let mut output = tempfile::tempfile()?;
    let mut process = Command::new(std::env::current_exe()?)
        .env(TEST, test.name)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    let group = Pid::from_raw(process.id() as i32);

    let deadline = Instant::now() + limit;
    let mut status = None;
    while status.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
        status = process.try_wait()?;
    }
    if status.is_none() {
        let _ = killpg(group, Signal::SIGKILL);
        process.wait()?;
    }
    let left = !gone(group, GRACE);
    if left {
        let _ = killpg(group, Signal::SIGKILL);
        gone(group, GRACE);
    }
    let printed = text(&mut output)?;
    verdict(status, left, limit).map_err(|problem| format!("{problem}\n{printed}"))?;
    for line in printed.lines().filter(|line| line.starts_with("## ")) {
        println!("{}: {}", test.name, &line[3..]);
    }
    Ok(())
}

fn verdict(status: Option<ExitStatus>, left: bool, limit: Duration) -> Result<(), String> {
    match status {
        None => Err(format!("hung: killed with its process group after {limit:?}")),
        Some(status) if !status.success() => Err(format!("failed: {status}")),
        Some(_) if left => Err("it left processes running, which were killed".into()),
        Some(_) => Ok(()),
    }
}

/// Reaps what is left of a process group; whether all of it is gone within the time given.
fn gone(group: Pid, grace: Duration) -> bool {
    let deadline = Instant::now() + grace;
    loop {
        while waitpid(Pid::from_raw(-group.as_raw()), Some(WaitPidFlag::WNOHANG))
            .is_ok_and(|found| found.pid().is_some())
        {}
        if killpg(group, None) == Err(Errno::ESRCH) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn text(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits, at most ten seconds, until `condition` holds: for what another process is about to do.
///
/// # Panics
///
/// Where it waited in vain for `what`.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// How many descriptors this process has open, and how many pieces of memory it has mapped.
pub fn holdings() -> std::io::Result<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps")?.lines().count();
    // Less the one that reads the directory.
    Ok((std::fs::read_dir("/proc/self/fd")?.count() - 1, maps))
}

/// Whether this process has no child, alive or to be reaped.
pub fn childless() -> bool {
    waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) == Err(Errno::ECHILD)
}
