//! What every section of the article stands on: processes, memory they share, a lock that
//! survives its holder, and the bytes of a message.
//!
//! * [`spawn`], [`Process`], [`join_all`]: fork a child that runs a closure, and reap it.
//! * [`count_to`], [`counting_worker`]: the work that the article's children do.
//! * [`Shared`], [`Mutex`], [`Pod`]: one value that parent and children see alike.
//! * [`Message`]: how a value becomes bytes and comes back.
//! * [`arguments`]: the command line of the three article programs.
//!
//! The modules [`lock`], [`memory`], [`wait`], [`ends`], [`deadlock`] and [`timeline`] are the pieces
//! from which the section crates build `Value`, `Array`, `Connection` and `Queue`.
//!
//! Trust model: a process and its own forked children. They may die at any instruction, but they
//! run this code: memory is shared with them and is not defended against them.

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
compile_error!(
    "this workspace needs Linux with glibc (memfd, robust futexes, SOCK_SEQPACKET): \
     on Windows use WSL2, on macOS or elsewhere a Linux container"
);

pub mod arguments;
mod counting;
pub mod deadlock;
pub mod ends;
pub mod lock;
pub mod memory;
pub mod message;
mod mutex;
mod pod;
mod process;
mod shared;
pub mod timeline;
pub mod wait;

pub use counting::{count_to, counting_worker};
pub use lock::LockError;
pub use message::{DecodeError, Message};
pub use mutex::{Mutex, MutexGuard};
pub use pod::Pod;
pub use process::{Process, current_name, join_all, spawn};
pub use shared::{Shareable, Shared};
