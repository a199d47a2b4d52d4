//! Who holds which end of a connection, before and after a fork.
//!
//! A fork copies every open descriptor. A child that keeps a copy of an end it has no use for keeps
//! that connection alive: the process at its other end never sees an end of file, however many
//! others have closed theirs. So the rule here is that of ownership: **a child holds the ends that
//! were moved into its closure, and no others.**
//!
//! How: every end is in a register, one in each process. When [`spawn`](crate::spawn) has forked,
//! the parent drops its copy of the closure, the register writes down which ends that closed
//! (`dropped_by`), and the parent tells the child, which closes all others (`keep_only`) before it
//! runs the closure.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use nix::sys::socket::{Shutdown, shutdown};

use crate::deadlock;
use crate::process::generation;

/// The open ends of this process.
static REGISTER: Mutex<BTreeMap<u64, OwnedFd>> = Mutex::new(BTreeMap::new());

/// How many connections this process has made.
static PAIRS: AtomicU32 = AtomicU32::new(0);

/// Whether this process or its parent before the fork has ever made an end.
static MADE: AtomicBool = AtomicBool::new(false);

/// The ends dropped since [`dropped_by`] began, while it runs; this process has one thread then.
static DROPPED: Mutex<Option<Vec<u64>>> = Mutex::new(None);

/// One end of a connection: a socket that belongs to one process at a time.
///
/// It stays open until it is dropped, its process ends, or a fork leaves it behind. `Send` (it can
/// be moved into a child) and not `Sync` (a child cannot borrow it).
#[derive(Debug)]
pub struct End {
    number: u64,
    fd: RawFd,
    /// The generation in which this end was last found in the register.
    seen: Cell<u32>,
}

impl End {
    /// Takes over the two sockets of a connection, which should be close-on-exec.
    pub fn pair(one: OwnedFd, other: OwnedFd) -> (End, End) {
        // Two numbers that differ in the last bit: from one end's the other's can be told.
        let number = deadlock::number(&PAIRS) << 1;
        (End::new(number, one), End::new(number | 1, other))
    }

    fn new(number: u64, fd: OwnedFd) -> End {
        MADE.store(true, Relaxed);
        let end = End { number, fd: fd.as_raw_fd(), seen: Cell::new(generation()) };
        register().insert(number, fd);
        end
    }

    /// A number that no other end has.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The descriptor; `None` in a child where this end was not moved to it, and so closed there.
    pub fn fd(&self) -> Option<RawFd> {
        if self.seen.get() != generation() {
            if !register().contains_key(&self.number) {
                return None;
            }
            self.seen.set(generation());
        }
        Some(self.fd)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // An end that a fork left behind is not in the register, and its descriptor's number may
        // long stand for something else: then there is nothing to close.
        let Some(fd) = register().remove(&self.number) else { return };
        if let Some(numbers) = &mut *dropped() {
            numbers.push(self.number);
        } else {
            // Closing is not enough for an end of file at once: a child that was just forked may
            // hold a copy of the descriptor still, until it gets to run and closes it.
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Both);
        }
    }
}

/// Whether this process holds any end at all.
pub(crate) fn any() -> bool {
    MADE.load(Relaxed) && !register().is_empty()
}

/// The numbers of up to `at_most` of the ends that this process holds.
pub(crate) fn held(at_most: usize) -> Vec<u64> {
    register().keys().copied().take(at_most).collect()
}

/// Runs `action` and returns the numbers of the ends that it dropped.
pub(crate) fn dropped_by(action: impl FnOnce()) -> Vec<u64> {
    /// Stops the writing down, even where `action` panics.
    struct Stop;
    impl Drop for Stop {
        fn drop(&mut self) {
            *dropped() = None;
        }
    }
    *dropped() = Some(Vec::new());
    let _stop = Stop;
    action();
    dropped().take().unwrap_or_default()
}

/// Whether [`dropped_by`] is running.
pub(crate) fn being_dropped() -> bool {
    dropped().is_some()
}

/// In a new child: closes every end but those of these numbers.
pub(crate) fn keep_only(numbers: &[u64]) {
    register().retain(|number, _| numbers.contains(number));
}

fn dropped() -> MutexGuard<'static, Option<Vec<u64>>> {
    DROPPED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn register() -> MutexGuard<'static, BTreeMap<u64, OwnedFd>> {
    REGISTER.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_an_end_closes_it_and_is_written_down() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let end = End::new(1, theirs.into());
        let number = end.number;
        assert!(end.fd().is_some() && any());
        assert_eq!(dropped_by(|| drop(end)), [number]);
        // The end of file shows that the descriptor is closed.
        assert_eq!(std::io::Read::read(&mut &ours, &mut [0]).unwrap(), 0);
    }
}
