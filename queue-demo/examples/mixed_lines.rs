//! Two processes print to one place at the same time. Each line takes two writes, the text and then
//! the line's end, as Python's `print` does without a buffer; and then only one.
//!
//! Section "Queue". Run it: `cargo run -p queue-demo --example mixed_lines`
//!
//! Predict: how many of 200 lines arrive as they were printed, in each of the two ways?
//!
//! Expect: none, and all. The other process may get in between any two writes; the program has it do
//! so every time. One write of up to 4096 bytes to a pipe is never divided (`pipe(7)`).

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::yield_now;

use anyhow::Result;
use common::{Shared, join_all, spawn};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

const LINES: usize = 100;
const TEXT: &str = "Result: 1000000";

/// How to print a line; `pause` lets the other process come as far.
type Print = fn(&File, pause: &dyn Fn()) -> io::Result<()>;

fn two_writes(mut place: &File, pause: &dyn Fn()) -> io::Result<()> {
    place.write_all(TEXT.as_bytes())?;
    pause(); // the system may make one here at any time
    place.write_all(b"\n")
}

fn one_write(mut place: &File, _: &dyn Fn()) -> io::Result<()> {
    place.write_all(format!("{TEXT}\n").as_bytes()) // nobody gets in between
}

/// Two processes print; returns how many lines did not arrive as they were printed.
fn mixed(print: Print) -> Result<usize> {
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
    let writing = File::from(writing);
    let pauses = Shared::new(AtomicUsize::new(0))?;
    let child = || {
        let mine = Cell::new(0);
        let pause = || {
            mine.set(mine.get() + 1);
            pauses.fetch_add(1, SeqCst);
            while pauses.load(SeqCst) < 2 * mine.get() {
                yield_now(); // a barrier: neither goes on before both are here
            }
        };
        for _ in 0..LINES {
            pause();
            print(&writing, &pause)?;
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
