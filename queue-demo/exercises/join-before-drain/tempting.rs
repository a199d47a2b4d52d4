//! Tempting and wrong: give the producer more time. It does not lack time but room.

use std::thread::sleep;
use std::time::Duration;

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

    sleep(Duration::from_millis(500));
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
