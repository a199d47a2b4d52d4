//! A line on which messages go one way only: Python's `Pipe(duplex=False)`.
//!
//! Section "Pipe". Run it: `cargo run -p pipe-demo --example one_way`
//!
//! Predict: the child sends until it cannot any more, and the parent takes three messages and
//! lets go. What ends the child's loop? What happens if you write `receiver.send(1)?` below?
//!
//! Expect: the numbers 1, 2 and 3, and then the child's line: its `send` said that the other end is
//! closed. The child does not say how many it sent: some were on their way. `receiver.send` does
//! not compile: a `Receiver` has no `send`, and a `Sender` no `recv`.

use anyhow::Result;
use common::spawn;
use pipe_demo::{ConnectionError, Sender, one_way};

fn count_up(sender: Sender<u64>) -> Result<()> {
    for number in 1.. {
        match sender.send(number) {
            Ok(()) => {}
            Err(ConnectionError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("the sender was told that nobody receives any more");
    Ok(())
}

fn main() -> Result<()> {
    // The receiving end first, as in Python.
    let (receiver, sender) = one_way()?;
    let child = spawn("sender", move || count_up(sender))?;

    for number in receiver.iter().take(3) {
        println!("received {}", number?);
    }
    // Without this the child would fill the line, then wait for us, while we wait for it.
    receiver.close();
    child.join()
}
