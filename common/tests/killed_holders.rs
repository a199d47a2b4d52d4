//! 10,000 processes are killed with a lock in their hands, and the next owner is told every time.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Result, ensure};
use common::{LockError, Mutex, MutexGuard, Process, Shared, count_to, spawn};
use fork_harness::eventually;
use nix::sys::signal::{Signal, raise};

fork_harness::tests! {
    the_next_owner_is_told_of_every_killed_holder,
    a_holder_killed_while_it_mends_is_told_again,
    the_owner_of_two_locks_leaves_both_poisoned,
    a_holder_killed_at_a_random_moment_leaves_no_torn_value_untold,
    one_of_those_who_wait_is_told_and_mends_for_all,
}

/// Large enough to be killed in the middle of writing it. Sound where all are equal.
type Value = [u64; 128];

fn the_next_owner_is_told_of_every_killed_holder() -> Result<()> {
    let mutex = Shared::new(Mutex::new([0; 128]))?;
    for round in 1..=5_000 {
        let victim = spawn("victim", || {
            let mut guard = mutex.lock()?;
            if round % 2 == 0 {
                *guard = [u64::MAX; 128]; // the guard's own copy: nobody will see it
            }
            die()
        })?;
        killed(victim)?;
        told_and_mended(&mutex, [round - 1; 128], [round; 128])?;
    }
    println!("## 5000 holders killed, each told");
    Ok(())
}

fn a_holder_killed_while_it_mends_is_told_again() -> Result<()> {
    let mutex = Shared::new(Mutex::new([0; 128]))?;
    for _ in 0..1_000 {
        killed(spawn("victim", || {
            let _guard = mutex.lock()?;
            die()
        })?)?;
        killed(spawn("mender", || {
            let _guard = mutex.lock_poisoned()?;
            die()
        })?)?;
        told_and_mended(&mutex, [0; 128], [0; 128])?;
    }
    println!("## 2000 holders killed, half of them while they mended");
    Ok(())
}

fn the_owner_of_two_locks_leaves_both_poisoned() -> Result<()> {
    let mutexes = Shared::new([const { Mutex::new([0; 128]) }; 2])?;
    for round in 0..500 {
        killed(spawn("victim", || {
            let _first = mutexes[round % 2].lock()?;
            let _second = mutexes[1 - round % 2].lock()?;
            die()
        })?)?;
        told_and_mended(&mutexes[0], [0; 128], [0; 128])?;
        told_and_mended(&mutexes[1], [0; 128], [0; 128])?;
    }
    println!("## 500 holders killed, each with two locks");
    Ok(())
}

fn a_holder_killed_at_a_random_moment_leaves_no_torn_value_untold() -> Result<()> {
    let mutex = Shared::new(Mutex::new([0; 128]))?;
    let inside = Shared::new(AtomicBool::new(false))?;
    let turns = Shared::new(AtomicU32::new(0))?;
    let (mut told, mut kills) = (0, 0);
    let mut random = fastrand::Rng::with_seed(4);
    while told < 1_500 {
        turns.store(0, SeqCst);
        inside.store(false, SeqCst);
        let victim = spawn("victim", || {
            loop {
                let mut guard = mutex.lock()?;
                inside.store(true, SeqCst);
                *guard = [guard[0] + 1; 128];
                turns.fetch_add(1, SeqCst);
                inside.store(false, SeqCst);
            }
        })?;
        eventually("the victim has had the lock", || turns.load(SeqCst) > 0);
        count_to(random.u64(..20_000));
        victim.kill()?;
        killed(victim)?;
        kills += 1;
        match mutex.lock() {
            Ok(guard) => {
                ensure!(!inside.load(SeqCst), "a holder was killed and nobody is told");
                ensure!(is_sound(&guard), "torn, and nobody is told: {guard:?}");
            }
            Err(LockError::Poisoned) => {
                told += 1;
                mend(&mutex, mutex.lock_poisoned()?);
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("## {told} holders killed at random moments, in {kills} kills");
    Ok(())
}

fn one_of_those_who_wait_is_told_and_mends_for_all() -> Result<()> {
    const ROUNDS: u64 = 1_000;
    let mutex = Shared::new(Mutex::new([0; 128]))?;
    let counts = Shared::new([const { AtomicU64::new(0) }; 4])?;
    let [held, waiting, mended, done] = &*counts;
    let survivors = (0..2).map(|number| {
        spawn(format!("survivor {number}"), || {
            for round in 1..=ROUNDS {
                eventually("the victim holds the lock", || held.load(SeqCst) == round);
                waiting.fetch_add(1, SeqCst);
                let guard = match mutex.lock() {
                    Err(LockError::Poisoned) => mutex.lock_poisoned()?,
                    other => other?,
                };
                if mutex.is_poisoned() {
                    mend(&mutex, guard);
                    mended.fetch_add(1, SeqCst);
                }
                done.fetch_add(1, SeqCst);
            }
            Ok(())
        })
    });
    let survivors = survivors.collect::<Result<Vec<_>>>()?;
    for round in 1..=ROUNDS {
        killed(spawn("victim", || {
            let _guard = mutex.lock()?;
            held.store(round, SeqCst);
            eventually("both survivors wait", || waiting.load(SeqCst) == 2 * round);
            die()
        })?)?;
        eventually("both survivors had the lock", || done.load(SeqCst) == 2 * round);
        let mended = mended.load(SeqCst);
        ensure!(mended == round, "{mended} times mended after {round} deaths");
    }
    common::join_all(survivors)?;
    println!("## {ROUNDS} holders killed with two processes waiting, each mended by one of them");
    Ok(())
}

/// The lock of a dead holder: it says so until it is mended, then it is as good as new.
fn told_and_mended(mutex: &Mutex<Value>, found: Value, left: Value) -> Result<()> {
    ensure!(mutex.lock().err() == Some(LockError::Poisoned));
    ensure!(mutex.is_poisoned());
    ensure!(mutex.try_lock().err() == Some(LockError::Poisoned));
    ensure!(mutex.lock_timeout(Duration::ZERO).err() == Some(LockError::Poisoned));
    let mut guard = mutex.lock_poisoned()?;
    ensure!(*guard == found);
    *guard = left;
    mutex.clear_poison();
    drop(guard);
    ensure!(!mutex.is_poisoned());
    ensure!(*mutex.lock()? == left);
    Ok(())
}

fn mend(mutex: &Mutex<Value>, mut guard: MutexGuard<'_, Value>) {
    *guard = [guard[0]; 128];
    mutex.clear_poison();
}

fn is_sound(value: &Value) -> bool {
    value.iter().all(|element| *element == value[0])
}

fn die() -> Result<()> {
    Ok(raise(Signal::SIGKILL)?)
}

fn killed(mut victim: Process) -> Result<()> {
    ensure!(victim.wait()?.signal() == Some(Signal::SIGKILL as i32), "it ended by itself");
    Ok(())
}
