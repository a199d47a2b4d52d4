//! Three processes write to one pipe, and who reads it never comes to the end.
//!
//! The task is in `README.md` beside this file. Check it: `cargo exercise missing-end-of-file`

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;

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

    for line in BufReader::new(File::from(reader)).lines() {
        let line = line?;
        println!("{line}");
        lab.received(&line);
    }
    join_all(writers)
}
