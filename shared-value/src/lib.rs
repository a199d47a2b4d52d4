//! The article's "Sharing State": [`Value`] and [`Array`], numbers in memory that processes share,
//! each with a lock of its own.
//!
//! Beside them stands [`Shared`], for a single number without a lock: `Shared<AtomicU64>`.

mod array;
mod value;

pub use array::{Array, ArrayError, ArrayGuard};
pub use common::Shared;
pub use value::{Value, ValueGuard};
