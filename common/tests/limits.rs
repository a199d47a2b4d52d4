//! What the system refuses is an error that names it, and nothing that was begun is left behind.
//!
//! Processes (`RLIMIT_NPROC`), descriptors (`RLIMIT_NOFILE`), address space (`RLIMIT_AS`) and file
//! size (`RLIMIT_FSIZE`, which holds for shared memory) are refused here on purpose. What cannot be
//! refused: memory itself. Shared memory is not bounded by the size of `/dev/shm`, and a machine or
//! a container (a memory control group) that runs out of memory gives no error: the kernel kills a
//! process for it.

use std::fs::read_to_string;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use anyhow::{Context, Error, Result, bail, ensure};
use common::memory::Mapping;
use common::{Mutex, Process, Shared, spawn};
use fork_harness::{childless, holdings};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, geteuid, pause, setuid};

fork_harness::tests! {
    a_refused_fork_is_an_error_and_leaves_no_child,
    without_descriptors_shared_memory_is_an_error_and_spawn_works,
    without_address_space_shared_memory_is_an_error,
    a_limit_on_file_size_is_an_error_and_not_a_signal,
    a_thousand_spawns_leave_no_descriptor_and_no_mapping,
    nothing_survives_an_exec,
}

const MIB: usize = 1 << 20;

fn a_refused_fork_is_an_error_and_leaves_no_child() -> Result<()> {
    // The limit does not hold for root.
    if geteuid().is_root() {
        setuid(Uid::from_raw(65534))?;
    }
    // This process alone is one.
    let error = refused(Resource::RLIMIT_NPROC, 1, || spawn("one too many", forever))?;
    let text = format!("{error:#}");
    ensure!(text.contains("'one too many'") && text.contains("ulimit -u"), "{text}");
    spawn("one more", || Ok(()))?.join()
}

fn without_descriptors_shared_memory_is_an_error_and_spawn_works() -> Result<()> {
    let error = refused(Resource::RLIMIT_NOFILE, 0, || {
        spawn("without", || Ok(()))?.join()?;
        Shared::new(AtomicU64::new(0))
    })?;
    let text = format!("{error:#}");
    ensure!(text.contains("8 bytes of shared memory") && text.contains("ulimit -n"), "{text}");
    Ok(())
}

fn without_address_space_shared_memory_is_an_error() -> Result<()> {
    let pages = read_to_string("/proc/self/statm")?;
    let in_use = 4096 * pages.split(' ').next().context("no size")?.parse::<usize>()?;
    // Room for what else needs memory meanwhile.
    let limit = (in_use + 32 * MIB) as u64;
    let error = refused(Resource::RLIMIT_AS, limit, || Mapping::new(64 * MIB))?;
    let text = format!("{error:#}");
    ensure!(
        text.contains("67108864 bytes of shared memory") && text.contains("ulimit -v"),
        "{text}"
    );
    Mapping::new(64 * MIB).map(drop)
}

fn a_limit_on_file_size_is_an_error_and_not_a_signal() -> Result<()> {
    let error = refused(Resource::RLIMIT_FSIZE, 5000, || {
        Mapping::new(5000)?;
        Mapping::new(5001)
    })?;
    let text = format!("{error:#}");
    ensure!(text.contains("5001 bytes") && text.contains("ulimit -f"), "{text}");
    Ok(())
}

/// Starts a few children, then tries what a limit forbids, and comes back with the error alone.
fn refused<T>(limit: Resource, soft: u64, action: impl FnOnce() -> Result<T>) -> Result<Error> {
    spawn("first", || Ok(()))?.join()?; // what is only set up once is there now
    let before = holdings()?;
    let (old, hard) = getrlimit(limit)?;
    let attempt = || {
        let _children = (0..3).map(|_| spawn("child", forever)).collect::<Result<Vec<_>>>()?;
        setrlimit(limit, soft, hard)?;
        action()
    };
    let result = attempt();
    setrlimit(limit, old, hard)?;
    ensure!(childless(), "a child is left");
    ensure!(holdings()? == before, "{:?}, and before {before:?}", holdings()?);
    match result {
        Ok(_) => bail!("{limit:?} was no limit"),
        Err(error) => {
            println!("## {error:#}");
            Ok(error)
        }
    }
}

fn forever() -> Result<()> {
    loop {
        pause();
    }
}

fn a_thousand_spawns_leave_no_descriptor_and_no_mapping() -> Result<()> {
    let round = |number: u64| {
        let sum = Shared::new(Mutex::new(0))?;
        let hits = Shared::new([const { AtomicU64::new(0) }; 1000])?;
        spawn("child", || {
            *sum.lock()? += number;
            hits[999].store(number, SeqCst);
            Ok(())
        })?
        .join()?;
        ensure!(*sum.lock()? == number && hits[999].load(SeqCst) == number);
        drop(spawn("dropped", forever)?);
        Ok(())
    };
    (0..10).try_for_each(round)?; // what is only set up once is there now
    let before = holdings()?;
    (0..500).try_for_each(round)?;
    ensure!(holdings()? == before, "{:?}, and before {before:?}", holdings()?);
    println!("## 1000 spawns: still {} descriptors and {} mappings", before.0, before.1);
    Ok(())
}

fn nothing_survives_an_exec() -> Result<()> {
    let seen = || anyhow::Ok(Command::new("sh").args(["-c", SHOW]).output()?.stdout);
    let before = seen()?;
    ensure!(!before.is_empty());
    let _value = Shared::new(Mutex::new(1))?;
    let _child: Process = spawn("child", forever)?;
    ensure!(seen()? == before, "a program started here sees what is ours");
    spawn("child", || {
        ensure!(seen()? == before, "a program started by a child sees what is ours");
        Ok(())
    })?
    .join()
}

/// Lists a program's descriptors, and the shared memory that it has mapped.
const SHOW: &str = "ls /proc/self/fd; grep memfd /proc/self/maps";
