//! A process is killed at every instruction of a call on a `Value` or an `Array`, and the next one
//! who locks is told, exactly if the victim held the lock.
//!
//! A `Value` is a `Mutex` in shared memory: its `lock` is `Mutex::lock`. All calls of the survivors
//! are bounded, so that a wait without end is an error.

use std::ops::DerefMut;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use common::{LockError, spawn};
use fork_harness::tracer::{Strike, is_asleep, prove, traced};
use shared_value::{Array, Shared, Value};

fork_harness::tests! {
    the_tracer_hits_the_gap_between_two_stores,
    a_victim_of_lock_leaves_a_free_lock_and_the_news_of_its_death,
    the_news_of_a_death_outlives_the_one_who_mends,
    a_victim_of_set_leaves_the_old_value_or_the_new_one,
    an_array_is_whole_or_the_next_owner_is_told,
}

const OLD: u64 = 0x1111_1111_1111_1111;
const NEW: u64 = 0x2222_2222_2222_2222;
/// Longer than any wait of these tests: when it has passed, something hangs.
const HANG: Duration = Duration::from_secs(5);

/// What the next owner may find, in the order of a call's points.
const STATES: [&str; 4] = ["old", "old and told", "new and told", "new"];

/// Where a victim is in its own code: a lock taken before, and let go of after.
const BEFORE: usize = 0;
const HOLDS: usize = 1;
const LETS_GO: usize = 2;
const AFTER: usize = 3;

/// Kills a child in the midst of `call`.
fn kill_in<R>(
    strike: &mut Strike,
    call: impl FnOnce() -> R + Send,
    on_sleep: impl FnMut(),
) -> Result<()> {
    let victim = spawn("victim", || traced(call).map(drop))?;
    strike.reach(victim.pid(), on_sleep)?;
    drop(victim); // SIGKILL, and reaped
    Ok(())
}

/// What the next owner finds, as a place in [`STATES`]. It mends the value and uses it on.
fn look(value: &Value<u64>) -> Result<usize> {
    let (found, told) = match value.lock_timeout(HANG) {
        Ok(guard) => (*guard, false),
        Err(LockError::Poisoned) => (*value.lock_poisoned()?, true),
        Err(error) => bail!(error),
    };
    ensure!(value.is_poisoned() == told && value.get().is_err() == told, "told only once");
    value.clear_poison();
    for number in [NEW + 1, OLD] {
        *value.lock_timeout(HANG)? = number;
        ensure!(value.get() == Ok(number), "the value does not work any more");
    }
    match (found, told) {
        (OLD, false) => Ok(0),
        (OLD, true) => Ok(1),
        (NEW, true) => Ok(2),
        (NEW, false) => Ok(3),
        _ => bail!("a value that nobody wrote: {found:#x}"),
    }
}

/// Locks, writes, unlocks, and says in `stage` how far it came.
fn write_under_lock(value: &Value<u64>, stage: &AtomicUsize) -> Result<()> {
    let mut guard = value.lock()?;
    stage.store(HOLDS, Relaxed);
    *guard = NEW;
    stage.store(LETS_GO, Relaxed);
    drop(guard);
    stage.store(AFTER, Relaxed);
    Ok(())
}

/// Compares what was found with how far the victim says it came.
fn check(state: usize, stage: &AtomicUsize) -> Result<usize> {
    let stage = stage.load(Relaxed);
    let allowed: &[usize] = match stage {
        BEFORE => &[0, 1],
        HOLDS => &[1, 2],
        // A holder's change is there, or its death is news.
        LETS_GO => &[1, 2, 3],
        _ => &[3],
    };
    ensure!(allowed.contains(&state), "at stage {stage} the victim left '{}'", STATES[state]);
    Ok(state)
}

/// So it does kill at every instruction: a gap of one or two is found.
fn the_tracer_hits_the_gap_between_two_stores() -> Result<()> {
    prove("two stores", &["none", "the first", "both"], |strike| {
        let words = Shared::new([const { AtomicUsize::new(0) }; 2])?;
        kill_in(strike, || words.iter().for_each(|word| word.store(1, Relaxed)), || ())?;
        match [&words[0], &words[1]].map(|word| word.load(Relaxed)) {
            [first, second] if first >= second => Ok(first + second),
            _ => bail!("the second store came first"),
        }
    })
}

fn a_victim_of_lock_leaves_a_free_lock_and_the_news_of_its_death() -> Result<()> {
    prove("lock and unlock", &STATES, |strike| {
        let (value, stage) = (Value::new(OLD)?, Shared::new(AtomicUsize::new(BEFORE))?);
        kill_in(strike, || write_under_lock(&value, &stage), || ())?;
        check(look(&value)?, &stage)
    })?;
    prove("lock and unlock, first held by another", &STATES, |strike| {
        let (value, stage) = (Value::new(OLD)?, Shared::new(AtomicUsize::new(BEFORE))?);
        let mut held = Some(value.lock()?);
        kill_in(strike, || write_under_lock(&value, &stage), || drop(held.take()))?;
        drop(held);
        check(look(&value)?, &stage)
    })?;
    prove("lock and unlock, another waiting", &STATES, |strike| {
        let (value, stage) = (Value::new(OLD)?, Shared::new(AtomicUsize::new(BEFORE))?);
        let found = Shared::new(AtomicUsize::new(usize::MAX))?;
        let victim = spawn("victim", || traced(|| write_under_lock(&value, &stage))?)?;
        strike.reach(victim.pid(), || ())?;
        let mut waiter = spawn("waiter", || {
            found.store(look(&value)?, Relaxed);
            Ok(())
        })?;
        // The victim is stopped, not dead: a waiter that finds the lock taken goes to sleep.
        while waiter.is_alive() && !is_asleep(waiter.pid()).unwrap_or(false) {
            nix::sched::sched_yield()?;
        }
        drop(victim); // SIGKILL, and reaped
        let status = waiter.wait_timeout(2 * HANG)?.context("the waiter sleeps on")?;
        ensure!(status.success(), "the waiter: {status}");
        check(found.load(Relaxed), &stage)
    })
}

fn the_news_of_a_death_outlives_the_one_who_mends() -> Result<()> {
    prove("mend after a death", &STATES[1..], |strike| {
        let value = Value::new(OLD)?;
        let mut first = spawn("first", || {
            let _held = value.lock()?;
            Ok(nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL)?)
        })?;
        ensure!(first.wait()?.signal() == Some(9), "the first holder did not die");
        let mend = || {
            let mut guard = value.lock_poisoned()?;
            *guard = NEW;
            value.clear_poison();
            drop(guard);
            anyhow::Ok(())
        };
        kill_in(strike, mend, || ())?;
        look(&value)?.checked_sub(1).context("nobody was told of the first death")
    })
}

fn a_victim_of_set_leaves_the_old_value_or_the_new_one() -> Result<()> {
    prove("Value::set", &STATES, |strike| {
        let value = Value::new(OLD)?;
        kill_in(strike, || value.set(NEW), || ())?;
        look(&value)
    })?;
    prove("Array::set", &STATES, |strike| {
        let array = Array::new(&[OLD; 3])?;
        kill_in(strike, || array.set(1, NEW), || ())?;
        let (found, told) = look_at(&array)?;
        ensure!([found[0], found[2]] == [OLD; 2], "another element changed: {found:x?}");
        let state = [(OLD, false), (OLD, true), (NEW, true), (NEW, false)];
        let state = state.iter().position(|&state| state == (found[1], told));
        state.with_context(|| format!("an element that nobody wrote: {found:x?}"))
    })
}

fn an_array_is_whole_or_the_next_owner_is_told() -> Result<()> {
    const LEN: usize = 64;
    let states = ["old", "old and told", "half changed and told", "new and told", "new"];
    prove("Array::lock, all elements written", &states, |strike| {
        let array = Array::new(&[OLD; LEN])?;
        let write = || {
            array.lock()?.deref_mut().fill(NEW);
            anyhow::Ok(())
        };
        kill_in(strike, write, || ())?;
        let (found, told) = look_at(&array)?;
        let new = found.iter().filter(|&&element| element == NEW).count();
        let old = found.iter().filter(|&&element| element == OLD).count();
        ensure!(new + old == LEN, "an element that nobody wrote: {found:x?}");
        match (new, told) {
            (0, false) => Ok(0),
            (0, true) => Ok(1),
            (LEN, true) => Ok(3),
            (LEN, false) => Ok(4),
            (_, true) => Ok(2),
            (_, false) => bail!("half changed, and nobody was told: {found:x?}"),
        }
    })
}

/// What the next owner of an array finds, and whether it was told of a death. It uses it on.
fn look_at(array: &Array<u64>) -> Result<(Vec<u64>, bool)> {
    let (found, told) = match array.lock_timeout(HANG) {
        Ok(guard) => (guard.to_vec(), false),
        Err(LockError::Poisoned) => (array.lock_poisoned()?.to_vec(), true),
        Err(error) => bail!(error),
    };
    ensure!(array.is_poisoned() == told && array.get(0).is_err() == told, "told only once");
    array.clear_poison();
    array.lock_timeout(HANG)?.fill(3);
    array.set(1, 4)?;
    ensure!(array.to_vec()?.starts_with(&[3, 4, 3]), "the array does not work any more");
    Ok((found, told))
}
