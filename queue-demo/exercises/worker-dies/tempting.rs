//! Tempting and wrong: a new worker takes the place of the dead one. What the dead one had in its
//! hands is gone all the same.

use anyhow::Result;
use common::spawn;
use exercise_kit::Lab;
use queue_demo::Queue;

const WORKERS: usize = 3;

fn work(lab: &Lab, tasks: &Queue<u64>, results: &Queue<u64>) -> Result<()> {
    lab.meet();
    for item in tasks.iter() {
        results.put(lab.risky_work(item?))?; // who is the first to work on item 5 is killed there
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

    for item in 0..lab.items() {
        tasks.put(item)?;
    }
    tasks.close()?;
    for mut worker in workers {
        if !worker.wait()?.success() {
            spawn("Replacement", || work(&lab, &tasks, &results))?.join()?;
        }
    }
    results.close()?;
    for result in results.iter() {
        lab.received(result?);
    }
    Ok(())
}
