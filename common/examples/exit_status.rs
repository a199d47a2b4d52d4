//! The ways in which a child can end, and what `join` says of each.
//!
//! Section "Understanding Process". Run it: `cargo run -p common --example exit_status`
//!
//! Predict: which of the six children does `join` call a success? What does a child that panics
//! exit with? Do two of the six ever look the same to their parent?
//!
//! Expect: `join` is `Ok` for the first alone. An `Err` is told as an exit with 1, a panic as one
//! with 101 (both also say on stderr what was wrong), `exit(3)` as one with 3, and a signal by its
//! name. A parent learns an exit code or a signal and no more: `exit(1)` would look like an `Err`.

use anyhow::{Result, bail};
use common::spawn;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};

/// What a child runs.
type Body = fn() -> Result<()>;

/// Ends this process by `signal`, as if another process, or the kernel, had sent it.
fn die_by(signal: Signal) -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?; // no core file in the reader's directory
    loop {
        // Rust looks at a SIGSEGV first: was it a stack overflow? If not, it lets the next one kill.
        raise(signal)?;
    }
}

fn main() -> Result<()> {
    let ways: [(&str, Body); 6] = [
        ("Ok", || Ok(())),
        ("Err", || bail!("no such file")),
        ("panic", || panic!("on purpose")),
        ("exit(3)", || std::process::exit(3)),
        ("SIGKILL", || die_by(Signal::SIGKILL)),
        ("SIGSEGV", || die_by(Signal::SIGSEGV)),
    ];
    for (way, body) in ways {
        match spawn(way, body)?.join() {
            Ok(()) => println!("{way:<8} join: Ok"),
            Err(error) => println!("{way:<8} join: Err: {error}"),
        }
    }
    Ok(())
}
