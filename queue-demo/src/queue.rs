//! The queue as a program uses it; how it works is in [`ring`](crate::ring).

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use common::deadlock::Deadlock;
use common::message::{DecodeError, Message};
use common::{LockError, wait};

use crate::ring::{Patience, Ring};

/// How many slots [`Queue::new`] makes.
const SLOTS: usize = 1024;
/// How many bytes a slot has where the type of the items sets no bound.
const BYTES_EACH: usize = 1024;

/// How many bytes a slot for a `T` has where the caller does not say.
pub(crate) fn bytes_for<T: Message>() -> usize {
    T::LENGTH.max().unwrap_or(BYTES_EACH).max(1)
}

/// First in, first out, between any number of producers and consumers in any number of processes.
/// Python: `multiprocessing.Queue`.
///
/// It has so many slots of so many bytes each, as a POSIX message queue has: a queue that is full
/// makes `put` wait. Children use it by reference; they see the same queue.
///
/// # When a process dies
///
/// It may be killed at any instruction. An item whose `put` returned stays in the queue until it is
/// taken; an item is taken once, whole, and in the order of its producer; and nobody waits for the
/// dead. An item that a consumer had taken before it was killed is gone with it.
///
/// # Ending
///
/// [`close`](Queue::close) it: what is in it can still be taken, then `get` says
/// [`QueueError::Closed`] and [`iter`](Queue::iter) ends, for each of any number of consumers. The
/// article's way, a sentinel, is a `None` on a `Queue<Option<T>>`; each consumer needs its own.
///
/// ```
/// use queue_demo::Queue;
///
/// # fn main() -> anyhow::Result<()> {
/// let queue = Queue::new()?;
/// let child = common::spawn("squares", || {
///     for n in 1..=3_u64 {
///         queue.put(n * n)?;
///     }
///     Ok(queue.close()?)
/// })?;
/// let mut total = 0;
/// for square in queue.iter() {
///     total += square?;
/// }
/// assert_eq!(total, 1 + 4 + 9);
/// child.join()?;
/// # Ok(())
/// # }
/// ```
pub struct Queue<T> {
    ring: Ring<T>,
}

impl<T: Message> Queue<T> {
    /// A queue of 1,024 slots, each large enough for any `T`, or, where `T` has no largest value
    /// (`String`, `Vec<u8>`), for 1,024 bytes. Python's has no bound: its `put` never waits, and a
    /// consumer that is too slow shows as memory.
    ///
    /// # Errors
    ///
    /// The system gives no memory for it.
    pub fn new() -> Result<Self> {
        Queue::with_capacity(SLOTS)
    }

    /// As [`new`](Queue::new), with room for `slots` items. Python: `Queue(maxsize)`.
    ///
    /// # Errors
    ///
    /// 0 slots, or more than the machine has memory for.
    pub fn with_capacity(slots: usize) -> Result<Self> {
        Queue::with_slots(slots, bytes_for::<T>())
    }

    /// A queue with room for `slots` items of up to `bytes_each` bytes. A `String` or `Vec<u8>`
    /// takes as many bytes as it has, a number those of its type, an `Option` one more than what is
    /// in it; [`Message::encoded_len`] tells for any other.
    ///
    /// # Errors
    ///
    /// 0 slots, 0 bytes, or more of both than the machine has memory for.
    pub fn with_slots(slots: usize, bytes_each: usize) -> Result<Self> {
        Ok(Queue { ring: Ring::new(slots, bytes_each)? })
    }

    /// Puts `item` at the end, waiting while the queue is full.
    ///
    /// # Errors
    ///
    /// [`Closed`](QueueError::Closed), also where the queue is closed while this waits;
    /// [`TooLarge`](QueueError::TooLarge); [`Deadlock`](QueueError::Deadlock) where every process
    /// waits, so that there will never be room. The item is not in the queue then.
    #[track_caller]
    pub fn put(&self, item: T) -> Result<(), QueueError> {
        self.put_one(item, Patience::Until(None))
    }

    /// As [`put`](Queue::put), but [`Full`](QueueError::Full) where there is no room now. Python:
    /// `put_nowait`.
    ///
    /// It never waits for room. Another process in the middle of its own put is waited for, up to
    /// 100 ms ([`Timeout`](QueueError::Timeout)).
    pub fn try_put(&self, item: T) -> Result<(), QueueError> {
        self.put_one(item, Patience::None)
    }

    /// As [`put`](Queue::put), but waits for `limit` at the most:
    /// [`Timeout`](QueueError::Timeout).
    pub fn put_timeout(&self, item: T, limit: Duration) -> Result<(), QueueError> {
        self.put_one(item, Patience::Until(wait::deadline_after(limit)))
    }

    /// Puts all of `items`, in order, and returns how many that were; waits while the queue is
    /// full.
    ///
    /// As many as there is room for are put at once, as one: that is faster than one by one, and
    /// no consumer sees a part of them before the others. More items than slots go in several such
    /// steps.
    ///
    /// # Errors
    ///
    /// As for [`put`](Queue::put). Where some were put before, [`Partly`](QueueError::Partly) says
    /// how many: those are in the queue, the others are not.
    #[track_caller]
    pub fn put_many(&self, items: impl IntoIterator<Item = T>) -> Result<usize, QueueError> {
        self.put_all(items, Patience::Until(None))
    }

    /// As [`put_many`](Queue::put_many), but waits for `limit` at the most in all.
    pub fn put_many_timeout(
        &self,
        items: impl IntoIterator<Item = T>,
        limit: Duration,
    ) -> Result<usize, QueueError> {
        self.put_all(items, Patience::Until(wait::deadline_after(limit)))
    }

    /// Takes the first item, waiting while the queue is empty.
    ///
    /// # Errors
    ///
    /// [`Closed`](QueueError::Closed) where the queue is empty and closed;
    /// [`Deadlock`](QueueError::Deadlock) where every process waits, so that nothing will ever come.
    #[track_caller]
    pub fn get(&self) -> Result<T, QueueError> {
        self.get_one(Patience::Until(None))
    }

    /// As [`get`](Queue::get), but [`Empty`](QueueError::Empty) where there is nothing now. Python:
    /// `get_nowait`.
    ///
    /// It never waits for an item. Another process in the middle of its own get is waited for, up
    /// to 100 ms ([`Timeout`](QueueError::Timeout)).
    pub fn try_get(&self) -> Result<T, QueueError> {
        self.get_one(Patience::None)
    }

    /// As [`get`](Queue::get), but waits for `limit` at the most:
    /// [`Timeout`](QueueError::Timeout).
    pub fn get_timeout(&self, limit: Duration) -> Result<T, QueueError> {
        self.get_one(Patience::Until(wait::deadline_after(limit)))
    }

    /// Takes what there is, at least one item and at most `at_most`, waiting while the queue is
    /// empty. All of them are taken at once, as one.
    ///
    /// # Errors
    ///
    /// As for [`get`](Queue::get); [`NoneAsked`](QueueError::NoneAsked) where `at_most` is 0.
    #[track_caller]
    pub fn get_many(&self, at_most: usize) -> Result<Vec<T>, QueueError> {
        self.get_some(at_most, Patience::Until(None))
    }

    /// As [`get_many`](Queue::get_many), but waits for `limit` at the most for the first item.
    pub fn get_many_timeout(&self, at_most: usize, limit: Duration) -> Result<Vec<T>, QueueError> {
        self.get_some(at_most, Patience::Until(wait::deadline_after(limit)))
    }

    /// Takes items until the queue is empty and closed; an error other than that is an item.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self }
    }

    /// Closes the queue, for every process: from now on `put` says [`QueueError::Closed`], and
    /// `get` does once the queue is empty. Whoever waits is woken. Closing twice is no error.
    ///
    /// It waits for a put that is under way in another process.
    #[track_caller]
    pub fn close(&self) -> Result<(), QueueError> {
        self.ring.close(Patience::Until(None))
    }

    /// As [`close`](Queue::close), but waits for `limit` at the most:
    /// [`Timeout`](QueueError::Timeout), and the queue stays open.
    pub fn close_timeout(&self, limit: Duration) -> Result<(), QueueError> {
        self.ring.close(Patience::Until(wait::deadline_after(limit)))
    }

    /// How many items there are now. By the time it is used, other processes may have changed it.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is no item now; see [`len`](Queue::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room now; see [`len`](Queue::len).
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// How many items it has room for.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    #[track_caller]
    fn put_one(&self, item: T, patience: Patience) -> Result<(), QueueError> {
        self.check_len(&item)?;
        self.ring.put(std::slice::from_ref(&item), patience).map(drop)
    }

    #[track_caller]
    fn put_all(
        &self,
        items: impl IntoIterator<Item = T>,
        patience: Patience,
    ) -> Result<usize, QueueError> {
        let mut items = items.into_iter();
        let mut put = 0;
        loop {
            // Fetched before the lock is taken: the iterator is the caller's, and may take its time.
            let batch: Vec<T> = items.by_ref().take(self.capacity()).collect();
            if batch.is_empty() {
                return Ok(put);
            }
            self.put_batch(&batch, patience, &mut put).map_err(|cause| match put {
                0 => cause,
                put => QueueError::Partly { put, cause: Box::new(cause) },
            })?;
        }
    }

    #[track_caller]
    fn put_batch(
        &self,
        mut batch: &[T],
        patience: Patience,
        put: &mut usize,
    ) -> Result<(), QueueError> {
        batch.iter().try_for_each(|item| self.check_len(item))?;
        while !batch.is_empty() {
            let count = self.ring.put(batch, patience)?;
            batch = &batch[count..];
            *put += count;
        }
        Ok(())
    }

    fn check_len(&self, item: &T) -> Result<(), QueueError> {
        let (len, max) = (item.encoded_len(), self.ring.bytes_each());
        if len > max { Err(QueueError::TooLarge { len, max }) } else { Ok(()) }
    }

    #[track_caller]
    fn get_one(&self, patience: Patience) -> Result<T, QueueError> {
        let mut got = None;
        self.ring.get(1, patience, |item| got = Some(item))?;
        Ok(got.expect("without an error there is an item"))
    }

    #[track_caller]
    fn get_some(&self, at_most: usize, patience: Patience) -> Result<Vec<T>, QueueError> {
        if at_most == 0 {
            return Err(QueueError::NoneAsked);
        }
        let mut got = Vec::with_capacity(at_most.min(self.len()));
        self.ring.get(at_most, patience, |item| got.push(item))?;
        Ok(got)
    }
}

impl<T: Message> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// The items of a [`Queue`] until it is empty and closed; see [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Message> {
    queue: &'a Queue<T>,
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = Result<T, QueueError>;

    #[track_caller]
    fn next(&mut self) -> Option<Self::Item> {
        match self.queue.get() {
            Err(QueueError::Closed) => None,
            result => Some(result),
        }
    }
}

impl<'a, T: Message> IntoIterator for &'a Queue<T> {
    type Item = Result<T, QueueError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// Why an item was not put or not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueError {
    /// `try_put` found no room.
    Full,
    /// `try_get` found no item.
    Empty,
    /// The time given to a `_timeout` call ran out, or another process kept the queue's lock for
    /// 100 ms while a `try_` call was made.
    Timeout,
    /// The queue is closed; for a get: and empty.
    Closed,
    /// Every process waits, this one for room or an item, and none can go on; see
    /// [`common::deadlock`].
    Deadlock,
    /// The item is longer than a slot.
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// What a slot holds.
        max: usize,
    },
    /// A part of the items was put before something went wrong.
    Partly {
        /// How many, from the first on.
        put: usize,
        /// Why the next one was not.
        cause: Box<QueueError>,
    },
    /// `get_many` was asked for at most 0 items.
    NoneAsked,
    /// What was in the slot is no `T`; it has been taken out.
    Decode(DecodeError),
    /// The queue's lock was not handed over.
    Lock(LockError),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueError::Full => f.write_str("queue full: wait with put or put_timeout"),
            QueueError::Empty => f.write_str("queue empty: wait with get or get_timeout"),
            QueueError::Timeout => f.write_str(
                "time ran out on the queue: nobody took or put an item, or a process is stopped in \
                 the middle of doing so",
            ),
            QueueError::Deadlock => Deadlock.fmt(f),
            QueueError::Closed => f.write_str("queue closed: nothing more is put or will come"),
            QueueError::TooLarge { len, max } => write!(
                f,
                "queue slot holds {max} bytes, the message has {len}: make the queue with \
                 Queue::with_slots(capacity, {len})"
            ),
            QueueError::Partly { put, cause } => {
                write!(f, "the first {put} items were put, then: {cause}")
            }
            QueueError::NoneAsked => {
                f.write_str("get_many(0) asks for no items: ask for at most 1 or more")
            }
            QueueError::Decode(error) => error.fmt(f),
            QueueError::Lock(error) => write!(f, "the queue's lock: {error}"),
        }
    }
}

impl std::error::Error for QueueError {}
