//! The solution: a barrier. Each says that it is ready, then waits; and once the parent has heard
//! that from all, it lets them all go.

use anyhow::Result;
use common::{join_all, spawn};
use exercise_kit::Lab;
use pipe_demo::Connection;

const RUNNERS: usize = 3;

fn run(lab: &Lab, number: usize, conn: Connection<()>) -> Result<()> {
    lab.ready(number);
    conn.send(())?; // "I am ready"
    conn.recv()?; // "go"
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
    for conn in &conns {
        conn.send(())?;
    }
    join_all(runners)
}
