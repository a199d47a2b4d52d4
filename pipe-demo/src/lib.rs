//! The article's "Pipe": [`Connection`], a line between two processes on which whole messages go
//! both ways, and [`one_way`], its half.

mod connection;

pub use connection::{Connection, ConnectionError, Iter, MAX_MESSAGE, Receiver, Sender, one_way};
