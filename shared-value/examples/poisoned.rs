//! A process is killed while it holds a lock: the next one is told, and mends what it left.
//!
//! Section "Sharing State". Run it: `cargo run -p shared-value --example poisoned`
//!
//! Predict: a child moves 30 from one account to another, and is killed when it has taken them out
//! and has not put them in. Does the parent wait for ever for the dead child's lock? If not, how
//! does it learn that 30 are missing?
//!
//! Expect: the lock is free again, but *poisoned*: `lock` is an error until somebody has looked.
//! The parent does so with `lock_poisoned`, puts the 30 in, and calls `clear_poison`. In Python it
//! would wait for ever: a lock there does not notice that its holder is dead.

use anyhow::Result;
use common::spawn;
use nix::sys::signal::{Signal, raise};
use shared_value::Value;

const MONEY: i64 = 100;

fn main() -> Result<()> {
    let ours = Value::new(MONEY)?;
    let theirs = Value::new(0)?;

    let child = spawn("Child", || {
        let mut theirs = theirs.lock()?; // held until the money has arrived, or its holder is dead
        *ours.lock()? -= 30;
        raise(Signal::SIGKILL)?; // as if someone had killed it from outside, just here
        *theirs += 30;
        Ok(())
    })?;
    println!("child:  {}", child.join().unwrap_err());

    println!("lock:   {}", theirs.lock().unwrap_err());

    {
        let mut found = theirs.lock_poisoned()?;
        let missing = MONEY - (ours.get()? + *found);
        *found += missing;
        theirs.clear_poison(); // still under the lock: nobody can meet the value unmended
        println!("mended: {missing} were missing");
    }

    println!("now:    {} and {}", ours.get()?, theirs.get()?);
    Ok(())
}
