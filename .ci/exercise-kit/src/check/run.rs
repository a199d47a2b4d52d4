//! Runs a program that may do anything, and sees what it does.
//!
//! The program leads a process group of its own. What it leaves behind becomes a child of this
//! process (`PR_SET_CHILD_SUBREAPER`), so that nothing can get out of sight by losing its parent.
//! Nothing here waits for the program: we look at it every few milliseconds, read what there is, and
//! kill everything when it ends, stands still, goes beyond a limit or runs out of time.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials, recvmsg,
    setsockopt, socketpair, sockopt,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getuid};

use crate::lab::{RECORD, SECRET};
use crate::proc::{self, Process, Waits};

/// What a program may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may run.
    pub time: Duration,
    /// How long nobody may do anything before it counts as standing still; and that is looked at 200
    /// times at least, since on a busy machine we, too, may have to wait.
    pub still: Duration,
    /// How many processes there may be at the same time.
    pub processes: usize,
    /// How many bytes it may print, and how many it may tell its lab.
    pub output: usize,
}

impl Limits {
    /// What is enough for every exercise.
    pub const EXERCISE: Limits = Limits {
        time: Duration::from_secs(30),
        // A lab that waits shows a sign of life more often.
        still: Duration::from_secs(2),
        processes: 64,
        output: 1 << 20,
    };
}

/// What a process told its lab. The kernel says which process it was.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Record {
    pub pid: u32,
    pub what: String,
}

/// How the program ended.
#[derive(Clone, Debug)]
pub enum End {
    /// By itself.
    Status(ExitStatus),
    /// Nobody did anything any more: what each process waited for. The flag says whether one of
    /// them waited for the end of a pipe or socket that is still open for writing.
    Still(Vec<String>, bool),
    /// It ran on and on.
    TimedOut,
    /// It had too many processes: how many there were.
    Processes(usize),
    /// It printed too much.
    Output,
}

/// All that was seen of a program.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Seen {
    pub main: u32,
    pub secret: u64,
    pub end: End,
    pub records: Vec<Record>,
    pub stdout: String,
    pub stderr: String,
    /// Processes, beside the main one, that the program had not waited for when it ended.
    pub left: Vec<u32>,
}

/// Runs `command` within `limits`. `waits_for` says what its processes wait for in a queue.
///
/// # Errors
///
/// The system does not let us start or watch it.
pub fn run(command: &mut Command, secret: u64, waits_for: &str, limits: Limits) -> Result<Seen> {
    set_child_subreaper(true)?;
    let kind = SockType::SeqPacket;
    let (hears, tells) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    setsockopt(&hears, sockopt::PassCred, &true)?;
    fcntl(&tells, FcntlArg::F_SETFD(FdFlag::empty()))?; // the program inherits it
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("RUST_BACKTRACE");
    command.env(RECORD, tells.as_raw_fd().to_string()).env(SECRET, secret.to_string());
    let mut child = with_limits(limits, || command.spawn())
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    drop(tells);

    let mut watched = Watched {
        main: child.id(),
        waits_for,
        limits,
        hears,
        status: None,
        left: BTreeSet::new(),
        records: Vec::new(),
        told: 0,
        pipes: [
            Stream::new(child.stdout.take().context("no stdout")?)?,
            Stream::new(child.stderr.take().context("no stderr")?)?,
        ],
        still_since: Instant::now(),
        looks: 0,
        traces: (0, 0, 0),
        last: Vec::new(),
    };
    let end = watched.watch();
    watched.end_all()?;
    watched.listen(); // what was said last
    let [stdout, stderr] = watched.pipes.map(|pipe| pipe.text());
    let left = watched.left.into_iter().collect();
    Ok(Seen { main: watched.main, secret, end, records: watched.records, stdout, stderr, left })
}

/// Starts a program that inherits limits on what no look can stop in time. They are this process's
/// own for that moment.
fn with_limits<T>(limits: Limits, start: impl FnOnce() -> io::Result<T>) -> Result<T> {
    let user = getuid();
    let limits = [
        // It counts all that the user has, and does not bind root.
        (Resource::RLIMIT_NPROC, (proc::threads_of(user.as_raw()) + 2 * limits.processes) as u64),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_AS, 4 << 30),
        (Resource::RLIMIT_FSIZE, 64 << 20),
    ];
    let before = limits.map(|(resource, _)| getrlimit(resource));
    for (resource, limit) in limits {
        let (_, hard) = getrlimit(resource)?;
        setrlimit(resource, limit.min(hard), hard)?;
    }
    let started = start();
    for ((resource, _), before) in limits.into_iter().zip(before) {
        let (soft, hard) = before?;
        setrlimit(resource, soft, hard)?;
    }
    Ok(started?)
}

struct Watched<'a> {
    main: u32,
    waits_for: &'a str,
    limits: Limits,
    hears: OwnedFd,
    status: Option<ExitStatus>,
    left: BTreeSet<u32>,
    records: Vec<Record>,
    told: usize,
    pipes: [Stream; 2],
    still_since: Instant,
    looks: u32,
    /// Time on a processor, bytes printed and records, when somebody last did something.
    traces: (u64, usize, usize),
    last: Vec<u32>,
}

impl Watched<'_> {
    /// Looks at the program until there is nothing more to see.
    fn watch(&mut self) -> End {
        let start = Instant::now();
        loop {
            self.listen();
            self.reap();
            if self.printed() + self.told > self.limits.output {
                return End::Output;
            }
            if let Some(status) = self.status {
                return End::Status(status);
            }
            let processes = proc::descendants(std::process::id());
            if processes.len() > self.limits.processes {
                return End::Processes(processes.len());
            }
            if self.stands_still(&processes) {
                return self.still(&processes);
            }
            if start.elapsed() > self.limits.time {
                return End::TimedOut;
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn printed(&self) -> usize {
        self.pipes.iter().map(|pipe| pipe.bytes.len()).sum()
    }

    /// Whether nobody has done anything for so long. Who waits looks again now and then, which
    /// takes a tick or two.
    fn stands_still(&mut self, processes: &[Process]) -> bool {
        let pids: Vec<_> = processes.iter().map(|process| process.pid).collect();
        let ticks = processes.iter().map(|process| process.ticks).sum::<u64>();
        let (before, printed, told) = self.traces;
        let is_running = processes.iter().any(|process| matches!(process.state, 'R' | 'D'));
        let same = (printed, told) == (self.printed(), self.records.len())
            && ticks.abs_diff(before) <= 10
            && pids == self.last;
        if !same {
            self.traces = (ticks, self.printed(), self.records.len());
            self.last = pids;
            self.still_since = Instant::now();
            self.looks = 0;
        }
        self.looks += 1;
        !is_running && self.looks > 200 && self.still_since.elapsed() > self.limits.still
    }

    fn still(&self, processes: &[Process]) -> End {
        let mut lines = Vec::new();
        let mut no_end_of_file = false;
        for process in processes {
            let who = self.title(process.pid);
            let how = match (process.state, proc::waits(process.pid)) {
                ('T', _) => "is stopped".into(),
                ('Z', _) => "has ended and is not reaped (state Z)".into(),
                (_, Waits::Join(Some(pid))) => format!("waits for process {pid} to end"),
                (_, Waits::Join(None)) => "waits for a child to end".into(),
                (_, Waits::Futex) => format!("waits {}", self.waits_for),
                (_, Waits::Connection) => "waits at a connection".into(),
                (_, Waits::Sleep) => "sleeps".into(),
                (_, Waits::Unknown) => "sleeps in the kernel".into(),
                (_, Waits::Read(file)) => {
                    let writers = processes.iter().filter(|p| proc::can_write(p.pid, &file));
                    let writers: Vec<_> = writers.map(|p| self.title(p.pid)).collect();
                    no_end_of_file |= !writers.is_empty();
                    let writers = match &writers[..] {
                        [] => "nobody here".into(),
                        writers => writers.join(" and "),
                    };
                    format!("waits to read from {file}, which {writers} can still write to")
                }
            };
            lines.push(format!("{who} {how}"));
        }
        lines.sort_by_key(|line| !line.starts_with("parent"));
        End::Still(lines, no_end_of_file)
    }

    fn title(&self, pid: u32) -> String {
        if pid == self.main { format!("parent {pid}") } else { format!("child {pid}") }
    }

    /// Reads what was printed and told, as far as it is there, and no more than is allowed.
    fn listen(&mut self) {
        for pipe in &mut self.pipes {
            pipe.read(self.limits.output);
        }
        let mut bytes = [0; 256];
        let mut space = nix::cmsg_space!(UnixCredentials);
        while self.told <= self.limits.output {
            let mut into = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let Ok(message) =
                recvmsg::<()>(self.hears.as_raw_fd(), &mut into, Some(&mut space), flags)
            else {
                return;
            };
            let (len, mut pid) = (message.bytes, None);
            for control in message.cmsgs().into_iter().flatten() {
                if let ControlMessageOwned::ScmCredentials(credentials) = control {
                    pid = Some(credentials.pid() as u32);
                }
            }
            let Some(pid) = pid.filter(|_| len > 0) else { return };
            self.told += len;
            let what = String::from_utf8_lossy(&bytes[..len]).into_owned();
            self.records.push(Record { pid, what });
        }
    }

    /// Reaps what has ended: the program, or what it left to us.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let status = match status {
                WaitStatus::Exited(pid, code) => (pid, ExitStatus::from_raw(code << 8)),
                WaitStatus::Signaled(pid, signal, _) => (pid, ExitStatus::from_raw(signal as i32)),
                _ => return,
            };
            match status {
                (pid, status) if pid.as_raw() as u32 == self.main => self.status = Some(status),
                (pid, _) => drop(self.left.insert(pid.as_raw() as u32)),
            }
        }
    }

    /// Kills and reaps everything that is left.
    fn end_all(&mut self) -> Result<()> {
        let group = Pid::from_raw(self.main as i32);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            // All of the group at one blow: who forks meanwhile has the signal already. Then those
            // that have left the group.
            let _ = killpg(group, Signal::SIGKILL);
            let processes = proc::descendants(std::process::id());
            for process in &processes {
                let _ = kill(Pid::from_raw(process.pid as i32), Signal::SIGKILL);
            }
            self.reap();
            if processes.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} processes cannot be killed", processes.len());
            sleep(Duration::from_millis(1));
        }
    }
}

/// What comes out of a pipe, read without waiting.
struct Stream {
    pipe: OwnedFd,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(pipe: impl Into<OwnedFd>) -> Result<Stream> {
        let pipe = pipe.into();
        fcntl(pipe.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Stream { pipe, bytes: Vec::new() })
    }

    fn read(&mut self, limit: usize) {
        let mut chunk = [0; 1 << 16];
        while self.bytes.len() <= limit {
            match nix::unistd::read(&self.pipe, &mut chunk) {
                Ok(len) if len > 0 => self.bytes.extend_from_slice(&chunk[..len]),
                _ => return,
            }
        }
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
