//! The article's "Queue": [`Queue`], first in, first out, between any number of processes.
//!
//! Beside it stands [`JoinableQueue`], whose items are not lost with a worker that is killed.

mod futex;
mod joinable;
mod machine;
mod queue;
mod ring;

pub use joinable::{JoinableQueue, Task};
pub use queue::{Iter, Queue, QueueError};
