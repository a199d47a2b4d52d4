//! Many items in one step: `put_many` and `get_many`.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example batches`
//!
//! A put takes a lock, writes one item and moves one counter; a `put_many` takes the lock once,
//! writes as many items as there is room for, and moves the counter once. So for small items most
//! of the cost is saved, and no consumer sees a part of a batch before the rest of it.
//!
//! Predict: 64,000 items, put one by one and in batches of 64. How many times must the consumer,
//! who is faster than the producer, take something? Can it ever get 63 items?
//!
//! Expect: 64,000 times, and 1,000 times, each of them 64 items. (The queue has 1,024 slots, which
//! is 16 batches: a batch for which there is no room would go in two steps.)

use anyhow::{Result, ensure};
use common::{count_to, spawn};
use queue_demo::Queue;

const ITEMS: u64 = 64_000;
const BATCH: usize = 64;

/// An item, which takes the producer some work.
fn make(item: u64) -> u64 {
    count_to(200);
    item
}

fn one_by_one() -> Result<()> {
    let queue = Queue::new()?;
    let producer = spawn("producer", || {
        for item in 0..ITEMS {
            queue.put(make(item))?;
        }
        Ok(queue.close()?)
    })?;
    let mut gets = 0;
    for item in &queue {
        ensure!(item? == gets, "first in, first out");
        gets += 1;
    }
    producer.join()?;
    println!("one by one: {ITEMS} items in {gets} gets");
    Ok(())
}

fn in_batches() -> Result<()> {
    let queue = Queue::new()?;
    let producer = spawn("producer", || {
        for first in (0..ITEMS).step_by(BATCH) {
            queue.put_many((first..).take(BATCH).map(make))?;
        }
        Ok(())
    })?;
    let (mut items, mut gets) = (0, 0);
    while items < ITEMS {
        let batch = queue.get_many(BATCH)?;
        ensure!(batch.len() == BATCH, "a part of a batch: {} items", batch.len());
        items += batch.len() as u64;
        gets += 1;
    }
    producer.join()?;
    println!("in batches: {items} items in {gets} gets of {BATCH}");
    Ok(())
}

fn main() -> Result<()> {
    one_by_one()?;
    in_batches()
}
