//! One number that processes share: Python's `multiprocessing.Value`.

use std::time::Duration;

use anyhow::Result;
use common::{LockError, Mutex, MutexGuard, Pod, Shared};

/// A [`Value`] locked for this process; it derefs to the number, and dropping it unlocks.
pub type ValueGuard<'a, T> = MutexGuard<'a, T>;

/// One `T` that this process and its children share, with its lock. Python: `Value('i', 0)`.
///
/// Each [`get`](Value::get) and [`set`](Value::set) locks for that one read or write, as `.value`
/// does in Python. So `set(get()? + 1)`, like `v.value += 1` there, is two locked steps with a gap
/// between them, in which another process's change gets lost. A read-modify-write holds the lock
/// all the way: `*v.lock()? += 1`, or [`update`](Value::update).
///
/// Every call waits for as long as another process holds the lock; [`lock_timeout`](Value::lock_timeout)
/// bounds it. A holder that is killed frees the lock, and the next call says
/// [`LockError::Poisoned`], until the value is mended and [`clear_poison`](Value::clear_poison)
/// called; see [`Mutex`].
///
/// ```
/// use shared_value::Value;
///
/// # fn main() -> anyhow::Result<()> {
/// let value = Value::new(40)?;
/// let child = common::spawn("adder", || {
///     *value.lock()? += 2;
///     Ok(())
/// })?;
/// child.join()?;
/// assert_eq!(value.get()?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Value<T: Pod> {
    cell: Shared<Mutex<T>>,
}

impl<T: Pod> Value<T> {
    /// A shared value that begins as `initial`. Fails where the system gives no memory for it.
    pub fn new(initial: T) -> Result<Self> {
        Ok(Value { cell: Shared::new(Mutex::new(initial))? })
    }

    /// Reads the value, under the lock. Errors: those of [`lock`](Value::lock).
    #[track_caller]
    pub fn get(&self) -> Result<T, LockError> {
        Ok(*self.lock()?)
    }

    /// Writes the value, under the lock. Errors: those of [`lock`](Value::lock).
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), LockError> {
        *self.lock()? = value;
        Ok(())
    }

    /// Replaces the value by what `change` makes of it, under one lock, and returns the new value.
    ///
    /// ```
    /// # fn main() -> anyhow::Result<()> {
    /// let value = shared_value::Value::new(20)?;
    /// assert_eq!(value.update(|v| v + 1)?, 21);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Errors: those of [`lock`](Value::lock). Where `change` panics, the value stays as it was and
    /// the lock is poisoned.
    #[track_caller]
    pub fn update(&self, change: impl FnOnce(T) -> T) -> Result<T, LockError> {
        let mut guard = self.lock()?;
        *guard = change(*guard);
        Ok(*guard)
    }

    /// Locks the value for as long as the guard lives. Python: `with v.get_lock():`.
    ///
    /// # Errors
    ///
    /// [`LockError::Poisoned`] after a holder died or panicked; [`LockError::AlreadyHeld`] where
    /// this process holds the lock itself; [`LockError::Deadlock`] where every process waits.
    #[track_caller]
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, LockError> {
        self.cell.lock()
    }

    /// As [`lock`](Value::lock), but [`LockError::WouldBlock`] where another process holds it.
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, LockError> {
        self.cell.try_lock()
    }

    /// As [`lock`](Value::lock), but waits for `limit` at the most: [`LockError::Timeout`].
    pub fn lock_timeout(&self, limit: Duration) -> Result<ValueGuard<'_, T>, LockError> {
        self.cell.lock_timeout(limit)
    }

    /// As [`lock`](Value::lock), but hands over a poisoned value too, for mending.
    #[track_caller]
    pub fn lock_poisoned(&self) -> Result<ValueGuard<'_, T>, LockError> {
        self.cell.lock_poisoned()
    }

    /// As [`lock_poisoned`](Value::lock_poisoned), but waits for `limit` at the most.
    pub fn lock_poisoned_timeout(&self, limit: Duration) -> Result<ValueGuard<'_, T>, LockError> {
        self.cell.lock_poisoned_timeout(limit)
    }

    /// Whether a holder has died or panicked, as far as anyone has noticed.
    pub fn is_poisoned(&self) -> bool {
        self.cell.is_poisoned()
    }

    /// Declares the value sound again.
    pub fn clear_poison(&self) {
        self.cell.clear_poison();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_is_got() {
        let value = Value::new(1.5_f64).unwrap();
        assert_eq!(value.get(), Ok(1.5));
        value.set(-2.5).unwrap();
        assert_eq!(value.get(), Ok(-2.5));
        assert_eq!(value.update(|v| v * 2.0), Ok(-5.0));
        assert_eq!(value.get(), Ok(-5.0));
    }

    #[test]
    fn reading_a_value_whose_guard_one_still_holds_is_an_error_and_not_a_hang() {
        let value = Value::new(1).unwrap();
        let _guard = value.lock().unwrap();
        assert_eq!(value.get(), Err(LockError::AlreadyHeld));
        assert_eq!(value.set(2), Err(LockError::AlreadyHeld));
    }

    #[test]
    fn a_panic_inside_update_changes_nothing_and_poisons() {
        let value = Value::new(7).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = value.update(|_| panic!("on purpose"));
        }));
        assert!(panicked.is_err());
        assert_eq!(value.get(), Err(LockError::Poisoned));
        assert_eq!(*value.lock_poisoned().unwrap(), 7);
    }
}
