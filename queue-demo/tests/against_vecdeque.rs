//! A queue in one process is a `VecDeque` with a bound: random calls get the same answers.
//!
//! A failure prints its seed; `arbtest(...).seed(0x...).minimize()` finds a shorter sequence with
//! the same failure.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use arbtest::arbitrary::{self, Unstructured};
use arbtest::arbtest;
use queue_demo::{Queue, QueueError};

fork_harness::tests! { any_sequence_of_calls_gets_the_answers_of_a_vecdeque }

/// How long to go on trying sequences.
const BUDGET: Duration = Duration::from_secs(2);
/// A `_timeout` call with this limit does all that it can do without waiting.
const AT_ONCE: Duration = Duration::ZERO;

type Item = Vec<u8>;

fn any_sequence_of_calls_gets_the_answers_of_a_vecdeque() -> Result<()> {
    let (mut sequences, mut calls) = (0, 0);
    arbtest(|random| {
        sequences += 1;
        let mut both = Both::new(random)?;
        while !random.is_empty() {
            calls += 1;
            both.call(random)?;
            both.compare_sizes();
        }
        Ok(())
    })
    .budget(BUDGET)
    .size_max(1024)
    .run();
    println!("## {calls} calls in {sequences} sequences");
    Ok(())
}

/// The queue and its oracle.
struct Both {
    queue: Queue<Item>,
    plain: VecDeque<Item>,
    closed: bool,
    capacity: usize,
    bytes_each: usize,
}

impl Both {
    fn new(random: &mut Unstructured<'_>) -> arbitrary::Result<Both> {
        let (capacity, bytes_each) = (random.int_in_range(1..=6)?, random.int_in_range(1..=9)?);
        let queue = Queue::with_slots(capacity, bytes_each).expect("it is small");
        Ok(Both { queue, plain: VecDeque::new(), closed: false, capacity, bytes_each })
    }

    fn call(&mut self, random: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        match random.int_in_range(0..=40)? {
            0..=4 => {
                let item = self.item(random)?;
                let expected = self.put(&item).unwrap_or(Err(QueueError::Full));
                assert_eq!(self.queue.try_put(item), expected);
            }
            5..=9 => {
                let item = self.item(random)?;
                // Where it would wait for good, only for a moment.
                let (expected, told) = match self.put(&item) {
                    Some(expected) => (expected, self.queue.put(item)),
                    None => (Err(QueueError::Timeout), self.queue.put_timeout(item, AT_ONCE)),
                };
                assert_eq!(told, expected);
            }
            10..=14 => {
                let item = self.item(random)?;
                let expected = self.put(&item).unwrap_or(Err(QueueError::Timeout));
                assert_eq!(self.queue.put_timeout(item, AT_ONCE), expected);
            }
            15..=19 => self.put_many(random)?,
            20..=24 => {
                let expected = self.get().unwrap_or(Err(QueueError::Empty));
                assert_eq!(self.queue.try_get(), expected);
            }
            25..=27 => {
                let (expected, told) = match self.get() {
                    Some(expected) => (expected, self.queue.get()),
                    None => (Err(QueueError::Timeout), self.queue.get_timeout(AT_ONCE)),
                };
                assert_eq!(told, expected);
            }
            28..=30 => {
                let expected = self.get().unwrap_or(Err(QueueError::Timeout));
                assert_eq!(self.queue.get_timeout(AT_ONCE), expected);
            }
            31..=33 => {
                if let Some(expected) = self.get() {
                    let expected = (expected != Err(QueueError::Closed)).then_some(expected);
                    assert_eq!(self.queue.iter().next(), expected);
                }
            }
            34..=39 => self.get_many(random)?,
            _ => {
                self.closed = true;
                assert_eq!(self.queue.close(), Ok(()));
            }
        }
        Ok(())
    }

    /// An item that fits, or sometimes one that is a little too long.
    fn item(&self, random: &mut Unstructured<'_>) -> arbitrary::Result<Item> {
        let len = random.int_in_range(0..=self.bytes_each + 1)?;
        (0..len).map(|_| random.arbitrary()).collect()
    }

    /// Puts into the oracle; `None` where a put has to wait.
    fn put(&mut self, item: &Item) -> Option<Result<(), QueueError>> {
        if item.len() > self.bytes_each {
            return Some(Err(QueueError::TooLarge { len: item.len(), max: self.bytes_each }));
        }
        if self.closed {
            return Some(Err(QueueError::Closed));
        }
        if self.plain.len() == self.capacity {
            return None;
        }
        self.plain.push_back(item.clone());
        Some(Ok(()))
    }

    /// Gets from the oracle; `None` where a get has to wait.
    fn get(&mut self) -> Option<Result<Item, QueueError>> {
        match self.plain.pop_front() {
            None if self.closed => Some(Err(QueueError::Closed)),
            item => item.map(Ok),
        }
    }

    fn put_many(&mut self, random: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let count = random.int_in_range(0..=2 * self.capacity + 1)?;
        let items: Vec<Item> = (0..count).map(|_| self.item(random)).collect::<Result<_, _>>()?;
        let told = if items.len() <= self.capacity - self.plain.len() {
            self.queue.put_many(items.clone())
        } else {
            self.queue.put_many_timeout(items.clone(), AT_ONCE)
        };
        let (put, cause) = match told {
            Ok(put) => (put, None),
            Err(QueueError::Partly { put, cause }) if put > 0 => (put, Some(*cause)),
            Err(cause) => (0, Some(cause)),
        };
        // So many are in the queue, and what kept out the others holds for the next of them.
        let (inside, outside) = items.split_at(put);
        self.plain.extend(inside.iter().cloned());
        match cause {
            None => assert!(outside.is_empty(), "all were put, but not {outside:?}"),
            Some(QueueError::Closed) => assert!(self.closed && put == 0),
            Some(QueueError::Timeout) => assert_eq!(self.plain.len(), self.capacity),
            Some(QueueError::TooLarge { len, max }) => {
                assert!(len > max && max == self.bytes_each);
                assert!(outside.iter().any(|item| item.len() == len), "{outside:?}");
            }
            Some(other) => panic!("{other}"),
        }
        Ok(())
    }

    fn get_many(&mut self, random: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let at_most = random.int_in_range(0..=self.capacity + 1)?;
        let there = at_most.min(self.plain.len());
        let (expected, told) = match (at_most, there) {
            (0, _) => (Err(QueueError::NoneAsked), self.queue.get_many(0)),
            (_, 0) if !self.closed => {
                (Err(QueueError::Timeout), self.queue.get_many_timeout(at_most, AT_ONCE))
            }
            (_, 0) => (Err(QueueError::Closed), self.queue.get_many(at_most)),
            _ => (Ok(self.plain.drain(..there).collect()), self.queue.get_many(at_most)),
        };
        assert_eq!(told, expected);
        Ok(())
    }

    fn compare_sizes(&self) {
        let len = self.plain.len();
        assert!(len <= self.capacity);
        assert_eq!(self.queue.len(), len);
        assert_eq!(self.queue.is_empty(), len == 0);
        assert_eq!(self.queue.is_full(), len == self.capacity);
        assert_eq!(self.queue.capacity(), self.capacity);
    }
}
