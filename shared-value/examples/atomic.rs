//! A number that needs no lock: an atomic, which the processor itself reads, changes and writes in
//! one step. Python has no counterpart.
//!
//! Section "Sharing State". Run it: `cargo run -p shared-value --example atomic`
//!
//! Predict: this is `lost_update` with an atomic for its `Value`. How many additions are lost? And
//! what if a process is killed in the middle of one?
//!
//! Expect: none, in any round, and in less time than `with_lock` takes. There is no middle: an
//! atomic addition has happened or it has not, so nothing can be poisoned.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::thread::yield_now;

use anyhow::Result;
use common::{join_all, spawn};
use shared_value::Shared;

const ROUNDS: u32 = 10;
const ADDS: u64 = 50_000;

/// Two processes add to a value that begins as 0; returns how far it came.
fn round() -> Result<u64> {
    let value = Shared::new(AtomicU64::new(0))?;
    let absent = Shared::new(AtomicU32::new(2))?;
    let add = || {
        absent.fetch_sub(1, SeqCst);
        while absent.load(SeqCst) > 0 {
            yield_now(); // a barrier: neither begins before both are here
        }
        for _ in 0..ADDS {
            value.fetch_add(1, SeqCst); // <- the line: no gap, and no lock
        }
        Ok(())
    };
    join_all([spawn("Adder-1", add)?, spawn("Adder-2", add)?])?;
    Ok(value.load(SeqCst))
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
