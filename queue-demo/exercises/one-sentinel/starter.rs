//! Three consumers, and one sentinel to tell them that the work is over.
//!
//! The task is in `README.md` beside this file. Check it: `cargo exercise one-sentinel`

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;
use queue_demo::Queue;

const CONSUMERS: usize = 3;

fn consume(lab: &Lab, queue: &Queue<Option<u64>>) -> Result<()> {
    lab.meet();
    while let Some(item) = queue.get()? {
        lab.work(item);
    }
    lab.done();
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(CONSUMERS)?;
    let queue = Queue::new()?;
    let mut consumers = Vec::new();
    for number in 1..=CONSUMERS {
        consumers.push(spawn(format!("Consumer-{number}"), || consume(&lab, &queue))?);
    }

    for item in 0..lab.items() {
        if item == 9 {
            lab.late(); // for a second, there is nothing to do
        }
        queue.put(Some(item))?;
    }
    queue.put(None)?;
    join_all(consumers)
}
