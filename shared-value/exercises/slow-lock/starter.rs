//! Two processes compute, and only one of them at a time.
//!
//! The task is in `README.md` beside this file. Check it: `cargo exercise slow-lock`

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;
use shared_value::Value;

const PARTS: u64 = 5;

fn main() -> Result<()> {
    let lab = Lab::new(2)?;
    let total = Value::new(0)?;

    let work = || {
        for part in 1..=PARTS {
            let mut total = total.lock()?;
            *total += lab.compute(part); // this takes long
        }
        Ok(())
    };
    join_all([spawn("Worker-1", work)?, spawn("Worker-2", work)?])?;

    println!("total {}", total.get()?);
    lab.result(total.get()?);
    Ok(())
}
