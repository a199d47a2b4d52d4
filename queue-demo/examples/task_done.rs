//! Work that is accounted for although a worker is killed: Python's `JoinableQueue`, and more.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example task_done`
//!
//! Two workers share six tasks. The first one that gets task 3 is killed with it in its hands.
//!
//! Predict: how many of the six tasks are done in the end, with a `Queue`, and with a
//! `JoinableQueue`, where a worker calls `done` when it is done?
//!
//! Expect: 5, and 6. What was taken from a `Queue` is gone with whoever took it. A `JoinableQueue`
//! keeps a task until it is done: the other worker gets task 3 again, and can tell that it does. In
//! Python the parent's `join` would wait for the dead worker for ever.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Result, ensure};
use common::{Process, Shared, spawn};
use nix::sys::signal::{Signal, raise};
use queue_demo::{JoinableQueue, Queue};

const TASKS: u64 = 6;
const DEADLY: u64 = 3;

/// Two workers, one of which is killed; `wait` is what the parent does meanwhile.
fn run(work: impl Fn() -> Result<()> + Sync, wait: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut workers = [spawn("worker-0", &work)?, spawn("worker-1", &work)?];
    wait()?;
    let ends = workers.each_mut().map(Process::wait);
    ensure!(ends.into_iter().flatten().filter(|end| !end.success()).count() == 1);
    Ok(())
}

fn main() -> Result<()> {
    let done = Shared::new(AtomicU64::new(0))?;

    let queue = Queue::new()?;
    queue.put_many(1..=TASKS)?;
    let work = || {
        for task in &queue {
            if task? == DEADLY {
                raise(Signal::SIGKILL)?;
            }
            done.fetch_add(1, Relaxed);
        }
        Ok(())
    };
    run(work, || Ok(queue.close()?))?;
    println!("Queue:         {} of {TASKS} tasks are done", done.swap(0, Relaxed));

    let queue = JoinableQueue::with_capacity(8)?;
    (1..=TASKS).try_for_each(|task| queue.put(task))?;
    let work = || {
        for task in queue.iter() {
            let task = task?;
            match task.previous_owner() {
                None if *task == DEADLY => raise(Signal::SIGKILL)?,
                None => {}
                Some(_) => println!("task {} is handed out again", *task),
            }
            done.fetch_add(1, Relaxed);
            task.done();
        }
        Ok(())
    };
    run(work, || {
        queue.join()?; // all six are done
        Ok(queue.close()?) // the workers' loops end
    })?;
    println!("JoinableQueue: {} of {TASKS} tasks are done", done.load(Relaxed));
    Ok(())
}
