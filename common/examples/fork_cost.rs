//! What a fork costs as the parent's memory grows. The child gets none of that memory copied, only
//! the *page tables* that say where it lies: 8 bytes for each page of 4096.
//!
//! Section "Understanding Process". Run it: `cargo run -p common --example fork_cost`
//!
//! Predict: a process has written to 32 MiB. How much longer does it take to fork and join a child
//! than with hardly any memory? How much shorter than to copy those 32 MiB?
//!
//! Expect: page tables that grow by 2 KiB for each MiB, and a time that grows with them to several
//! times what it was. To copy the memory takes ten times as long again, or more. Still: spawn first,
//! and make what is large later.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use common::spawn;

const SIZES: [usize; 4] = [0, 8, 16, 32];

fn time(action: impl FnOnce() -> Result<()>) -> Result<u128> {
    let start = Instant::now();
    action()?;
    Ok(start.elapsed().as_micros())
}

/// How many KiB of page tables this process has.
fn page_tables() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPTE:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no VmPTE in /proc/self/status")?.parse()?)
}

fn main() -> Result<()> {
    println!("memory (MiB)  page tables (KiB)  fork and join (µs)  copy (µs)");
    for size in SIZES {
        // Not zeros: for those the system gives no pages before they are written to.
        let memory = vec![1_u8; size << 20];
        let tables = page_tables()?;
        let mut fork = u128::MAX; // the fastest of five, which others disturbed least
        for _ in 0..5 {
            fork = fork.min(time(|| spawn("Child", || Ok(()))?.join())?);
        }
        let copy = time(|| {
            black_box(memory.clone());
            Ok(())
        })?;
        println!("{size:12}  {tables:17}  {fork:18}  {copy:9}");
    }
    Ok(())
}
