//! What a test sees of a process from outside, through `/proc`, and how it disturbs one.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

use nix::libc::c_int;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
pub use nix::sys::signal::Signal;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, kill, sigaction};
use nix::unistd::Pid;

/// How long to wait for what must happen. The watchdog waits longer, so that a test which waits in
/// vain says for what.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `happened`; an error that names `what` where that takes too long.
pub fn wait_until(what: &str, mut happened: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        if Instant::now() >= deadline {
            let message = format!("waited {PATIENCE:?} in vain: {what}");
            return Err(Error::new(ErrorKind::TimedOut, message));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Waits until process `pid` sleeps in the kernel.
pub fn asleep(pid: u32) -> Result<()> {
    in_state(pid, 'S')
}

/// Waits until process `pid` is stopped, as by `SIGSTOP`.
pub fn stopped(pid: u32) -> Result<()> {
    in_state(pid, 'T')
}

/// The letters are those of `proc_pid_stat(5)`.
fn in_state(pid: u32, wanted: char) -> Result<()> {
    let mut state = None;
    wait_until(&format!("process {pid} comes into state {wanted}"), || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        state = stat.and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
        state == Some(wanted) || matches!(state, None | Some('Z'))
    })?;
    if state == Some(wanted) {
        return Ok(());
    }
    Err(Error::other(format!("process {pid} ended and did not come into state {wanted}")))
}

/// The open descriptors of this process, each with what it stands for (`socket:[4711]`).
pub fn descriptors() -> Result<Vec<(u32, String)>> {
    let directory = format!("/proc/{}/fd", std::process::id());
    let mut open = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse().map_err(Error::other)?;
        let target = fs::read_link(entry.path())?.to_string_lossy().into_owned();
        // The one through which this very list is read does not count.
        if target != directory {
            open.push((number, target));
        }
    }
    Ok(open)
}

/// From now on this process gets no descriptor of a higher number than `limit` - 1.
pub fn limit_descriptors(limit: u64) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, limit, hard)?)
}

/// Sends `signal` to process `pid`: this one or a child that is not reaped yet.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(pid as i32), signal)?)
}

/// From now on `SIGUSR1` does nothing to this process but interrupt its system calls.
pub fn be_interruptible() -> Result<()> {
    extern "C" fn nothing(_: c_int) {}
    // Without SA_RESTART: the kernel does not repeat the call by itself.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: a handler that does nothing may run at any moment.
    unsafe { sigaction(Signal::SIGUSR1, &action)? };
    Ok(())
}

/// Interrupts process `pid` a hundred times, each time while it sleeps; an error if it ends.
pub fn interrupt(pid: u32) -> Result<()> {
    for _ in 0..100 {
        asleep(pid)?;
        send(pid, Signal::SIGUSR1)?;
    }
    asleep(pid)
}
