//! A server that answers each request in a child of its own, and never looks after its children.
//!
//! The task is in `README.md` beside this file. Check it: `cargo exercise zombie`

use anyhow::Result;
use common::spawn;
use exercise_kit::Lab;

const BURSTS: u64 = 4;
const AT_ONCE: u64 = 3;

/// Answers one request. Three come at a time, and must be worked on at the same time.
fn answer(lab: &Lab, request: u64) -> Result<()> {
    lab.meet();
    lab.work(request);
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(AT_ONCE as usize)?;
    let mut children = Vec::new();

    for burst in 0..BURSTS {
        for number in 0..AT_ONCE {
            let request = burst * AT_ONCE + number;
            let lab = &lab;
            children.push(spawn(format!("request-{request}"), move || answer(lab, request))?);
        }
        // The server has nothing to do until the next burst.
        println!("burst {burst}: {} zombies", lab.idle());
    }

    for child in children {
        child.join()?;
    }
    Ok(())
}
