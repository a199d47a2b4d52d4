//! Producers and consumers are killed at random moments, thousands of times, and the queue loses
//! nothing but what dead consumers had taken.
//!
//! The harness is in `storm`. That it notices a queue that hangs is shown on the two in `controls`.

mod controls;
mod storm;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use queue_demo::{Queue, QueueError};

use controls::{PlainRing, Wait};
use storm::{Channel, Hang, Item, Random, Report, Storm};

fork_harness::tests! {
    killed_processes_lose_and_block_nothing,
    killed_processes_lose_and_block_nothing_in_batches,
    killed_processes_lose_and_block_nothing_in_a_crowd,
    a_ring_on_a_blocking_mutex_is_caught,
    a_ring_on_a_condition_variable_is_caught,
    the_same_ring_on_a_mutex_that_is_only_tried_survives;
    long:
    a_hundred_thousand_kills_lose_and_block_nothing,
    a_hundred_thousand_kills_lose_and_block_nothing_in_batches,
    a_hundred_thousand_kills_lose_and_block_nothing_in_a_crowd,
}

/// Does not divide the number of slots, so that batches lie across the wrap and come in parts.
const BATCH: usize = 6;
const SLOTS: usize = 16;

impl Channel for Queue<Item> {
    fn put(&self, items: &[Item]) -> Result<()> {
        match items {
            [item] => Queue::put(self, *item)?,
            items => ensure!(self.put_many(items.iter().copied())? == items.len(), "too few put"),
        }
        Ok(())
    }

    fn get(&self, at_most: usize) -> Result<Vec<Item>> {
        let got = match at_most {
            1 => Queue::get(self).map(|item| vec![item]),
            _ => self.get_many(at_most),
        };
        match got {
            Err(QueueError::Closed) => Ok(Vec::new()),
            got => Ok(got?),
        }
    }

    fn close(&self) -> Result<()> {
        Ok(Queue::close(self)?)
    }
}

/// A quarter of the kills meets producers alone: then nothing at all may be lost. Another meets
/// consumers alone, and the rest meets both.
fn survive(kills: u64, pairs: usize, batch: usize) -> Result<()> {
    let mut random = Random::new()?;
    let mut total = Report::default();
    let (producers, consumers, everyone) = (0..pairs, pairs..2 * pairs, 0..2 * pairs);
    for (share, victims) in [(4, producers), (4, consumers), (2, everyone)] {
        let end = total.kills + kills / share;
        while total.kills < end {
            let queue = Queue::with_capacity(SLOTS)?;
            let kills = end - total.kills;
            let storm = Storm { kills, pairs, batch, victims: victims.clone() };
            total.add(storm.rage(&queue, &mut random)?);
        }
    }
    println!("## {total}");
    ensure!(total.longest_call < Duration::from_secs(1), "a survivor waited too long");
    Ok(())
}

fn killed_processes_lose_and_block_nothing() -> Result<()> {
    survive(2_000, 2, 1)
}

fn killed_processes_lose_and_block_nothing_in_batches() -> Result<()> {
    survive(2_000, 2, BATCH)
}

/// Only with three at one lock can a wake-up that dies with its receiver leave a third one asleep:
/// here a lock that blocks would be caught.
fn killed_processes_lose_and_block_nothing_in_a_crowd() -> Result<()> {
    survive(1_000, 4, 1)
}

fn a_hundred_thousand_kills_lose_and_block_nothing() -> Result<()> {
    survive(100_000, 2, 1)
}

fn a_hundred_thousand_kills_lose_and_block_nothing_in_batches() -> Result<()> {
    survive(100_000, 2, BATCH)
}

fn a_hundred_thousand_kills_lose_and_block_nothing_in_a_crowd() -> Result<()> {
    survive(100_000, 4, 1)
}

/// In 12 runs it took 2 to 2,236 kills with the mutex, and 2 to 14 with the condition variable.
fn must_be_caught(ring: &PlainRing) -> Result<()> {
    let storm = Storm { kills: 20_000, pairs: 2, batch: 1, victims: 0..4 };
    match storm.rage(ring, &mut Random::new()?) {
        Err(error) if error.is::<Hang>() => {
            println!("## caught: {error}");
            Ok(())
        }
        Err(error) => Err(error),
        Ok(report) => bail!("this ring is broken, and the storm did not notice: {report}"),
    }
}

fn a_ring_on_a_blocking_mutex_is_caught() -> Result<()> {
    must_be_caught(&PlainRing::new(libc::pthread_mutex_lock, Wait::Yield)?)
}

fn a_ring_on_a_condition_variable_is_caught() -> Result<()> {
    must_be_caught(&PlainRing::new(libc::pthread_mutex_trylock, Wait::Condition)?)
}

/// So it is the blocking that the storm catches, and nothing else about these rings.
fn the_same_ring_on_a_mutex_that_is_only_tried_survives() -> Result<()> {
    let storm = Storm { kills: 2_000, pairs: 2, batch: 1, victims: 0..4 };
    let report = storm
        .rage(&PlainRing::new(libc::pthread_mutex_trylock, Wait::Yield)?, &mut Random::new()?)?;
    println!("## {report}");
    Ok(())
}
