//! Four workers count five times each and hand over what they counted: with a queue.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example queue_work`
//!
//! The same work as `value_work` in shared-value and `pipe_work` in pipe-demo, for their pictures
//! side by side: put `TIMELINE=run.svg` in front of the command and open the file.
//!
//! Predict: who waits for whom?
//!
//! Expect: a worker waits for nobody; it puts and goes on. The parent takes what comes from
//! whichever worker, and waits in between.

use anyhow::Result;
use common::{count_to, join_all, spawn};
use queue_demo::Queue;

const WORKERS: u64 = 4;
const ROUNDS: u64 = 5;

fn main() -> Result<()> {
    let queue = &Queue::new()?;
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        workers.push(spawn(format!("worker-{number}"), || {
            for _ in 0..ROUNDS {
                queue.put(count_to(5_000_000))?;
            }
            Ok(())
        })?);
    }
    let mut total = 0;
    for _ in 0..WORKERS * ROUNDS {
        total += queue.get()?;
    }
    join_all(workers)?;
    println!("total {total}");
    Ok(())
}
