//! Safe code that tries to do harm to a connection.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Result, ensure};
use common::spawn;
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use pipe_demo::{Connection, ConnectionError};

fork_harness::tests! {
    an_end_in_a_thread_local_is_closed_with_its_thread,
    an_end_of_file_does_not_wait_for_a_sibling_that_is_stopped,
}

thread_local! {
    static KEPT: RefCell<Vec<Connection<u64>>> = const { RefCell::new(Vec::new()) };
}

fn an_end_in_a_thread_local_is_closed_with_its_thread() -> Result<()> {
    let (ours, kept) = Connection::<u64>::pair()?;
    std::thread::spawn(|| KEPT.with_borrow_mut(|ends| ends.push(kept))).join().expect("no panic");
    ensure!(ours.recv_timeout(Duration::from_secs(5)) == Err(ConnectionError::Closed));
    Ok(())
}

fn an_end_of_file_does_not_wait_for_a_sibling_that_is_stopped() -> Result<()> {
    for _ in 0..50 {
        let (ours, theirs) = Connection::<u64>::pair()?;
        let reader = spawn("reader", move || {
            let end = theirs.recv_timeout(Duration::from_secs(5));
            ensure!(end == Err(ConnectionError::Closed), "{end:?}");
            Ok(())
        })?;
        // Stopped before or after it has closed what is not its own: `spawn` does not wait for that.
        let stopped = spawn("stopped", || Ok(raise(Signal::SIGSTOP)?))?;
        kill(Pid::from_raw(stopped.pid() as i32), Signal::SIGSTOP)?;
        drop(ours);
        reader.join()?;
    }
    Ok(())
}
