//! The article's array of 50 numbers: read and written one by one, or all at once under one lock.
//!
//! Section "Sharing State". Run it: `cargo run -p shared-value --example array`
//!
//! Predict: the numbers begin as 0 to 49, and five processes each square ten of them with `get` and
//! `set`. In `lost_update` that loses updates. Here too? And what does index 50 give?
//!
//! Expect: all 50 squares, in every run: no two processes change the same number, so there is
//! nothing to overwrite. Index 50 is an error that names the range.

use anyhow::Result;
use common::{join_all, spawn};
use shared_value::Array;

fn main() -> Result<()> {
    let share_numbers = Array::new(&Vec::from_iter(0_i32..50))?;

    let mut processes = Vec::new();
    for number in 0..5 {
        let numbers = &share_numbers;
        let p = spawn(format!("Process-{number}"), move || {
            for index in number * 10..(number + 1) * 10 {
                numbers.set(index, numbers.get(index)?.pow(2))?;
            }
            Ok(())
        })?;
        processes.push(p);
    }
    join_all(processes)?;

    {
        let all = share_numbers.lock()?; // a slice, as the numbers stand at this moment
        println!("{:?}", &all[..]);
        println!("sum {}", all.iter().sum::<i32>());
    } // the guard goes, and with it the lock: `get` below would otherwise be an error

    println!("index 50: {}", share_numbers.get(50).unwrap_err());
    Ok(())
}
