//! Tempting and wrong: end the other player by force, and don't ask how it went. The game ends, but
//! what the other player still had to do is not done.

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
    let mut player = spawn("Other player", move || other_player(lent, other_conn))?;

    for ball in 1..=BALLS {
        if ball == 6 {
            lab.late(); // a shoelace: for a second, no ball comes
        }
        conn.send(ball)?;
        println!("ball {} is back", conn.recv()?);
    }
    player.kill()?;
    let _ = player.wait();
    lab.result(BALLS);
    Ok(())
}
