//! Four workers count five times each and add up what they counted: with a value and its lock.
//!
//! Section "Sharing State". Run it: `cargo run -p shared-value --example value_work`
//!
//! The same work as `pipe_work` in pipe-demo and `queue_work` in queue-demo, for their pictures
//! side by side: put `TIMELINE=run.svg` in front of the command and open the file.
//!
//! Predict: who waits for whom?
//!
//! Expect: hardly anybody for anybody. Each worker holds the lock for one addition, too short to be
//! seen, and the parent has nothing to do but join.

use anyhow::Result;
use common::{count_to, join_all, spawn};
use shared_value::Value;

const WORKERS: u64 = 4;
const ROUNDS: u64 = 5;

fn main() -> Result<()> {
    let total = &Value::new(0_u64)?;
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        workers.push(spawn(format!("worker-{number}"), || {
            for _ in 0..ROUNDS {
                let counted = count_to(5_000_000);
                *total.lock()? += counted;
            }
            Ok(())
        })?);
    }
    join_all(workers)?;
    println!("total {}", total.get()?);
    Ok(())
}
