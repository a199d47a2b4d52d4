//! The article's "Queue" program: five children count to a million, the parent adds it all up.
//!
//! Run it: `cargo run -p queue-demo [WORKERS] [COUNT]`

use std::time::Instant;

use anyhow::{Context, Result};
use common::arguments::{self, Argument};
use common::{counting_worker, join_all, spawn};
use queue_demo::Queue;

const WORKERS: u64 = 5;
const COUNT: u64 = 1_000_000;

fn worker(base_num: u64, q: &Queue<Option<u64>>) -> Result<()> {
    counting_worker(base_num, |sub_total| Ok(q.put(Some(sub_total))?))
}

fn main() -> Result<()> {
    let [workers, count] = arguments::parse(
        "queue-demo",
        [
            Argument { name: "WORKERS", meaning: "how many processes count", default: WORKERS },
            Argument { name: "COUNT", meaning: "how far each counts", default: COUNT },
        ],
    );
    let parent_process_id = std::process::id();
    println!("Parent process id: {parent_process_id}");

    let mut processes = Vec::new();
    let start_time = Instant::now();
    // Room for every subtotal and the sentinel: the parent joins before it gets, as in the article,
    // and a worker that finds the queue full would wait for a parent that waits for it.
    let slots = usize::try_from(workers)?.checked_add(1).context("too many WORKERS")?;
    let q = Queue::with_capacity(slots)?;

    for i in 0..workers {
        let t = spawn(i.to_string(), || worker(count, &q))?;
        processes.push(t);
    }

    join_all(processes)?;

    println!("--- {} seconds ---", start_time.elapsed().as_secs_f64());

    q.put(None)?; // the article's 'exit': nothing comes after it

    let mut total = 0;
    while let Some(sub_total) = q.get()? {
        total += sub_total;
    }

    println!();
    println!("Main-processing total count: {total}");
    println!("Main-processing done.");
    Ok(())
}
