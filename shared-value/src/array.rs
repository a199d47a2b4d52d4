//! Many numbers that processes share, under one lock: Python's `multiprocessing.Array`.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::memory::Mapping;
use common::{LockError, Mutex, MutexGuard, Pod, Shareable};

/// A fixed number of `T`s that this process and its children share, under one lock. Python:
/// `Array('i', range(50))`.
///
/// Every call takes the lock, and waits for as long as another process holds it;
/// [`lock_timeout`](Array::lock_timeout) bounds that. A holder that is killed frees the lock, and
/// the next call says [`LockError::Poisoned`]: the elements may be half changed. Mend them under
/// [`lock_poisoned`](Array::lock_poisoned), then call [`clear_poison`](Array::clear_poison).
///
/// ```
/// use shared_value::Array;
///
/// # fn main() -> anyhow::Result<()> {
/// let numbers = Array::new(&[1, 2, 3])?;
/// let child = common::spawn("doubler", || {
///     for number in numbers.lock()?.iter_mut() {
///         *number *= 2;
///     }
///     Ok(())
/// })?;
/// child.join()?;
/// assert_eq!(numbers.to_vec()?, [2, 4, 6]);
/// # Ok(())
/// # }
/// ```
pub struct Array<T: Pod> {
    /// The lock, then the elements.
    mapping: ManuallyDrop<Mapping>,
    len: usize,
    elements: PhantomData<T>,
}

/// Where the elements begin: past the lock, and aligned for every number.
const FIRST: usize = 128;
const _: () = assert!(size_of::<Mutex<()>>() <= FIRST);

impl<T: Pod> Array<T> {
    /// An array that begins as a copy of `initial`.
    ///
    /// # Errors
    ///
    /// `initial` is empty, or the system gives no memory for it.
    pub fn new(initial: &[T]) -> Result<Self> {
        let array = Self::zeroed(initial.len())?;
        // SAFETY: there is room for as many, and nobody else knows of the array yet.
        unsafe { array.first().copy_from_nonoverlapping(initial.as_ptr(), initial.len()) };
        Ok(array)
    }

    /// An array of `len` zeros. Python: `Array('i', len)`. Errors: as for [`new`](Array::new).
    pub fn zeroed(len: usize) -> Result<Self> {
        const { assert!(align_of::<T>() <= FIRST) };
        ensure!(len > 0, "an Array of 0 elements can hold nothing: give it at least 1");
        let bytes = len
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.checked_add(FIRST))
            .with_context(|| format!("an Array of {len} elements is larger than any memory"))?;
        let mapping = Mapping::new(bytes)?;
        let lock = mapping.as_ptr().cast::<Mutex<()>>();
        // SAFETY: the mapping has room for the lock, aligned to a page, and nobody else knows it.
        unsafe {
            lock.write(Mutex::new(()));
            Mutex::place(lock)?;
        }
        Ok(Array { mapping: ManuallyDrop::new(mapping), len, elements: PhantomData })
    }

    /// How many elements there are.
    #[expect(clippy::len_without_is_empty, reason = "an Array is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reads element `index`, under the lock.
    #[track_caller]
    pub fn get(&self, index: usize) -> Result<T, ArrayError> {
        let element = self.element(index)?;
        let _guard = self.mutex().lock()?;
        // SAFETY: the lock is held, so nobody writes it, and any bytes are a `T`.
        Ok(unsafe { element.read() })
    }

    /// Writes element `index`, under the lock.
    #[track_caller]
    pub fn set(&self, index: usize, value: T) -> Result<(), ArrayError> {
        let element = self.element(index)?;
        let _guard = self.mutex().lock()?;
        // SAFETY: the lock is held, so nobody else reads or writes it.
        unsafe { element.write(value) };
        Ok(())
    }

    /// A copy of all elements as they stand at one moment.
    #[track_caller]
    pub fn to_vec(&self) -> Result<Vec<T>, LockError> {
        Ok(std::mem::take(&mut self.lock()?.copy))
    }

    /// Locks the whole array for as long as the guard lives; the guard derefs to a slice.
    ///
    /// It works on a copy of the elements and writes that back, if it was changed, when it is
    /// dropped: the cost grows with the array's length. For single elements see
    /// [`get`](Array::get) and [`set`](Array::set).
    #[track_caller]
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        self.mutex().lock().map(|lock| self.guard(lock))
    }

    /// As [`lock`](Array::lock), but [`LockError::WouldBlock`] where another process holds it.
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        self.mutex().try_lock().map(|lock| self.guard(lock))
    }

    /// As [`lock`](Array::lock), but waits for `limit` at the most: [`LockError::Timeout`].
    pub fn lock_timeout(&self, limit: Duration) -> Result<ArrayGuard<'_, T>, LockError> {
        self.mutex().lock_timeout(limit).map(|lock| self.guard(lock))
    }

    /// As [`lock`](Array::lock), but hands over a poisoned array too, for mending.
    #[track_caller]
    pub fn lock_poisoned(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        self.mutex().lock_poisoned().map(|lock| self.guard(lock))
    }

    /// As [`lock_poisoned`](Array::lock_poisoned), but waits for `limit` at the most.
    pub fn lock_poisoned_timeout(&self, limit: Duration) -> Result<ArrayGuard<'_, T>, LockError> {
        self.mutex().lock_poisoned_timeout(limit).map(|lock| self.guard(lock))
    }

    /// Whether a holder has died or panicked, as far as anyone has noticed.
    pub fn is_poisoned(&self) -> bool {
        self.mutex().is_poisoned()
    }

    /// Declares the elements sound again.
    pub fn clear_poison(&self) {
        self.mutex().clear_poison();
    }

    fn guard<'a>(&'a self, lock: MutexGuard<'a, ()>) -> ArrayGuard<'a, T> {
        let mut copy = Vec::<T>::with_capacity(self.len);
        // SAFETY: the lock is held, so nobody writes the elements, any bytes are a `T`, and the
        // vector has room for `len` of them.
        unsafe {
            copy.as_mut_ptr().copy_from_nonoverlapping(self.first(), self.len);
            copy.set_len(self.len);
        }
        ArrayGuard { array: self, copy, changed: false, lock }
    }

    fn mutex(&self) -> &Mutex<()> {
        // SAFETY: `zeroed` placed it there, and it is made to be shared.
        unsafe { &*self.mapping.as_ptr().cast::<Mutex<()>>() }
    }

    fn first(&self) -> *mut T {
        // SAFETY: `zeroed` made the mapping longer than `FIRST`.
        unsafe { self.mapping.as_ptr().add(FIRST).cast() }
    }

    fn element(&self, index: usize) -> Result<*mut T, ArrayError> {
        if index >= self.len {
            return Err(ArrayError::OutOfRange { index, len: self.len });
        }
        // SAFETY: `index` is less than `len`, and there are `len` elements.
        Ok(unsafe { self.first().add(index) })
    }
}

impl<T: Pod> Drop for Array<T> {
    fn drop(&mut self) {
        if self.mutex().is_free() {
            // SAFETY: it is not used again, and its lock is not in this process's list of held
            // locks. Otherwise the pages stay mapped until the process ends.
            unsafe { ManuallyDrop::drop(&mut self.mapping) }
        }
    }
}

impl<T: Pod> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array")
            .field("len", &self.len)
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

/// An [`Array`] locked for this process; it derefs to a slice, and dropping it unlocks.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct ArrayGuard<'a, T: Pod> {
    array: &'a Array<T>,
    copy: Vec<T>,
    changed: bool,
    /// Last, so that the lock is released after everything else.
    lock: MutexGuard<'a, ()>,
}

impl<T: Pod> Deref for ArrayGuard<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.copy
    }
}

impl<T: Pod> DerefMut for ArrayGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.changed = true;
        &mut self.copy
    }
}

impl<T: Pod> Drop for ArrayGuard<'_, T> {
    fn drop(&mut self) {
        if self.changed && MutexGuard::is_ours(&self.lock) {
            // SAFETY: the lock is held until `lock` is dropped, after this, and the copy has as
            // many elements as the array.
            unsafe {
                self.array.first().copy_from_nonoverlapping(self.copy.as_ptr(), self.copy.len())
            }
        }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.copy.fmt(f)
    }
}

/// Why an element was not read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArrayError {
    /// There is no such element.
    OutOfRange {
        /// The index asked for.
        index: usize,
        /// How many elements there are.
        len: usize,
    },
    /// The lock was not handed over.
    Lock(LockError),
}

impl fmt::Display for ArrayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArrayError::OutOfRange { index, len } => write!(
                f,
                "index {index} is out of range: the array has {len} elements, 0 to {}",
                len - 1
            ),
            ArrayError::Lock(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ArrayError {}

impl From<LockError> for ArrayError {
    fn from(error: LockError) -> Self {
        ArrayError::Lock(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_written_one_by_one_and_all_at_once() {
        let numbers = Array::new(&[1_u16, 2, 3]).unwrap();
        numbers.set(1, 20).unwrap();
        numbers.lock().unwrap()[2] = 30;
        assert_eq!((numbers.len(), numbers.get(0)), (3, Ok(1)));
        assert_eq!(numbers.to_vec(), Ok(vec![1, 20, 30]));
        assert_eq!(numbers.to_vec(), Ok(vec![1, 20, 30]));
        assert_eq!(Array::<f32>::zeroed(4).unwrap().to_vec(), Ok(vec![0.0; 4]));
    }

    #[test]
    fn an_index_out_of_range_is_named() {
        let numbers = Array::new(&[0_u8; 50]).unwrap();
        let error = ArrayError::OutOfRange { index: 50, len: 50 };
        assert_eq!((numbers.get(50), numbers.set(50, 1)), (Err(error), Err(error)));
        assert!(error.to_string().contains("index 50") && error.to_string().contains("0 to 49"));
    }

    #[test]
    fn no_and_absurdly_many_elements_are_refused() {
        assert!(Array::<u8>::new(&[]).unwrap_err().to_string().contains("0 elements"));
        let absurd = Array::<u64>::zeroed(usize::MAX / 4).unwrap_err().to_string();
        assert!(absurd.contains(&(usize::MAX / 4).to_string()), "{absurd}");
        assert!(Array::<u64>::zeroed(1 << 50).is_err());
    }
}
