//! Who ran, who waited and for what: written down while a program runs, and drawn at its end.
//!
//! `TIMELINE=run.svg` in the environment of any program makes a picture of the run, and
//! `TIMELINE=run.json` a trace that <https://ui.perfetto.dev> opens. Without it, nothing is written
//! down, and each event costs a look at a flag.
//!
//! Events go to memory that all processes share, so a killed child's are not lost with it. The
//! memory has room for so many; of those that come later the picture tells the number. The process
//! that `main` started in draws at its end; if it is killed there is no picture.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::id;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::deadlock::{What, now};
use crate::memory::{Zeroed, zeroed_for_ever};

mod draw;
mod run;
mod trace;

/// How many events there is room for.
const EVENTS: usize = 1 << 17;

/// What happened. The two numbers of an event say to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The process was forked by that one.
    Born = 1,
    /// Its name, or the next 16 bytes of it.
    Named,
    /// Its closure has returned; it ends with this code.
    Leaves,
    /// It was reaped; how it ended, as `waitpid` says.
    Reaped,
    /// It sends a signal: to whom, and which.
    Signals,
    /// It begins to wait for something: [`What`] as numbers.
    Waits,
    /// It waits no longer.
    GoesOn,
    /// It holds the lock of this number.
    Locks,
    /// It does no longer.
    Unlocks,
    /// It puts or sends into this queue or end; which messages, see [`messages`].
    Sends,
    /// It gets or receives what was put or sent there.
    Receives,
}

impl Kind {
    const ALL: [Kind; 11] = [
        Kind::Born,
        Kind::Named,
        Kind::Leaves,
        Kind::Reaped,
        Kind::Signals,
        Kind::Waits,
        Kind::GoesOn,
        Kind::Locks,
        Kind::Unlocks,
        Kind::Sends,
        Kind::Receives,
    ];

    fn from_number(number: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// Which messages of a queue or an end are meant: so many, from this position on.
pub fn messages(position: u64, count: usize) -> u64 {
    position << 16 | count.min(0xffff) as u64
}

/// One event, as it lies in the shared memory.
#[repr(C)]
struct Record {
    /// In nanoseconds; written last, and 0 until then.
    time: AtomicU64,
    /// The process and, in the upper half, the kind.
    who: AtomicU64,
    numbers: [AtomicU64; 2],
}

#[repr(C)]
struct Log {
    /// How many events there were, with those that found no room.
    count: AtomicU64,
    records: [Record; EVENTS],
}

// SAFETY: all of it is atomics.
unsafe impl Zeroed for Log {}

static LOG: OnceLock<Option<&'static Log>> = OnceLock::new();
static ON: AtomicBool = AtomicBool::new(false);

/// An event, read back.
#[derive(Debug, Clone, Copy)]
struct Event {
    time: u64,
    pid: u32,
    kind: Kind,
    numbers: [u64; 2],
}

/// Writes an event of this process down, if a timeline is wanted.
#[inline]
pub fn note(kind: Kind, first: u64, second: u64) {
    if ON.load(Relaxed) {
        note_of(now(), id(), kind, first, second);
    }
}

#[cold]
fn note_of(time: u64, pid: u32, kind: Kind, first: u64, second: u64) {
    let Some(Some(log)) = LOG.get() else { return };
    let index = log.count.fetch_add(1, Relaxed) as usize;
    let Some(record) = log.records.get(index) else { return };
    record.who.store(u64::from(kind as u32) << 32 | u64::from(pid), Relaxed);
    record.numbers[0].store(first, Relaxed);
    record.numbers[1].store(second, Relaxed);
    record.time.store(time, Release);
}

/// Notes that this process begins to wait.
pub(crate) fn waits(what: What) {
    if ON.load(Relaxed) {
        let (kind, thing, more) = what.numbers();
        note_of(now(), id(), Kind::Waits, thing, more << 8 | u64::from(kind));
    }
}

/// Notes a process that was forked, or begun, at this time.
pub(crate) fn born(time: u64, pid: u32, name: &str) {
    if !ON.load(Relaxed) {
        return;
    }
    note_of(time, pid, Kind::Born, u64::from(id()), 0);
    let mut rest = name;
    for _ in 0..2 {
        let end = (0..=rest.len().min(16)).rev().find(|&end| rest.is_char_boundary(end));
        let (part, after) = rest.split_at(end.unwrap_or(0));
        rest = after;
        if part.is_empty() {
            break;
        }
        let mut bytes = [0; 16];
        bytes[..part.len()].copy_from_slice(part.as_bytes());
        let (first, second) = bytes.split_at(8);
        let number =
            |half: &[u8]| half.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        note_of(time, pid, Kind::Named, number(first), number(second));
    }
}

/// Notes that a child of this process was reaped.
pub(crate) fn reaped(pid: u32, status: i32) {
    if ON.load(Relaxed) {
        note_of(now(), pid, Kind::Reaped, status as u64, 0);
    }
}

/// Begins a timeline if the environment wants one. Called before the first fork, and before the
/// first thing is made that processes share.
pub(crate) fn begin() {
    LOG.get_or_init(|| {
        let file = std::env::var_os("TIMELINE").filter(|file| !file.is_empty())?;
        let log: &'static Log = zeroed_for_ever()?;
        WANTED.get_or_init(|| (file, id()));
        ON.store(true, Relaxed);
        // SAFETY: `end` may be called at any exit. A child of ours ends by `_exit`, which does not
        // call it, and in any other child it sees that it is not where it was registered.
        unsafe { libc::atexit(end) };
        Some(log)
    });
    static NAMED: AtomicBool = AtomicBool::new(false);
    if ON.load(Relaxed) && !NAMED.swap(true, Relaxed) {
        born(now(), id(), &crate::current_name());
    }
}

/// The file to write, and the process that writes it.
static WANTED: OnceLock<(OsString, u32)> = OnceLock::new();

/// Draws, at the end of the first process.
extern "C" fn end() {
    let (Some((file, writer)), Some(Some(log))) = (WANTED.get(), LOG.get()) else { return };
    if id() != *writer {
        return;
    }
    let until = now();
    let count = log.count.load(Acquire);
    let records = log.records.iter().take(count as usize);
    let mut events: Vec<Event> = records.filter_map(Record::read).collect();
    events.sort_by_key(|event| event.time);
    let run = run::Run::new(&events, until, count.saturating_sub(EVENTS as u64));
    let file = std::path::Path::new(file);
    let written = match file.extension().and_then(|kind| kind.to_str()) {
        Some("svg") => std::fs::write(file, draw::svg(&run)),
        Some("json") => std::fs::write(file, trace::json(&run)),
        _ => Err(io::Error::other("name a file .svg or .json")),
    };
    if let Err(error) = written {
        let name = file.to_string_lossy();
        // Where stderr takes nothing there is nobody to tell, and no reason to panic.
        let _ = writeln!(io::stderr(), "cannot write the timeline {name}: {error}");
    }
}

impl Record {
    /// `None` where who wrote it was killed before it was whole.
    fn read(&self) -> Option<Event> {
        let time = self.time.load(Acquire);
        let who = self.who.load(Relaxed);
        let kind = Kind::from_number((who >> 32) as u32)?;
        let numbers = [self.numbers[0].load(Relaxed), self.numbers[1].load(Relaxed)];
        (time > 0).then_some(Event { time, pid: who as u32, kind, numbers })
    }
}
