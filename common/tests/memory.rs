//! Memory that processes share, the lock that guards it, and what is left of both.

use std::os::unix::net::UnixStream;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Result, bail};
use common::ends::End;
use common::{LockError, Mutex, Shared, spawn};
use fork_harness::{
    disturb, forbid_descriptors, let_signals_interrupt, run_until_killed, wait_until,
};
use support::{compete, holder, kill_the_holder};

mod support;

fork_harness::tests! {
    additions_of_all_processes_count_without_a_lock,
    additions_of_2_and_of_9_processes_count_under_the_lock,
    a_killed_lock_holder_poisons_until_the_poison_is_cleared,
    poison_is_seen_by_every_process,
    a_holder_that_ends_in_any_way_but_an_error_poisons,
    a_mender_that_is_killed_leaves_the_poison,
    waiting_for_a_lock_can_be_bounded,
    a_lock_goes_on_whoever_is_killed_and_whenever,
    a_signal_does_not_interrupt_the_wait_for_a_lock,
    shared_memory_has_no_name_and_leaves_no_descriptor_and_no_mapping,
    no_descriptor_survives_an_exec,
    where_no_descriptor_is_left_the_error_says_so,
}

/// For waits that end before that.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

fn additions_of_all_processes_count_without_a_lock() -> Result<()> {
    let count = Shared::new(AtomicU64::new(0))?;
    compete(4, 50_000, || {
        count.fetch_add(1, Relaxed);
        Ok(())
    })?;
    assert_eq!(count.load(Relaxed), 4 * 50_000);
    Ok(())
}

fn additions_of_2_and_of_9_processes_count_under_the_lock() -> Result<()> {
    for (processes, each) in [(2, 2_000), (9, 200)] {
        let count = Shared::new(Mutex::new(0_u64))?;
        compete(processes, each, || {
            let mut guard = count.lock()?;
            thread::yield_now();
            *guard += 1;
            Ok(())
        })?;
        assert_eq!(*count.lock()?, u64::from(processes) * each);
    }
    Ok(())
}

fn a_killed_lock_holder_poisons_until_the_poison_is_cleared() -> Result<()> {
    let cell = Shared::new(Mutex::new(7_u32))?;
    kill_the_holder(|| {
        let mut guard = cell.lock()?;
        *guard = 8;
        Ok(guard)
    })?;
    for _ in 0..3 {
        assert_eq!(*cell.lock_poisoned()?, 7, "the holder had not unlocked");
        assert_eq!(cell.lock().unwrap_err(), LockError::Poisoned);
        assert_eq!(cell.try_lock().unwrap_err(), LockError::Poisoned);
        assert_eq!(cell.lock_timeout(LONG).unwrap_err(), LockError::Poisoned);
        assert!(cell.is_poisoned());
    }
    let mut guard = cell.lock_poisoned()?;
    *guard = 9;
    cell.clear_poison();
    drop(guard);
    assert!(!cell.is_poisoned());
    assert_eq!(*cell.lock()?, 9);
    assert_eq!(*cell.try_lock()?, 9);
    assert_eq!(*cell.lock_timeout(SHORT)?, 9);
    Ok(())
}

fn poison_is_seen_by_every_process() -> Result<()> {
    let cell = Shared::new(Mutex::new(7_u32))?;
    kill_the_holder(|| Ok(cell.lock()?))?;
    for name in ["first to notice", "second"] {
        let poisoned = || {
            assert_eq!(cell.lock().unwrap_err(), LockError::Poisoned);
            Ok(())
        };
        spawn(name, poisoned)?.join()?;
    }
    let mend = || {
        *cell.lock_poisoned()? += 1;
        cell.clear_poison();
        Ok(())
    };
    spawn("mender", mend)?.join()?;
    let use_it = || {
        *cell.lock()? += 1;
        Ok(())
    };
    spawn("user", use_it)?.join()?;
    assert_eq!(*cell.lock()?, 9);
    Ok(())
}

fn a_holder_that_ends_in_any_way_but_an_error_poisons() -> Result<()> {
    let poisons = |ending: fn() -> Result<()>| -> Result<bool> {
        let cell = Shared::new(Mutex::new(0_u32))?;
        let hold_and_end = || {
            let _guard = cell.lock()?;
            ending()
        };
        spawn("holder", hold_and_end)?.wait()?;
        Ok(cell.lock().err() == Some(LockError::Poisoned))
    };
    assert!(poisons(|| panic!("on purpose"))?);
    assert!(poisons(|| process::exit(0))?);
    assert!(poisons(|| process::abort())?);
    assert!(!poisons(|| bail!("on purpose"))?, "the guard is dropped as ever");
    Ok(())
}

fn a_mender_that_is_killed_leaves_the_poison() -> Result<()> {
    let cell = Shared::new(Mutex::new(7_u32))?;
    kill_the_holder(|| Ok(cell.lock()?))?;
    kill_the_holder(|| Ok(cell.lock_poisoned()?))?;
    assert_eq!(cell.lock().unwrap_err(), LockError::Poisoned);
    // Cleared too early: its death poisons anew.
    kill_the_holder(|| {
        let guard = cell.lock_poisoned()?;
        cell.clear_poison();
        Ok(guard)
    })?;
    assert_eq!(cell.lock().unwrap_err(), LockError::Poisoned);
    Ok(())
}

fn waiting_for_a_lock_can_be_bounded() -> Result<()> {
    let cell = Shared::new(Mutex::new(7_u32))?;
    let holder = holder(|| Ok(cell.lock()?))?;
    assert_eq!(cell.lock_timeout(SHORT).unwrap_err(), LockError::Timeout);
    assert_eq!(cell.lock_timeout(Duration::ZERO).unwrap_err(), LockError::Timeout);
    assert_eq!(cell.try_lock().unwrap_err(), LockError::WouldBlock);
    drop(holder);

    // A holder that unlocks lets the one in who waits.
    let locked = Shared::new(AtomicU64::new(0))?;
    let cell = Shared::new(Mutex::new(7_u32))?;
    let hold_a_while = || {
        let mut guard = cell.lock()?;
        locked.store(1, Relaxed);
        thread::sleep(SHORT);
        *guard = 8;
        Ok(())
    };
    let child = spawn("holder", hold_a_while)?;
    wait_until("the child holds the lock", || locked.load(Relaxed) == 1);
    assert_eq!(*cell.lock_timeout(LONG)?, 8);
    child.join()
}

fn a_lock_goes_on_whoever_is_killed_and_whenever() -> Result<()> {
    let cell = Shared::new(Mutex::new([0_u64; 64]))?;
    let [turns, repairs] = &*Shared::new([const { AtomicU64::new(0) }; 2])?;
    let take_a_turn = || -> Result<()> {
        match cell.lock_timeout(LONG) {
            Ok(mut guard) => {
                assert!(guard.iter().all(|number| *number == guard[0]), "torn: {guard:?}");
                let next = guard[0] + 1;
                guard.fill(next);
            }
            Err(LockError::Poisoned) => {
                cell.lock_poisoned()?.fill(0);
                cell.clear_poison();
                repairs.fetch_add(1, Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
        turns.fetch_add(1, Relaxed);
        Ok(())
    };
    for round in 0..100 {
        let take_turns = || {
            loop {
                take_a_turn()?;
            }
        };
        let processes = (0..3).map(|_| spawn("user", take_turns)).collect::<Result<Vec<_>>>()?;
        // Each round's kills come at another moment.
        let goal = turns.load(Relaxed) + 1 + 7 * round;
        wait_until("they have taken turns", || turns.load(Relaxed) >= goal);
        for process in processes {
            process.kill()?;
            let error = process.join().unwrap_err().to_string();
            assert!(error.ends_with("killed by SIGKILL"), "{error}");
        }
        take_a_turn()?;
    }
    println!("## 300 processes killed, {} of them with the lock", repairs.load(Relaxed));
    Ok(())
}

fn a_signal_does_not_interrupt_the_wait_for_a_lock() -> Result<()> {
    let_signals_interrupt()?;
    let parent = process::id();
    let locked = Shared::new(AtomicU64::new(0))?;
    let cell = Shared::new(Mutex::new(7_u32))?;
    let child = spawn("disturber", || {
        let _guard = cell.lock()?;
        locked.store(1, Relaxed);
        Ok(disturb(parent)?)
    })?;
    wait_until("the child holds the lock", || locked.load(Relaxed) == 1);
    assert_eq!(*cell.lock()?, 7);
    child.join()
}

fn shared_memory_has_no_name_and_leaves_no_descriptor_and_no_mapping() -> Result<()> {
    let descriptors = || fs::read_dir("/proc/self/fd").map(Iterator::count);
    let mappings = || -> Result<Vec<String>> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        Ok(maps.lines().filter(|line| line.contains("memfd:")).map(String::from).collect())
    };
    let before = descriptors()?;
    let shared = Shared::new(Mutex::new([0_u64; 1_000]))?;
    assert_eq!(descriptors()?, before);
    let [mapping] = &mappings()?[..] else { bail!("not one mapping: {:?}", mappings()?) };
    assert!(mapping.ends_with("(deleted)"), "it has a name: {mapping}");
    assert!(mapping.contains("rw-s"), "it is shared: {mapping}");

    kill_the_holder(|| Ok(shared.lock()?))?;
    drop(shared);
    assert_eq!((descriptors()?, mappings()?.len()), (before, 0));
    Ok(())
}

fn no_descriptor_survives_an_exec() -> Result<()> {
    let descriptors = || -> Result<_> {
        let listed = Command::new("ls").arg("/proc/self/fd").output()?;
        assert!(listed.status.success());
        Ok(listed.stdout)
    };
    let before = descriptors()?;
    let (one, other) = UnixStream::pair()?;
    let ends = End::pair(one.into(), other.into());
    let _shared = Shared::new(AtomicU64::new(0))?;
    assert_eq!(descriptors()?, before);
    spawn("child", move || {
        let _moved = ends;
        assert_eq!(descriptors()?, before);
        Ok(())
    })?
    .join()
}

fn where_no_descriptor_is_left_the_error_says_so() -> Result<()> {
    let (one, other) = UnixStream::pair()?;
    let end = End::pair(one.into(), other.into());
    let mut child = spawn("child", || run_until_killed())?;
    forbid_descriptors()?;
    let error = Shared::new(AtomicU64::new(0)).unwrap_err().to_string();
    assert!(error.contains("8 bytes of shared memory"), "{error}");
    assert!(child.wait_timeout(SHORT)?.is_none(), "waiting takes no descriptor");
    let error = spawn("another", || Ok(())).unwrap_err().to_string();
    assert!(error.contains("'another': no descriptors"), "{error}");
    drop(end); // without an end of a connection a fork needs none
    spawn("another", || Ok(()))?.join()
}
