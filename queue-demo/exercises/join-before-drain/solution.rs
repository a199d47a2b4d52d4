//! The solution: take first, then join.

use anyhow::Result;
use common::spawn;
use exercise_kit::Lab;
use queue_demo::Queue;

const SLOTS: usize = 4;

fn main() -> Result<()> {
    let lab = Lab::new(1)?;
    let queue = Queue::with_capacity(SLOTS)?;
    let producer = spawn("Producer", || {
        for item in 0..lab.items() {
            lab.work(item);
            queue.put(item)?;
        }
        Ok(queue.close()?)
    })?;

    let mut total = 0;
    for item in queue.iter() {
        let item = item?;
        lab.received(item);
        total += item;
    }
    producer.join()?; // it has closed the queue, so nothing keeps it

    println!("total {total}");
    lab.result(total);
    Ok(())
}
