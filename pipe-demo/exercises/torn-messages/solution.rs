//! The solution: the whole message in one write. Up to `PIPE_BUF` bytes (4,096 on Linux) no other
//! write can come between, `pipe(7)` says. Longer messages need a pipe of their own, or a lock.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;

const WRITERS: usize = 2;
const MESSAGES: u64 = 5;

fn write(lab: &Lab, mut pipe: File) -> Result<()> {
    lab.meet();
    for number in 1..=MESSAGES {
        let message = lab.message(number) + "\n";
        pipe.write_all(message.as_bytes())?;
        lab.pause();
    }
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(WRITERS)?;
    let (reader, writer) = nix::unistd::pipe()?;
    let mut writers = Vec::new();
    for number in 1..=WRITERS {
        let (lab, pipe) = (&lab, File::from(writer.try_clone()?));
        writers.push(spawn(format!("Writer-{number}"), move || write(lab, pipe))?);
    }
    drop(writer);

    for line in BufReader::new(File::from(reader)).lines() {
        let line = line?;
        println!("{line}");
        lab.received(&line);
    }
    join_all(writers)
}
