//! A lock held over the whole read-modify-write loses nothing: Python's `with v.get_lock():`.
//!
//! Section "Sharing State". Run it: `cargo run -p shared-value --example with_lock`
//!
//! Predict: this is `lost_update` with the marked line mended. Ten rounds of 100000 additions by two
//! processes at once: how many are lost?
//!
//! Expect: none, in any round. A process that finds the lock taken waits for it, so of the two each
//! sees what the other has written.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread::yield_now;

use anyhow::Result;
use common::{Shared, join_all, spawn};
use shared_value::Value;

const ROUNDS: u32 = 10;
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
            *value.lock()? += 1; // <- the line: one lock, from the read to the write
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
