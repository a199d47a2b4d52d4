//! The work of each contender: ours, the limit that the system calls set, and other libraries.

use anyhow::{Result, ensure};

pub mod libraries;
pub mod ours;
pub mod outside;
pub mod raw;

/// How many slots a queue has, everywhere.
pub const SLOTS: usize = 1024;

/// What contenders need on disk: programs built for a run, and the files of iceoryx2.
pub const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers");

/// The message of `size` bytes, 8 or more, that [`block_number`] accepts, with the number 0. It
/// stays until the process ends.
pub fn block(size: usize) -> &'static [u8] {
    (0..size).map(|index| if index < 8 { 0 } else { index as u8 }).collect::<Vec<u8>>().leak()
}

/// Makes `block` message number `k`.
pub fn number_block(block: &mut [u8], k: u64) {
    block[..8].copy_from_slice(&k.to_ne_bytes());
}

/// The number of a message, once it is checked.
pub fn block_number(received: &[u8], sent: &[u8]) -> Result<u64> {
    ensure!(received.len() == sent.len(), "{} bytes, not {}", received.len(), sent.len());
    let (number, body) = received.split_at(8);
    let number = u64::from_ne_bytes(number.try_into()?);
    check_body(number, body, &sent[8..])?;
    Ok(number)
}

/// Checks the length and the end of a message's body always, and all of it every 64th time, which
/// costs every contender the same.
pub fn check_body(number: u64, body: &[u8], sent: &[u8]) -> Result<()> {
    let same_ends = body.len() == sent.len() && body.last() == sent.last();
    ensure!(
        same_ends && (!number.is_multiple_of(64) || body == sent),
        "message {number} is damaged"
    );
    Ok(())
}
