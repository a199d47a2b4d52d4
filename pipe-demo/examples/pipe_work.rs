//! Four workers count five times each and hand over what they counted: each by its own connection.
//!
//! Section "Pipe". Run it: `cargo run -p pipe-demo --example pipe_work`
//!
//! The same work as `value_work` in shared-value and `queue_work` in queue-demo, for their pictures
//! side by side: put `TIMELINE=run.svg` in front of the command and open the file.
//!
//! Predict: who waits for whom?
//!
//! Expect: a worker sends and goes on. The parent asks the connections one after the other: it
//! waits for the first worker while messages of the others are there already.

use anyhow::Result;
use common::{count_to, join_all, spawn};
use pipe_demo::one_way;

const WORKERS: u64 = 4;
const ROUNDS: u64 = 5;

fn main() -> Result<()> {
    let (mut workers, mut receivers) = (Vec::new(), Vec::new());
    for number in 1..=WORKERS {
        let (receiver, sender) = one_way::<u64>()?;
        receivers.push(receiver);
        workers.push(spawn(format!("worker-{number}"), move || {
            for _ in 0..ROUNDS {
                sender.send(count_to(5_000_000))?;
            }
            Ok(()) // the sender is dropped here: that is the end of file
        })?);
    }
    let mut total = 0;
    for receiver in &receivers {
        for counted in receiver.iter() {
            total += counted?;
        }
    }
    join_all(workers)?;
    println!("total {total}");
    Ok(())
}
