//! Without descriptors a connection is an error that says so; none leaks, and none survives an
//! exec.

use std::process::Command;

use anyhow::{Result, bail, ensure};
use common::{Process, join_all, spawn};
use fork_harness::{childless, holdings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pipe_demo::{Connection, ConnectionError, one_way};

fork_harness::tests! {
    without_descriptors_a_pair_is_an_error,
    without_descriptors_a_spawn_beside_connections_is_an_error_and_leaves_no_child,
    a_thousand_spawns_with_connections_leave_no_descriptor_and_no_mapping,
    no_connection_survives_an_exec,
}

fn without_descriptors_a_pair_is_an_error() -> Result<()> {
    refused(|| Ok(Connection::<u64>::pair()?))
}

fn without_descriptors_a_spawn_beside_connections_is_an_error_and_leaves_no_child() -> Result<()> {
    refused(|| spawn("one too many", || Ok(())))
}

/// Starts a few children, each with a connection, and then tries `action` with no descriptor to be
/// had: an error is all that may come of it.
fn refused<T>(action: fn() -> Result<T>) -> Result<()> {
    spawn("first", || Ok(()))?.join()?; // what is only set up once is there now
    let before = holdings()?;
    let (old, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let attempt = || {
        let _children = (0..3).map(|_| echo()).collect::<Result<Vec<_>>>()?;
        setrlimit(Resource::RLIMIT_NOFILE, 0, hard)?;
        action()
    };
    let result = attempt();
    setrlimit(Resource::RLIMIT_NOFILE, old, hard)?;
    ensure!(childless(), "a child is left");
    ensure!(holdings()? == before, "{:?}, and before {before:?}", holdings()?);
    let Err(error) = result else { bail!("the limit was none") };
    println!("## {error:#}");
    ensure!(format!("{error:#}").contains("ulimit -n"));
    Ok(())
}

fn a_thousand_spawns_with_connections_leave_no_descriptor_and_no_mapping() -> Result<()> {
    let round = |number| {
        let (receiver, sender) = one_way()?;
        let sender = spawn("sender", move || Ok(sender.send(number)?))?;
        let (echo, end) = echo()?;
        end.send(receiver.recv()?)?;
        ensure!(end.recv() == Ok(number));
        end.close();
        ensure!(receiver.recv() == Err(ConnectionError::Closed));
        join_all([sender, echo])
    };
    (0..10).try_for_each(round)?; // what is only set up once is there now
    let before = holdings()?;
    (0..500).try_for_each(round)?;
    ensure!(holdings()? == before, "{:?}, and before {before:?}", holdings()?);
    println!("## 1000 spawns: still {} descriptors and {} mappings", before.0, before.1);
    Ok(())
}

fn no_connection_survives_an_exec() -> Result<()> {
    let seen = || anyhow::Ok(Command::new("ls").arg("/proc/self/fd").output()?.stdout);
    let before = seen()?;
    ensure!(!before.is_empty());
    let (_child, _end) = echo()?;
    ensure!(seen()? == before, "a program started here sees what is ours");
    let (ours, theirs) = Connection::<()>::pair()?;
    let child = spawn("child", move || {
        ensure!(seen()? == before, "a program started by a child sees what is its");
        Ok(theirs.send(())?)
    })?;
    ours.recv()?;
    child.join()
}

/// A child that sends back what it receives, and the end of ours for it.
fn echo() -> Result<(Process, Connection<u64>)> {
    let (ours, theirs) = Connection::pair()?;
    let child = spawn("echo", move || {
        for number in theirs.iter() {
            theirs.send(number?)?;
        }
        Ok(())
    })?;
    Ok((child, ours))
}
