//! What a joinable queue promises to processes whose neighbours die.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use common::{Process, Shared, count_to, join_all, spawn};
use fork_harness::tracer::{prove, traced};
use fork_harness::watch::{asleep, be_interruptible, interrupt};
use queue_demo::{JoinableQueue, Queue, QueueError, Task};
use random::Random;

mod random;

fork_harness::tests! {
    a_task_in_the_hands_of_a_killed_worker_goes_to_another,
    a_death_ends_the_wait_of_a_worker_that_waits_already,
    join_waits_for_what_a_dead_worker_had,
    close_wakes_whoever_waits_to_put_or_to_get,
    signals_do_not_surface,
    put_is_done_or_not_begun_at_every_instruction,
    an_item_is_left_or_done_at_every_instruction_of_get_and_done,
    killed_producers_and_workers_lose_nothing_and_nothing_is_in_two_hands,
}

/// Longer than anything here takes: where it runs out, something hangs.
const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(20);

/// Spawns a worker that gets an item and keeps it until it is killed; returns once it has it.
fn hoarder(queue: &JoinableQueue<u64>) -> Result<Process> {
    let got = Queue::<u64>::with_capacity(1)?;
    let worker = spawn("hoarder", || {
        let task = queue.get()?;
        got.put(*task)?;
        loop {
            thread::park();
        }
    })?;
    got.get_timeout(LONG)?;
    Ok(worker)
}

fn kill(mut victim: Process) -> Result<()> {
    victim.kill()?;
    victim.wait()?;
    Ok(())
}

fn queue_with(items: &[u64]) -> Result<JoinableQueue<u64>> {
    let queue = JoinableQueue::with_capacity(items.len())?;
    items.iter().try_for_each(|&item| queue.put(item))?;
    Ok(queue)
}

fn a_task_in_the_hands_of_a_killed_worker_goes_to_another() -> Result<()> {
    let queue = queue_with(&[1, 2])?;
    let victim = hoarder(&queue)?;
    let pid = victim.pid();
    kill(victim)?;
    // The first one again, and before the second one.
    let task = queue.get_timeout(LONG)?;
    ensure!((*task, task.previous_owner()) == (1, Some(pid)), "{task:?}");
    let task = queue.get_timeout(LONG)?;
    ensure!((*task, task.previous_owner()) == (2, None), "{task:?}");
    Ok(())
}

fn a_death_ends_the_wait_of_a_worker_that_waits_already() -> Result<()> {
    let queue = queue_with(&[1])?;
    let victim = hoarder(&queue)?;
    let waiter = spawn("waiter", || {
        let task = queue.get()?;
        ensure!(*task == 1 && task.previous_owner().is_some(), "{task:?}");
        task.done();
        Ok(())
    })?;
    asleep(waiter.pid())?;
    kill(victim)?;
    waiter.join()?;
    ensure!(queue.unfinished() == 0);
    Ok(())
}

fn join_waits_for_what_a_dead_worker_had() -> Result<()> {
    let queue = queue_with(&[1])?;
    let waiter = spawn("waiter", || Ok(queue.join()?))?;
    kill(hoarder(&queue)?)?;
    ensure!(queue.join_timeout(SOON) == Err(QueueError::Timeout), "it is not done");
    asleep(waiter.pid())?;
    queue.get_timeout(LONG)?.done();
    waiter.join()
}

fn close_wakes_whoever_waits_to_put_or_to_get() -> Result<()> {
    let full = queue_with(&[1])?;
    let empty = JoinableQueue::<u64>::with_capacity(1)?;
    let closed = |result: Result<(), QueueError>| {
        ensure!(result == Err(QueueError::Closed), "{result:?}");
        Ok(())
    };
    let putter = spawn("putter", || closed(full.put(2)))?;
    let getter = spawn("getter", || closed(empty.get().map(drop)))?;
    asleep(putter.pid())?;
    asleep(getter.pid())?;
    full.close()?;
    empty.close()?;
    join_all([putter, getter])
}

fn signals_do_not_surface() -> Result<()> {
    let queue = JoinableQueue::<u64>::with_capacity(1)?;
    let waiter = spawn("waiter", || {
        be_interruptible()?;
        queue.get()?.done();
        Ok(())
    })?;
    interrupt(waiter.pid())?;
    queue.put(1)?;
    waiter.join()
}

/// What is left for a survivor: each item, and whether someone had it before.
fn rest(queue: &JoinableQueue<u64>) -> Result<Vec<(u64, bool)>> {
    let mut items = Vec::new();
    loop {
        match queue.get_timeout(Duration::ZERO) {
            Ok(task) => {
                items.push((*task, task.previous_owner().is_some()));
                task.done();
            }
            Err(QueueError::Timeout) => return Ok(items),
            Err(error) => bail!("after {items:?}: {error}"),
        }
    }
}

/// Which of `states` the queue was left in, by what is left; then uses it on.
fn which(queue: &JoinableQueue<u64>, states: &[&[(u64, bool)]]) -> Result<usize> {
    let left = rest(queue)?;
    let found = states.iter().position(|state| *state == left);
    let found = found.with_context(|| format!("left were {left:?}"))?;
    queue.join_timeout(LONG)?;
    for item in 0..queue.capacity() as u64 {
        queue.put_timeout(item, LONG)?;
    }
    ensure!(queue.put_timeout(9, Duration::ZERO) == Err(QueueError::Timeout), "no bound any more");
    let items = rest(queue)?.into_iter().map(|(item, _)| item);
    ensure!(items.eq(0..queue.capacity() as u64), "the queue does not work any more");
    Ok(found)
}

fn put_is_done_or_not_begun_at_every_instruction() -> Result<()> {
    prove("put", &["before", "after"], |strike| {
        let queue = JoinableQueue::with_capacity(2)?;
        queue.put(1)?;
        let victim = spawn("victim", || Ok(traced(|| queue.put(2))??))?;
        strike.reach(victim.pid(), || ())?;
        kill(victim)?;
        which(&queue, &[&[(1, false)], &[(1, false), (2, false)]])
    })?;
    prove("put, worker asleep", &["before", "after"], |strike| {
        let queue = JoinableQueue::<u64>::with_capacity(1)?;
        let got = Queue::with_capacity(1)?;
        let waiter = spawn("waiter", || {
            let task = queue.get()?;
            got.put(*task)?;
            task.done();
            Ok(())
        })?;
        asleep(waiter.pid())?;
        let victim = spawn("victim", || Ok(traced(|| queue.put(2))??))?;
        strike.reach(victim.pid(), || ())?;
        kill(victim)?;
        // What the victim put wakes the waiter, whether or not the victim came to do so.
        queue.put_timeout(9, LONG)?;
        waiter.join()?;
        let (got, left) = (got.get_timeout(LONG)?, rest(&queue)?);
        match (got, &left[..]) {
            (9, []) => Ok(0),
            (2, [(9, false)]) => Ok(1),
            _ => bail!("the waiter got {got}, left were {left:?}"),
        }
    })
}

fn an_item_is_left_or_done_at_every_instruction_of_get_and_done() -> Result<()> {
    prove("get and done", &["not begun", "in hand", "done"], |strike| {
        let queue = JoinableQueue::with_capacity(2)?;
        queue.put(1)?;
        queue.put(2)?;
        let victim = spawn("victim", || Ok(traced(|| queue.get().map(Task::done))??))?;
        strike.reach(victim.pid(), || ())?;
        kill(victim)?;
        which(&queue, &[&[(1, false), (2, false)], &[(1, true), (2, false)], &[(2, false)]])
    })?;
    // The waiter gets the item of the dead, or is told that all is done.
    prove("done, another waits", &["in hand", "done"], |strike| {
        let queue = queue_with(&[1])?;
        queue.close()?;
        let got = Queue::<u64>::with_capacity(1)?;
        let victim = spawn("victim", || {
            let task = queue.get()?;
            got.put(*task)?;
            traced(|| task.done())
        })?;
        got.get_timeout(LONG)?;
        let waiter = spawn("waiter", || {
            got.put(match queue.get() {
                Ok(task) => *task - 1,
                Err(QueueError::Closed) => 1,
                Err(error) => bail!(error),
            })?;
            Ok(())
        })?;
        asleep(waiter.pid())?;
        strike.reach(victim.pid(), || ())?;
        kill(victim)?;
        waiter.join()?;
        Ok(got.get_timeout(LONG)? as usize)
    })
}

/// The most items that a run puts.
const MOST: usize = 1 << 17;
const WORKERS: usize = 3;
const KILLS: u32 = 300;

/// What the processes of a run write down.
struct Record {
    /// The next item.
    next: Shared<AtomicU64>,
    /// Whether the put of each item has returned.
    put: Shared<[AtomicBool; MOST]>,
    /// How often the work on each item was begun.
    begun: Shared<[AtomicU32; MOST]>,
}

/// Puts each item once. One that was killed may or may not have put its last.
fn produce(queue: &JoinableQueue<u64>, record: &Record) -> Result<()> {
    loop {
        let item = record.next.fetch_add(1, Relaxed);
        if item >= MOST as u64 {
            return Ok(());
        }
        match queue.put(item) {
            Err(QueueError::Closed) => return Ok(()),
            put => put?,
        }
        record.put[item as usize].store(true, Relaxed);
    }
}

fn work(queue: &JoinableQueue<u64>, record: &Record) -> Result<()> {
    for task in queue.iter() {
        let task = task?;
        record.begun[*task as usize].fetch_add(1, Relaxed);
        count_to(*task % 32 * 1_000); // so that some die with a task in their hands
        task.done();
    }
    Ok(())
}

fn killed_producers_and_workers_lose_nothing_and_nothing_is_in_two_hands() -> Result<()> {
    let queue = JoinableQueue::with_capacity(8)?;
    let record = Record {
        next: Shared::new(AtomicU64::new(0))?,
        put: Shared::new([const { AtomicBool::new(false) }; MOST])?,
        begun: Shared::new([const { AtomicU32::new(0) }; MOST])?,
    };
    let start = |index: usize| match index {
        0 => spawn("producer", || produce(&queue, &record)),
        _ => spawn(format!("worker-{index}"), || work(&queue, &record)),
    };
    let mut processes = (0..=WORKERS).map(start).collect::<Result<Vec<_>>>()?;
    let mut random = Random::new();
    for _ in 0..KILLS {
        let index = random.below(processes.len() as u64) as usize;
        // A moment of any length: the wait is to run out.
        processes[index].wait_timeout(Duration::from_nanos(random.below(2_000_000)))?;
        kill(std::mem::replace(&mut processes[index], start(index)?))?;
    }
    queue.close()?;
    queue.join_timeout(LONG)?;
    join_all(processes)?;

    let (mut items, mut begun) = (0, 0);
    for (item, put) in record.put.iter().enumerate() {
        let times = record.begun[item].load(Relaxed);
        ensure!(times > 0 || !put.load(Relaxed), "item {item} was put, and then lost");
        items += times.min(1);
        begun += times;
    }
    // Each death lets one item be begun once more, at the most.
    ensure!(begun - items <= KILLS, "{items} items were begun {begun} times");
    println!("## {KILLS} kills, {items} items, {begun} times begun (seed {})", random.seed);
    Ok(())
}
