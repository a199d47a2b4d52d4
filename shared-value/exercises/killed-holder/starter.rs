//! Two clerks move money from one account to the other, and one is killed in the middle of it.
//!
//! The task is in `README.md` beside this file. Check it: `cargo exercise killed-holder`

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;
use common::{Shared, spawn};
use exercise_kit::Lab;
use shared_value::Value;

const TRANSFERS: u64 = 5;
const AMOUNT: u64 = 10;
/// What both accounts hold together, always.
const MONEY: u64 = 1000;

/// Both accounts are changed under the lock of `done`, which counts the transfers.
fn transfer(lab: &Lab, done: &Value<u64>, accounts: &[AtomicU64; 2]) -> Result<()> {
    let mut guard = done.lock()?;
    accounts[0].fetch_sub(AMOUNT, Relaxed);
    lab.die_here(); // the first clerk that comes here is killed
    accounts[1].fetch_add(AMOUNT, Relaxed);
    *guard += 1;
    lab.work(*guard);
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(2)?;
    let done = Value::new(0)?;
    let accounts = Shared::new([AtomicU64::new(MONEY), AtomicU64::new(0)])?;

    let clerk = || {
        lab.meet();
        for _ in 0..TRANSFERS {
            transfer(&lab, &done, &accounts)?;
        }
        Ok(())
    };
    for mut clerk in [spawn("Clerk-1", clerk)?, spawn("Clerk-2", clerk)?] {
        println!("process {}: {}", clerk.pid(), clerk.wait()?);
    }

    let money = accounts[0].load(Relaxed) + accounts[1].load(Relaxed);
    println!("{money} of {MONEY}");
    lab.result(money);
    Ok(())
}
