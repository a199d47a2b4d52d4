//! `map`, `imap` and `imap_unordered`, the article's title picture, on a pool of two workers.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example pool`
//!
//! Predict: how many of 100 items has each of `map` and `imap` read when you hold its first result?
//! In what order do four results come from `imap_unordered` if the first item takes longest? What do
//! you hear of an item whose worker returns an error, and of one whose worker dies?
//!
//! Expect: `map` has read all 100, `imap` 8 (four for each worker). The results of both are in the
//! order of the items; from `imap_unordered` the slow one comes last. Item 2 is an error with its
//! text, item 3 one that names the process and the signal, and item 4 has its result all the same.
//! (In Python the dead worker's item never comes, and `map` waits for ever.)

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, raise};
use queue_demo::{Pool, Queue};

fn how_many_are_read() -> Result<()> {
    let mut pool = Pool::new(2, |&n: &u64| Ok(n * n))?;
    let mut read = 0;
    let squares = pool.map((1..=100).inspect(|_| read += 1))?;
    println!("map:  first result {}, {read} items read", squares[0]);

    let mut read = 0;
    let first = pool.imap((1..=100).inspect(|_| read += 1)).next().context("no result")??;
    println!("imap: first result {first}, {read} items read");
    pool.close()
}

fn in_what_order() -> Result<()> {
    let gate = Queue::new()?;
    let mut pool = Pool::new(2, |&n: &u64| {
        if n == 1 {
            gate.get()?; // takes until the others are done
        }
        Ok(n * n)
    })?;
    for (place, square) in pool.imap_unordered(1..=4).enumerate() {
        println!("imap_unordered: {}", square?);
        if place == 2 {
            gate.put(())?;
        }
    }
    pool.close()
}

fn what_goes_wrong() -> Result<()> {
    let mut pool = Pool::new(2, |&n: &u64| {
        match n {
            2 => bail!("no square for 2"),
            3 => raise(Signal::SIGKILL)?,
            _ => {}
        }
        Ok(n * n)
    })?;
    for square in pool.imap(0..=4) {
        match square {
            Ok(square) => println!("result {square}"),
            Err(error) => println!("error: {error}"),
        }
    }
    pool.close()
}

fn main() -> Result<()> {
    how_many_are_read()?;
    in_what_order()?;
    what_goes_wrong()
}
