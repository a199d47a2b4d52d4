//! The article's "Pipe" program: a child counts to a million and sends the result to its parent.
//!
//! The parent joins before it receives. That is safe here, because one small message fits into the
//! connection; a child that sent more than that would wait for its parent to receive.
//!
//! Run it: `cargo run -p pipe-demo [COUNT]`

use std::time::Instant;

use anyhow::Result;
use common::arguments::{self, Argument};
use common::{counting_worker, spawn};
use pipe_demo::Connection;

const COUNT: u64 = 1_000_000;

fn worker(base_num: u64, conn: Connection<u64>) -> Result<()> {
    counting_worker(base_num, |sub_total| {
        conn.send(sub_total)?;
        conn.close();
        Ok(())
    })
}

fn main() -> Result<()> {
    let [count] = arguments::parse(
        "pipe-demo",
        [Argument { name: "COUNT", meaning: "how far the child counts", default: COUNT }],
    );
    let parent_process_id = std::process::id();
    println!("Parent process id: {parent_process_id}");

    let start_time = Instant::now();
    let (parent_conn, child_conn) = Connection::pair()?;

    // `move` gives the child its end; the parent's copy is closed as `spawn` returns.
    let t = spawn("1", move || worker(count, child_conn))?;
    t.join()?;

    println!("--- {} seconds ---", start_time.elapsed().as_secs_f64());
    println!("Main-processing total count: {}", parent_conn.recv()?);
    println!("Main-processing done.");
    Ok(())
}
