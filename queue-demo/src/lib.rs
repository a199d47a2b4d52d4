//! The article's "Queue": [`Queue`], first in, first out, between any number of processes.
//!
//! Beside it stand [`JoinableQueue`], whose items are not lost with a worker that is killed, and
//! [`Pool`], workers that run one function on many items.

mod futex;
mod joinable;
mod machine;
mod pool;
mod queue;
mod ring;

pub use joinable::{JoinableQueue, Task};
pub use pool::{Pool, PoolError, Results};
pub use queue::{Iter, Queue, QueueError};
