//! Safe code that tries to do harm: none of it may break a promise or cause undefined behaviour.

use std::cell::RefCell;
use std::fmt;
use std::process::{ExitStatus, exit};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::{LockError, Mutex, MutexGuard, Shared, current_name, spawn};
use nix::sys::signal::{Signal, raise};

fork_harness::tests! {
    nothing_unwinds_out_of_a_child,
    a_guard_that_a_child_comes_upon_locks_nothing,
    a_holders_death_is_told_even_where_a_copy_of_the_value_was_dropped_since,
    a_thread_is_refused_more_locks_than_the_kernel_would_free,
    a_waiter_gets_the_lock_from_one_who_takes_it_again_at_once,
    a_drop_that_spawns_while_a_closure_is_dropped_is_refused,
}

/// An error that panics while it is shown, or when it is dropped.
struct Nasty {
    in_display: bool,
}

impl fmt::Debug for Nasty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nasty")
    }
}

impl fmt::Display for Nasty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!self.in_display, "on purpose, while shown");
        f.write_str("nasty")
    }
}

impl std::error::Error for Nasty {}

impl Drop for Nasty {
    fn drop(&mut self) {
        assert!(self.in_display, "on purpose, while dropped");
    }
}

fn nothing_unwinds_out_of_a_child() -> Result<()> {
    let parent = std::process::id();
    for in_display in [true, false] {
        let spawned = std::panic::catch_unwind(|| {
            spawn("nasty", move || Err(anyhow::Error::new(Nasty { in_display })))
        });
        if std::process::id() != parent {
            exit(77); // the child is back in its parent's frames
        }
        let status = spawned.expect("the parent does not panic")?.wait()?;
        ensure!(status.code() == Some(101), "it ended with {status}");
    }
    Ok(())
}

thread_local! {
    static LEFT_LYING: RefCell<Option<MutexGuard<'static, u64>>> = const { RefCell::new(None) };
}

fn a_guard_that_a_child_comes_upon_locks_nothing() -> Result<()> {
    let value: &'static Shared<Mutex<u64>> = Box::leak(Box::new(Shared::new(Mutex::new(1))?));
    LEFT_LYING.set(Some(value.lock()?));
    spawn("child", || {
        let mut copy = LEFT_LYING.take().context("the guard is in the child too")?;
        ensure!(!MutexGuard::is_ours(&copy));
        *copy = 666;
        drop(copy);
        // Neither written back nor unlocked: the parent still holds it.
        ensure!(matches!(value.try_lock(), Err(LockError::WouldBlock)));
        Ok(())
    })?
    .join()?;
    ensure!(LEFT_LYING.take().is_some_and(|guard| *guard == 1));
    ensure!(*value.lock()? == 1);
    Ok(())
}

/// Starts a child that takes the lock and dies with it.
fn killed_holding(value: &Shared<Mutex<u64>>) -> Result<ExitStatus> {
    spawn("holder", || {
        let _guard = value.lock()?;
        Ok(raise(Signal::SIGKILL)?)
    })?
    .wait()
}

fn a_holders_death_is_told_even_where_a_copy_of_the_value_was_dropped_since() -> Result<()> {
    let (value, dropped) = (Shared::new(Mutex::new(0))?, Shared::new(AtomicU32::new(0))?);
    killed_holding(&value)?;
    let dropped_here = &dropped;
    let heir = spawn("heir", move || {
        while dropped_here.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        ensure!(matches!(value.lock(), Err(LockError::Poisoned)));
        Ok(())
    })?;
    dropped.store(1, SeqCst); // `spawn` has returned, so the parent's copy is dropped
    heir.join()
}

fn a_thread_is_refused_more_locks_than_the_kernel_would_free() -> Result<()> {
    const MANY: usize = 2_100;
    let cells = Shared::new([const { Mutex::new(0_u8) }; MANY])?;
    spawn("hoarder", || {
        let mut guards = Vec::new();
        for cell in cells.iter() {
            match cell.lock() {
                Ok(guard) => guards.push(guard),
                Err(error) => ensure!(error == LockError::TooManyHeld, "{error}"),
            }
        }
        ensure!(guards.len() < MANY);
        Ok(raise(Signal::SIGKILL)?)
    })?
    .wait()?;
    // Each lock is free or tells of the death; none stays locked.
    for cell in cells.iter() {
        let freed = cell.lock_timeout(Duration::from_secs(5));
        ensure!(matches!(freed, Ok(_) | Err(LockError::Poisoned)), "{freed:?}");
    }
    Ok(())
}

fn a_waiter_gets_the_lock_from_one_who_takes_it_again_at_once() -> Result<()> {
    let value = Shared::new(Mutex::new(0_u64))?;
    let hog = spawn("hog", || {
        loop {
            let mut guard = value.lock()?;
            *guard += 1;
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1) {}
        }
    })?;
    while *value.lock_timeout(Duration::from_secs(10))? == 0 {}
    for _ in 0..10 {
        drop(value.lock_timeout(Duration::from_secs(5))?);
    }
    hog.kill()
}

/// Spawns where it is dropped, in the parent.
struct SpawnsOnDrop;

impl Drop for SpawnsOnDrop {
    fn drop(&mut self) {
        if current_name() == "MainProcess" {
            let refused = spawn("from a drop", || Ok(())).map(drop).unwrap_err();
            assert!(format!("{refused:#}").contains("drop of what another spawn"), "{refused:#}");
        }
    }
}

fn a_drop_that_spawns_while_a_closure_is_dropped_is_refused() -> Result<()> {
    let captured = SpawnsOnDrop;
    spawn("child", move || {
        let _captured = captured;
        Ok(())
    })?
    .join()?;
    spawn("later", || Ok(()))?.join()
}
