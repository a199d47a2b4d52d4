//! No orphans, no zombies: who waits for a child, who may end it, and what is left of it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use common::ends::End;
use common::{Process, Shared, join_all, spawn};
use fork_harness::{
    disturb, forbid_forks, give_up_root, has_ended, has_no_child, let_signals_interrupt,
    run_until_killed, wait_until,
};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

fork_harness::tests! {
    join_names_the_process_its_pid_and_how_it_ended,
    a_child_can_be_looked_at_ended_and_asked_again,
    a_wait_with_a_limit_ends_with_the_child,
    join_all_joins_all_and_then_reports_every_failure,
    a_dropped_process_is_killed_and_reaped,
    a_parent_that_returns_early_or_panics_leaves_no_child,
    only_the_process_that_forked_a_child_can_wait_for_it_or_end_it,
    a_child_dies_with_its_parent,
    a_refused_fork_is_an_error_and_those_started_are_killed_and_reaped,
    a_thousand_spawns_leave_no_descriptor_and_no_mapping,
    a_status_taken_by_someone_else_is_an_error_and_the_pid_is_left_alone,
    a_signal_interrupts_no_wait,
}

/// For waits that end before that.
const LONG: Duration = Duration::from_secs(20);

fn idler(name: &str) -> Result<Process> {
    spawn(name, || run_until_killed())
}

fn join_names_the_process_its_pid_and_how_it_ended() -> Result<()> {
    let check = |child: Process, cause: &str| {
        let expected = format!("process '{}' (pid {}) {cause}", child.name(), child.pid());
        assert_eq!(child.join().unwrap_err().to_string(), expected);
    };
    check(spawn("failing", || bail!("on purpose"))?, "exited with 1");
    check(spawn("leaving", || process::exit(7))?, "exited with 7");
    check(spawn("panicking", || panic!("on purpose"))?, "exited with 101");

    let asked = idler("asked")?;
    asked.terminate()?;
    check(asked, "killed by SIGTERM");
    let killed = idler("killed")?;
    killed.kill()?;
    check(killed, "killed by SIGKILL");
    spawn("leaving early", || process::exit(0))?.join()
}

fn a_child_can_be_looked_at_ended_and_asked_again() -> Result<()> {
    let mut child = idler("child")?;
    assert!(child.is_alive());
    assert_eq!(child.wait_timeout(Duration::from_millis(20))?, None);
    assert_eq!(child.wait_timeout(Duration::ZERO)?, None);
    assert!(child.is_alive());

    child.terminate()?;
    let status = child.wait()?;
    assert_eq!(status.signal(), Some(libc::SIGTERM));
    assert!(!child.is_alive());
    // It is reaped, and what is known stays known. Its pid may be another's: nothing is sent there.
    assert!(has_no_child());
    child.kill()?;
    child.terminate()?;
    assert_eq!(child.wait()?, status);
    assert_eq!(child.wait_timeout(LONG)?, Some(status));
    assert!(child.join().is_err());
    Ok(())
}

fn a_wait_with_a_limit_ends_with_the_child() -> Result<()> {
    for limit in [LONG, Duration::MAX] {
        let goes = Shared::new(AtomicBool::new(false))?;
        let mut child = spawn("child", || {
            wait_until("the parent lets it go", || goes.load(Relaxed));
            process::exit(5)
        })?;
        assert_eq!(child.wait_timeout(Duration::ZERO)?, None);
        goes.store(true, Relaxed);
        assert_eq!(child.wait_timeout(limit)?.context("it has ended")?.code(), Some(5));
    }
    Ok(())
}

fn join_all_joins_all_and_then_reports_every_failure() -> Result<()> {
    let last_ended_by_itself = Shared::new(AtomicBool::new(false))?;
    let failing = spawn("failing", || bail!("on purpose"))?;
    let killed = idler("killed")?;
    killed.kill()?;
    let (failing_pid, killed_pid) = (failing.pid(), killed.pid());
    let last = spawn("last", || {
        // Only a `join_all` that has seen a failure already reaps the first.
        let reaped = || !fs::exists(format!("/proc/{failing_pid}")).unwrap_or(true);
        wait_until("the first is joined", reaped);
        last_ended_by_itself.store(true, Relaxed);
        Ok(())
    })?;
    let error = join_all([failing, killed, last]).unwrap_err().to_string();
    assert!(has_no_child());
    assert!(last_ended_by_itself.load(Relaxed));
    assert!(error.starts_with("2 of 3 processes failed"), "{error}");
    for part in [
        format!("process 'failing' (pid {failing_pid}) exited with 1"),
        format!("process 'killed' (pid {killed_pid}) killed by SIGKILL"),
    ] {
        assert!(error.contains(&part), "{error}");
    }
    join_all((0..5).map(|_| spawn("sound", || Ok(()))).collect::<Result<Vec<_>>>()?)?;
    join_all([])
}

fn a_dropped_process_is_killed_and_reaped() -> Result<()> {
    drop(idler("idle")?);
    assert!(has_no_child());
    let ended = spawn("ended", || Ok(()))?;
    let pid = ended.pid();
    wait_until("it is a zombie", || has_ended(pid));
    drop(ended);
    assert!(has_no_child());
    Ok(())
}

fn a_parent_that_returns_early_or_panics_leaves_no_child() -> Result<()> {
    let start_two_then = |end: fn() -> Result<()>| {
        let _one = idler("one")?;
        let _other = idler("other")?;
        end()
    };
    assert!(start_two_then(|| bail!("on purpose")).is_err());
    assert!(has_no_child());
    let panicked = catch_unwind(AssertUnwindSafe(|| start_two_then(|| panic!("on purpose"))));
    assert!(panicked.is_err());
    assert!(has_no_child());
    Ok(())
}

fn only_the_process_that_forked_a_child_can_wait_for_it_or_end_it() -> Result<()> {
    let goes = Shared::new(AtomicBool::new(false))?;
    let mut sibling = Some(spawn("sibling", || {
        wait_until("the parent lets it go", || goes.load(Relaxed));
        Ok(())
    })?);
    let parent = process::id().to_string();
    let check = |what: &str, error: anyhow::Error| {
        let error = error.to_string();
        assert!(error.contains("'sibling'") && error.contains(&parent), "{what}: {error}");
    };
    spawn("other", || {
        // Taken from the copy that a fork makes; the parent's stays where it is.
        let mut process = sibling.take().context("the copy is there")?;
        check("wait", process.wait().unwrap_err());
        check("wait_timeout", process.wait_timeout(LONG).unwrap_err());
        check("terminate", process.terminate().unwrap_err());
        check("kill", process.kill().unwrap_err());
        assert!(!process.is_alive());
        check("join", process.join().unwrap_err()); // and drops it
        Ok(())
    })?
    .join()?;

    let mut sibling = sibling.context("the parent's own is untouched")?;
    assert!(sibling.is_alive());
    goes.store(true, Relaxed);
    sibling.join()
}

fn a_child_dies_with_its_parent() -> Result<()> {
    let endings: [fn() -> Result<()>; 2] = [|| run_until_killed(), || process::exit(0)];
    for (round, parents_end) in endings.into_iter().cycle().take(100).enumerate() {
        let grandchild = Shared::new(AtomicU32::new(0))?;
        let mut parent = spawn("parent", || {
            let child = idler("grandchild")?;
            grandchild.store(child.pid(), Relaxed);
            parents_end()
        })?;
        wait_until("the grandchild is there", || grandchild.load(Relaxed) != 0);
        if round % 2 == 0 {
            parent.kill()?;
        }
        parent.wait()?;
        let pid = grandchild.load(Relaxed);
        wait_until("the grandchild is gone", || has_ended(pid));
    }
    Ok(())
}

fn a_refused_fork_is_an_error_and_those_started_are_killed_and_reaped() -> Result<()> {
    give_up_root()?;
    let mut pids = Vec::new();
    let mut start_five = || {
        let mut started = Vec::new();
        for number in 0..5 {
            if number == 3 {
                forbid_forks()?;
            }
            let process = idler(&format!("worker-{number}"))?;
            pids.push(process.pid());
            started.push(process);
        }
        join_all(started)
    };
    let error = format!("{:#}", start_five().unwrap_err());
    assert!(error.contains("'worker-3'"), "{error}");
    assert!(error.contains("the system refuses to fork"), "{error}");
    assert!(has_no_child());
    assert_eq!(pids.len(), 3);
    assert!(pids.into_iter().all(has_ended));
    Ok(())
}

fn a_thousand_spawns_leave_no_descriptor_and_no_mapping() -> Result<()> {
    // With an open end there is more to do in a spawn.
    let (one, other) = UnixStream::pair()?;
    let _ends = End::pair(one.into(), other.into());
    let shared = Shared::new(AtomicU32::new(0))?;
    let spawn_one = || {
        let add = || {
            shared.fetch_add(1, Relaxed);
            Ok(())
        };
        spawn("child", add)?.join()
    };
    let size = || -> Result<_> {
        let descriptors = fs::read_dir("/proc/self/fd")?.count();
        Ok((descriptors, fs::read_to_string("/proc/self/maps")?.lines().count()))
    };
    spawn_one()?; // what is allocated once is there now
    let before = size()?;
    for _ in 0..1_000 {
        spawn_one()?;
    }
    assert_eq!(size()?, before);
    assert_eq!(shared.load(Relaxed), 1_001);
    Ok(())
}

fn a_status_taken_by_someone_else_is_an_error_and_the_pid_is_left_alone() -> Result<()> {
    let check = |mut child: Process| {
        // To send a signal to a pid that nobody has is an error: so none was sent.
        child.kill()?;
        assert!(!child.is_alive());
        let error = child.wait().unwrap_err().to_string();
        assert!(error.contains("'lost'") && error.contains("exit status"), "{error}");
        child.kill()?;
        child.terminate()?;
        assert!(child.join().is_err());
        anyhow::Ok(())
    };
    let lost = spawn("lost", || Ok(()))?;
    waitpid(Pid::from_raw(lost.pid() as i32), None)?;
    check(lost)?;

    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no function of ours is called when the signal comes.
    unsafe { sigaction(Signal::SIGCHLD, &ignore)? };
    let lost = spawn("lost", || Ok(()))?;
    let pid = lost.pid();
    wait_until("the kernel has reaped it", || !fs::exists(format!("/proc/{pid}")).unwrap_or(true));
    check(lost)
}

fn a_signal_interrupts_no_wait() -> Result<()> {
    let_signals_interrupt()?;
    let parent = process::id();
    let disturber = || spawn("disturber", || Ok(disturb(parent)?));
    assert!(disturber()?.wait()?.success());
    let ended = disturber()?.wait_timeout(LONG)?.context("it has ended")?;
    assert!(ended.success());
    disturber()?.join()
}
