//! A game of tennis that never ends: when it is over, nobody tells the other player.
//!
//! The task is in `README.md` beside this file. Check it: `cargo exercise tennis`

use anyhow::Result;
use common::spawn;
use exercise_kit::Lab;
use pipe_demo::Connection;

const BALLS: u64 = 10;

/// Returns every ball, and after the game tells how many that were.
fn other_player(lab: &Lab, conn: Connection<u64>) -> Result<()> {
    let mut returned = 0;
    for ball in conn.iter() {
        conn.send(ball?)?;
        returned += 1;
    }
    lab.work(returned);
    println!("returned {returned} balls");
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(1)?;
    let (conn, other_conn) = Connection::pair()?;
    let lent = &lab;
    let player = spawn("Other player", move || other_player(lent, other_conn))?;

    for ball in 1..=BALLS {
        if ball == 6 {
            lab.late(); // a shoelace: for a second, no ball comes
        }
        conn.send(ball)?;
        println!("ball {} is back", conn.recv()?);
    }
    player.join()?;
    lab.result(BALLS);
    Ok(())
}
