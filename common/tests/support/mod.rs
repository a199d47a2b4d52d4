//! Children that hold a lock, for the tests of everything that has one.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::Result;
use common::{Process, Shared, spawn};
use fork_harness::{run_until_killed, wait_until};

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
