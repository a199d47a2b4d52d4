//! The solution: close the queue. It drains, and then each consumer is told, however many there are.
//! (A sentinel for each consumer does it too.)

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;
use queue_demo::Queue;

const CONSUMERS: usize = 3;

fn consume(lab: &Lab, queue: &Queue<u64>) -> Result<()> {
    lab.meet();
    for item in queue.iter() {
        lab.work(item?);
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
        queue.put(item)?;
    }
    queue.close()?;
    join_all(consumers)
}
