//! One parent listens to four children and hears whichever speaks first: Python's
//! `multiprocessing.connection.wait`.
//!
//! Section "Pipe". Run it: `cargo run -p pipe-demo --example many`
//!
//! The children agree among themselves who speaks when: the last one begins, and each passes the
//! word on to the one before it. The parent knows nothing of that.
//!
//! Predict: in which order are they heard? What if the parent received from child 0 first, then
//! from child 1, and so on?
//!
//! Expect: 3, 2, 1, 0. A parent that received in the order of the children would sit waiting for
//! child 0, and never answer child 3, on whom all the others wait.

use anyhow::{Context, Result};
use common::{join_all, spawn};
use pipe_demo::{Connection, ConnectionError, Receiver, Sender, one_way, wait};

const CHILDREN: u32 = 4;

/// Speaks when it is this child's turn, waits for the answer, and passes the word on.
fn speak(
    number: u32,
    line: Connection<String>,
    turn: Receiver<()>,
    next: Option<Sender<()>>,
) -> Result<()> {
    turn.recv()?;
    line.send(format!("child {number} speaks"))?;
    println!("  {}", line.recv()?);
    if let Some(next) = next {
        next.send(())?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let (mut lines, mut children) = (Vec::new(), Vec::new());
    let mut next = None; // whom the next child passes the word on to: the one made before it
    for number in 0..CHILDREN {
        let (line, theirs) = Connection::<String>::pair()?;
        let (turn, word) = one_way()?;
        let after = next.replace(word);
        children
            .push(spawn(format!("child-{number}"), move || speak(number, theirs, turn, after))?);
        lines.push(line);
    }
    next.context("there is a last child")?.send(())?;

    while !lines.is_empty() {
        // From the back, so that removing one does not move those still to be looked at.
        for index in wait(&lines)?.into_iter().rev() {
            match lines[index].recv() {
                Ok(words) => {
                    println!("{words}");
                    lines[index].send("and is heard".into())?;
                }
                // It has ended. A line that is closed is always ready: wait for it no more.
                Err(ConnectionError::Closed) => drop(lines.remove(index)),
                Err(error) => return Err(error.into()),
            }
        }
    }
    join_all(children)
}
