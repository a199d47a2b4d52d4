//! The solution: the next owner of the lock learns that the previous one died, mends the accounts,
//! and says so. It knows how: both together hold what they always did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;
use common::{LockError, Shared, spawn};
use exercise_kit::Lab;
use shared_value::Value;

const TRANSFERS: u64 = 5;
const AMOUNT: u64 = 10;
/// What both accounts hold together, always.
const MONEY: u64 = 1000;

/// Both accounts are changed under the lock of `done`, which counts the transfers.
fn transfer(lab: &Lab, done: &Value<u64>, accounts: &[AtomicU64; 2]) -> Result<()> {
    let mut guard = match done.lock() {
        Err(LockError::Poisoned) => {
            let guard = done.lock_poisoned()?;
            accounts[1].store(MONEY - accounts[0].load(Relaxed), Relaxed);
            done.clear_poison();
            guard
        }
        locked => locked?,
    };
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
