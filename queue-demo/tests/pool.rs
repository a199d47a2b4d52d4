//! What a pool promises: each item has one outcome, whatever becomes of the workers.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use common::{Shared, count_to, spawn};
use fork_harness::watch::{Signal, send};
use nix::sys::signal::raise;
use queue_demo::{Pool, PoolError, Queue, QueueError};
use random::Random;

mod random;

fork_harness::tests! {
    results_of_map_and_imap_come_in_order_though_the_first_item_is_done_last,
    results_of_imap_unordered_come_as_they_are_done,
    imap_takes_items_as_they_are_needed_and_no_more_than_so_many_ahead,
    an_error_names_its_item_and_spares_the_others,
    a_worker_that_dies_is_the_error_of_its_item_and_of_no_other,
    when_all_workers_have_died_every_item_handed_out_is_an_error,
    what_is_left_of_an_iteration_given_up_is_no_part_of_the_next,
    an_item_or_a_result_that_is_too_large_is_an_error_that_names_it,
    every_wait_for_a_result_can_be_bounded,
    close_tells_of_a_death_that_no_item_has_told_of,
    workers_killed_at_random_moments_leave_each_item_one_outcome,
}

const SOON: Duration = Duration::from_millis(20);

fn die() -> Result<u64> {
    raise(Signal::SIGKILL)?;
    bail!("SIGKILL did not kill")
}

/// The item that waits until the gate is open, and the one that opens it.
const WAITS: u64 = 0;
const OPENS: u64 = 9;

/// Workers that double a number, but see to it that one item is done last.
fn doubling_pool(gate: &Queue<()>) -> Result<Pool<u64, u64>> {
    Pool::new(2, |&number| {
        match number {
            WAITS => gate.get()?,
            OPENS => gate.put(())?,
            _ => {}
        }
        Ok(2 * number)
    })
}

fn results_of_map_and_imap_come_in_order_though_the_first_item_is_done_last() -> Result<()> {
    let gate = Queue::new()?;
    let mut pool = doubling_pool(&gate)?;
    let items = [WAITS, 1, 2, 3, OPENS];
    ensure!(pool.map(items)? == [0, 2, 4, 6, 18]);
    ensure!(pool.imap(items).collect::<Result<Vec<_>, _>>()? == [0, 2, 4, 6, 18]);
    ensure!(pool.map([])?.is_empty());
    pool.close()
}

fn results_of_imap_unordered_come_as_they_are_done() -> Result<()> {
    let gate = Queue::new()?;
    let mut pool = doubling_pool(&gate)?;
    let mut results = pool.imap_unordered([WAITS, 1, 2, 3]);
    // One of the two workers has item 0, so the other one does the rest.
    for expected in [2, 4, 6] {
        ensure!(results.next() == Some(Ok(expected)));
    }
    gate.put(())?;
    ensure!(results.next() == Some(Ok(0)));
    ensure!(results.next().is_none());
    pool.close()
}

fn imap_takes_items_as_they_are_needed_and_no_more_than_so_many_ahead() -> Result<()> {
    const AHEAD: u64 = 2 * 4;
    let mut pool = Pool::new(2, |&number: &u64| Ok(number))?;
    let mut taken = 0;
    let items = (0..).inspect(|&number| taken = number + 1);
    let results: Vec<_> = pool.imap(items).take(100).collect::<Result<_, _>>()?;
    ensure!(results.into_iter().eq(0..100));
    ensure!(taken == 99 + AHEAD, "{taken} items were taken");
    pool.close()
}

fn an_error_names_its_item_and_spares_the_others() -> Result<()> {
    let mut pool = Pool::new(2, |&number: &u64| match number {
        1 | 3 => bail!("{number} is odd"),
        _ => Ok(number),
    })?;
    let failed = |item: usize| PoolError::Failed { item, error: format!("{item} is odd") };
    let results: Vec<_> = pool.imap(0..5).collect();
    ensure!(results == [Ok(0), Err(failed(1)), Ok(2), Err(failed(3)), Ok(4)]);
    ensure!(pool.map(0..5) == Err(failed(1)), "the first in order");
    pool.close()
}

fn a_worker_that_dies_is_the_error_of_its_item_and_of_no_other() -> Result<()> {
    let mut pool = Pool::new(4, |&number: &u64| match number {
        1 => die(),
        3 => panic!("on purpose"),
        5 => std::process::exit(0),
        _ => Ok(number),
    })?;
    let results: Vec<_> = pool.imap_unordered(0..50).collect();
    ensure!(results.len() == 50);
    for (number, how) in [(1, "killed by SIGKILL"), (3, "exited with 101"), (5, "exited with 0")] {
        let told = results.iter().find_map(|result| match result {
            Err(PoolError::Died { item, how }) if *item == number => Some(how),
            _ => None,
        });
        ensure!(told.is_some_and(|told| told.contains(how)), "item {number}: {told:?}");
    }
    let sum: u64 = results.iter().flatten().sum();
    ensure!(sum == (0..50).sum::<u64>() - 1 - 3 - 5);
    pool.close()
}

fn when_all_workers_have_died_every_item_handed_out_is_an_error() -> Result<()> {
    let mut pool = Pool::new(2, |&number: &u64| if number < 3 { Ok(number) } else { die() })?;
    let results: Vec<_> = pool.imap(0..).collect();
    let died = results.iter().filter(|result| matches!(result, Err(PoolError::Died { .. })));
    ensure!(results[..3] == [Ok(0), Ok(1), Ok(2)] && died.count() == 2, "{results:?}");
    for (item, result) in results.iter().enumerate().skip(5) {
        ensure!(*result == Err(PoolError::NoWorker { item }), "{result:?}");
    }
    ensure!(pool.map([0]) == Err(PoolError::NoWorker { item: 0 }));
    pool.close()
}

fn what_is_left_of_an_iteration_given_up_is_no_part_of_the_next() -> Result<()> {
    let mut pool = Pool::new(2, |&number: &u64| Ok(number))?;
    for round in 0..100 {
        ensure!(pool.imap(0..).next() == Some(Ok(0)));
        ensure!(pool.map(round..round + 20)?.into_iter().eq(round..round + 20));
    }
    pool.close()
}

fn an_item_or_a_result_that_is_too_large_is_an_error_that_names_it() -> Result<()> {
    let mut pool = Pool::with_bytes(1, 10, |text: &String| Ok(text.repeat(2)))?;
    let results: Vec<_> = pool.imap(["five!", "sixsix", "eleven char"].map(String::from)).collect();
    let too_large = |item: usize, what: &str, len: usize| {
        let error = format!(
            "{what} has {len} bytes, and the pool room for 10: make it with \
             Pool::with_bytes(workers, {len}, ...)"
        );
        Err(PoolError::Failed { item, error })
    };
    let expected =
        [Ok("five!five!".into()), too_large(1, "its result", 12), too_large(2, "it", 11)];
    ensure!(results == expected, "{results:?}");
    // So does an error's text, of any length.
    let mut pool = Pool::with_bytes(1, 1, |_: &u8| -> Result<u8> { bail!("ü".repeat(5_000)) })?;
    let error = "ü".repeat(200);
    ensure!(pool.map([1]) == Err(PoolError::Failed { item: 0, error }));
    Ok(())
}

fn every_wait_for_a_result_can_be_bounded() -> Result<()> {
    let gate = Queue::new()?;
    let mut pool = doubling_pool(&gate)?;
    let mut results = pool.imap([WAITS, 1]);
    ensure!(results.next_timeout(SOON) == Some(Err(PoolError::Timeout)));
    gate.put(())?;
    ensure!(results.next() == Some(Ok(0)), "what was late comes later");
    ensure!(results.next() == Some(Ok(2)));
    ensure!(results.next_timeout(SOON).is_none());
    pool.close()
}

fn close_tells_of_a_death_that_no_item_has_told_of() -> Result<()> {
    let mut pool = Pool::new(1, |_: &u8| Ok(std::process::id()))?;
    let pid = pool.map([1])?[0];
    send(pid, Signal::SIGKILL)?;
    let error = pool.close().expect_err("a worker was killed").to_string();
    ensure!(error.contains("worker-0") && error.contains("SIGKILL"), "{error}");
    Ok(())
}

const ROUNDS: u64 = 30;
const WORKERS: usize = 3;
const ITEMS: usize = 1_000;

/// Kills whichever worker was the last to begin with an item, again and again.
fn kill_at_random(mut random: Random, busy: &AtomicU32) -> Result<()> {
    let never = Queue::<()>::with_capacity(1)?;
    loop {
        // A moment of any length: the wait is to run out.
        let moment = Duration::from_nanos(random.below(4_000_000));
        ensure!(never.get_timeout(moment) == Err(QueueError::Timeout));
        let pid = busy.swap(0, Relaxed);
        if pid != 0 {
            let _ = send(pid, Signal::SIGKILL); // it may have ended
        }
    }
}

fn workers_killed_at_random_moments_leave_each_item_one_outcome() -> Result<()> {
    let mut random = Random::new();
    let (mut results, mut deaths, mut deserted) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let busy = Shared::new(AtomicU32::new(0))?;
        let begun = Shared::new([const { AtomicU32::new(0) }; ITEMS])?;
        let mut pool = Pool::new(WORKERS, |&number: &u64| {
            busy.store(std::process::id(), Relaxed);
            begun[number as usize].fetch_add(1, Relaxed);
            Ok(count_to(number * 30))
        })?;
        let seed = random.below(u64::MAX);
        let killer = spawn("killer", || kill_at_random(Random::seeded(seed), &busy))?;
        let (mut returned, mut died) = (0, 0);
        for result in pool.imap(0..ITEMS as u64) {
            match result {
                Ok(number) => ensure!(number == 30 * returned as u64),
                Err(PoolError::Died { item, how }) => {
                    ensure!(item == returned && how.contains("SIGKILL"), "{item}: {how}");
                    died += 1;
                }
                Err(PoolError::NoWorker { item }) => ensure!(item == returned),
                Err(error) => bail!(error),
            }
            returned += 1;
        }
        drop(killer);
        let deserted_now = returned < ITEMS || pool.map([0]).is_err();
        ensure!(died <= WORKERS && (returned == ITEMS || deserted_now));
        ensure!(begun.iter().skip(1).all(|times| times.load(Relaxed) <= 1), "tried again");
        results += returned;
        deaths += died;
        deserted += u32::from(deserted_now);
    }
    let seed = random.seed;
    println!(
        "## {results} results, {deaths} items died with their workers, {deserted} of {ROUNDS} pools \
         lost all of these (seed {seed})"
    );
    Ok(())
}
