//! How every blocking call of this workspace waits: look a while, then sleep.
//!
//! To put a process to sleep and wake it on another core costs tens of microseconds, often more
//! than what it waits for. So each wait first looks again and again for about as long
//! ([`look_for`]), giving the processor away between looks: where there are fewer cores than
//! processes, the one that will end the wait needs it. After that the caller sleeps in its own way,
//! until [`remaining`] says that its time is over.

use std::hint;
use std::time::{Duration, Instant};

use nix::sched::sched_yield;

/// How long to look before going to sleep: about what a sleep and a wake cost together.
pub const LOOK_BEFORE_SLEEP: Duration = Duration::from_micros(50);

/// How often to look without giving the processor away: for about a fifth of a microsecond.
const LOOKS: u32 = 600;

/// Looks for a moment, without giving the processor away, whether `ready`: for what another core
/// does just now, and where a look costs next to nothing.
pub fn spin(ready: impl Fn() -> bool) -> bool {
    (0..LOOKS).any(|_| ready())
}

/// Holds back for two or three microseconds, without giving the processor away.
pub fn pause() {
    (0..100).for_each(|_| hint::spin_loop());
}

/// Calls `look` until it returns something or [`LOOK_BEFORE_SLEEP`] has passed; at least once.
pub fn look_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    if let Some(found) = look() {
        return Some(found);
    }
    let start = Instant::now();
    loop {
        let _ = sched_yield(); // cannot fail on Linux
        if let Some(found) = look() {
            return Some(found);
        }
        if start.elapsed() >= LOOK_BEFORE_SLEEP {
            return None;
        }
    }
}

/// When a wait of `limit` that begins now is over; `None`, never, where that lies beyond the clock.
pub fn deadline_after(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}

/// How much of a wait is left, at most `nap`. `None` once the deadline has passed; a wait without a
/// deadline always has another `nap`.
pub fn remaining(deadline: Option<Instant>, nap: Duration) -> Option<Duration> {
    let Some(deadline) = deadline else { return Some(nap) };
    let left = deadline.checked_duration_since(Instant::now())?;
    (!left.is_zero()).then_some(left.min(nap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_ends_with_what_was_found() {
        let mut looks = 0;
        let found = look_for(|| {
            looks += 1;
            (looks == 2).then_some("here")
        });
        assert_eq!((found, looks), (Some("here"), 2));
    }

    #[test]
    fn looking_in_vain_ends_too() {
        assert_eq!(look_for(|| None::<()>), None);
    }

    #[test]
    fn a_wait_is_cut_to_its_deadline_and_ends_there() {
        let nap = Duration::from_secs(1);
        assert_eq!(remaining(None, nap), Some(nap));
        assert_eq!(remaining(deadline_after(Duration::MAX), nap), Some(nap));
        assert_eq!(remaining(deadline_after(Duration::ZERO), nap), None);
        let soon = remaining(deadline_after(Duration::from_millis(500)), nap).unwrap();
        assert!(soon <= Duration::from_millis(500));
    }
}
