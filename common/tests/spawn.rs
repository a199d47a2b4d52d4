//! Fork is safe to call: what a child is, what it sees of its parent, what it prints, how it ends.

use std::fs::File;
use std::os::unix::process::parent_id;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use anyhow::{Result, anyhow, bail};
use common::{Shared, current_name, spawn};
use fork_harness::{has_no_child, printed_by};

fork_harness::tests! {
    a_child_is_another_process_that_runs_the_closure,
    every_process_knows_its_name,
    a_child_may_spawn_children_of_its_own,
    what_a_child_changes_stays_in_the_child,
    spawn_refuses_beside_a_second_thread_and_works_once_that_has_ended,
    spawn_refuses_while_a_panic_unwinds,
    text_in_a_buffer_at_the_fork_is_printed_once,
    what_a_child_printed_is_not_lost_however_it_ends,
    a_child_that_cannot_print_fails,
    a_panic_ends_a_child_with_101_and_its_message,
    an_error_ends_a_child_with_1_and_its_whole_chain,
    a_child_never_runs_its_parents_destructors,
}

fn a_child_is_another_process_that_runs_the_closure() -> Result<()> {
    let seen = Shared::new([const { AtomicU32::new(0) }; 2])?;
    let child = spawn("child", || {
        seen[0].store(process::id(), Relaxed);
        seen[1].store(parent_id(), Relaxed);
        Ok(())
    })?;
    let pid = child.pid();
    child.join()?;
    assert_ne!(pid, process::id());
    assert_eq!([&seen[0], &seen[1]].map(|pid| pid.load(Relaxed)), [pid, process::id()]);
    Ok(())
}

fn every_process_knows_its_name() -> Result<()> {
    let child = spawn("ada", || {
        assert_eq!(current_name(), "ada");
        Ok(())
    })?;
    assert_eq!(child.name(), "ada");
    assert_eq!(current_name(), "MainProcess");
    child.join()
}

fn a_child_may_spawn_children_of_its_own() -> Result<()> {
    let grandchild = Shared::new(AtomicU32::new(0))?;
    spawn("child", || {
        let inner = spawn("grandchild", || {
            assert_eq!(current_name(), "grandchild");
            grandchild.store(process::id(), Relaxed);
            Ok(())
        })?;
        let pid = inner.pid();
        inner.join()?;
        assert_eq!(grandchild.load(Relaxed), pid);
        assert_eq!(current_name(), "child");
        Ok(())
    })?
    .join()?;
    assert_ne!(grandchild.load(Relaxed), 0);
    Ok(())
}

fn what_a_child_changes_stays_in_the_child() -> Result<()> {
    let mut count = 1;
    spawn("child", || {
        count += 1;
        assert_eq!(count, 2);
        Ok(())
    })?
    .join()?;
    assert_eq!(count, 1);
    Ok(())
}

fn spawn_refuses_beside_a_second_thread_and_works_once_that_has_ended() -> Result<()> {
    let (keep_open, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || wait.recv());
    let error = format!("{:#}", spawn("early", || Ok(())).unwrap_err());
    assert!(error.contains("'early'") && error.contains("2 threads"), "{error}");
    assert!(has_no_child());

    drop(keep_open);
    assert!(thread.join().unwrap().is_err(), "the channel is closed");
    spawn("late", || Ok(()))?.join()
}

fn spawn_refuses_while_a_panic_unwinds() -> Result<()> {
    struct SpawnsWhenDropped<'a>(&'a mut String);
    impl Drop for SpawnsWhenDropped<'_> {
        fn drop(&mut self) {
            *self.0 = format!("{:#}", spawn("child", || Ok(())).unwrap_err());
        }
    }
    let mut error = String::new();
    let spawner = SpawnsWhenDropped(&mut error);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _spawner = spawner;
        panic!("on purpose");
    }));
    assert!(unwound.is_err());
    assert!(error.contains("unwinding from a panic"), "{error}");
    Ok(())
}

fn text_in_a_buffer_at_the_fork_is_printed_once() -> Result<()> {
    let (joined, printed) = printed_by(|| {
        print!("begun, ");
        let child = spawn("child", || {
            print!("continued, ");
            Ok(())
        });
        let joined = child?.join();
        print!("finished");
        joined
    })?;
    assert_eq!(printed, "begun, continued, finished");
    joined
}

fn what_a_child_printed_is_not_lost_however_it_ends() -> Result<()> {
    let endings: [fn() -> Result<()>; 4] = [
        || Ok(()),
        || bail!("on purpose"),
        || panic!("on purpose"),
        || process::exit(3), // Rust flushes
    ];
    for ending in endings {
        let words = || {
            print!("last words");
            ending()
        };
        let (status, printed) = printed_by(|| spawn("child", words)?.wait())?;
        status?;
        assert_eq!(printed.matches("last words").count(), 1, "{printed}");
    }
    Ok(())
}

fn a_child_that_cannot_print_fails() -> Result<()> {
    let (code, printed) = code_and_text("child", || {
        nix::unistd::dup2_stdout(File::create("/dev/full")?)?;
        print!("last words");
        Ok(())
    })?;
    assert_eq!(code, Some(1));
    assert!(printed.starts_with("child: Error: cannot write to stdout"), "{printed}");
    Ok(())
}

/// The exit code of a child that runs `body`, and what it printed.
fn code_and_text(name: &str, body: fn() -> Result<()>) -> Result<(Option<i32>, String)> {
    let (status, printed) = printed_by(|| spawn(name, body)?.wait())?;
    Ok((status?.code(), printed))
}

fn a_panic_ends_a_child_with_101_and_its_message() -> Result<()> {
    let (code, text) = code_and_text("careless", || panic!("one line\nand another"))?;
    assert_eq!(code, Some(101));
    assert!(text.contains("careless: one line\ncareless: and another\n"), "{text}");
    assert!(text.contains(file!()), "it says where: {text}");
    assert!(text.lines().all(|line| line.starts_with("careless: ")), "{text}");
    Ok(())
}

fn an_error_ends_a_child_with_1_and_its_whole_chain() -> Result<()> {
    let (code, text) = code_and_text("clerk", || {
        Err(anyhow!("disk full").context("cannot write the page").context("no report"))
    })?;
    assert_eq!(code, Some(1));
    assert!(text.starts_with("clerk: Error: no report\n"), "{text}");
    assert!(text.contains("cannot write the page\n") && text.contains("disk full\n"), "{text}");
    assert!(text.lines().all(|line| line.starts_with("clerk: ")), "{text}");
    Ok(())
}

fn a_child_never_runs_its_parents_destructors() -> Result<()> {
    struct CountsDrops<'a>(&'a AtomicU32);
    impl Drop for CountsDrops<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let drops = Shared::new(AtomicU32::new(0))?;
    let the_parents = CountsDrops(&drops);
    let endings: [fn() -> Result<()>; 3] =
        [|| Ok(()), || bail!("on purpose"), || panic!("on purpose")];
    for ending in endings {
        spawn("child", ending)?.wait()?;
    }
    assert_eq!(drops.load(Relaxed), 0);
    drop(the_parents);
    assert_eq!(drops.load(Relaxed), 1);
    Ok(())
}
