//! How a consumer learns that nothing more comes: the article's 'exit' sentinel beside `close`.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example close_instead_of_sentinel`
//!
//! The producer puts 1, 2 and 3, says that this is the end, and then, by mistake, puts 4.
//!
//! Predict: who notices the mistake, with a sentinel, and with a closed queue?
//!
//! Expect: both totals are 6. Behind a sentinel the 4 is taken in and lies there, and nobody is
//! told. A closed queue refuses it. And with `close` the items need not be an `Option`.

use anyhow::Result;
use common::spawn;
use queue_demo::Queue;

fn with_sentinel() -> Result<()> {
    let queue = Queue::<Option<u64>>::new()?;
    let producer = spawn("producer", || {
        for number in 1..=3 {
            queue.put(Some(number))?;
        }
        queue.put(None)?;
        println!("sentinel: the late put says {:?}", queue.put(Some(4)));
        Ok(())
    })?;
    let mut total = 0;
    while let Some(number) = queue.get()? {
        total += number;
    }
    producer.join()?;
    println!("sentinel: total {total}, {} left in the queue", queue.len());
    Ok(())
}

fn with_close() -> Result<()> {
    let queue = Queue::<u64>::new()?;
    let producer = spawn("producer", || {
        for number in 1..=3 {
            queue.put(number)?;
        }
        queue.close()?;
        println!("close:    the late put says {:?}", queue.put(4));
        Ok(())
    })?;
    let mut total = 0;
    for number in &queue {
        total += number?;
    }
    producer.join()?;
    println!("close:    total {total}, {} left in the queue", queue.len());
    Ok(())
}

fn main() -> Result<()> {
    with_sentinel()?;
    with_close()
}
