//! Who waits gives its processor away. That is a *voluntary* context switch, one of the prices of
//! talking to another process; who only computes has no cause for one.
//!
//! Section "Understanding Process". Run it: `cargo run -p common --example context_switches`
//!
//! Predict: two processes pass a byte to and fro 1000 times. Then two processes count to ten million
//! each. How many voluntary switches does each pair make?
//!
//! Expect: about 2000, since each waits for each ball, and hardly any: one is the parent's `join`.
//!
//! The byte goes over a plain socket, where `read` sleeps until there is one. `Connection` and
//! `Queue` look for a while before they sleep: that saves most of these switches.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::Result;
use common::{count_to, spawn};
use nix::sys::resource::{UsageWho, getrusage};

const RALLIES: u64 = 1000;
const COUNT: u64 = 10_000_000;

fn ping_pong() -> Result<()> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let mut ball = [0];
    let child = spawn("Pong", move || {
        for _ in 0..RALLIES {
            theirs.read_exact(&mut ball)?;
            theirs.write_all(&ball)?;
        }
        Ok(())
    })?;
    for _ in 0..RALLIES {
        ours.write_all(&ball)?;
        ours.read_exact(&mut ball)?;
    }
    child.join()
}

fn count() -> Result<()> {
    let child = spawn("Counter", || {
        count_to(COUNT);
        Ok(())
    })?;
    count_to(COUNT);
    child.join()
}

/// The voluntary switches so far, of this process and of the children that it has joined.
fn switches() -> Result<i64> {
    let of = |who| getrusage(who).map(|usage| usage.voluntary_context_switches());
    Ok(of(UsageWho::RUSAGE_SELF)? + of(UsageWho::RUSAGE_CHILDREN)?)
}

fn main() -> Result<()> {
    let start = switches()?;
    ping_pong()?;
    let between = switches()?;
    count()?;
    println!("ping-pong: {} voluntary switches", between - start);
    println!("counting:  {} voluntary switches", switches()? - between);
    Ok(())
}
