//! A queue whose items stay where they are until they are done: Python's `JoinableQueue`, for
//! workers that may be killed.
//!
//! Each item lies in a place with a lock. To *get* an item is to take that lock, and to work on it
//! is to hold it; the item is taken out of its place by the one store that says it is *done*. When
//! a worker is killed, the kernel frees its lock (see [`common::lock`]), and the item, which never
//! left its place, can be got by another. So there is no moment at which an item is in nobody's
//! hands, no second record that could disagree with the first, and no need for anyone to watch the
//! workers.
//!
//! ```text
//!   place      0        1        2        3
//!   number    17       18        0       15     the item's, in the order of the puts; 0: none
//!   lock     free     held     free     held    held: somebody works on it
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::Location;
use std::slice;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::deadlock::{Deadlock, Waiting, What};
use common::lock::{Held, LockError, RobustLock};
use common::memory::Mapping;
use common::message::{self, Message, Reader, Writer};
use common::timeline::{self, Kind, messages};
use common::wait;

use crate::queue::{QueueError, bytes_for};
use crate::{futex, machine};

/// The longest sleep without looking again: the death of a worker wakes nobody.
const NAP: Duration = Duration::from_millis(20);

/// A queue of work that is accounted for. Python: `JoinableQueue`.
///
/// [`get`](JoinableQueue::get) hands out a [`Task`]; who has it calls [`done`](Task::done) when the
/// work is done, and [`join`](JoinableQueue::join) waits until that holds for every item put.
///
/// # When a process dies
///
/// It may be killed at any instruction. An item whose `put` returned is handed out until someone
/// is done with it: where a worker dies with an item in its hands, or drops the [`Task`], the item
/// goes to the next `get`, before all younger ones. So it is done once, but the work on it may have
/// been begun several times: [`Task::previous_owner`] tells. Python's `join` would wait for ever.
///
/// # Cost
///
/// `get` looks at every place. Make it as large as what is to wait for a worker, tens or hundreds of
/// places, and use a [`Queue`](crate::Queue) for what may be lost with its consumer.
///
/// ```
/// use queue_demo::JoinableQueue;
///
/// # fn main() -> anyhow::Result<()> {
/// let queue = JoinableQueue::<u64>::with_capacity(8)?;
/// let worker = common::spawn("worker", || {
///     for task in queue.iter() {
///         let task = task?;
///         println!("working on {}", *task);
///         task.done();
///     }
///     Ok(())
/// })?;
/// for item in 0..20 {
///     queue.put(item)?;
/// }
/// queue.join()?; // all 20 are done
/// queue.close()?; // the worker's loop ends
/// worker.join()?;
/// # Ok(())
/// # }
/// ```
pub struct JoinableQueue<T> {
    /// The header, then the places, then the bytes of their items.
    mapping: ManuallyDrop<Mapping>,
    /// What a report of a deadlock calls it.
    number: u64,
    capacity: usize,
    bytes_each: usize,
    items: PhantomData<fn(T) -> T>,
}

#[repr(C)]
struct Header {
    /// Held while an item is put, and to close.
    producers: RobustLock,
    /// The number of the last item put, or of one whose producer died.
    last: AtomicU64,
    /// 1 once the queue is closed.
    closed: AtomicU32,
    /// Goes up whenever something has changed for someone who may wait.
    changes: AtomicU32,
}

#[repr(C)]
struct Place {
    /// Held by the process that works on the item.
    lock: RobustLock,
    /// Which item is here, counted from 1; 0 where none is. Set by a producer, which thereby
    /// commits its put, where it is 0; set to 0 by the holder of the lock.
    number: AtomicU64,
    /// The item's length in bytes.
    len: AtomicU32,
    /// The pid of the last process that got this item; 0 before the first.
    owner: AtomicU32,
}

const _: () = assert!(align_of::<Place>() <= align_of::<Header>(), "places follow the header");

impl<T: Message> JoinableQueue<T> {
    /// A queue with room for `slots` items that are not done yet, each of any `T`, or, where `T` has
    /// no largest value (`String`, `Vec<u8>`), of up to 1,024 bytes. Python:
    /// `JoinableQueue(maxsize)`.
    ///
    /// # Errors
    ///
    /// 0 slots, or more than the machine has memory for.
    pub fn with_capacity(slots: usize) -> Result<Self> {
        JoinableQueue::with_slots(slots, bytes_for::<T>())
    }

    /// As [`with_capacity`](JoinableQueue::with_capacity), for items of up to `bytes_each` bytes;
    /// see [`Queue::with_slots`](crate::Queue::with_slots).
    ///
    /// # Errors
    ///
    /// 0 slots, 0 bytes, or more of both than the machine has memory for.
    pub fn with_slots(slots: usize, bytes_each: usize) -> Result<Self> {
        ensure!(slots > 0, "a queue of 0 slots can hold nothing: give it at least 1");
        ensure!(bytes_each > 0, "slots of 0 bytes can hold nothing: give them at least 1");
        let max = u32::MAX as usize;
        ensure!(bytes_each <= max, "slots of {bytes_each} bytes are too large: at most {max} each");
        let bytes = slots
            .checked_mul(size_of::<Place>() + bytes_each)
            .and_then(|slots| slots.checked_add(size_of::<Header>()))
            .with_context(|| {
                format!("{slots} slots of {bytes_each} bytes are larger than any memory")
            })?;
        let mapping = Mapping::new(bytes)
            .with_context(|| format!("cannot make a queue of {slots} x {bytes_each} bytes"))?;
        let mapping = ManuallyDrop::new(mapping);
        let number = machine::number();
        let items = PhantomData;
        let queue = JoinableQueue { mapping, number, capacity: slots, bytes_each, items };
        let header = queue.mapping.as_ptr().cast::<Header>();
        // SAFETY: the mapping has room for the header and the places, aligned to a page, and nobody
        // else knows it yet. Zeros are the right beginning for everything but the locks.
        unsafe {
            RobustLock::place(&raw mut (*header).producers)?;
            let first = header.add(1).cast::<Place>();
            for index in 0..slots {
                RobustLock::place(&raw mut (*first.add(index)).lock)?;
            }
        }
        Ok(queue)
    }

    /// Puts `item`, waiting while as many items as there are slots are not done yet.
    ///
    /// # Errors
    ///
    /// [`Closed`](QueueError::Closed), also where the queue is closed while this waits;
    /// [`TooLarge`](QueueError::TooLarge); [`Deadlock`](QueueError::Deadlock) where every process
    /// waits, so that there will never be room. The item is not in the queue then.
    #[track_caller]
    pub fn put(&self, item: T) -> Result<(), QueueError> {
        self.put_until(&item, None)
    }

    /// As [`put`](JoinableQueue::put), but waits for `limit` at the most:
    /// [`Timeout`](QueueError::Timeout).
    pub fn put_timeout(&self, item: T, limit: Duration) -> Result<(), QueueError> {
        self.put_until(&item, wait::deadline_after(limit))
    }

    /// Hands out the oldest item that nobody works on, waiting while there is none.
    ///
    /// # Errors
    ///
    /// [`Closed`](QueueError::Closed) where the queue is closed and everything is done: while an
    /// item is in another worker's hands this waits, for that worker may die. An item that does not
    /// decode counts as done and is [`Decode`](QueueError::Decode).
    /// [`Deadlock`](QueueError::Deadlock) where every process waits.
    #[track_caller]
    pub fn get(&self) -> Result<Task<'_, T>, QueueError> {
        self.wait_until(None, What::Items(self.number), || self.get_now())?
    }

    /// As [`get`](JoinableQueue::get), but waits for `limit` at the most:
    /// [`Timeout`](QueueError::Timeout).
    pub fn get_timeout(&self, limit: Duration) -> Result<Task<'_, T>, QueueError> {
        let deadline = wait::deadline_after(limit);
        self.wait_until(deadline, What::Items(self.number), || self.get_now())?
    }

    /// Gets until the queue is closed and everything is done; an error other than that is an item.
    pub fn iter(&self) -> impl Iterator<Item = Result<Task<'_, T>, QueueError>> {
        std::iter::from_fn(|| match self.get() {
            Err(QueueError::Closed) => None,
            result => Some(result),
        })
    }

    /// Waits until every item that was put is done. Python: `join`.
    ///
    /// Where no worker is left to do it that is for ever: see
    /// [`join_timeout`](JoinableQueue::join_timeout), which alone can fail.
    #[track_caller]
    pub fn join(&self) -> Result<(), QueueError> {
        self.wait_until(None, What::Tasks(self.number), || self.all_done())
    }

    /// As [`join`](JoinableQueue::join), but waits for `limit` at the most:
    /// [`Timeout`](QueueError::Timeout).
    pub fn join_timeout(&self, limit: Duration) -> Result<(), QueueError> {
        let deadline = wait::deadline_after(limit);
        self.wait_until(deadline, What::Tasks(self.number), || self.all_done())
    }

    /// Closes the queue, for every process: from now on `put` says [`QueueError::Closed`], and
    /// `get` does once everything is done. Whoever waits is woken. Closing twice is no error.
    ///
    /// It waits for a put that is under way in another process.
    #[track_caller]
    pub fn close(&self) -> Result<(), QueueError> {
        // Under the lock, so that a put that is under way commits before.
        let held = self.header().producers.lock(None).map_err(of_lock)?;
        self.header().closed.store(1, Release);
        drop(held);
        self.tell();
        Ok(())
    }

    /// How many items are not done now. By the time it is used, other processes may have changed it.
    pub fn unfinished(&self) -> usize {
        self.places().iter().filter(|place| place.number.load(Acquire) != 0).count()
    }

    /// How many items it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    #[track_caller]
    fn put_until(&self, item: &T, deadline: Option<Instant>) -> Result<(), QueueError> {
        let (len, max) = (item.encoded_len(), self.bytes_each);
        if len > max {
            return Err(QueueError::TooLarge { len, max });
        }
        let what = What::Room(self.number, self.capacity);
        self.wait_until(deadline, what, || self.put_now(item, len, deadline).transpose())?
    }

    /// Puts the item; `None` where there is no room.
    fn put_now(
        &self,
        item: &T,
        len: usize,
        deadline: Option<Instant>,
    ) -> Result<Option<()>, QueueError> {
        let Header { producers, last, closed, .. } = self.header();
        let held = producers.lock(deadline).map_err(of_lock)?;
        if closed.load(Relaxed) != 0 {
            return Err(QueueError::Closed);
        }
        let free = self.places().iter().position(|place| place.number.load(Acquire) == 0);
        let Some(index) = free else { return Ok(None) };
        // SAFETY: the place has room for `bytes_each` bytes. It holds no item, so nobody reads them,
        // and we hold the producers' lock, so nobody else writes them.
        message::write_to(item, unsafe { Writer::from_raw(self.bytes(index), len) });
        let place = &self.places()[index];
        place.len.store(len as u32, Relaxed);
        place.owner.store(0, Relaxed);
        let number = last.load(Relaxed) + 1;
        last.store(number, Relaxed);
        timeline::note(Kind::Sends, self.number, messages(number, 1));
        place.number.store(number, Release); // the commit
        drop(held);
        self.tell();
        Ok(Some(()))
    }

    /// Hands out the oldest item that nobody works on; `None` where there is none.
    fn get_now(&self) -> Option<Result<Task<'_, T>, QueueError>> {
        // In this order: nothing is put once the queue is closed.
        let closed = self.header().closed.load(Acquire) != 0;
        let mut items = Vec::new();
        for (index, place) in self.places().iter().enumerate() {
            let number = place.number.load(Acquire);
            if number != 0 {
                items.push((number, index));
            }
        }
        if items.is_empty() {
            return closed.then_some(Err(QueueError::Closed));
        }
        items.sort_unstable();
        items.into_iter().find_map(|(number, index)| self.claim(number, index))
    }

    /// Hands out this item, if nobody works on it.
    fn claim(&self, number: u64, index: usize) -> Option<Result<Task<'_, T>, QueueError>> {
        let place = &self.places()[index];
        let held = match place.lock.try_lock() {
            Ok(Some(held)) => held,
            Ok(None) | Err(LockError::AlreadyHeld) => return None,
            Err(error) => return Some(Err(of_lock(error))),
        };
        if place.number.load(Acquire) != number {
            return None; // done while we came
        }
        // SAFETY: the place holds an item, whose put committed so many bytes. They are not written
        // before the number is 0, and only we, with the lock, can make it so.
        let bytes = unsafe {
            let len = place.len.load(Relaxed) as usize;
            Reader::from_raw(self.bytes(index), len.min(self.bytes_each))
        };
        let owner = place.owner.swap(std::process::id(), Relaxed);
        timeline::note(Kind::Receives, self.number, messages(number, 1));
        Some(match message::read_from(bytes) {
            Ok(item) => Ok(Task { queue: self, place, held: Some(held), owner, item }),
            Err(error) => {
                place.number.store(0, Release);
                drop(held);
                self.tell();
                Err(QueueError::Decode(error))
            }
        })
    }

    fn all_done(&self) -> Option<()> {
        // Someone may put an item into a place that we have passed and then be done with one that
        // we have not come to yet. That we miss the item, but not the change.
        let before = self.header().changes.load(Acquire);
        let done = self.unfinished() == 0;
        (done && self.header().changes.load(Acquire) == before).then_some(())
    }

    /// Calls `look` until it returns something, sleeping until there was a change.
    #[track_caller]
    fn wait_until<R>(
        &self,
        deadline: Option<Instant>,
        what: What,
        mut look: impl FnMut() -> Option<R>,
    ) -> Result<R, QueueError> {
        let changes = &self.header().changes;
        // Before each look: a change after it ends the sleep before it begins.
        let mut seen = changes.load(Acquire);
        if let Some(found) = wait::look_for(&mut look) {
            return Ok(found);
        }
        let waiting = Waiting::begin(what, deadline.is_some(), Location::caller());
        loop {
            let Some(nap) = wait::remaining(deadline, NAP) else { return Err(QueueError::Timeout) };
            futex::wait(changes, seen, nap);
            seen = changes.load(Acquire);
            match waiting.look(|| wait::look_for(&mut look)) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(Deadlock) => return Err(QueueError::Deadlock),
            }
        }
    }

    /// Where the bytes of the item in place `index` lie.
    fn bytes(&self, index: usize) -> *mut u8 {
        let before = size_of::<Header>() + self.capacity * size_of::<Place>();
        // SAFETY: the mapping has room for the header, the places, and the bytes of each.
        unsafe { self.mapping.as_ptr().add(before + index * self.bytes_each) }
    }
}

impl<T> JoinableQueue<T> {
    /// Wakes all who wait, to look again.
    fn tell(&self) {
        let changes = &self.header().changes;
        changes.fetch_add(1, Release);
        futex::wake_all(changes);
    }

    fn header(&self) -> &Header {
        // SAFETY: `with_slots` made it there. All of it is atomics and locks, made to be shared.
        unsafe { &*self.mapping.as_ptr().cast::<Header>() }
    }

    fn places(&self) -> &[Place] {
        // SAFETY: as in `header`; the places follow it.
        unsafe {
            let first = self.mapping.as_ptr().cast::<Header>().add(1).cast::<Place>();
            slice::from_raw_parts(first, self.capacity)
        }
    }
}

impl<T> Drop for JoinableQueue<T> {
    fn drop(&mut self) {
        let free = self.header().producers.is_free()
            && self.places().iter().all(|place| place.lock.is_free());
        if free {
            // SAFETY: it is not used again, and no lock in it is in this process's list of held
            // locks. Otherwise the pages stay mapped until the process ends.
            unsafe { ManuallyDrop::drop(&mut self.mapping) }
        }
    }
}

impl<T: Message> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinableQueue")
            .field("unfinished", &self.unfinished())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

fn of_lock(error: LockError) -> QueueError {
    match error {
        LockError::Timeout => QueueError::Timeout,
        LockError::Deadlock => QueueError::Deadlock,
        error => QueueError::Lock(error),
    }
}

/// An item of a [`JoinableQueue`] in the hands of the process that got it; it derefs to the item.
///
/// Dropped before it is [`done`](Task::done), as by `?` or a panic, the item can be got again. A task
/// stays with the thread that got it: it cannot be moved into a child.
#[must_use = "an item that is not done is handed out again: call done"]
pub struct Task<'a, T> {
    queue: &'a JoinableQueue<T>,
    place: &'a Place,
    /// `None` once it is given back.
    held: Option<Held<'a>>,
    /// Who had the item before, or 0.
    owner: u32,
    item: T,
}

impl<T> Task<'_, T> {
    /// Takes the item out of the queue, for good. Python: `task_done`.
    ///
    /// A process that is killed before this has returned either is done with it, or was not: then it
    /// is handed out again.
    pub fn done(self) {
        self.place.number.store(0, Release); // the commit
    }

    /// The pid of the process that had this item before and was not done with it: it died, or
    /// dropped the task. `None` where this is the first one to get it.
    pub fn previous_owner(&self) -> Option<u32> {
        (self.owner != 0).then_some(self.owner)
    }
}

impl<T> Deref for Task<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T> Drop for Task<'_, T> {
    fn drop(&mut self) {
        self.held = None; // before anyone is told to look
        self.queue.tell();
    }
}

impl<T: fmt::Debug> fmt::Debug for Task<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.item.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::message::DecodeError;

    const SOON: Duration = Duration::from_millis(20);

    fn queue_with(items: &[u8]) -> JoinableQueue<u8> {
        let queue = JoinableQueue::with_capacity(3).unwrap();
        items.iter().for_each(|&item| queue.put(item).unwrap());
        queue
    }

    #[test]
    fn items_come_in_the_order_of_the_puts_also_from_reused_places() {
        let queue = queue_with(&[1, 2, 3]);
        for item in 1..=10 {
            let task = queue.get().unwrap();
            assert_eq!((*task, task.previous_owner()), (item, None));
            task.done();
            queue.put(item + 3).unwrap();
        }
    }

    #[test]
    fn an_item_in_hand_is_nobody_elses_and_one_given_back_comes_first() {
        let queue = queue_with(&[1, 2, 3]);
        let first = queue.get().unwrap();
        let second = queue.get().unwrap();
        assert_eq!((*first, *second), (1, 2));
        drop(first);
        let again = queue.get().unwrap();
        assert_eq!((*again, again.previous_owner()), (1, Some(std::process::id())));
        let third = queue.get().unwrap();
        assert_eq!((*third, third.previous_owner()), (3, None));
        assert_eq!(queue.get_timeout(SOON).unwrap_err(), QueueError::Timeout);
    }

    #[test]
    fn an_item_takes_up_its_place_and_keeps_join_waiting_until_it_is_done() {
        let queue = queue_with(&[1, 2, 3]);
        let tasks = [queue.get(), queue.get(), queue.get()].map(Result::unwrap);
        assert_eq!(queue.put_timeout(4, SOON), Err(QueueError::Timeout));
        for (task, left) in tasks.into_iter().zip([2, 1, 0]) {
            assert_eq!(queue.join_timeout(SOON), Err(QueueError::Timeout));
            task.done();
            assert_eq!(queue.unfinished(), left);
        }
        assert_eq!(queue.join(), Ok(()));
        assert_eq!(queue.put_timeout(4, SOON), Ok(()));
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_ends_when_all_of_it_is_done() {
        let queue = queue_with(&[1, 2]);
        queue.close().unwrap();
        queue.close().unwrap();
        assert_eq!(queue.put(3), Err(QueueError::Closed));
        let task = queue.get().unwrap();
        queue.get().unwrap().done();
        assert_eq!(queue.get_timeout(SOON).unwrap_err(), QueueError::Timeout, "1 may come back");
        drop(task);
        assert_eq!(queue.iter().map(|task| task.unwrap().done()).count(), 1);
        assert_eq!(queue.get().unwrap_err(), QueueError::Closed);
        assert_eq!(queue.join(), Ok(()));
    }

    #[test]
    fn sizes_that_make_no_sense_are_errors_that_name_them() {
        let error = |queue: Result<JoinableQueue<String>>| queue.unwrap_err().to_string();
        assert!(error(JoinableQueue::with_capacity(0)).contains("0 slots"));
        assert!(error(JoinableQueue::with_slots(1, 0)).contains("0 bytes"));
        assert!(error(JoinableQueue::with_slots(usize::MAX, 9)).contains("larger than any memory"));
        let queue = JoinableQueue::with_slots(1, 4).unwrap();
        assert_eq!(queue.put("five!".to_string()), Err(QueueError::TooLarge { len: 5, max: 4 }));
        queue.put("four".to_string()).unwrap();
        assert_eq!(*queue.get().unwrap(), "four");
    }

    #[derive(Debug)]
    struct NeverDecodes;

    impl Message for NeverDecodes {
        fn encoded_len(&self) -> usize {
            0
        }
        fn encode(&self, _: &mut Writer<'_>) {}
        fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
            Err(DecodeError::Invalid("on purpose".into()))
        }
    }

    #[test]
    fn an_item_that_does_not_decode_is_an_error_once() {
        let queue = JoinableQueue::with_capacity(1).unwrap();
        queue.put(NeverDecodes).unwrap();
        assert!(matches!(queue.get(), Err(QueueError::Decode(_))));
        assert_eq!(queue.join_timeout(SOON), Ok(()));
    }
}
