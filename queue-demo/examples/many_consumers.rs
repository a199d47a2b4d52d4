//! Three consumers of one queue: one sentinel for all, one sentinel each, and one `close`.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example many_consumers`
//!
//! Predict: how many of the three learn that the end has come, in each of the three ways?
//!
//! Expect: 1, 3 and 3. A sentinel is an item: whoever gets it takes it away from the others, who
//! wait for ever (here: half a second). So the producer must know how many consumers there are, and
//! put one for each. `close` tells all, however many they are.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use common::{Shared, join_all, spawn};
use queue_demo::{Queue, QueueError};

const CONSUMERS: usize = 3;
const ITEMS: u64 = 100;
const LIMIT: Duration = Duration::from_millis(500);

/// Takes items until the end, which it counts in `ended`, or until nothing comes any more.
fn consume(queue: &Queue<Option<u64>>, ended: &AtomicU64) -> Result<()> {
    loop {
        match queue.get_timeout(LIMIT) {
            Ok(Some(_)) => {}
            Ok(None) | Err(QueueError::Closed) => {
                ended.fetch_add(1, Relaxed);
                return Ok(());
            }
            Err(QueueError::Timeout) => return Ok(()), // `get` would wait on
            Err(error) => return Err(error.into()),
        }
    }
}

/// How many consumers learn of the end.
fn run(sentinels: usize, close: bool) -> Result<u64> {
    let queue = Queue::new()?;
    queue.put_many((0..ITEMS).map(Some))?;
    queue.put_many(vec![None; sentinels])?;
    if close {
        queue.close()?;
    }
    let ended = Shared::new(AtomicU64::new(0))?;
    let consumers = (0..CONSUMERS)
        .map(|number| spawn(format!("consumer-{number}"), || consume(&queue, &ended)))
        .collect::<Result<Vec<_>>>()?;
    join_all(consumers)?;
    Ok(ended.load(Relaxed))
}

fn main() -> Result<()> {
    println!("1 sentinel:  {} of {CONSUMERS} learn of the end", run(1, false)?);
    println!("3 sentinels: {} of {CONSUMERS} learn of the end", run(CONSUMERS, false)?);
    println!("1 close:     {} of {CONSUMERS} learn of the end", run(0, true)?);
    Ok(())
}
