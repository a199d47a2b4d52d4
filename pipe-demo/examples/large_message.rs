//! 64 MiB as one message, and why `send` waits until someone receives.
//!
//! Section "Pipe". Run it: `cargo run -p pipe-demo --example large_message`
//!
//! Predict: can a process send 64 MiB first, and start the receiver afterwards? The article's
//! program joins its child before it receives: what would happen if the child sent that much?
//!
//! Expect: with nobody receiving, `send` is still waiting when its time runs out: the kernel keeps
//! about 200 KiB of what is on its way, not 64 MiB. With a child that receives, the message arrives
//! whole. A parent that joins first would wait for its child, which waits for its parent to receive.

use std::time::Duration;

use anyhow::{Result, ensure};
use common::spawn;
use pipe_demo::{Connection, ConnectionError};

const SIZE: usize = 64 << 20;

/// What the byte at `index` is: it shows when a part is missing or in the wrong place.
fn byte(index: usize) -> u8 {
    (index % 251) as u8
}

fn main() -> Result<()> {
    let (ours, theirs) = Connection::<Vec<u8>, u64>::pair()?;

    let sent = ours.send_timeout(vec![0; SIZE], Duration::from_millis(100));
    ensure!(sent == Err(ConnectionError::Timeout), "nobody receives, and yet: {sent:?}");
    println!("nobody receives: send waited, and its time ran out");

    let child = spawn("receiver", move || {
        // The message given up does not come: a part of it is no message.
        let received = theirs.recv()?;
        let whole = received.iter().enumerate().all(|(index, &found)| found == byte(index));
        ensure!(whole, "the message is not what was sent");
        Ok(theirs.send(received.len() as u64)?)
    })?;
    ours.send((0..SIZE).map(byte).collect())?; // waits each time until the child has taken a part
    println!("a child receives: {} bytes arrived, each as it was sent", ours.recv()?);
    child.join()
}
