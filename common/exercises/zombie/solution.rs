//! The solution: after each burst the server joins the children that it started for it.

use anyhow::Result;
use common::{join_all, spawn};
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
        let mut children = Vec::new();
        for number in 0..AT_ONCE {
            let request = burst * AT_ONCE + number;
            let lab = &lab;
            children.push(spawn(format!("request-{request}"), move || answer(lab, request))?);
        }
        // Not earlier: who joins one child before it starts the next lets them work one by one.
        join_all(children)?;
        // The server has nothing to do until the next burst.
        println!("burst {burst}: {} zombies", lab.idle());
    }
    Ok(())
}
