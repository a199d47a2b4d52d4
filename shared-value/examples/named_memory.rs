//! Memory with a name, for processes that are not relatives: Python's `SharedMemory`.
//!
//! Section "More Options". Run it: `cargo run -p shared-value --example named_memory`
//!
//! Predict: a program creates memory for the numbers 0 to 49. Another one, which has inherited
//! nothing and knows only the name, adds 1 to each. What happens to a second `create` of that name?
//! To an `attach` with 51 numbers? To one after the creator has let go?
//!
//! Expect: the creator sees 1 to 50, and all three are refused. The name is a file in `/dev/shm`
//! that only this user may open. Its creator takes it away when it is dropped; one that is killed
//! cannot, and then `NamedMemory::unlink` does.

use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, ensure};
use shared_value::NamedMemory;

const COUNT: usize = 50;

fn main() -> Result<()> {
    match std::env::args().nth(1) {
        None => first_program(&format!("numbers-{}", std::process::id())),
        Some(name) => other_program(&name),
    }
}

fn first_program(name: &str) -> Result<()> {
    let numbers = NamedMemory::create(name, COUNT)?;
    for (number, value) in numbers.iter().zip(0..) {
        number.store(value, Relaxed);
    }
    println!("second create: {}", NamedMemory::create(name, COUNT).unwrap_err());
    println!("wrong size:    {}", NamedMemory::attach(name, COUNT + 1).unwrap_err());

    // Not a fork of this process but a program of its own, started anew.
    let status = Command::new(std::env::current_exe()?).arg(name).status()?;
    ensure!(status.success(), "the other program failed: {status}");
    let sum: u64 = numbers.iter().map(|number| number.load(Relaxed)).sum();
    println!("sum:           {sum}, that of 1 to 50");

    drop(numbers); // unlinks the name
    println!("after unlink:  {}", NamedMemory::attach(name, COUNT).unwrap_err());
    Ok(())
}

fn other_program(name: &str) -> Result<()> {
    for number in NamedMemory::attach(name, COUNT)?.iter() {
        number.fetch_add(1, Relaxed);
    }
    Ok(())
}
