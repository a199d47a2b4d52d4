//! Tempting and wrong: take a silence for the end. One writer is only slow.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;
use nix::poll::{PollFd, PollFlags, poll};

const WRITERS: usize = 3;
const LINES: u64 = 4;

fn write(lab: &Lab, is_slow: bool, mut pipe: File) -> Result<()> {
    lab.meet();
    for number in 1..=LINES {
        if is_slow && number == 3 {
            lab.late(); // for a second, nothing comes
        }
        let line = lab.message(number) + "\n";
        pipe.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(WRITERS)?;
    let (reader, writer) = nix::unistd::pipe()?;
    let mut writers = Vec::new();
    for number in 1..=WRITERS {
        let (lab, pipe) = (&lab, File::from(writer.try_clone()?));
        writers.push(spawn(format!("Writer-{number}"), move || write(lab, number == 1, pipe))?);
    }

    let mut pipe = File::from(reader);
    let mut text = Vec::new();
    while poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], 200_u16)? > 0 {
        let mut part = [0; 1000];
        let len = pipe.read(&mut part)?;
        text.extend_from_slice(&part[..len]);
    }
    for line in String::from_utf8(text)?.lines() {
        println!("{line}");
        lab.received(line);
    }
    join_all(writers)
}
