//! What `/proc` tells about processes; the formats are those of `proc(5)`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// `R`unning, `S`leeping, `T` stopped, `Z`ombie.
    pub state: char,
    /// The time on a processor, in ticks of 10 ms.
    pub ticks: u64,
}

/// Process `pid`; `None` where it is gone.
pub fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it stands in parentheses and may hold any character.
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)?;
    Some(Process { pid, parent: number(1)? as u32, state: fields[0].chars().next()?, ticks })
}

/// Whether process `pid` runs no more: it is gone, or a zombie.
pub fn has_ended(pid: u32) -> bool {
    process(pid).is_none_or(|process| matches!(process.state, 'Z' | 'X'))
}

/// The children of process `ancestor`, their children, and so on.
pub fn descendants(ancestor: u32) -> Vec<Process> {
    let mut children = HashMap::<u32, Vec<Process>>::new();
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for process in pids.filter_map(process) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(pid) = next.pop() {
        let processes = children.remove(&pid).unwrap_or_default();
        next.extend(processes.iter().map(|process| process.pid));
        found.extend(processes);
    }
    found
}

/// How many threads the processes of user `user` have together.
pub fn threads_of(user: u32) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_user = entries.filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == user));
    let tasks = of_user.filter_map(|entry| fs::read_dir(entry.path().join("task")).ok());
    tasks.map(Iterator::count).sum()
}

/// What a sleeping process waits for.
#[derive(Debug, PartialEq)]
pub enum Waits {
    /// The end of a child: which one, or any.
    Join(Option<u32>),
    /// A word in shared memory: a place or an item in a queue.
    Futex,
    /// A message on a connection, or room for one.
    Connection,
    /// A pipe or socket: `pipe:[4711]`.
    Read(String),
    /// The time to pass.
    Sleep,
    /// Anything else.
    Unknown,
}

/// What process `pid` waits for in the kernel, as far as this system tells.
pub fn waits(pid: u32) -> Waits {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/syscall")) else {
        return Waits::Unknown;
    };
    let mut words = text.split_whitespace();
    let call = words.next().and_then(|word| word.parse::<i64>().ok()).unwrap_or(-1);
    let mut hex = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let first = hex().unwrap_or_default();
    let second = hex().unwrap_or_default();
    // One constant where the machine has no such call.
    #[cfg(target_arch = "x86_64")]
    let poll = libc::SYS_poll;
    #[cfg(not(target_arch = "x86_64"))]
    let poll = libc::SYS_ppoll;
    match call {
        libc::SYS_wait4 => Waits::Join((first as i32 > 0).then_some(first as u32)),
        libc::SYS_waitid => Waits::Join((first == 1).then_some(second as u32)),
        libc::SYS_futex => Waits::Futex,
        // `join` polls for the end of its child.
        call if call == poll || call == libc::SYS_ppoll => {
            joins(pid).map_or(Waits::Connection, |child| Waits::Join(Some(child)))
        }
        libc::SYS_read | libc::SYS_recvfrom => {
            let file = fs::read_link(format!("/proc/{pid}/fd/{first}"));
            Waits::Read(file.map_or_else(|_| "?".into(), |file| file.display().to_string()))
        }
        libc::SYS_clock_nanosleep | libc::SYS_nanosleep => Waits::Sleep,
        _ => Waits::Unknown,
    }
}

/// The child whose end process `pid` has a descriptor for, as `join` has while it waits.
fn joins(pid: u32) -> Option<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let is_one =
        |path: PathBuf| fs::read_link(path).is_ok_and(|to| to == Path::new("anon_inode:[pidfd]"));
    let number = entries.into_iter().find(|entry| is_one(entry.path()))?.file_name();
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.to_str()?)).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// Whether process `pid` has `file`, such as `pipe:[4711]`, open for writing.
pub fn can_write(pid: u32, file: &str) -> bool {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let is_it = fs::read_link(entry.path()).is_ok_and(|to| to.to_str() == Some(file));
        let number = entry.file_name().to_string_lossy().into_owned();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let mode = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        is_it && mode.is_some_and(|mode| mode & libc::O_ACCMODE as u32 != libc::O_RDONLY as u32)
    })
}
