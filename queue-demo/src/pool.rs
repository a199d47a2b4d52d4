//! Workers that run one function on many items: Python's `Pool`, on two queues.
//!
//! ```text
//!              JoinableQueue              Queue
//!   items ──> (number, item) ──> f ──> (number, outcome) ──> in order, or as they come
//!   parent                     workers                      parent
//! ```
//!
//! An item stays in the first queue until its outcome is in the second. So where a worker dies, the
//! item it had goes to the next one, which does not try it again (it might die of it too) but
//! reports who died. A worker that dies between its two last steps, the outcome sent and the item
//! not yet done, makes a second outcome for the item; the parent takes the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, ensure};
use common::message::{from_bytes, to_bytes};
use common::{Message, Process, join_all, spawn, wait};

use crate::queue::bytes_for;
use crate::{JoinableQueue, Queue, QueueError};

/// How many items for each worker `imap` hands out ahead of what its caller has taken.
const AHEAD: usize = 4;
/// What a slot has beside the item's or result's own bytes: the number, and what kind it is.
const EXTRA: usize = 16;
/// The longest text of an error that is reported, in characters; a slot has room for it.
const TEXT: usize = 200;
/// How long to wait for an outcome before looking whether a worker is left.
const NAP: Duration = Duration::from_millis(20);

/// What became of an item: the bytes of the result, or the text of the error, or, the outer error,
/// the pid of the worker that died with it.
type Outcome = Result<Result<Vec<u8>, String>, u32>;

/// Processes that run one function on many items. Python: `multiprocessing.Pool`.
///
/// The function is given once, when the workers are forked, and may use all that the parent had
/// then; items and results are [`Message`]s.
///
/// # When something goes wrong
///
/// Each item has a result or an error that names it: what the function returned, or how the worker
/// died that had it (Python's `map` would wait for ever). The other items are not touched by that.
/// A dead worker is not replaced; where the last one has died, each item that was handed out is an
/// error, and no more are. A pool that is dropped kills and reaps its workers.
///
/// ```
/// use queue_demo::Pool;
///
/// # fn main() -> anyhow::Result<()> {
/// let mut pool = Pool::new(2, |n: &u64| Ok(n * n))?;
/// assert_eq!(pool.map([1, 2, 3])?, [1, 4, 9]);
/// for square in pool.imap(1..=3) {
///     println!("{}", square?);
/// }
/// pool.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pool<T, R> {
    /// First, so that a pool that is dropped ends them before it gives up the queues.
    workers: Vec<Process>,
    tasks: JoinableQueue<(u64, Vec<u8>)>,
    outcomes: Queue<(u64, Outcome)>,
    /// For both an item and a result.
    bytes_each: usize,
    /// The number of the next item. They are never used again, so that what is left of an iteration
    /// given up is not taken for a part of the next.
    next: u64,
    ahead: usize,
    function: PhantomData<fn(T) -> R>,
}

impl<T: Message, R: Message> Pool<T, R> {
    /// Forks `workers` processes that run `function` on items. Python: `Pool(processes)`; the
    /// function comes with each call there.
    ///
    /// Items and results may be of any `T` and `R`, or, where these have no largest value
    /// (`String`, `Vec<u8>`), of up to 1,024 bytes.
    ///
    /// # Errors
    ///
    /// 0 workers; no memory for the queues; and those of [`spawn`].
    pub fn new<F>(workers: usize, function: F) -> Result<Self>
    where
        F: Fn(&T) -> Result<R> + Sync,
    {
        Pool::with_bytes(workers, bytes_for::<T>().max(bytes_for::<R>()), function)
    }

    /// As [`new`](Pool::new), for items and results of up to `bytes_each` bytes.
    pub fn with_bytes<F>(workers: usize, bytes_each: usize, function: F) -> Result<Self>
    where
        F: Fn(&T) -> Result<R> + Sync,
    {
        ensure!(workers > 0, "a pool of 0 workers does nothing: give it at least 1");
        let ahead = workers.saturating_mul(AHEAD);
        // One more for each worker: the item whose outcome it has just sent is not quite done.
        let slots = ahead.saturating_add(workers);
        let tasks = JoinableQueue::with_slots(slots, bytes_each.saturating_add(EXTRA))?;
        let room_for_text = TEXT * size_of::<char>();
        let outcomes =
            Queue::with_slots(slots, bytes_each.max(room_for_text).saturating_add(EXTRA))?;
        let work = || work(&tasks, &outcomes, bytes_each, &function);
        let workers = (0..workers)
            .map(|number| spawn(format!("worker-{number}"), work))
            .collect::<Result<_>>()?;
        Ok(Pool { workers, tasks, outcomes, bytes_each, next: 0, ahead, function: PhantomData })
    }

    /// Runs the function on every item and returns all results, in the order of the items. Python:
    /// `map`.
    ///
    /// All items are worked on, also where one fails. Blocks until then.
    ///
    /// # Errors
    ///
    /// That of the first item in order that has one.
    pub fn map(&mut self, items: impl IntoIterator<Item = T>) -> Result<Vec<R>, PoolError> {
        let results: Vec<_> = self.results(items, usize::MAX, true).collect();
        results.into_iter().collect()
    }

    /// Runs the function on every item and returns the results one by one, in the order of the
    /// items, each as soon as it and all before it are there. Python: `imap`.
    ///
    /// Items are taken as they are needed: at most four for each worker ahead of what the caller
    /// has taken of the results. So there may be more of them than memory, or no end of them.
    ///
    /// Dropped early, it leaves the items that were handed out to the workers, and their results
    /// are thrown away.
    pub fn imap<I>(&mut self, items: I) -> Results<'_, I::IntoIter, T, R>
    where
        I: IntoIterator<Item = T>,
    {
        self.results(items, self.ahead, true)
    }

    /// As [`imap`](Pool::imap), but each result as soon as it is there, in whatever order. Python:
    /// `imap_unordered`. To know which item a result belongs to, return the item with it.
    pub fn imap_unordered<I>(&mut self, items: I) -> Results<'_, I::IntoIter, T, R>
    where
        I: IntoIterator<Item = T>,
    {
        self.results(items, self.ahead, false)
    }

    /// Ends the workers, after the items that they work on now, and reaps them. Python: `close`,
    /// then `join`.
    ///
    /// # Errors
    ///
    /// A worker died that no item's error has told of.
    pub fn close(self) -> Result<()> {
        self.tasks.close()?;
        self.outcomes.close()?; // who waits to report what nobody asks for any more ends too
        join_all(self.workers)
    }

    fn results<I>(
        &mut self,
        items: I,
        ahead: usize,
        ordered: bool,
    ) -> Results<'_, I::IntoIter, T, R>
    where
        I: IntoIterator<Item = T>,
    {
        let first = self.next;
        Results {
            pool: self,
            items: Some(items.into_iter()),
            ahead,
            ordered,
            first,
            returned: 0,
            pending: BTreeSet::new(),
            ready: BTreeMap::new(),
        }
    }

    /// What the parent makes of an outcome.
    fn result(&mut self, item: usize, outcome: Outcome) -> Result<R, PoolError> {
        let failed = |error| PoolError::Failed { item, error };
        match outcome {
            Ok(Ok(bytes)) => from_bytes(&bytes).map_err(|error| failed(error.to_string())),
            Ok(Err(error)) => Err(failed(error)),
            Err(pid) => Err(PoolError::Died { item, how: self.how_it_died(pid) }),
        }
    }

    /// Takes an item that no worker is left for: its number, and who had it.
    fn left_item(&self) -> Option<(u64, Option<u32>)> {
        let task = self.tasks.get_timeout(Duration::ZERO).ok()?;
        let left = (task.0, task.previous_owner());
        task.done();
        Some(left)
    }

    fn how_it_died(&mut self, pid: u32) -> String {
        match self.workers.iter().position(|worker| worker.pid() == pid) {
            Some(index) => match self.workers.swap_remove(index).join() {
                Ok(()) => format!("process {pid} exited with 0"),
                Err(error) => error.to_string(),
            },
            None => format!("process {pid} died"),
        }
    }
}

/// What a worker does until the queues are closed.
fn work<T: Message, R: Message>(
    tasks: &JoinableQueue<(u64, Vec<u8>)>,
    outcomes: &Queue<(u64, Outcome)>,
    bytes_each: usize,
    function: impl Fn(&T) -> Result<R>,
) -> Result<()> {
    for task in tasks.iter() {
        let task = task?;
        let (number, bytes) = &*task;
        let outcome = match task.previous_owner() {
            Some(pid) => Err(pid),
            None => Ok(from_bytes(bytes)
                .map_err(Error::from)
                .and_then(|item| function(&item))
                .and_then(|result| encoded(&result, "its result", bytes_each))
                .map_err(|error| format!("{error:#}").chars().take(TEXT).collect())),
        };
        match outcomes.put((*number, outcome)) {
            Err(QueueError::Closed) => break,
            sent => sent?,
        }
        task.done();
    }
    Ok(())
}

fn encoded<M: Message>(message: &M, what: &str, room: usize) -> Result<Vec<u8>> {
    let len = message.encoded_len();
    ensure!(
        len <= room,
        "{what} has {len} bytes, and the pool room for {room}: make it with \
         Pool::with_bytes(workers, {len}, ...)"
    );
    Ok(to_bytes(message))
}

/// The results of a [`Pool`], one by one; see [`imap`](Pool::imap) and
/// [`imap_unordered`](Pool::imap_unordered).
#[derive(Debug)]
#[must_use = "items are handed out as results are asked for"]
pub struct Results<'p, I, T, R> {
    pool: &'p mut Pool<T, R>,
    /// `None` once there are no more.
    items: Option<I>,
    ahead: usize,
    ordered: bool,
    /// The number of item 0.
    first: u64,
    returned: u64,
    /// The numbers of the items that are handed out and have no outcome yet.
    pending: BTreeSet<u64>,
    /// Results that are not returned yet.
    ready: BTreeMap<u64, Result<R, PoolError>>,
}

impl<I: Iterator<Item = T>, T: Message, R: Message> Iterator for Results<'_, I, T, R> {
    type Item = Result<R, PoolError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None)
    }
}

impl<I: Iterator<Item = T>, T: Message, R: Message> Results<'_, I, T, R> {
    /// As `next`, but waits for `limit` at the most: [`PoolError::Timeout`], and the result comes
    /// with a later call. Python: `next(timeout)`.
    pub fn next_timeout(&mut self, limit: Duration) -> Option<Result<R, PoolError>> {
        self.next_until(wait::deadline_after(limit))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Result<R, PoolError>> {
        loop {
            if let Err(error) = self.hand_out() {
                return self.give_up(error);
            }
            if let Some(result) = self.take_ready() {
                return Some(result);
            }
            if self.items.is_none() && self.pending.is_empty() {
                return None;
            }
            let Some(nap) = wait::remaining(deadline, NAP) else {
                return Some(Err(PoolError::Timeout));
            };
            match self.pool.outcomes.get_timeout(nap) {
                Ok((number, outcome)) => self.note(number, outcome),
                Err(QueueError::Timeout) => {
                    if !self.pool.workers.iter_mut().any(Process::is_alive) {
                        self.end_without_workers();
                    }
                }
                Err(error) => return self.give_up(error),
            }
        }
    }

    /// Hands out as many items as may be, without waiting: only the parent puts, so room stays.
    fn hand_out(&mut self) -> Result<(), QueueError> {
        let Pool { tasks, next, bytes_each, .. } = &mut *self.pool;
        while self.pending.len() + self.ready.len() < self.ahead
            && tasks.unfinished() < tasks.capacity()
        {
            let Some(item) = self.items.as_mut().and_then(I::next) else {
                self.items = None;
                break;
            };
            let number = *next;
            *next += 1;
            match encoded(&item, "it", *bytes_each) {
                Ok(bytes) => {
                    tasks.put((number, bytes))?;
                    self.pending.insert(number);
                }
                Err(error) => {
                    let item = (number - self.first) as usize;
                    let error = PoolError::Failed { item, error: error.to_string() };
                    self.ready.insert(number, Err(error));
                }
            }
        }
        Ok(())
    }

    fn take_ready(&mut self) -> Option<Result<R, PoolError>> {
        let number =
            if self.ordered { self.first + self.returned } else { *self.ready.keys().next()? };
        let result = self.ready.remove(&number)?;
        self.returned += 1;
        Some(result)
    }

    /// Takes in an outcome, unless its item has one already or is of an iteration given up.
    fn note(&mut self, number: u64, outcome: Outcome) {
        if self.pending.remove(&number) {
            let item = (number - self.first) as usize;
            let result = self.pool.result(item, outcome);
            self.ready.insert(number, result);
        }
    }

    /// Does what the last worker left: an error for each item that was handed out, and no more.
    fn end_without_workers(&mut self) {
        while let Ok((number, outcome)) = self.pool.outcomes.try_get() {
            self.note(number, outcome);
        }
        while let Some((number, owner)) = self.pool.left_item() {
            if let Some(pid) = owner {
                self.note(number, Err(pid));
            }
        }
        for number in std::mem::take(&mut self.pending) {
            let item = (number - self.first) as usize;
            self.ready.insert(number, Err(PoolError::NoWorker { item }));
        }
        self.items = None;
    }

    fn give_up(&mut self, error: QueueError) -> Option<Result<R, PoolError>> {
        self.items = None;
        self.pending.clear();
        Some(Err(PoolError::Queue(error)))
    }
}

/// Why an item has no result. Items are counted from 0 in each call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// The function returned an error, or the item or its result was too large for the pool.
    Failed {
        /// Which item.
        item: usize,
        /// What the error says, its first 200 characters.
        error: String,
    },
    /// The worker that had the item died. Nobody has tried the item again.
    Died {
        /// Which item.
        item: usize,
        /// Which process, and how it ended.
        how: String,
    },
    /// The last worker had died before anyone got to the item.
    NoWorker {
        /// Which item.
        item: usize,
    },
    /// The time given to [`Results::next_timeout`] ran out.
    Timeout,
    /// A queue of the pool failed; no more results come.
    Queue(QueueError),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::Failed { item, error } => write!(f, "item {item}: {error}"),
            PoolError::Died { item, how } => {
                write!(f, "item {item}: the worker that had it died: {how}")
            }
            PoolError::NoWorker { item } => {
                write!(f, "item {item}: every worker of the pool has died: make a new pool")
            }
            PoolError::Timeout => f.write_str("time ran out on the pool: its workers still work"),
            PoolError::Queue(error) => write!(f, "the pool's {error}"),
        }
    }
}

impl std::error::Error for PoolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_outcomes_counts() {
        // As a worker leaves it that dies after it has sent an outcome, and before it is done.
        let outcomes = Queue::new().unwrap();
        for outcome in [(0, Ok(Ok(vec![7]))), (0, Err(1)), (1, Ok(Err("no".into())))] {
            outcomes.put(outcome).unwrap();
        }
        let tasks = JoinableQueue::with_capacity(2).unwrap();
        let (workers, function) = (Vec::new(), PhantomData);
        let mut pool: Pool<u8, u8> =
            Pool { workers, tasks, outcomes, bytes_each: 1, next: 0, ahead: 2, function };
        let results: Vec<_> = pool.imap_unordered([1, 2]).collect();
        assert_eq!(results, [Ok(7), Err(PoolError::Failed { item: 1, error: "no".into() })]);
    }
}
