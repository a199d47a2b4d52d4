//! Tempting and wrong: join each child as soon as it is started. No zombie is left, but the
//! requests are answered one after another: the children do nothing that a function could not.

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

    for burst in 0..BURSTS {
        for number in 0..AT_ONCE {
            let request = burst * AT_ONCE + number;
            let lab = &lab;
            spawn(format!("request-{request}"), move || answer(lab, request))?.join()?;
        }
        // The server has nothing to do until the next burst.
        println!("burst {burst}: {} zombies", lab.idle());
    }
    Ok(())
}
