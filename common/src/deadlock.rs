//! Who waits for what, in memory that all processes share, and what follows when that is everyone.
//!
//! Each process has a row on the *board*. A call without a time limit that is about to sleep
//! writes into its row what it waits for and where it was called; when it is done it takes that
//! back. Each of the two is a *change*, and the board counts changes. Between its naps a waiter
//! looks again whether it can go on, and then notes the count that it had read before it looked.
//!
//! So when every process waits and every row bears the number of the last change, then each has
//! looked in vain since the last time that any of them did anything. Nothing will ever happen
//! again: that is a deadlock, and not a guess. One waiter prints it, and all waiting calls return
//! [`Deadlock`].
//!
//! Who computes, sleeps, reads a file or waits with a limit has nothing in its row that says
//! otherwise, and counts as running. So does one that is stopped, that has other threads, that has
//! set an alarm or a timer, or that handles signals, since a handler may do anything. A process that
//! was forked past [`spawn`](crate::spawn) has no row, and from then on nothing is reported.
//!
//! `DEADLOCK_REPORT=off` in the environment switches all of it off; a number there says for how
//! many milliseconds nothing may have changed before a deadlock is looked for, instead of 300.

use std::fmt;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::panic::Location;
use std::process::id;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

pub(crate) use crate::deadlock::report::object_alone as object;
use crate::deadlock::report::report;
use crate::memory::{Zeroed, zeroed_for_ever};
use crate::timeline::Kind;
use crate::{ends, timeline};

mod report;

/// How many processes the board has room for. A process beyond them counts as running, for ever.
const ROWS: usize = 4096;
/// For so many milliseconds nothing may have changed before a deadlock is looked for.
const QUIET: u64 = 300;
/// How often somebody looks for one, in nanoseconds.
const LOOK_EVERY: u64 = 50_000_000;
/// How many of its connections a process notes: by them the report finds who should have sent.
const ENDS: usize = 16;

/// A call that was given up because every process waited, this one too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlock;

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadlock: every process waits and none can go on: see the report on stderr")
    }
}

impl std::error::Error for Deadlock {}

/// What a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The end of the process with this pid.
    Join(u32),
    /// The lock of this number.
    Lock(u64),
    /// Room in this queue, which has so many slots.
    Room(u64, usize),
    /// An item in this queue.
    Items(u64),
    /// That all tasks of this queue are done.
    Tasks(u64),
    /// That the other end of this one takes what was sent.
    Send(u64),
    /// A message at this end.
    Receive(u64),
}

impl What {
    /// As numbers: which kind, which thing, and one more.
    pub(crate) fn numbers(self) -> (u32, u64, u64) {
        match self {
            What::Join(pid) => (0, pid.into(), 0),
            What::Lock(lock) => (1, lock, 0),
            What::Room(queue, slots) => (2, queue, slots as u64),
            What::Items(queue) => (3, queue, 0),
            What::Tasks(queue) => (4, queue, 0),
            What::Send(end) => (5, end, 0),
            What::Receive(end) => (6, end, 0),
        }
    }

    pub(crate) fn from_numbers(kind: u32, thing: u64, more: u64) -> What {
        match kind {
            0 => What::Join(thing as u32),
            1 => What::Lock(thing),
            2 => What::Room(thing, more as usize),
            3 => What::Items(thing),
            4 => What::Tasks(thing),
            5 => What::Send(thing),
            _ => What::Receive(thing),
        }
    }
}

/// A number for a queue, a lock or a connection that no other process gives out: who made it, and
/// which one it is of those that this process has `made`.
pub fn number(made: &AtomicU32) -> u64 {
    watch_forks();
    timeline::begin();
    u64::from(id()) << 32 | u64::from(made.fetch_add(1, Relaxed) + 1)
}

/// Text of at most `8 * WORDS` bytes that may be read while it is being written.
struct Text<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Text<WORDS> {
    /// Keeps the end of `text` where it is too long: of a path that tells more.
    fn set(&self, text: &str) {
        let longest = text.len().saturating_sub(8 * WORDS);
        let start = (longest..=text.len()).find(|&start| text.is_char_boundary(start));
        let mut chunks = text.as_bytes()[start.unwrap_or(0)..].chunks(8);
        for word in &self.0 {
            let mut bytes = [0; 8];
            let chunk = chunks.next().unwrap_or_default();
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(bytes), Relaxed);
        }
    }

    fn get(&self) -> String {
        let bytes: Vec<u8> =
            self.0.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes()).collect();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string()
    }
}

/// What a row says of its process.
mod state {
    pub const FREE: u32 = 0;
    pub const RUNNING: u32 = 1;
    pub const WAITING: u32 = 2;
}

/// What is known of one process. Written by itself; by its parent before it runs and after its
/// end; and by whoever finds it dead.
#[repr(C, align(128))]
struct Row {
    state: AtomicU32,
    /// 0 until the fork.
    pid: AtomicU32,
    parent: AtomicU32,
    /// The pid that was found dead, if any. Not a state: by the time when the finder writes it, the
    /// row may be another process's, and must not die with its last owner.
    dead: AtomicU32,
    /// Who holds the lock that this process waits for.
    holder: AtomicU32,
    name: Text<4>,
    /// The number of the change with which the wait began.
    began: AtomicU64,
    /// The last change of which this process knew when it looked in vain.
    looked: AtomicU64,
    /// When the wait began, in nanoseconds.
    since: AtomicU64,
    kind: AtomicU32,
    line: AtomicU32,
    thing: AtomicU64,
    more: AtomicU64,
    file: Text<8>,
    /// The ends of connections that this process holds, as far as there is room; then zeros.
    ends: [AtomicU64; ENDS],
}

impl Row {
    /// The process that has to live for this row to mean anything: its own one, or before the fork
    /// the one that forks. 0 where the row is just being taken or given back.
    fn owner(&self) -> u32 {
        match self.pid.load(Acquire) {
            0 => self.parent.load(Acquire),
            pid => pid,
        }
    }

    fn is_known_dead(&self) -> bool {
        let owner = self.owner();
        owner != 0 && self.dead.load(Acquire) == owner
    }

    fn waits(&self) -> bool {
        self.state.load(Acquire) == state::WAITING && !self.is_known_dead()
    }

    /// Whether it waits for the end of a process that waits itself. It sleeps in the system then and
    /// does not look again, but it would look in vain.
    fn joins_one_of(&self, rows: &[Row]) -> bool {
        let What::Join(pid) = self.what() else { return false };
        rows.iter().any(|row| row.pid.load(Relaxed) == pid && row.waits())
    }

    fn what(&self) -> What {
        What::from_numbers(
            self.kind.load(Relaxed),
            self.thing.load(Relaxed),
            self.more.load(Relaxed),
        )
    }
}

#[repr(C, align(128))]
struct Board {
    /// How many changes there were.
    changes: AtomicU64,
    /// The change with which the last deadlock was complete. Each wait that began by then is over.
    verdict: AtomicU64,
    /// How many rows were ever taken.
    used: AtomicU32,
    /// Whether there are processes that have no row.
    strangers: AtomicBool,
    /// For how long nothing may have changed, in nanoseconds.
    quiet: AtomicU64,
    /// When somebody looks for a deadlock next.
    next_look: AtomicU64,
    /// The change that the last one who looked found to be the last, and when it was found first.
    last_change: AtomicU64,
    quiet_since: AtomicU64,
    /// The change made by the one who found all processes waiting, for all to look once more.
    suspicion: AtomicU64,
    rows: [Row; ROWS],
}

// SAFETY: all of it is atomics.
unsafe impl Zeroed for Board {}

static BOARD: OnceLock<Option<&'static Board>> = OnceLock::new();
/// The row of this process, counted from 1.
static MINE: AtomicU32 = AtomicU32::new(0);
/// Whether a fork that begins now is `spawn`'s.
static SPAWNING: AtomicBool = AtomicBool::new(false);
/// Whether this process has relatives that were forked past `spawn`.
static STRANGERS: AtomicBool = AtomicBool::new(false);

/// The board, made by the first process that needs it; `None` where it is off.
fn board() -> Option<&'static Board> {
    if STRANGERS.load(Relaxed) {
        return None;
    }
    *BOARD.get_or_init(|| {
        let wish = std::env::var("DEADLOCK_REPORT").unwrap_or_default();
        if wish == "off" {
            return None;
        }
        let quiet = wish.parse().unwrap_or(QUIET);
        watch_forks();
        let board: &'static Board = zeroed_for_ever()?;
        board.changes.store(1, Relaxed);
        board.quiet.store(quiet.saturating_mul(1_000_000), Relaxed);
        let row = board.take_row(&crate::current_name())?;
        board.rows[row].pid.store(id(), Relaxed);
        MINE.store(row as u32 + 1, Relaxed);
        Some(board)
    })
}

/// Notices forks past [`spawn`](crate::spawn). What two processes share is made before the fork, so
/// whatever can be shared calls this when it is made.
pub fn watch_forks() {
    extern "C" fn before() {
        if !SPAWNING.load(Relaxed) {
            STRANGERS.store(true, Relaxed);
            if let Some(Some(board)) = BOARD.get() {
                board.strangers.store(true, Relaxed);
            }
        }
    }
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.swap(true, Relaxed) {
        // SAFETY: the handler runs in the thread that forks, before it does, and only stores to
        // atomics.
        unsafe { libc::pthread_atfork(Some(before), None, None) };
    }
}

/// A row for a child that is about to be forked.
pub(crate) struct Birth(Option<(&'static Board, usize)>);

impl Birth {
    pub(crate) fn of(name: &str) -> Birth {
        timeline::begin();
        let place = board().and_then(|board| Some((board, board.take_row(name)?)));
        if place.is_none() {
            // The child will have no row, and must not count as one that is not there.
            if let Some(board) = board() {
                board.strangers.store(true, Relaxed);
            }
        }
        SPAWNING.store(true, Relaxed);
        Birth(place)
    }

    /// In the child.
    #[inline(always)]
    pub(crate) fn in_child(self) {
        SPAWNING.store(false, Relaxed);
        MINE.store(self.0.map_or(0, |(_, row)| row as u32 + 1), Relaxed);
        std::mem::forget(self);
    }

    /// In the parent. The answer goes to [`reaped`].
    #[inline(always)]
    pub(crate) fn in_parent(self, pid: u32) -> u32 {
        SPAWNING.store(false, Relaxed);
        let Some((board, row)) = self.0 else { return 0 };
        board.rows[row].pid.store(pid, Relaxed);
        std::mem::forget(self);
        row as u32 + 1
    }
}

impl Drop for Birth {
    /// There was no fork.
    fn drop(&mut self) {
        SPAWNING.store(false, Relaxed);
        if let Some((board, row)) = self.0 {
            board.give_back(&board.rows[row]);
        }
    }
}

/// The child of this row has ended and was reaped.
pub(crate) fn reaped(row: u32) {
    if let (Some(board), Some(index)) = (board(), (row as usize).checked_sub(1)) {
        board.give_back(&board.rows[index]);
    }
}

/// One wait of this process, from the moment when it is about to sleep.
#[derive(Debug)]
pub struct Waiting {
    row: Option<&'static Row>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("what", &self.what()).finish_non_exhaustive()
    }
}

impl Waiting {
    /// Writes down that this process is about to wait for `what`, in a call made at `place`. Where
    /// the wait is `bounded` there is nothing to write down: it ends by itself.
    pub fn begin(what: What, bounded: bool, place: &Location<'_>) -> Waiting {
        timeline::waits(what);
        if bounded || alarm_is_set() {
            return Waiting { row: None };
        }
        let row = board().and_then(|board| Some((board, board.mine()?)));
        Waiting { row: row.and_then(|(board, row)| board.begin(row, what, place)) }
    }

    /// Calls `look`, which says whether the wait is over. If it is not, and can never be:
    /// [`Deadlock`].
    pub fn look<T>(&self, look: impl FnOnce() -> Option<T>) -> Result<Option<T>, Deadlock> {
        let (Some(row), Some(board)) = (self.row, board()) else { return Ok(look()) };
        board.check(row)?;
        let last_change = board.changes.load(Acquire);
        let found = look();
        if found.is_none() {
            board.looked_in_vain(row, last_change)?;
        }
        Ok(found)
    }

    /// Whether a verdict was reached while this wait lasted.
    pub fn check(&self) -> Result<(), Deadlock> {
        match (self.row, board()) {
            (Some(row), Some(board)) => board.check(row),
            _ => Ok(()),
        }
    }

    /// Notes which process holds the lock that this one waits for.
    pub fn held_by(&self, pid: u32) {
        if let Some(row) = self.row {
            row.holder.store(pid, Relaxed);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        timeline::note(Kind::GoesOn, 0, 0);
        if let (Some(row), Some(board)) = (self.row, board()) {
            board.change(row, state::RUNNING);
        }
    }
}

impl Board {
    /// The row of this process.
    fn mine(&self) -> Option<&Row> {
        Some(&self.rows[(MINE.load(Relaxed) as usize).checked_sub(1)?])
    }

    /// A free row, for a child of this process or, if it is the first, for itself.
    fn take_row(&self, name: &str) -> Option<usize> {
        let free = |row: &Row| {
            row.state.load(Relaxed) == state::FREE
                && row.state.compare_exchange(state::FREE, state::RUNNING, AcqRel, Relaxed).is_ok()
        };
        // From where the last free one was found, so that a thousand workers need no million looks.
        static HINT: AtomicU32 = AtomicU32::new(0);
        let start = HINT.load(Relaxed) as usize;
        let index = (start..ROWS).chain(0..start).find(|&index| free(&self.rows[index]))?;
        HINT.store((index + 1) as u32 % ROWS as u32, Relaxed);
        let row = &self.rows[index];
        row.parent.store(id(), Release);
        row.name.set(name);
        self.used.fetch_max(index as u32 + 1, Relaxed);
        self.changes.fetch_add(1, AcqRel);
        Some(index)
    }

    fn change(&self, row: &Row, state: u32) {
        row.state.store(state, Release);
        self.changes.fetch_add(1, AcqRel);
    }

    fn give_back(&self, row: &Row) {
        // In this order, so that nobody takes the next owner for this one, or its parent.
        row.parent.store(0, Release);
        row.pid.store(0, Release);
        row.dead.store(0, Release);
        self.change(row, state::FREE);
    }

    /// `None` where another thread of this process waits already: its row has room for one wait,
    /// and a process with more than one thread counts as running anyway.
    fn begin<'a>(&self, row: &'a Row, what: What, place: &Location<'_>) -> Option<&'a Row> {
        if row.state.load(Relaxed) != state::RUNNING {
            return None;
        }
        let (kind, thing, more) = what.numbers();
        row.kind.store(kind, Relaxed);
        row.thing.store(thing, Relaxed);
        row.more.store(more, Relaxed);
        row.holder.store(0, Relaxed);
        row.file.set(place.file());
        row.line.store(place.line(), Relaxed);
        row.since.store(now(), Relaxed);
        let mut ends = ends::held(ENDS).into_iter();
        row.ends.iter().for_each(|end| end.store(ends.next().unwrap_or(0), Relaxed));
        row.looked.store(0, Relaxed);
        row.began.store(self.changes.load(Relaxed) + 1, Relaxed);
        self.change(row, state::WAITING);
        Some(row)
    }

    /// Whether this wait is part of a deadlock that was found. Asked before each look: the first
    /// ones to give up end, which may look like an answer to the others.
    fn check(&self, row: &Row) -> Result<(), Deadlock> {
        if self.verdict.load(Acquire) >= row.began.load(Relaxed) { Err(Deadlock) } else { Ok(()) }
    }

    fn looked_in_vain(&self, row: &Row, last_change: u64) -> Result<(), Deadlock> {
        row.looked.store(last_change, Release);
        // One looks for all, and not all for themselves: there may be thousands.
        let (now, next) = (now(), self.next_look.load(Relaxed));
        let later = now + LOOK_EVERY.min(self.quiet.load(Relaxed));
        if now >= next && self.next_look.compare_exchange(next, later, Relaxed, Relaxed).is_ok() {
            self.look_for_deadlock(now);
        }
        self.check(row)
    }

    fn look_for_deadlock(&self, now: u64) {
        let change = self.changes.load(Acquire);
        if self.last_change.swap(change, Relaxed) != change {
            self.quiet_since.store(now, Relaxed);
        }
        let quiet = now.saturating_sub(self.quiet_since.load(Relaxed)) >= self.quiet.load(Relaxed);
        let suspected = self.suspicion.load(Relaxed) == change;
        if !(quiet || suspected) || self.strangers.load(Relaxed) {
            return;
        }
        let rows = &self.rows[..self.used.load(Relaxed) as usize];
        // The cheap look first: one that runs, or has not looked again, is usually soon found. All
        // the dead are found in one go, as each that is makes everyone look again.
        let mut someone_died = false;
        for row in rows {
            let waits = match row.state.load(Acquire) {
                state::FREE => continue,
                _ if row.is_known_dead() => continue,
                state::WAITING => row.looked.load(Acquire) == change || row.joins_one_of(rows),
                _ => false,
            };
            if !waits {
                match self.life(row) {
                    Life::Over => someone_died = true,
                    _ => return,
                }
            }
        }
        for row in rows.iter().filter(|row| row.waits()) {
            match self.life(row) {
                Life::Waits => {}
                Life::Over => someone_died = true,
                Life::Other => return,
            }
        }
        if someone_died {
            return;
        }
        if !suspected {
            // What was found of the processes (one thread each, none of them stopped) holds for as
            // long as they wait. But a thread that has just ended may have done something after the
            // others looked: they look once more.
            let next = change + 1;
            if self.changes.compare_exchange(change, next, AcqRel, Relaxed).is_ok() {
                self.suspicion.store(next, Relaxed);
            }
        } else if self.changes.load(Acquire) == change {
            // Before the verdict: with it the rows begin to change.
            let report = report(rows, now);
            if self.verdict.fetch_max(change, AcqRel) < change {
                // Where stderr is closed there is nobody to tell; the calls' errors still say it.
                let _ = io::stderr().write_all(report.as_bytes());
            }
        }
    }

    /// How the process of a row lives. If it has died, that is noted: what it held is free now, and
    /// who waited for it has to look again.
    fn life(&self, row: &Row) -> Life {
        let owner = row.owner();
        let life = if owner == 0 { Life::Other } else { Life::of(owner) };
        if matches!(life, Life::Over) {
            row.dead.store(owner, Release);
            self.changes.fetch_add(1, AcqRel);
        }
        life
    }
}

/// What the system says of a process.
enum Life {
    /// It has one thread, which sleeps or runs, and no signal can make it do anything else.
    Waits,
    Over,
    Other,
}

impl Life {
    fn of(pid: u32) -> Life {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
            // Also without a descriptor to ask by, or the right to ask, while it lives and runs.
            let gone = kill(Pid::from_raw(pid as i32), None) == Err(Errno::ESRCH);
            return if gone { Life::Over } else { Life::Other };
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()
        };
        let signals = |name| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        // Rust's own handlers are for SIGSEGV (11) and SIGBUS (7), the C library's are 32 and 33.
        let harmless = 1 << 10 | 1 << 6 | 0b11 << 31;
        // Each of these will send a signal some time. Some kernels do not tell them.
        let timers = || std::fs::read(format!("/proc/{pid}/timers")).unwrap_or_default();
        match field("State") {
            Some("Z" | "X") | None => Life::Over,
            Some("R" | "S" | "D")
                if field("Threads") == Some("1")
                    && signals("SigPnd") == Some(0)
                    && signals("ShdPnd") == Some(0)
                    && signals("SigCgt").is_some_and(|caught| caught & !harmless == 0)
                    && timers().is_empty() =>
            {
                Life::Waits
            }
            Some(_) => Life::Other,
        }
    }
}

/// Whether a signal of the clock will come to this process, which may end it, and so others' waits.
fn alarm_is_set() -> bool {
    let mut timer = MaybeUninit::<libc::itimerval>::zeroed();
    // SAFETY: there is room for the answer, for which zeros are a value too.
    let left = unsafe {
        libc::getitimer(libc::ITIMER_REAL, timer.as_mut_ptr());
        timer.assume_init().it_value
    };
    (left.tv_sec, left.tv_usec) != (0, 0)
}

/// Nanoseconds of the clock that all processes share.
pub(crate) fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_does_not_die_with_the_process_that_had_it_before() {
        let board: &'static Board = zeroed_for_ever().unwrap();
        let row = &board.rows[board.take_row("first").unwrap()];
        row.pid.store(u32::MAX >> 1, Relaxed); // larger than any pid
        assert!(matches!(board.life(row), Life::Over) && row.is_known_dead());
        board.give_back(row);
        // Who found that it is dead comes to write it down only now.
        row.dead.store(u32::MAX >> 1, Relaxed);
        assert_eq!(row.state.swap(state::RUNNING, Relaxed), state::FREE);
        assert!(!matches!(board.life(row), Life::Over), "it is just being taken");
        row.parent.store(id(), Relaxed);
        assert!(!matches!(board.life(row), Life::Over), "it is just being forked");
        row.pid.store(id(), Relaxed);
        row.state.store(state::WAITING, Relaxed);
        assert!(row.waits());
    }
}
