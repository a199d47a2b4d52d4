//! The hang that lies in wait in the article's program: a parent that joins before it drains.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example join_before_drain`
//!
//! The child puts 10 items into a queue of 4 slots. The parent first joins, then takes them.
//!
//! Predict: who waits for whom? Would it help to give the child more time?
//!
//! Expect: the child is still running when the parent's patience is over (here 300 ms): it waits for
//! room, that is, for the parent to take something, and the parent waits for it to end. Once the
//! parent drains the queue, the child ends by itself. So take first, then join; or, as the article's
//! programs here do, make room for everything before. Python has the same hang, only later: its
//! queue has no bound, but the pipe behind it holds 64 KiB, and a child does not end before all it
//! has put is in the pipe.

use std::time::Duration;

use anyhow::{Result, ensure};
use common::spawn;
use queue_demo::Queue;

const SLOTS: usize = 4;
const ITEMS: u64 = 10;

fn main() -> Result<()> {
    let queue = Queue::with_capacity(SLOTS)?;
    let mut child = spawn("producer", || {
        for item in 1..=ITEMS {
            queue.put(item)?;
        }
        Ok(())
    })?;

    // With `child.join()?` in its place it would be a deadlock: see the example `deadlock`.
    let status = child.wait_timeout(Duration::from_millis(300))?;
    ensure!(status.is_none(), "the child ended: {status:?}");
    println!("joined first:  the child has not ended");

    let mut total = 0;
    for _ in 0..ITEMS {
        total += queue.get()?;
    }
    child.join()?;
    println!("drained first: the child has ended, total {total}");
    Ok(())
}
