//! The solution: one lock over the whole of reading, adding and writing. Whoever comes meanwhile
//! waits.

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
            let mut value = value.lock()?;
            lab.pause(); // the other process can do nothing here but wait for the lock
            *value += 1;
        }
        Ok(())
    };
    join_all([spawn("Adder-1", add)?, spawn("Adder-2", add)?])?;

    println!("{} of {}", value.get()?, 2 * ADDS);
    lab.result(value.get()?);
    Ok(())
}
