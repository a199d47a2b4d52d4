//! Children that compete for a lock or die with it, for the tests of everything that has one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use anyhow::Result;
use common::{Process, Shared, join_all, spawn};
use fork_harness::{run_until_killed, wait_until};

/// Runs `turn` so often in each of so many processes, all at the same time, and joins them.
///
/// A turn should give the processor away between its read and its write (`yield_now`): otherwise
/// each process may be done before the next is scheduled, and a lock that does not lock goes
/// unnoticed.
pub fn compete(processes: u32, turns: u64, turn: impl Fn() -> Result<()> + Sync) -> Result<()> {
    let ready = Shared::new(AtomicU32::new(0))?;
    let compete = || {
        ready.fetch_add(1, Relaxed);
        wait_until("all processes are ready", || ready.load(Relaxed) == processes);
        (0..turns).try_for_each(|_| turn())
    };
    join_all((0..processes).map(|i| spawn(i.to_string(), compete)).collect::<Result<Vec<_>>>()?)
}

/// A child that holds what `lock` returned, until it is killed.
pub fn holder<G>(lock: impl FnOnce() -> Result<G> + Send) -> Result<Process> {
    let held = Shared::new(AtomicBool::new(false))?;
    let holder = spawn("holder", || {
        let _guard = lock()?;
        held.store(true, Relaxed);
        run_until_killed()
    })?;
    wait_until("the child holds the lock", || held.load(Relaxed));
    Ok(holder)
}

/// Kills a child while it holds what `lock` returned.
pub fn kill_the_holder<G>(lock: impl FnOnce() -> Result<G> + Send) -> Result<()> {
    let holder = holder(lock)?;
    holder.kill()?;
    let error = holder.join().unwrap_err().to_string();
    assert!(error.ends_with("killed by SIGKILL"), "{error}");
    Ok(())
}
