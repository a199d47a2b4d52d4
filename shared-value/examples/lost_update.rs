//! `get` and then `set` loses updates, as `v.value += 1` does in Python: each of the two locks, but
//! between them another process's change can come, and is overwritten.
//!
//! Section "Sharing State". Run it: `cargo run -p shared-value --example lost_update`
//!
//! Predict: two processes add 1 to a value 50000 times each. Does it end at 100000?
//!
//! Expect: less, and another number each time. A round without a loss is luck: the program goes on
//! until it sees one. `with_lock` and `atomic` are the same program, mended.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread::yield_now;

use anyhow::Result;
use common::{Shared, join_all, spawn};
use shared_value::Value;

const ROUNDS: u32 = 200;
const ADDS: u64 = 50_000;

/// Two processes add to a value that begins as 0; returns how far it came.
fn round() -> Result<u64> {
    let value = Value::new(0)?;
    let absent = Shared::new(AtomicU32::new(2))?;
    let add = || {
        absent.fetch_sub(1, SeqCst);
        while absent.load(SeqCst) > 0 {
            yield_now(); // a barrier: neither begins before both are here
        }
        for _ in 0..ADDS {
            value.set(value.get()? + 1)?; // <- the line: a gap between two locks
        }
        Ok(())
    };
    join_all([spawn("Adder-1", add)?, spawn("Adder-2", add)?])?;
    Ok(value.get()?)
}

fn main() -> Result<()> {
    for number in 1..=ROUNDS {
        let (found, expected) = (round()?, 2 * ADDS);
        println!("round {number}: {found} of {expected}, {} lost", expected - found);
        if found < expected {
            break;
        }
    }
    Ok(())
}
