//! The article's "Pipe": [`Connection`], a line between two processes on which whole messages go
//! both ways, [`one_way`], its half, and [`wait()`], for whichever of many lines has news first.

mod connection;
mod wait;

pub use connection::{Connection, ConnectionError, Iter, MAX_MESSAGE, Receiver, Sender, one_way};
pub use wait::{Waitable, wait, wait_timeout};
