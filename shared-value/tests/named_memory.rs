//! What named memory promises to processes that fork and die.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Result, ensure};
use common::spawn;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use shared_value::NamedMemory;

fork_harness::tests! {
    what_a_killed_creator_leaves_can_be_read_and_unlinked,
    a_child_that_drops_its_copy_leaves_the_name_to_its_parent,
    a_create_that_fails_half_way_leaves_no_name,
}

fn name(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

fn what_a_killed_creator_leaves_can_be_read_and_unlinked() -> Result<()> {
    let name = name("killed");
    let child = spawn("creator", || {
        let created = NamedMemory::create(&name, 1)?;
        created[0].store(7, Relaxed);
        Ok(raise(Signal::SIGKILL)?)
    })?;
    ensure!(child.join().is_err());

    let error = NamedMemory::create(&name, 1).unwrap_err().to_string();
    ensure!(error.contains("NamedMemory::unlink"), "the way out is not named: {error}");
    let attached = NamedMemory::attach(&name, 1)?;
    NamedMemory::unlink(&name)?;
    ensure!(attached[0].load(Relaxed) == 7);
    ensure!(NamedMemory::create(&name, 1)?[0].load(Relaxed) == 0, "it is new memory");
    Ok(())
}

fn a_child_that_drops_its_copy_leaves_the_name_to_its_parent() -> Result<()> {
    let name = name("copy");
    let mut created = Some(NamedMemory::create(&name, 1)?);
    let child = spawn("child", || {
        drop(created.take()); // borrowed from the parent, which keeps its own
        Ok(())
    })?;
    child.join()?;
    ensure!(NamedMemory::attach(&name, 1).is_ok());
    drop(created);
    ensure!(NamedMemory::attach(&name, 1).is_err());
    Ok(())
}

fn a_create_that_fails_half_way_leaves_no_name() -> Result<()> {
    let name = name("fails");
    // The file can have so many bytes, but this process has no room to map them.
    setrlimit(Resource::RLIMIT_AS, 64 << 20, 64 << 20)?;
    ensure!(NamedMemory::create(&name, 8 << 20).is_err());
    ensure!(NamedMemory::unlink(&name).is_err(), "the name is still there");
    NamedMemory::create(&name, 1)?;
    Ok(())
}
