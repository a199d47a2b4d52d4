//! Why every process must close the ends that it does not use: a raw pipe beside a `one_way` line.
//!
//! Section "Pipe". Run it: `cargo run -p pipe-demo --example end_of_file`
//!
//! A reader gets the end of file when the *last* copy of the writing end is closed, and a fork
//! copies every open descriptor. Here a bystander, who has no use for the pipe, is forked while the
//! writing end is open. Then the writer writes and ends, and the parent closes its own copy.
//!
//! Predict: does the reader get the end of file while the bystander lives? On a raw pipe? On a line
//! of `one_way`, whose ends a child holds only if they were moved into its closure?
//!
//! Expect: on the raw pipe only once the bystander has ended, however long one waits (the program
//! waits 200 ms); on the line at once.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Result, ensure};
use common::{Process, spawn};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use pipe_demo::{ConnectionError, Sender, one_way};

/// A child that lives until the sender that comes with it is closed.
fn bystander() -> Result<(Process, Sender<()>)> {
    let (life, sender) = one_way::<()>()?;
    let child = spawn("bystander", move || {
        ensure!(life.recv() == Err(ConnectionError::Closed));
        Ok(())
    })?;
    Ok((child, sender))
}

fn raw_pipe() -> Result<()> {
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
    let (bystander, life) = bystander()?; // it has a copy of `writing`
    spawn("writer", || Ok(write(&writing, b"hello").map(drop)?))?.join()?;
    drop(writing);

    let mut room = [0; 5];
    ensure!(read(&reading, &mut room)? == 5 && room == *b"hello");
    // A `read` would wait here for as long as the bystander lives.
    let mut watched = [PollFd::new(reading.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut watched, PollTimeout::from(200_u16))?;
    println!("raw pipe, the bystander lives: end of file {}", ready == 1);
    life.close();
    bystander.join()?;
    println!("raw pipe, the bystander ended: end of file {}", read(&reading, &mut room)? == 0);
    Ok(())
}

fn line() -> Result<()> {
    let (receiver, sender) = one_way()?;
    let (bystander, life) = bystander()?;
    spawn("writer", move || Ok(sender.send("hello".to_string())?))?.join()?;

    ensure!(receiver.recv()? == "hello");
    let end = receiver.recv_timeout(Duration::from_millis(200));
    println!("one_way,  the bystander lives: end of file {}", end == Err(ConnectionError::Closed));
    life.close();
    bystander.join()
}

fn main() -> Result<()> {
    raw_pipe()?;
    line()
}
