//! Tempting and wrong: collect all results and sort them. The order is right, but the first one is
//! handed out after the last one is computed, and an endless row of items has no last one.

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;
use queue_demo::Queue;

const WORKERS: usize = 3;
const ITEMS: u64 = 12;
/// How many items may be on their way.
const AHEAD: u64 = 6;

/// An item and its square.
type Outcome = (u64, u64);

fn work(lab: &Lab, tasks: &Queue<u64>, results: &Queue<Outcome>) -> Result<()> {
    lab.meet();
    for item in tasks.iter() {
        let item = item?;
        results.put((item, lab.slow_square(item)))?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(WORKERS)?;
    let (tasks, results) = (Queue::new()?, Queue::new()?);
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        workers.push(spawn(format!("Worker-{number}"), || work(&lab, &tasks, &results))?);
    }

    let mut taken = 0;
    let mut all = Vec::new();
    for returned in 0..ITEMS {
        while taken < ITEMS && taken < returned + AHEAD {
            lab.taken(taken);
            tasks.put(taken)?;
            taken += 1;
        }
        all.push(results.get()?);
    }
    all.sort();
    for (item, square) in all {
        println!("{item} squared is {square}");
        lab.received(item);
    }
    tasks.close()?;
    join_all(workers)
}
