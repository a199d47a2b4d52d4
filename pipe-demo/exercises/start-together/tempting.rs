//! Tempting and wrong: give the others time to get ready. How much they need, nobody knows.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;
use pipe_demo::Connection;

const RUNNERS: usize = 3;

fn run(lab: &Lab, number: usize, conn: Connection<()>) -> Result<()> {
    lab.ready(number);
    conn.send(())?; // "I am ready"
    sleep(Duration::from_millis(200));
    lab.begin();
    Ok(())
}

fn main() -> Result<()> {
    let lab = Lab::new(RUNNERS)?;
    let mut conns = Vec::new();
    let mut runners = Vec::new();
    for number in 0..RUNNERS {
        let (conn, runner_conn) = Connection::pair()?;
        let lab = &lab;
        runners.push(spawn(format!("Runner-{number}"), move || run(lab, number, runner_conn))?);
        conns.push(conn);
    }

    for conn in &conns {
        conn.recv()?;
    }
    println!("all {RUNNERS} are ready");
    join_all(runners)
}
