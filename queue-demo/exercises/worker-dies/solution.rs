//! The solution: a queue in which an item stays until somebody says that it is done. The item of a
//! worker that dies goes to the next one.

use anyhow::Result;
use common::spawn;
use exercise_kit::Lab;
use queue_demo::{JoinableQueue, Queue};

const WORKERS: usize = 3;

fn work(lab: &Lab, tasks: &JoinableQueue<u64>, results: &Queue<u64>) -> Result<()> {
    lab.meet();
    for task in tasks.iter() {
        let task = task?;
        results.put(lab.risky_work(*task))?; // who is the first to work on item 5 is killed there
        task.done(); // after the result is safe
    }
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(WORKERS)?;
    let (tasks, results) = (JoinableQueue::with_capacity(20)?, Queue::new()?);
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        workers.push(spawn(format!("Worker-{number}"), || work(&lab, &tasks, &results))?);
    }

    for item in 0..lab.items() {
        tasks.put(item)?;
    }
    tasks.close()?;
    for mut worker in workers {
        println!("process {}: {}", worker.pid(), worker.wait()?);
    }
    results.close()?;
    for result in results.iter() {
        lab.received(result?);
    }
    Ok(())
}
