//! A deadlock that explains itself: the article's order, join first and get then, with a queue that
//! is too small for it.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example deadlock`
//!
//! The child puts 10 items into a queue of 4 slots. The parent joins it before it takes any.
//!
//! Predict: what does this program print, and does it end?
//!
//! Expect: after a third of a second without any change, a report: who waits for what, at which
//! line, who waits for whom in a circle, and the usual cure. Then both calls return an error, and
//! the program ends. `DEADLOCK_REPORT=off` in front of the command shows what it is like without:
//! it hangs.

use anyhow::Result;
use common::spawn;
use queue_demo::Queue;

fn main() -> Result<()> {
    let queue = &Queue::with_capacity(4)?;
    let child = spawn("producer", || {
        for item in 1..=10 {
            queue.put(item)?; // after the 4th it waits for room, that is, for a get
        }
        Ok(())
    })?;
    let joined = child.join(); // waits for the child, which waits for us
    println!("join: {:#}", joined.expect_err("it cannot be joined"));

    let mut total = 0;
    while let Ok(item) = queue.try_get() {
        total += item;
    }
    println!("what the queue holds adds up to {total}: nothing that was put is lost");
    Ok(())
}
