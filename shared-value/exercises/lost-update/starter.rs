//! Two processes add to one value, and half of what they add is lost.
//!
//! The task is in `README.md` beside this file. Check it: `cargo exercise lost-update`

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
        for _ in 0..ADDS {
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
