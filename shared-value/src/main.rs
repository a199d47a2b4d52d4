//! The article's "Sharing State" program: nine processes add to one shared value.
//!
//! Each adds 1 fifty times, so the parent finds 450 at the end, in every run: each addition is one
//! read-modify-write under the lock. What a child prints of the value on its way is how far all of
//! them had come by then.
//!
//! Run it: `cargo run -p shared-value [WORKERS] [INCREMENTS]`

use anyhow::Result;
use common::arguments::{self, Argument};
use common::{current_name, join_all, spawn};
use shared_value::Value;

const WORKERS: u64 = 9;
const INCREMENTS: u64 = 50;

fn generate_update_number(increments: u64, v: &Value<u64>) -> Result<()> {
    for _ in 0..increments {
        *v.lock()? += 1; // the guard holds the lock from the read to the write
    }

    println!("{} data {}", current_name(), v.get()?);
    Ok(())
}

fn main() -> Result<()> {
    let [workers, increments] = arguments::parse(
        "shared-value",
        [
            Argument { name: "WORKERS", meaning: "how many processes add", default: WORKERS },
            Argument { name: "INCREMENTS", meaning: "how often each adds 1", default: INCREMENTS },
        ],
    );
    let parent_process_id = std::process::id();
    println!("Parent Process ID: {parent_process_id}");

    let mut processes = Vec::new();
    let share_value = Value::new(0)?;

    for number in 1..=workers {
        let name = format!("Process-{number}");
        let p = spawn(name, || generate_update_number(increments, &share_value))?;
        processes.push(p);
    }

    join_all(processes)?;

    println!("Final Data in parent process: {}", share_value.get()?);
    Ok(())
}
