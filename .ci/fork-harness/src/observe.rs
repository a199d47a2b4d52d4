//! What tests of processes look at, and the states they need to bring about.

use std::io::{self, Read, Seek, Write};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, Uid, dup, dup2_stderr, dup2_stdout, setresuid};

/// How long a condition may take to come true.
const BOUND: Duration = Duration::from_secs(20);

/// Waits until `condition` holds, which another process brings about; panics if it never does.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {BOUND:?} in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The body of a child that does nothing until it is killed.
pub fn run_until_killed() -> ! {
    loop {
        thread::park();
    }
}

/// Whether process `pid` runs no more: it is gone, or a zombie that nobody has reaped yet.
pub fn has_ended(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The state comes after the name, which stands in parentheses and may hold any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Whether this process has no child, not even a zombie.
pub fn has_no_child() -> bool {
    waitpid(None, Some(WaitPidFlag::WNOHANG)) == Err(Errno::ECHILD)
}

/// What `action` returns, and what this process and its children print, on stdout and stderr, while
/// it runs.
pub fn printed_by<T>(action: impl FnOnce() -> T) -> io::Result<(T, String)> {
    io::stdout().flush()?;
    let (stdout, stderr) = (dup(io::stdout())?, dup(io::stderr())?);
    let mut file = tempfile::tempfile()?;
    dup2_stdout(&file)?;
    dup2_stderr(&file)?;
    let result = action();
    io::stdout().flush()?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok((result, text))
}

/// A user who has no other process, to become from root; `None` where this process is not root's.
pub fn unprivileged_user() -> Option<u32> {
    Uid::effective().is_root().then(|| 20_000 + process::id() % 40_000)
}

/// Gives up root's rights for good: no limit on processes binds root.
pub fn give_up_root() -> nix::Result<()> {
    let Some(user) = unprivileged_user() else { return Ok(()) };
    let user = Uid::from_raw(user);
    setresuid(user, user, user)
}

/// Makes the system refuse every fork of this process from now on, if it is not root's.
pub fn forbid_forks() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)
}

/// Makes the system refuse every new descriptor of this process from now on.
pub fn forbid_descriptors() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, 0, 0)
}

/// Lets `SIGUSR1` interrupt this process's system calls (`EINTR`) from now on.
pub fn let_signals_interrupt() -> nix::Result<()> {
    extern "C" fn nothing(_: i32) {}
    let handler = SigHandler::Handler(nothing);
    let interrupting = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: a function that does nothing may run at any moment.
    unsafe { sigaction(Signal::SIGUSR1, &interrupting) }.map(drop)
}

/// Sends `SIGUSR1` to process `pid` again and again.
pub fn disturb(pid: u32) -> nix::Result<()> {
    for _ in 0..200 {
        kill(Pid::from_raw(pid as i32), Signal::SIGUSR1)?;
        thread::yield_now();
    }
    Ok(())
}
