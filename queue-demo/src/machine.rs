//! What the ring runs on: atomics, a lock, shared memory, and ways to wait.
//!
//! The ring takes all of this from here, so that the model in `tests/model` can run the very same
//! ring on a machine of its own, on which every order of events is tried.

pub use std::sync::atomic::{AtomicU32, AtomicU64, fence};

pub use common::deadlock::{Waiting, What};
pub use common::lock::{Held, RobustLock};
pub use common::memory::Mapping;
pub use common::message::{Reader, Writer};
pub use common::timeline;
pub use common::wait;

pub(crate) use crate::futex;

/// What a report of a deadlock calls the next queue.
pub fn number() -> u64 {
    static MADE: AtomicU32 = AtomicU32::new(0);
    common::deadlock::number(&MADE)
}
