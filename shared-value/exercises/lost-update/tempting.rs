//! Tempting and wrong: a sleep, another one in each process, so that they don't come at the same
//! time. They need not come at the same time: the gap is still there, and one finds the other in it.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;
use shared_value::Value;

const ADDS: u64 = 50;

fn main() -> Result<()> {
    let lab = Lab::new(2)?;
    let value = Value::new(0)?;

    let add = || {
        lab.meet(); // neither begins before both are here
        for turn in 0..ADDS {
            sleep(Duration::from_micros((u64::from(std::process::id()) + turn) % 100));
            let seen = value.get()?;
            lab.pause(); // what can the other process do here?
            value.set(seen + 1)?;
        }
        Ok(())
    };
    join_all([spawn("Adder-1", add)?, spawn("Adder-2", add)?])?;

    println!("{} of {}", value.get()?, 2 * ADDS);
    lab.result(value.get()?);
    Ok(())
}
