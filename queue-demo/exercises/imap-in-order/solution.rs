//! The solution: a result that comes before its turn waits in a map until those before it are there.

use std::collections::BTreeMap;

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

    let mut early = BTreeMap::new();
    let mut taken = 0;
    for returned in 0..ITEMS {
        while taken < ITEMS && taken < returned + AHEAD {
            lab.taken(taken);
            tasks.put(taken)?;
            taken += 1;
        }
        let square = loop {
            if let Some(square) = early.remove(&returned) {
                break square;
            }
            let (item, square) = results.get()?;
            early.insert(item, square);
        };
        println!("{returned} squared is {square}");
        lab.received(returned);
    }
    tasks.close()?;
    join_all(workers)
}
