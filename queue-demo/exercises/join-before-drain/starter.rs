//! A parent that joins its producer before it takes what the producer puts.
//!
//! The task is in `README.md` beside this file. Check it: `cargo exercise join-before-drain`

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

    producer.join()?;
    let mut total = 0;
    for item in queue.iter() {
        let item = item?;
        lab.received(item);
        total += item;
    }

    println!("total {total}");
    lab.result(total);
    Ok(())
}
