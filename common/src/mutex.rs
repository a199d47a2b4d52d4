//! A value and its lock, for processes: [`std::sync::Mutex`], but in shared memory.

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::lock::{Held, LockError, RobustLock};
use crate::timeline::{self, Kind};
use crate::wait::deadline_after;
use crate::{Pod, Shareable};

const NOT_SHARED: u32 = 0;
const SOUND: u32 = 1;
const POISONED: u32 = 2;

/// A value that one process at a time may read or change; Python's `Value(..., lock=True)` and the
/// lock in it.
///
/// It works inside [`Shared`](crate::Shared) (or what is built on it); elsewhere `lock` answers
/// [`LockError::NotShared`].
///
/// When a holder dies, even by `SIGKILL`, or panics, the lock is free again and *poisoned*, as with
/// [`std::sync::Mutex`]: each `lock` says [`LockError::Poisoned`] until someone has looked at the
/// value with [`lock_poisoned`](Mutex::lock_poisoned) and called
/// [`clear_poison`](Mutex::clear_poison).
///
/// ```
/// use common::{Mutex, Shared, spawn};
///
/// # fn main() -> anyhow::Result<()> {
/// let total = Shared::new(Mutex::new(0_u64))?;
/// let child = spawn("adder", || {
///     *total.lock()? += 5;
///     Ok(())
/// })?;
/// child.join()?;
/// assert_eq!(*total.lock()?, 5);
/// # Ok(())
/// # }
/// ```
#[repr(C)]
pub struct Mutex<T: Pod> {
    lock: RobustLock,
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only touched by the one thread, of whatever process, that holds the lock.
unsafe impl<T: Pod> Sync for Mutex<T> {}

// SAFETY: the lock is made a shared one in place, the state is atomic, and the value is plain data.
unsafe impl<T: Pod> Shareable for Mutex<T> {
    unsafe fn place(this: *mut Self) -> Result<(), LockError> {
        // SAFETY: the caller has `this` to itself, at its final address.
        unsafe {
            RobustLock::place(&raw mut (*this).lock)?;
            (*this).lock.give_number();
            (*this).state = AtomicU32::new(SOUND);
        }
        Ok(())
    }

    fn is_free(&self) -> bool {
        let Ok(held) = self.lock.lock(deadline_after(Duration::from_millis(100))) else {
            return false;
        };
        let _ = self.check(&held); // writes down the death of a holder, for those who come later
        true
    }
}

impl<T: Pod> Mutex<T> {
    /// A mutex around `value`, to be put into [`Shared`](crate::Shared).
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            lock: RobustLock::new(),
            state: AtomicU32::new(NOT_SHARED),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock, waiting for as long as another process holds it.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](LockError::Poisoned), [`AlreadyHeld`](LockError::AlreadyHeld),
    /// [`NotShared`](LockError::NotShared); [`Deadlock`](LockError::Deadlock) where every process
    /// waits, so that it will never be free.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock_until(None)
    }

    /// As [`lock`](Mutex::lock), but waits for `limit` at the most, then says
    /// [`LockError::Timeout`].
    pub fn lock_timeout(&self, limit: Duration) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock_until(deadline_after(limit))
    }

    /// As [`lock`](Mutex::lock), but never waits: [`LockError::WouldBlock`] where the lock is taken.
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        let held = self.lock.try_lock()?.ok_or(LockError::WouldBlock)?;
        self.check(&held)?;
        Ok(self.guard(held))
    }

    /// As [`lock`](Mutex::lock), but hands over a poisoned value too, for mending.
    ///
    /// Call [`clear_poison`](Mutex::clear_poison) while you hold the guard: then nobody can meet
    /// the value unmended.
    #[track_caller]
    pub fn lock_poisoned(&self) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock_poisoned_until(None)
    }

    /// As [`lock_poisoned`](Mutex::lock_poisoned), but waits for `limit` at the most.
    pub fn lock_poisoned_timeout(&self, limit: Duration) -> Result<MutexGuard<'_, T>, LockError> {
        self.lock_poisoned_until(deadline_after(limit))
    }

    #[track_caller]
    fn lock_poisoned_until(
        &self,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'_, T>, LockError> {
        let held = self.lock.lock(deadline)?;
        match self.check(&held) {
            Ok(()) | Err(LockError::Poisoned) => Ok(self.guard(held)),
            Err(error) => Err(error),
        }
    }

    /// Whether an earlier holder died or panicked while it held the lock, as far as anyone has
    /// noticed: a death is noticed by the next one who locks.
    pub fn is_poisoned(&self) -> bool {
        self.state.load(Relaxed) == POISONED
    }

    /// Declares the value sound again: from now on `lock` works as before.
    pub fn clear_poison(&self) {
        // Only from POISONED: a mutex outside of shared memory stays what it is.
        let _ = self.state.compare_exchange(POISONED, SOUND, Relaxed, Relaxed);
    }

    #[inline(always)]
    #[track_caller]
    fn lock_until(&self, deadline: Option<Instant>) -> Result<MutexGuard<'_, T>, LockError> {
        let held = self.lock.lock(deadline)?;
        self.check(&held)?;
        Ok(self.guard(held))
    }

    #[inline]
    fn check(&self, held: &Held<'_>) -> Result<(), LockError> {
        if !held.owner_died() && self.state.load(Relaxed) == SOUND {
            return Ok(());
        }
        self.examine(held)
    }

    #[cold]
    fn examine(&self, held: &Held<'_>) -> Result<(), LockError> {
        if held.owner_died() {
            // Before `held` declares the lock consistent, so that this news cannot get lost even
            // if this process dies right here.
            self.state.store(POISONED, Relaxed);
        }
        match self.state.load(Relaxed) {
            SOUND => Ok(()),
            POISONED => Err(LockError::Poisoned),
            _ => Err(LockError::NotShared),
        }
    }

    #[inline]
    fn guard<'a>(&'a self, held: Held<'a>) -> MutexGuard<'a, T> {
        // SAFETY: the lock is held, so nobody writes the value; as plain data it is a valid `T`
        // whatever a killed holder left.
        let copy = unsafe { self.value.get().read() };
        timeline::note(Kind::Locks, self.lock.number(), 0);
        MutexGuard { mutex: self, copy, changed: false, in_panic: thread::panicking(), held }
    }
}

impl<T: Pod> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// Access to the value of a locked [`Mutex`]; dropping it unlocks.
///
/// It works on a copy in this process's own memory, and writes that back, if it was changed, before
/// it unlocks. A reference into shared memory could reach a child (`&T` may cross a fork), which
/// would then read without the lock what others write.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: Pod> {
    mutex: &'a Mutex<T>,
    copy: T,
    changed: bool,
    in_panic: bool,
    /// Last, so that the lock is released after everything else.
    held: Held<'a>,
}

impl<T: Pod> MutexGuard<'_, T> {
    /// Whether the lock is held by this process. It is not in a child that came upon its parent's
    /// guard, in a `thread_local!`: what is changed through that copy stays in it.
    pub fn is_ours(guard: &Self) -> bool {
        guard.held.is_ours()
    }
}

impl<T: Pod> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.copy
    }
}

impl<T: Pod> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.changed = true;
        &mut self.copy
    }
}

impl<T: Pod> Drop for MutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.held.is_ours() {
            return;
        }
        if self.changed {
            // SAFETY: the lock is held until `held` is dropped, after this.
            unsafe { self.mutex.value.get().write(self.copy) }
        }
        timeline::note(Kind::Unlocks, self.mutex.lock.number(), 0);
        if thread::panicking() && !self.in_panic {
            self.mutex.state.store(POISONED, Relaxed);
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.copy.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shared;

    #[test]
    fn a_mutex_outside_shared_memory_says_so() {
        let mutex = Mutex::new(1_u8);
        mutex.clear_poison();
        assert_eq!(mutex.lock().unwrap_err(), LockError::NotShared);
        assert_eq!(mutex.lock_poisoned().unwrap_err(), LockError::NotShared);
    }

    #[test]
    fn locking_twice_is_an_error_and_not_a_hang() {
        let mutex = Shared::new(Mutex::new(1_u8)).unwrap();
        let guard = mutex.lock().unwrap();
        assert_eq!(mutex.lock().unwrap_err(), LockError::AlreadyHeld);
        assert_eq!(mutex.try_lock().unwrap_err(), LockError::AlreadyHeld);
        drop(guard);
        assert_eq!(*mutex.lock().unwrap(), 1);
    }

    #[test]
    fn a_change_is_there_after_unlocking() {
        let mutex = Shared::new(Mutex::new([1_u32, 2, 3])).unwrap();
        mutex.lock().unwrap()[1] = 20;
        assert_eq!(*mutex.lock().unwrap(), [1, 20, 3]);
    }

    #[test]
    fn a_panic_with_the_lock_held_poisons_until_cleared() {
        let mutex = Shared::new(Mutex::new(1_u8)).unwrap();
        let panicked = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _guard = mutex.lock().unwrap();
                    panic!("on purpose");
                })
                .join()
        });
        assert!(panicked.is_err());
        assert!(mutex.is_poisoned());
        assert_eq!(mutex.lock().unwrap_err(), LockError::Poisoned);
        *mutex.lock_poisoned().unwrap() = 9;
        assert_eq!(mutex.try_lock().unwrap_err(), LockError::Poisoned);
        mutex.clear_poison();
        assert_eq!(*mutex.lock().unwrap(), 9);
    }

    #[test]
    fn a_forgotten_guard_does_not_leave_a_lock_in_unmapped_memory() {
        let forgotten = Shared::new(Mutex::new(1_u8)).unwrap();
        std::mem::forget(forgotten.lock().unwrap());
        drop(forgotten);
        // The C library writes into the previous lock of its list here: unmapped, it would crash.
        let other = Shared::new(Mutex::new(2_u8)).unwrap();
        assert_eq!(*other.lock().unwrap(), 2);
    }
}
