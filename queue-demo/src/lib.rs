//! The article's "Queue": [`Queue`], first in, first out, between any number of processes.

mod futex;
mod machine;
mod queue;
mod ring;

pub use queue::{Iter, Queue, QueueError};
