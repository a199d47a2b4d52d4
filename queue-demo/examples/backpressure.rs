//! A full queue slows its producer down to the pace of the consumer: *backpressure*.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example backpressure`
//!
//! The queue has 4 slots, and the producer has 10 items and nothing else to do. It reports each put
//! that returns, on a second queue.
//!
//! Predict: how many items are put before the consumer takes the first one? And after that?
//!
//! Expect: 4, and not one more in 100 ms: the fifth `put` waits. Then one for each item that is
//! taken, so that the producer is never more than 4 ahead. Python's `Queue()` has no bound: there
//! the producer would run ahead, and what a slow consumer leaves lying grows until memory is full.

use std::time::Duration;

use anyhow::{Result, ensure};
use common::spawn;
use queue_demo::{Queue, QueueError};

const SLOTS: usize = 4;
const ITEMS: u64 = 10;

fn main() -> Result<()> {
    let queue = Queue::with_capacity(SLOTS)?;
    let reports = Queue::<u64>::new()?;
    let producer = spawn("producer", || {
        for item in 1..=ITEMS {
            queue.put(item)?;
            reports.put(item)?;
        }
        Ok(())
    })?;

    let mut put = 0;
    for _ in 0..SLOTS {
        put = reports.get()?;
    }
    let silence = reports.get_timeout(Duration::from_millis(100));
    ensure!(silence == Err(QueueError::Timeout), "the producer ran ahead");
    println!("taken 0, put {put}: the producer waits");

    for taken in 1..=ITEMS {
        ensure!(queue.get()? == taken, "first in, first out");
        if put < ITEMS {
            put = reports.get()?; // it has put the next one
        }
        println!("taken {taken}, put {put}");
    }
    producer.join()
}
