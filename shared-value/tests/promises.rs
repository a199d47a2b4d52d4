//! What `Value` and `Array` promise, tried out on real processes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::yield_now;
use std::time::Duration;

use anyhow::{Result, ensure};
use common::{LockError, join_all, spawn};
use fork_harness::wait_until;
use shared_value::{Array, ArrayError, Shared, Value};
use support::{compete, holder, kill_the_holder};

#[path = "../../common/tests/support/mod.rs"]
mod support;

fork_harness::tests! {
    every_addition_under_the_lock_counts,
    every_update_counts,
    an_update_holds_the_lock_from_the_read_to_the_write,
    what_one_process_sets_another_gets,
    a_killed_lock_holder_poisons_the_value_until_it_is_mended,
    a_failed_update_in_a_child_changes_nothing,
    waiting_for_a_value_can_be_bounded,
    every_change_of_an_element_under_the_lock_counts,
    changes_of_single_elements_are_seen,
    a_guard_of_an_array_is_written_back_whole,
    a_killed_lock_holder_poisons_the_array_until_it_is_mended,
    waiting_for_an_array_can_be_bounded,
    an_index_out_of_range_is_an_error_in_a_child_too,
}

/// For waits that end before that.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

fn every_addition_under_the_lock_counts() -> Result<()> {
    for (processes, each) in [(2, 2_000), (9, 200)] {
        let value = Value::new(0_u64)?;
        compete(processes, each, || {
            let mut guard = value.lock()?;
            yield_now();
            *guard += 1;
            Ok(())
        })?;
        assert_eq!(value.get()?, u64::from(processes) * each);
    }
    Ok(())
}

fn every_update_counts() -> Result<()> {
    let value = Value::new(1_000_i64)?;
    compete(4, 500, || {
        value.update(|number| {
            yield_now();
            number - 3
        })?;
        Ok(())
    })?;
    assert_eq!(value.get()?, 1_000 - 4 * 500 * 3);
    Ok(())
}

fn an_update_holds_the_lock_from_the_read_to_the_write() -> Result<()> {
    let value = Value::new(7_u32)?;
    let [inside, tried] = &*Shared::new([const { AtomicBool::new(false) }; 2])?;
    let update = || {
        value.update(|number| {
            inside.store(true, Relaxed);
            wait_until("the parent has tried the lock", || tried.load(Relaxed));
            number + 1
        })?;
        Ok(())
    };
    let child = spawn("updater", update)?;
    wait_until("the child is in the middle", || inside.load(Relaxed));
    assert_eq!(value.try_lock().err(), Some(LockError::WouldBlock));
    tried.store(true, Relaxed);
    child.join()?;
    assert_eq!(value.get()?, 8);
    Ok(())
}

fn what_one_process_sets_another_gets() -> Result<()> {
    let value = Value::new([0.0_f64, 0.5])?;
    spawn("setter", || Ok(value.set([1.5, 2.5])?))?.join()?;
    assert_eq!(value.get()?, [1.5, 2.5]);
    value.set([-1.0, f64::MAX])?;
    let getter = || {
        ensure!(value.get()? == [-1.0, f64::MAX]);
        Ok(())
    };
    spawn("getter", getter)?.join()
}

fn a_killed_lock_holder_poisons_the_value_until_it_is_mended() -> Result<()> {
    let value = Value::new(7_u32)?;
    kill_the_holder(|| {
        let mut guard = value.lock()?;
        *guard = 8;
        Ok(guard)
    })?;
    for _ in 0..2 {
        assert_eq!(*value.lock_poisoned()?, 7, "the holder had not unlocked");
        assert_eq!(value.get(), Err(LockError::Poisoned));
        assert_eq!(value.set(9), Err(LockError::Poisoned));
        assert_eq!(value.update(|number| number + 1), Err(LockError::Poisoned));
        assert_eq!(value.lock().unwrap_err(), LockError::Poisoned);
        assert_eq!(value.try_lock().unwrap_err(), LockError::Poisoned);
        assert_eq!(value.lock_timeout(LONG).unwrap_err(), LockError::Poisoned);
        assert!(value.is_poisoned());
    }
    let mut guard = value.lock_poisoned()?;
    *guard = 10;
    value.clear_poison();
    drop(guard);
    spawn("user", || Ok(value.set(value.get()? + 1)?))?.join()?;
    assert_eq!(value.get(), Ok(11));
    Ok(())
}

fn a_failed_update_in_a_child_changes_nothing() -> Result<()> {
    let value = Value::new(7_u32)?;
    let failing = || {
        value.update(|_| panic!("on purpose"))?;
        Ok(())
    };
    assert_eq!(spawn("failing", failing)?.wait()?.code(), Some(101));
    assert_eq!(value.get(), Err(LockError::Poisoned));
    assert_eq!(*value.lock_poisoned()?, 7);
    Ok(())
}

fn waiting_for_a_value_can_be_bounded() -> Result<()> {
    let value = Value::new(7_u32)?;
    let holder = holder(|| Ok(value.lock()?))?;
    assert_eq!(value.lock_timeout(SHORT).unwrap_err(), LockError::Timeout);
    assert_eq!(value.try_lock().unwrap_err(), LockError::WouldBlock);
    drop(holder);
    let free = Value::new(7_u32)?;
    spawn("user", || Ok(free.set(8)?))?.join()?;
    assert_eq!(*free.lock_timeout(SHORT)?, 8);
    assert_eq!(*free.try_lock()?, 8);
    Ok(())
}

fn every_change_of_an_element_under_the_lock_counts() -> Result<()> {
    let numbers = Array::<u64>::zeroed(3)?;
    compete(4, 300, || {
        for index in 0..3 {
            let mut guard = numbers.lock()?;
            yield_now();
            guard[index] += 1;
        }
        Ok(())
    })?;
    assert_eq!(numbers.to_vec()?, [4 * 300; 3]);
    Ok(())
}

fn changes_of_single_elements_are_seen() -> Result<()> {
    // The article's `Array('i', range(50))`.
    let numbers = Array::new(&(0..50).collect::<Vec<i32>>())?;
    let add_100 = |from: usize| {
        let numbers = &numbers;
        move || {
            for index in from..from + 25 {
                numbers.set(index, numbers.get(index)? + 100)?;
            }
            Ok(())
        }
    };
    // Each has its own half: there a get and a set need no lock around both.
    let halves = [spawn("one half", add_100(0))?, spawn("the other", add_100(25))?];
    join_all(halves)?;
    assert_eq!(numbers.to_vec()?, (100..150).collect::<Vec<_>>());
    Ok(())
}

fn a_guard_of_an_array_is_written_back_whole() -> Result<()> {
    let numbers = Array::new(&[0_u64; 1_000])?;
    let all_alike = |all: &[u64]| all.iter().all(|number| *number == all[0]);
    compete(3, 300, || {
        let mut all = numbers.lock()?;
        assert!(all_alike(&all));
        let next = all[0] + 1;
        all.fill(next);
        drop(all);
        assert!(all_alike(&numbers.to_vec()?));
        Ok(())
    })?;
    assert_eq!(numbers.to_vec()?, [3 * 300; 1_000]);
    Ok(())
}

fn a_killed_lock_holder_poisons_the_array_until_it_is_mended() -> Result<()> {
    let numbers = Array::new(&[1_u8, 2, 3])?;
    kill_the_holder(|| {
        let mut guard = numbers.lock()?;
        guard[1] = 20;
        Ok(guard)
    })?;
    let poisoned = ArrayError::Lock(LockError::Poisoned);
    for _ in 0..2 {
        assert_eq!(*numbers.lock_poisoned()?, [1, 2, 3], "the holder had not unlocked");
        assert_eq!(numbers.get(0), Err(poisoned));
        assert_eq!(numbers.set(0, 9), Err(poisoned));
        assert_eq!(numbers.to_vec(), Err(LockError::Poisoned));
        assert_eq!(numbers.lock().err(), Some(LockError::Poisoned));
        assert_eq!(numbers.try_lock().err(), Some(LockError::Poisoned));
        assert_eq!(numbers.lock_timeout(LONG).err(), Some(LockError::Poisoned));
        assert!(numbers.is_poisoned());
    }
    let mut guard = numbers.lock_poisoned()?;
    guard[0] = 10;
    numbers.clear_poison();
    drop(guard);
    spawn("user", || Ok(numbers.set(2, 30)?))?.join()?;
    assert_eq!(numbers.to_vec()?, [10, 2, 30]);
    Ok(())
}

fn waiting_for_an_array_can_be_bounded() -> Result<()> {
    let numbers = Array::new(&[1_u8, 2, 3])?;
    let holder = holder(|| Ok(numbers.lock()?))?;
    assert_eq!(numbers.lock_timeout(SHORT).err(), Some(LockError::Timeout));
    assert_eq!(numbers.try_lock().err(), Some(LockError::WouldBlock));
    drop(holder);
    let free = Array::new(&[1_u8, 2, 3])?;
    spawn("user", || Ok(free.set(0, 8)?))?.join()?;
    assert_eq!(*free.lock_timeout(SHORT)?, [8, 2, 3]);
    assert_eq!(*free.try_lock()?, [8, 2, 3]);
    Ok(())
}

fn an_index_out_of_range_is_an_error_in_a_child_too() -> Result<()> {
    let numbers = Array::new(&[1_u8, 2, 3])?;
    let reach_out = || {
        let error = ArrayError::OutOfRange { index: 3, len: 3 };
        assert_eq!((numbers.get(3), numbers.set(3, 9)), (Err(error), Err(error)));
        assert!(numbers.get(usize::MAX).is_err());
        Ok(())
    };
    spawn("child", reach_out)?.join()?;
    assert_eq!(numbers.to_vec()?, [1, 2, 3], "and no lock is left");
    Ok(())
}
