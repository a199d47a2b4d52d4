//! Fork a child that runs a closure, and reap it: Python's `Process`, `start` and `join`.
//!
//! The only `fork` of the workspace is in [`spawn`]. What makes it safe stands there, step by step.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use std::{backtrace, fs, thread};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use crate::deadlock::{self, Birth, Waiting, What};
use crate::timeline::Kind;
use crate::{ends, lock, timeline, wait};

/// How a child ends whose closure returned an error.
const FAILED: i32 = 1;
/// The longest sleep between two looks at a child that is waited for with a limit.
const LONGEST_NAP: Duration = Duration::from_millis(5);

/// How a child ends whose closure panicked: the code that Rust's own runtime uses.
const PANICKED: i32 = 101;

/// How many forks lie between this process and the one that `main` started in. What was made for
/// one process alone remembers its generation, and so notices that it is a copy in a child.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The name of this process, if it is a child.
static NAME: Mutex<Option<String>> = Mutex::new(None);

/// The name that this process was spawned with, or `MainProcess` for the one that `main` started
/// in. Python: `current_process().name`.
pub fn current_name() -> String {
    let name = NAME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    name.clone().unwrap_or_else(|| "MainProcess".into())
}

#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Relaxed)
}

/// Forks a child named `name` that runs `body` and ends. Python: `Process(target=...).start()`.
///
/// `body` sees this process's memory as it is now; what it changes stays in the child, except in
/// shared memory ([`Shared`](crate::Shared) and what is built on it). Of the open connections the
/// child gets those that are moved into `body`, and no others.
///
/// `body` exists twice after the fork. The child runs its copy; the parent drops its own, with all
/// that was moved into it, before this returns. So what does more when dropped than to give back
/// memory or close a descriptor (a `TempDir`, a filled `BufWriter`) should be lent, not moved.
///
/// The child ends with 0 where `body` returns `Ok`, with 1 and the error on stderr where it returns
/// `Err`, with 101 and the message where it panics; each line on stderr begins with its name. It is
/// killed when this process dies.
///
/// # Errors
///
/// * This process has more than one thread, or is unwinding from a panic. Only the forking thread
///   lives on in a child, so a lock that another one holds at that moment would stay locked there for
///   ever (`fork(2)`).
/// * The system refuses (`RLIMIT_NPROC`, memory, descriptors), or stdout cannot be flushed.
///
/// No child is running then. Those started before are killed and reaped when their [`Process`] is
/// dropped, as `?` does.
///
/// # Examples
///
/// ```
/// # fn main() -> anyhow::Result<()> {
/// let child = common::spawn("greeter", || {
///     println!("hello from {}", common::current_name());
///     Ok(())
/// })?;
/// child.join()?;
/// # Ok(())
/// # }
/// ```
///
/// What belongs to one thread cannot go into a child, such as a guard of a lock:
///
/// ```compile_fail,E0277
/// let total = common::Shared::new(common::Mutex::new(0_u64)).unwrap();
/// let guard = total.lock().unwrap();
/// common::spawn("child", move || {
///     println!("{}", *guard);
///     Ok(())
/// });
/// ```
///
/// or an `Rc`:
///
/// ```compile_fail,E0277
/// let text = std::rc::Rc::new(String::from("hello"));
/// common::spawn("child", move || {
///     println!("{text}");
///     Ok(())
/// });
/// ```
pub fn spawn<F>(name: impl Into<String>, body: F) -> Result<Process>
where
    F: FnOnce() -> Result<()> + Send,
{
    let name = name.into();
    refuse_threads().with_context(|| format!("cannot spawn process '{name}'"))?;
    // What stands in a buffer now would be printed by both processes. (stderr has none.)
    io::stdout().flush().context("cannot flush stdout before a fork")?;
    let line = if ends::any() {
        Some(UnixStream::pair().with_context(|| {
            format!(
                "cannot spawn process '{name}': no descriptors to tell it its connections: close \
                 some, or raise ulimit -n"
            )
        })?)
    } else {
        None
    };
    let parent = getpid();
    let birth = Birth::of(&name);
    let birth_time = deadlock::now();

    // SAFETY: this process has one thread, so no lock (of the allocator, of stdout, of anyone) is
    // held by a thread that the child lacks, and all Rust code may run there. The child never
    // returns into the frames of its caller: `run_child` ends the process.
    match unsafe { fork() } {
        Err(errno) => Err(anyhow!(errno)).with_context(|| {
            format!(
                "cannot spawn process '{name}': the system refuses to fork: too many processes \
                 (ulimit -u) or too little memory"
            )
        }),
        Ok(ForkResult::Child) => {
            birth.in_child();
            run_child(name, body, parent, line.map(|(_, child)| child))
        }
        Ok(ForkResult::Parent { child }) => {
            let row = birth.in_parent(child.as_raw() as u32);
            timeline::born(birth_time, child.as_raw() as u32, &name);
            // From here on an error or a panic drops `process`, which kills the child.
            let process = Process { name, pid: child, parent, row, status: None, lost: false };
            // The child has its own copy of `body`. What it holds belongs to the child now.
            let moved = ends::dropped_by(|| drop(body));
            if let Some((mut line, child_end)) = line {
                drop(child_end);
                // It fails where the child is dead already: `join` tells that.
                let _ = line.write_all(&as_bytes(&moved));
            }
            Ok(process)
        }
    }
}

/// A process that forks must have one thread: this one.
fn refuse_threads() -> Result<()> {
    if thread::panicking() {
        bail!("this process is unwinding from a panic");
    }
    if ends::being_dropped() {
        bail!("this is called from the drop of what another spawn's closure holds");
    }
    // The links of the directory are `.`, `..` and one for each thread. A thread that was joined
    // can still be listed for a moment, while the kernel takes it down: look again before refusing.
    let threads = || fs::metadata("/proc/self/task").map(|task| task.nlink().saturating_sub(2));
    let mut count = threads().context("cannot count this process's threads in /proc/self/task")?;
    for _ in 0..20 {
        if count == 1 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
        count = threads()?;
    }
    bail!(
        "this process has {count} threads, and a fork copies only the one that calls it, together \
         with the locks that the others hold: spawn before you start threads"
    )
}

/// Everything a child does, from the fork to its end.
fn run_child<F>(name: String, body: F, parent: Pid, line: Option<UnixStream>) -> !
where
    F: FnOnce() -> Result<()>,
{
    /// What stands below on this stack is a copy of the parent's frames: nothing, not even a panic
    /// while a panic or an error is being reported, may unwind into them.
    struct EndOfStack;
    impl Drop for EndOfStack {
        fn drop(&mut self) {
            exit_now(PANICKED)
        }
    }
    let _end = EndOfStack;

    // The child ends when its parent dies. A parent that died before this call left the child to
    // another process: end at once.
    let dies_with_parent = set_pdeathsig(Signal::SIGKILL);
    if dies_with_parent.is_err() || getppid() != parent {
        exit_now(FAILED);
    }
    GENERATION.fetch_add(1, Relaxed);
    lock::forget_held();
    // From here to `body` nothing is allocated: each page that a child writes to costs it a copy.
    *NAME.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(name);
    panic::set_hook(Box::new(report_panic)); // a function has no bytes to be boxed

    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        if let Some(line) = line {
            ends::keep_only(&hear_kept_ends(line)?);
        }
        body()?;
        io::stdout().flush().context("cannot write to stdout")
    }));
    let code = match outcome {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            report(&format!("Error: {error:?}"));
            let _ = io::stdout().flush();
            FAILED
        }
        Err(payload) => {
            std::mem::forget(payload); // its drop could panic again
            let _ = io::stdout().flush();
            PANICKED
        }
    };
    timeline::note(Kind::Leaves, code as u64, 0);
    exit_now(code)
}

#[inline(always)]
fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` ends the process at once. `exit` would first run what the parent registered
    // with `atexit`, a second time.
    unsafe { libc::_exit(code) }
}

/// What a parent writes to its child: how many ends it keeps, and their numbers.
fn as_bytes(numbers: &[u64]) -> Vec<u8> {
    let count = numbers.len() as u64;
    std::iter::once(&count).chain(numbers).flat_map(|number| number.to_ne_bytes()).collect()
}

fn hear_kept_ends(mut line: UnixStream) -> Result<Vec<u64>> {
    let mut number = || {
        let mut bytes = [0; 8];
        io::Read::read_exact(&mut line, &mut bytes)
            .context("the parent did not tell which connections were moved to this process")?;
        anyhow::Ok(u64::from_ne_bytes(bytes))
    };
    let count = number()?;
    (0..count).map(|_| number()).collect()
}

fn report_panic(info: &PanicHookInfo<'_>) {
    let mut text = info.to_string();
    let trace = backtrace::Backtrace::capture();
    if trace.status() == backtrace::BacktraceStatus::Captured {
        let _ = write!(text, "\n{trace}");
    }
    report(&text);
}

/// Prints `text` on stderr in one write, each line led by the process's name.
fn report(text: &str) {
    let name = current_name();
    let mut lines = String::new();
    for line in text.lines() {
        let _ = writeln!(lines, "{name}: {line}");
    }
    // Where stderr is closed there is nobody to tell; the exit status still says it.
    let _ = io::stderr().write_all(lines.as_bytes());
}

/// A child process. Python: `Process`.
///
/// Dropped without [`join`](Process::join) it is killed and reaped, so none outlives its parent's
/// interest in it. Only the process that forked a child can wait for it or end it: in any other
/// process (a child that inherited the value) the calls answer with an error, and dropping it does
/// nothing.
#[derive(Debug)]
#[must_use = "a child whose Process is dropped is killed: call join"]
pub struct Process {
    name: String,
    pid: Pid,
    parent: Pid,
    /// What the board of [`deadlock`](crate::deadlock) calls it.
    row: u32,
    status: Option<ExitStatus>,
    /// Somebody else reaped it, so that its pid may be another's by now.
    lost: bool,
}

impl Process {
    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// The name it was spawned with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is still running. Never blocks; a child found dead is reaped. `false` in a
    /// process that did not fork it.
    pub fn is_alive(&mut self) -> bool {
        self.is_ours() && matches!(self.reap(libc::WNOHANG), Ok(None))
    }

    /// Waits until it has ended, and reaps it.
    ///
    /// # Errors
    ///
    /// It did not exit with 0; the error names it and says how it ended (`exited with 1`, `killed
    /// by SIGKILL`). Or what [`wait`](Process::wait) says.
    #[track_caller]
    pub fn join(mut self) -> Result<()> {
        let status = self.wait()?;
        if status.success() { Ok(()) } else { bail!("{} {}", self.title(), cause(status)) }
    }

    /// Waits until it has ended, reaps it, and says how it ended. Later calls say it again.
    ///
    /// # Errors
    ///
    /// This process did not fork it, or somebody else reaped it (a `waitpid(-1)`, or `SIGCHLD`
    /// ignored). Or [`Deadlock`](crate::deadlock::Deadlock): every process waits, and none can go
    /// on.
    #[track_caller]
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.check_ours()?;
        if let Some(status) = self.reap(libc::WNOHANG)? {
            return Ok(status);
        }
        let waiting = Waiting::begin(What::Join(self.pid()), false, Location::caller());
        let status = self.wait_blocking()?;
        // In a deadlock it is the child's own call that gives up first, and ends this wait.
        waiting.check().with_context(|| format!("cannot join {}", self.title()))?;
        Ok(status)
    }

    fn wait_blocking(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.reap(0)? {
                return Ok(status);
            }
        }
    }

    /// As [`wait`](Process::wait), but for `limit` at the most; then `None`, and the child runs on.
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        self.check_ours()?;
        let deadline = wait::deadline_after(limit);
        let mut nap = wait::LOOK_BEFORE_SLEEP;
        loop {
            let status = self.reap(libc::WNOHANG)?;
            let Some(time) = wait::remaining(deadline, nap) else { return Ok(status) };
            if status.is_some() {
                return Ok(status);
            }
            thread::sleep(time);
            nap = LONGEST_NAP.min(nap * 2);
        }
    }

    /// Asks it to end, with `SIGTERM`; one that has ended already is left alone.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Ends it at once, with `SIGKILL`; one that has ended already is left alone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.check_ours()?;
        if self.has_its_pid() {
            timeline::note(Kind::Signals, self.pid().into(), signal as u64);
            signal::kill(self.pid, signal)
                .with_context(|| format!("cannot send {signal} to {}", self.title()))?;
        }
        Ok(())
    }

    /// Whether its pid is still its own. After it was reaped, by this value or by somebody else,
    /// the pid may belong to some other process.
    fn has_its_pid(&self) -> bool {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let reaped = self.status.is_some() || self.lost;
        !reaped && waitid(Id::Pid(self.pid), look) != Err(Errno::ECHILD)
    }

    fn is_ours(&self) -> bool {
        getpid() == self.parent
    }

    fn check_ours(&self) -> Result<()> {
        if !self.is_ours() {
            let (title, parent) = (self.title(), self.parent);
            bail!("{title} was forked by process {parent}, which alone can wait for it or end it");
        }
        Ok(())
    }

    fn title(&self) -> String {
        format!("process '{}' (pid {})", self.name, self.pid)
    }

    /// Waits for the child unless it is reaped already; `None` where it has not ended
    /// (`WNOHANG`).
    fn reap(&mut self, flags: libc::c_int) -> Result<Option<ExitStatus>> {
        if self.lost {
            bail!("the exit status of {} was lost before", self.title());
        }
        while self.status.is_none() {
            let mut status = 0;
            // SAFETY: `status` is a valid place for the answer.
            match unsafe { libc::waitpid(self.pid.as_raw(), &raw mut status, flags) } {
                0 => return Ok(None),
                -1 if Errno::last() == Errno::EINTR => {}
                -1 => {
                    let errno = Errno::last();
                    self.lost = errno == Errno::ECHILD;
                    if self.lost {
                        deadlock::reaped(self.row);
                    }
                    return Err(errno).with_context(|| {
                        format!(
                            "the exit status of {} is gone: SIGCHLD is ignored, or someone else \
                             waited for it",
                            self.title()
                        )
                    });
                }
                _ => {
                    self.status = Some(ExitStatus::from_raw(status));
                    timeline::reaped(self.pid(), status);
                    deadlock::reaped(self.row);
                }
            }
        }
        Ok(self.status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() && !self.lost && self.is_ours() {
            let _ = self.kill();
            let _ = self.wait_blocking();
        }
    }
}

/// Waits for every one of `processes`, then reports all that did not exit with 0.
///
/// # Errors
///
/// One error for all: it names each failed process, its pid, and how it ended.
#[track_caller]
pub fn join_all(processes: impl IntoIterator<Item = Process>) -> Result<()> {
    let mut count = 0;
    let mut failures = Vec::new();
    for process in processes {
        count += 1;
        if let Err(error) = process.join() {
            failures.push(format!("{error:#}"));
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} of {count} processes failed:\n  {}", failures.len(), failures.join("\n  "))
}

/// `exited with 1`, `killed by SIGKILL`.
fn cause(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, None) => format!("ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_names_the_code_or_the_signal() {
        assert_eq!(cause(ExitStatus::from_raw(3 << 8)), "exited with 3");
        assert_eq!(cause(ExitStatus::from_raw(9)), "killed by SIGKILL");
        assert_eq!(cause(ExitStatus::from_raw(40)), "killed by signal 40");
    }
}
