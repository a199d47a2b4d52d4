//! Two processes print to one place at the same time. Each line takes two writes, the text and then
//! the line's end, as Python's `print` does without a buffer; and then only one.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example mixed_lines`
//!
//! Predict: how many of 4000 lines arrive as they were printed, in each of the two ways?
//!
//! Expect: with two writes most do not, and how many differs from run to run; with one write all do.
//! A write of up to 4096 bytes to a pipe is never divided (`pipe(7)`); between two, anybody may write.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::yield_now;

use anyhow::Result;
use common::{Shared, join_all, spawn};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

const LINES: usize = 2000;
const TEXT: &str = "Result: 1000000";

/// How to print a line; `meet` waits until the other process has come there, too.
type Print = fn(&File, meet: &dyn Fn()) -> io::Result<()>;

fn two_writes(mut place: &File, meet: &dyn Fn()) -> io::Result<()> {
    place.write_all(TEXT.as_bytes())?;
    meet(); // the system may let another process in here at any time: now it does every time
    place.write_all(b"\n")
}

fn one_write(mut place: &File, meet: &dyn Fn()) -> io::Result<()> {
    meet();
    place.write_all(format!("{TEXT}\n").as_bytes()) // <- the line: nobody gets in between
}

/// Two processes print; returns how many lines did not arrive as they were printed.
fn mixed(print: Print) -> Result<usize> {
    let met = Shared::new(AtomicUsize::new(0))?;
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
    let writing = File::from(writing);
    let child = || {
        for line in 1..=LINES {
            print(&writing, &|| {
                met.fetch_add(1, SeqCst);
                while met.load(SeqCst) < 2 * line {
                    yield_now();
                }
            })?;
        }
        Ok(())
    };
    let children = [spawn("A", child)?, spawn("B", child)?];
    drop(writing); // or the end of file would never come
    let mut text = String::new();
    File::from(reading).read_to_string(&mut text)?;
    join_all(children)?;
    Ok(2 * LINES - text.lines().filter(|line| *line == TEXT).count())
}

fn main() -> Result<()> {
    println!("two writes: {} of {} lines are mixed", mixed(two_writes)?, 2 * LINES);
    println!("one write:  {} of {} lines are mixed", mixed(one_write)?, 2 * LINES);
    Ok(())
}
