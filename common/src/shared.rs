//! One value in memory that forked children share.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};

use anyhow::Result;

use crate::lock::LockError;
use crate::memory::Mapping;

/// What may live in [`Shared`] memory: atomics, [`Mutex`](crate::Mutex), arrays of them.
///
/// Not a reference, `String`, `Box`, `Vec` or function pointer: their addresses mean nothing in
/// another process, or stop meaning anything when this one frees them. And not a plain number: to
/// be changed by several processes it must be atomic or behind a lock.
///
/// # Safety
///
/// An implementor promises that the type may be used by several processes through `&self` at the
/// same time, holds no address that only one process knows, and needs no `Drop`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in memory that several processes share",
    label = "neither an atomic, nor a `Mutex` of plain data, nor an array of them",
    note = "an address in it would mean nothing in another process; a plain number would be \
            changed by several processes without a lock"
)]
pub unsafe trait Shareable: Sync {
    /// Finishes a value that has just been written to its final place. Nothing to do for most.
    ///
    /// # Safety
    ///
    /// `this` holds a value that nobody else uses yet and that will not move again.
    unsafe fn place(this: *mut Self) -> Result<(), LockError> {
        let _ = this;
        Ok(())
    }

    /// Whether no lock in it is held, so that its memory may be unmapped here.
    fn is_free(&self) -> bool {
        true
    }
}

macro_rules! atomics {
    ($($atomic:ty)*) => {$(
        // SAFETY: an atomic is made for use through `&self` by several at once, and holds a number.
        unsafe impl Shareable for $atomic {}
    )*};
}
atomics!(AtomicBool AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize);
atomics!(AtomicI8 AtomicI16 AtomicI32 AtomicI64 AtomicIsize);

// SAFETY: an array is its elements, and each of them promises this.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {
    unsafe fn place(this: *mut Self) -> Result<(), LockError> {
        let first = this.cast::<T>();
        for index in 0..N {
            // SAFETY: `index` lies in the array, and the caller vouches for all of it.
            unsafe { T::place(first.add(index))? }
        }
        Ok(())
    }

    fn is_free(&self) -> bool {
        self.iter().all(T::is_free)
    }
}

/// One `T` in memory that this process and all children forked later share; it derefs to `&T`.
///
/// `Shared<AtomicU64>` is a counter without a lock: Python has no counterpart, its
/// `Value(..., lock=False)` is a plain number that loses updates. For a value with a lock see
/// [`Mutex`](crate::Mutex).
///
/// The memory has no name and no descriptor; it goes when the last process that has it lets go or
/// dies. A process that is killed leaves the value as its last whole operation left it.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// # fn main() -> anyhow::Result<()> {
/// let hits = common::Shared::new(AtomicU64::new(0))?;
/// let child = common::spawn("clicker", || {
///     hits.fetch_add(3, Ordering::Relaxed);
///     Ok(())
/// })?;
/// child.join()?; // everything the child did happened before this returns
/// assert_eq!(hits.load(Ordering::Relaxed), 3);
/// # Ok(())
/// # }
/// ```
///
/// What holds an address does not compile:
///
/// ```compile_fail,E0277
/// let greeting = common::Shared::new(String::from("hello"));
/// ```
/// ```compile_fail,E0277
/// let numbers = common::Shared::new(vec![1, 2, 3]);
/// ```
/// ```compile_fail,E0277
/// let boxed = common::Shared::new(Box::new(1));
/// ```
/// ```compile_fail,E0277
/// let number = 1;
/// let reference = common::Shared::new(&number);
/// ```
/// ```compile_fail,E0277
/// let function = common::Shared::new(std::process::id as fn() -> u32);
/// ```
/// ```compile_fail,E0277
/// let locked = common::Shared::new(common::Mutex::new(&1));
/// ```
pub struct Shared<T: Shareable> {
    mapping: ManuallyDrop<Mapping>,
    value: PhantomData<T>,
}

impl<T: Shareable> Shared<T> {
    /// Moves `value` into fresh shared memory.
    ///
    /// # Errors
    ///
    /// The system has no memory or no free descriptor for it; see
    /// [`Mapping::new`](crate::memory::Mapping::new).
    pub fn new(value: T) -> Result<Shared<T>> {
        const { assert!(align_of::<T>() <= 4096, "memory is mapped in pages of 4096 bytes") };
        let mapping = Mapping::new(size_of::<T>())?;
        let place = mapping.as_ptr().cast::<T>();
        // SAFETY: the mapping is large enough, aligned to a page, and known to nobody else yet.
        unsafe {
            place.write(value);
            T::place(place)?;
        }
        Ok(Shared { mapping: ManuallyDrop::new(mapping), value: PhantomData })
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` wrote a `T` there, which lives as long as the mapping; that others use it
        // through `&T` at the same time is what `Shareable` allows.
        unsafe { &*self.mapping.as_ptr().cast::<T>() }
    }
}

impl<T: Shareable> Drop for Shared<T> {
    fn drop(&mut self) {
        if T::is_free(self) {
            // SAFETY: it is not used again, and no lock in it is in this process's list of held
            // locks. Otherwise the pages stay mapped until the process ends.
            unsafe { ManuallyDrop::drop(&mut self.mapping) }
        }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn arrays_of_atomics_and_of_locks_are_placed_element_by_element() {
        let hits = Shared::new([const { AtomicU32::new(1) }; 3]).unwrap();
        hits[2].fetch_add(5, Relaxed);
        assert_eq!([&hits[0], &hits[1], &hits[2]].map(|hit| hit.load(Relaxed)), [1, 1, 6]);

        let cells = Shared::new([const { crate::Mutex::new(2_i16) }; 3]).unwrap();
        *cells[2].lock().unwrap() += 5;
        assert_eq!(*cells[0].lock().unwrap(), 2);
        assert_eq!(*cells[2].lock().unwrap(), 7);
    }
}
