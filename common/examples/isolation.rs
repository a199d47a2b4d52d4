//! A child has memory of its own: the parent does not see what the child changes, though both use
//! the same address. What lies in [`Shared`] is one and the same for both.
//!
//! Section "Understanding Process". Run it: `cargo run -p common --example isolation`
//!
//! Predict: a child adds 1 to two numbers that begin as 0, and prints them and their addresses; then
//! its parent does. Which numbers are equal in the two lines, and which addresses?
//!
//! Expect: both addresses, and the shared number, which is 1. The plain one is 1 in the child and
//! still 0 in the parent. An address is the process's own: the same one leads to another memory.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;
use common::{Shared, current_name, spawn};

fn print(plain: &u64, shared: &AtomicU64) {
    let (name, value) = (current_name(), shared.load(Relaxed));
    println!("{name}: plain at {plain:p} is {plain}, shared at {shared:p} is {value}");
}

fn main() -> Result<()> {
    let mut plain = 0;
    let shared = Shared::new(AtomicU64::new(0))?;

    let child = spawn("Child", || {
        plain += 1; // the fork gave the child a copy of it, at the same address
        shared.fetch_add(1, Relaxed);
        print(&plain, &shared);
        Ok(())
    })?;
    child.join()?; // whatever it did has happened now

    print(&plain, &shared);
    Ok(())
}
