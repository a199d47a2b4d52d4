//! The article's "Sharing State": [`Value`] and [`Array`], numbers in memory that processes share,
//! each with a lock of its own.
//!
//! Beside them stand [`Shared`], for a single number without a lock (`Shared<AtomicU64>`), and
//! [`NamedMemory`], for processes that are not relatives.

mod array;
mod named;
mod value;

pub use array::{Array, ArrayError, ArrayGuard};
pub use common::Shared;
pub use named::NamedMemory;
pub use value::{Value, ValueGuard};
