//! However a parent ends, its children end with it, and theirs: no orphan, no zombie.
//!
//! The test is the grandparent. Orphans come to it, and to nobody else (`PR_SET_CHILD_SUBREAPER`),
//! so it sees every one: whom it cannot wait for does not exist.

use std::collections::VecDeque;
use std::fs::read_to_string;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use common::{Shared, count_to, spawn};
use fork_harness::eventually;
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pause, setpgid};

fork_harness::tests! {
    a_parent_killed_at_a_random_moment_leaves_no_orphan,
    a_parent_that_fails_leaves_no_orphan_and_no_zombie,
    a_parent_that_panics_leaves_no_orphan_and_no_zombie,
    a_parent_that_returns_early_leaves_no_orphan_and_no_zombie,
    a_parent_that_exits_without_unwinding_leaves_no_orphan,
    ctrl_c_leaves_no_orphan,
    a_terminated_parent_leaves_no_orphan;
    long: a_thousand_killed_parents_leave_no_orphan,
}

/// How long after its parent a child may be there.
const SOON: Duration = Duration::from_secs(1);

fn a_parent_killed_at_a_random_moment_leaves_no_orphan() -> Result<()> {
    kill_parents(300)
}

fn a_thousand_killed_parents_leave_no_orphan() -> Result<()> {
    kill_parents(1_000)
}

fn kill_parents(kills: usize) -> Result<()> {
    set_child_subreaper(true)?;
    let births = Shared::new(AtomicU64::new(0))?;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut orphans, mut times) = (0, Vec::new());
    for _ in 0..kills {
        births.store(0, SeqCst);
        let family_random = random.fork();
        let mut parent = spawn("parent", || family(family_random, &births))?;
        let enough = random.u64(..8);
        eventually("the family grows", || births.load(SeqCst) >= enough);
        count_to(random.u64(..100_000));
        parent.kill()?;
        ensure!(parent.wait()?.signal() == Some(Signal::SIGKILL as i32));
        let (seen, time) = all_gone()?;
        orphans += seen;
        times.push(time);
    }
    times.sort();
    let [median, most, longest] = [50, 90, 100].map(|part| times[times.len() * part / 100 - 1]);
    println!("## {kills} parents killed; the {orphans} orphans died too");
    println!(
        "## from a parent's death to the last orphan's: median {median:?}, longest {longest:?}"
    );
    // Some may be the doing of others, where they keep the machine's cores from the dying.
    ensure!(most < SOON, "orphans lived for {most:?} or more in one case of ten");
    Ok(())
}

/// Has children one after the other, which have children too, and lets go of them, until killed.
fn family(mut random: fastrand::Rng, births: &AtomicU64) -> Result<()> {
    let mut children = VecDeque::new();
    loop {
        let with_child = random.bool();
        children.push_back(spawn("child", || {
            births.fetch_add(1, SeqCst);
            let child = || {
                births.fetch_add(1, SeqCst);
                forever()
            };
            let _child = with_child.then(|| spawn("grandchild", child)).transpose()?;
            forever()
        })?);
        if children.len() > random.usize(2..6) {
            children.pop_front(); // dropped, and so killed and reaped
        }
    }
}

fn a_parent_that_fails_leaves_no_orphan_and_no_zombie() -> Result<()> {
    end_parents(NOBODY_LEFT, || bail!("on purpose"), |_| Ok(()), |end| end.code() == Some(1))
}

fn a_parent_that_panics_leaves_no_orphan_and_no_zombie() -> Result<()> {
    end_parents(NOBODY_LEFT, || panic!("on purpose"), |_| Ok(()), |end| end.code() == Some(101))
}

fn a_parent_that_returns_early_leaves_no_orphan_and_no_zombie() -> Result<()> {
    end_parents(NOBODY_LEFT, || Ok(()), |_| Ok(()), |end| end.success())
}

fn a_parent_that_exits_without_unwinding_leaves_no_orphan() -> Result<()> {
    end_parents(ORPHANS_DIE, || std::process::exit(7), |_| Ok(()), |end| end.code() == Some(7))
}

fn ctrl_c_leaves_no_orphan() -> Result<()> {
    // A terminal sends it to the whole group.
    let ctrl_c = |parent| killpg(parent, Signal::SIGINT);
    end_parents(ORPHANS_DIE, forever, ctrl_c, |end| end.signal() == Some(Signal::SIGINT as i32))
}

fn a_terminated_parent_leaves_no_orphan() -> Result<()> {
    let term = |parent| kill(parent, Signal::SIGTERM);
    end_parents(ORPHANS_DIE, forever, term, |end| end.signal() == Some(Signal::SIGTERM as i32))
}

/// The parent itself kills and reaps its children.
const NOBODY_LEFT: bool = false;
/// The children end because the parent did, and others reap them.
const ORPHANS_DIE: bool = true;

/// Lets a parent have three children and come to its end, by its `body` or by a `strike` from
/// outside, a few times over.
fn end_parents(
    orphans: bool,
    body: fn() -> Result<()>,
    strike: fn(Pid) -> nix::Result<()>,
    expected: fn(ExitStatus) -> bool,
) -> Result<()> {
    const ROUNDS: usize = 50;
    set_child_subreaper(true)?;
    let births = Shared::new(AtomicU64::new(0))?;
    for _ in 0..ROUNDS {
        births.store(0, SeqCst);
        let mut parent = spawn("parent", || {
            as_in_a_terminal()?;
            let child = |_| {
                spawn("child", || {
                    births.fetch_add(1, SeqCst);
                    forever()
                })
            };
            let _children = (0..3).map(child).collect::<Result<Vec<_>>>()?;
            eventually("all children live", || births.load(SeqCst) == 3);
            births.fetch_add(1, SeqCst);
            body()
        })?;
        eventually("the parent is ready", || births.load(SeqCst) == 4);
        strike(Pid::from_raw(parent.pid() as i32))?;
        let end = parent.wait()?;
        ensure!(expected(end), "{end}");
        let (left, _) = all_gone()?;
        ensure!(orphans || left == 0, "the parent left {left} processes behind");
    }
    println!("## {ROUNDS} parents");
    Ok(())
}

/// A process group of its own, in which Ctrl-C ends a process.
fn as_in_a_terminal() -> Result<()> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    // SAFETY: the default action is no function of ours.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl)? };
    Ok(())
}

fn forever() -> Result<()> {
    loop {
        pause();
    }
}

/// Reaps all who came to this process as orphans, and says how many they were and how long it was
/// until the last one had died.
fn all_gone() -> Result<(u64, Duration)> {
    let start = Instant::now();
    let mut reaped = 0;
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Ok((reaped, start.elapsed())),
            Ok(WaitStatus::StillAlive) if start.elapsed() > 10 * SOON => {
                // They would outlive this test too.
                for orphan in read_to_string("/proc/thread-self/children")?.split_whitespace() {
                    kill(Pid::from_raw(orphan.parse()?), Signal::SIGKILL)?;
                }
                bail!("orphans lived on for {:?}", start.elapsed());
            }
            Ok(WaitStatus::StillAlive) => std::thread::yield_now(),
            Ok(_) => reaped += 1,
            Err(errno) => return Err(errno.into()),
        }
    }
}
