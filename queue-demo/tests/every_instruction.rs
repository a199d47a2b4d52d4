//! A process is killed at every instruction of a call on a queue, and the queue goes on.
//!
//! Each scenario is run once for each instruction of the victim's call. The survivor then finds the
//! queue as it was before the call or as it is after it, every item whole, once and in order, and
//! uses it on. All its own calls are bounded, so that a wait without end is an error.

use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use common::message::{DecodeError, Length, Message, Reader, Writer};
use common::{Process, Shared, spawn};
use fork_harness::tracer::{Strike, is_asleep, prove, traced};
use nix::sys::signal::{Signal, raise};
use queue_demo::{Queue, QueueError};

fork_harness::tests! {
    put_is_done_or_not_begun,
    put_many_commits_all_that_there_is_room_for_or_nothing,
    get_is_done_or_not_begun,
    get_many_takes_all_that_it_can_or_nothing,
    close_is_done_or_not_begun,
}

const SLOTS: u64 = 4;
/// What a survivor puts to see that a put works.
const PROBE: u64 = 99;
/// Longer than any wait of these tests: when it has passed, something hangs.
const HANG: Duration = Duration::from_secs(5);

/// A number, and a second one that goes with it: an item of two puts would not match.
struct Item {
    number: u64,
    check: u64,
}

/// Set in a process that is to die with the queue's lock in its hands.
static DIES: AtomicBool = AtomicBool::new(false);

impl Item {
    fn new(number: u64) -> Item {
        Item { number, check: !number.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    fn checked_number(&self) -> Result<u64> {
        let Item { number, check } = *self;
        ensure!(check == Item::new(number).check, "a torn item: {number:#x} with {check:#x}");
        Ok(number)
    }

    fn die_if_told() {
        if DIES.load(Relaxed) {
            raise(Signal::SIGKILL).unwrap();
        }
    }
}

impl Message for Item {
    const LENGTH: Length = Length::Exactly(16);

    fn encoded_len(&self) -> usize {
        16
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.field(&self.number);
        Item::die_if_told();
        out.field(&self.check);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Item::die_if_told();
        Ok(Item { number: input.field()?, check: input.field()? })
    }
}

fn items(numbers: Range<u64>) -> impl Iterator<Item = Item> {
    numbers.map(Item::new)
}

/// A queue that holds these items, the first of them in that slot.
fn queue_with(first_slot: u64, numbers: Range<u64>) -> Result<Queue<Item>> {
    let queue = Queue::with_capacity(SLOTS as usize)?;
    for item in items(0..first_slot) {
        queue.try_put(item)?;
        queue.try_get()?;
    }
    queue.put_many_timeout(items(numbers), HANG)?;
    Ok(queue)
}

/// Kills a child in the midst of `call`.
fn kill_in<R>(
    strike: &mut Strike,
    call: impl FnOnce() -> R + Send,
    on_sleep: impl FnMut(),
) -> Result<()> {
    let victim = spawn("victim", || traced(call).map(drop))?;
    strike.reach(victim.pid(), on_sleep)?;
    drop(victim); // SIGKILL, and reaped
    Ok(())
}

/// Takes everything out.
fn drain(queue: &Queue<Item>) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    loop {
        match queue.try_get() {
            Ok(item) => numbers.push(item.checked_number()?),
            Err(QueueError::Empty) => return Ok(numbers),
            Err(error) => bail!("after {numbers:?}: {error}"),
        }
    }
}

/// Which of the `allowed` contents a queue held, of which `taken` are out already; then uses it on.
fn which(queue: &Queue<Item>, mut taken: Vec<u64>, allowed: &[Vec<u64>]) -> Result<usize> {
    let (len, full) = (queue.len(), queue.is_full());
    if !full {
        queue.put_timeout(Item::new(PROBE), HANG)?;
    }
    let mut rest = drain(queue)?;
    ensure!(full || rest.pop() == Some(PROBE), "the survivor's own item is not the last");
    ensure!(rest.len() == len, "{} items in a queue of length {len}", rest.len());
    taken.extend(rest);
    let found = allowed.iter().position(|numbers| *numbers == taken);
    let found = found.with_context(|| format!("the queue held {taken:?}, allowed: {allowed:?}"))?;

    for lap in 0..2 {
        let numbers = lap * SLOTS..(lap + 1) * SLOTS;
        queue.put_many_timeout(items(numbers.clone()), HANG)?;
        ensure!(queue.try_put(Item::new(PROBE)) == Err(QueueError::Full), "no bound any more");
        ensure!(drain(queue)?.into_iter().eq(numbers), "the queue does not work any more");
    }
    Ok(found)
}

/// The call takes place with nobody waiting, and finds what it needs.
fn alone<R>(
    title: &str,
    (first_slot, before): (u64, Range<u64>),
    call: impl Fn(&Queue<Item>) -> R + Sync,
    after: Range<u64>,
) -> Result<()> {
    prove(title, &["before", "after"], |strike| {
        let queue = queue_with(first_slot, before.clone())?;
        kill_in(strike, || call(&queue), || ())?;
        which(&queue, Vec::new(), &[before.clone().collect(), after.clone().collect()])
    })
}

/// The call is made after an earlier process died in the midst of the same one, with the lock.
fn after_a_death<R>(
    title: &str,
    before: Range<u64>,
    call: impl Fn(&Queue<Item>) -> R + Sync,
    after: Range<u64>,
) -> Result<()> {
    prove(title, &["before", "after"], |strike| {
        let queue = queue_with(1, before.clone())?;
        let mut first = spawn("first", || {
            DIES.store(true, Relaxed);
            call(&queue);
            Ok(())
        })?;
        ensure!(first.wait()?.signal() == Some(Signal::SIGKILL as i32), "it did not die");
        kill_in(strike, || call(&queue), || ())?;
        which(&queue, Vec::new(), &[before.clone().collect(), after.clone().collect()])
    })
}

/// The call finds the queue full, sleeps, and is woken by the survivor, which takes an item.
fn on_a_full_queue<R>(
    title: &str,
    before: Range<u64>,
    call: impl Fn(&Queue<Item>) -> R + Sync,
    states: &[(&str, Range<u64>)],
) -> Result<()> {
    let names: Vec<&str> = states.iter().map(|state| state.0).collect();
    let contents: Vec<Vec<u64>> = states.iter().map(|state| state.1.clone().collect()).collect();
    prove(title, &names, |strike| {
        let queue = queue_with(1, before.clone())?;
        let mut taken = Vec::new();
        let take = || {
            if queue.is_full() {
                taken.push(queue.try_get().unwrap().checked_number().unwrap());
            }
        };
        kill_in(strike, || call(&queue), take)?;
        which(&queue, taken, &contents)
    })
}

/// The call finds the queue empty, sleeps, and is woken by the survivor, which puts an item.
fn on_an_empty_queue<R>(title: &str, call: impl Fn(&Queue<Item>) -> R + Sync) -> Result<()> {
    prove(title, &["before", "after"], |strike| {
        // After two items, so that it does not look for the next one 600 times before it sleeps:
        // to be killed at each of these looks, which change nothing, would take minutes.
        let queue = queue_with(2, 0..0)?;
        let mut put = false;
        let give = || {
            if !put {
                queue.try_put(Item::new(1)).unwrap();
                put = true;
            }
        };
        kill_in(strike, || call(&queue), give)?;
        let states = if put { vec![vec![1], vec![]] } else { vec![vec![]] };
        which(&queue, Vec::new(), &states)
    })
}

/// The call finds a consumer asleep. Where it committed, the consumer wakes and gets, whether or
/// not the victim came to wake it; otherwise it gets what the survivor puts.
fn with_a_consumer_asleep<R>(
    title: &str,
    call: impl Fn(&Queue<Item>) -> R + Sync,
    after: Range<u64>,
) -> Result<()> {
    prove(title, &["before", "after"], |strike| {
        let queue = queue_with(1, 0..0)?;
        let got = Shared::new(AtomicU64::new(0))?;
        let waiter = spawn("waiter", || {
            got.store(queue.get()?.checked_number()?, Relaxed);
            Ok(())
        })?;
        wait_until_asleep(&waiter)?;
        kill_in(strike, || call(&queue), || ())?;
        if queue.is_empty() {
            queue.put_timeout(Item::new(PROBE), HANG)?;
        }
        wait_until_done(waiter)?;
        let mut all = vec![got.load(Relaxed)];
        all.extend(drain(&queue)?);
        all.retain(|&number| number != PROBE);
        which(&queue, all, &[vec![], after.clone().collect()])
    })
}

/// The call finds a producer asleep, which has one more item for a full queue.
fn with_a_producer_asleep<R>(
    title: &str,
    call: impl Fn(&Queue<Item>) -> R + Sync,
    after: Range<u64>,
) -> Result<()> {
    prove(title, &["before", "after"], |strike| {
        let queue = queue_with(1, 1..5)?;
        let waiter = spawn("waiter", || Ok(queue.put(Item::new(5))?))?;
        wait_until_asleep(&waiter)?;
        kill_in(strike, || call(&queue), || ())?;
        let mut taken = Vec::new();
        if queue.is_full() {
            taken.push(queue.get_timeout(HANG)?.checked_number()?);
        }
        wait_until_done(waiter)?;
        which(&queue, taken, &[(1..6).collect(), after.clone().collect()])
    })
}

fn wait_until_asleep(process: &Process) -> Result<()> {
    let start = Instant::now();
    while !is_asleep(process.pid())? {
        ensure!(start.elapsed() < HANG, "the waiter does not go to sleep");
        nix::sched::sched_yield()?;
    }
    Ok(())
}

fn wait_until_done(mut process: Process) -> Result<()> {
    let status = process.wait_timeout(HANG)?.context("the waiter sleeps on: nobody woke it")?;
    ensure!(status.success(), "the waiter: {status}");
    Ok(())
}

fn put_is_done_or_not_begun() -> Result<()> {
    let put = |number| move |queue: &Queue<Item>| queue.put(Item::new(number));
    alone("put, empty queue", (0, 1..1), put(1), 1..2)?;
    alone("put, over the wrap", (3, 1..2), put(2), 1..3)?;
    after_a_death("put, after another's death", 1..2, put(2), 1..3)?;
    on_a_full_queue("put, full queue", 1..5, put(5), &[("before", 1..5), ("after", 1..6)])?;
    with_a_consumer_asleep("put, consumer asleep", put(1), 1..2)
}

fn put_many_commits_all_that_there_is_room_for_or_nothing() -> Result<()> {
    let put = |new: Range<u64>| move |queue: &Queue<Item>| queue.put_many(items(new.clone()));
    alone("put_many, empty queue", (0, 1..1), put(1..3), 1..3)?;
    alone("put_many, over the wrap", (3, 1..2), put(2..4), 1..4)?;
    after_a_death("put_many, after another's death", 1..2, put(2..4), 1..4)?;
    let states = [("before", 1..4), ("what there was room for", 1..5), ("after", 1..6)];
    on_a_full_queue("put_many, room for a part", 1..4, put(4..6), &states)?;
    with_a_consumer_asleep("put_many, consumer asleep", put(1..3), 1..3)
}

fn get_is_done_or_not_begun() -> Result<()> {
    let get = |queue: &Queue<Item>| queue.get().map(drop);
    alone("get, last item", (0, 1..2), get, 2..2)?;
    alone("get, full queue over the wrap", (3, 1..5), get, 2..5)?;
    after_a_death("get, after another's death", 1..3, get, 2..3)?;
    on_an_empty_queue("get, empty queue", get)?;
    with_a_producer_asleep("get, producer asleep", get, 2..6)
}

fn get_many_takes_all_that_it_can_or_nothing() -> Result<()> {
    let get = |queue: &Queue<Item>| queue.get_many(2).map(drop);
    alone("get_many, fewer items than asked for", (0, 1..2), get, 2..2)?;
    alone("get_many, over the wrap", (3, 1..4), get, 3..4)?;
    after_a_death("get_many, after another's death", 1..4, get, 3..4)?;
    on_an_empty_queue("get_many, empty queue", get)?;
    with_a_producer_asleep("get_many, producer asleep", get, 3..6)
}

fn close_is_done_or_not_begun() -> Result<()> {
    prove("close, consumer asleep", &["open", "closed"], |strike| {
        let queue = queue_with(1, 0..0)?;
        let waiter = spawn("waiter", || match queue.get() {
            Ok(_) | Err(QueueError::Closed) => Ok(()),
            Err(error) => bail!(error),
        })?;
        wait_until_asleep(&waiter)?;
        kill_in(strike, || queue.close(), || ())?;
        let closed = match queue.put_timeout(Item::new(PROBE), HANG) {
            Ok(()) => 0,
            Err(QueueError::Closed) => 1,
            Err(error) => bail!(error),
        };
        wait_until_done(waiter)?;
        queue.close()?;
        ensure!(queue.try_get().is_err_and(|error| error == QueueError::Closed), "not closed");
        Ok(closed)
    })
}
