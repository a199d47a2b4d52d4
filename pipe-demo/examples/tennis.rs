//! Two processes play tennis over a connection: A serves, B returns, until A lets go of the line.
//!
//! Section "Pipe". Run it: `cargo run -p pipe-demo --example tennis`
//!
//! Predict: nobody tells B how many rallies there are. How does B know that the game is over, and
//! can a line of A and a line of B ever stand in the wrong order?
//!
//! Expect: three rallies, each a line of A and a line of B, and then the end of file, which ends
//! B's loop. The order is the same in every run: each prints before it plays the ball, and whoever
//! does not have the ball waits in `recv`.

use anyhow::{Result, ensure};
use common::{join_all, spawn};
use pipe_demo::Connection;

const RALLIES: u32 = 3;

fn player_a(line: Connection<u32>) -> Result<()> {
    for ball in 1..=RALLIES {
        println!("A serves ball {ball}");
        line.send(ball)?;
        let returned = line.recv()?;
        ensure!(returned == ball, "another ball came back: {returned}");
    }
    println!("A leaves the court");
    line.close();
    Ok(())
}

fn player_b(line: Connection<u32>) -> Result<()> {
    // Ends at the end of file: when A closes its end, and also if A is killed.
    for ball in line.iter() {
        let ball = ball?;
        println!("B returns ball {ball}");
        line.send(ball)?;
    }
    println!("B sees the end of file: the game is over");
    Ok(())
}

fn main() -> Result<()> {
    let (a, b) = Connection::pair()?;
    // `move` hands each end to its player. The parent keeps none, or B would never see the end.
    let players = [spawn("A", move || player_a(a))?, spawn("B", move || player_b(b))?];
    join_all(players)
}
