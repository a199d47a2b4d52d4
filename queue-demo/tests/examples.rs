//! The examples of this crate, run as a reader runs them: does each show what it claims?

use anyhow::{Result, bail, ensure};

fork_harness::tests! {
    every_example_says_how_to_run_it_and_is_tested,
    mixed_lines,
    close_instead_of_sentinel,
    many_consumers,
    backpressure,
    batches,
    deadlock,
    join_before_drain,
    queue_work,
    task_done,
    pool,
}

fn run(name: &str) -> Result<String> {
    fork_harness::run_example(name).map_err(anyhow::Error::msg)
}

fn every_example_says_how_to_run_it_and_is_tested() -> Result<(), String> {
    fork_harness::check_examples(include_str!("examples.rs"))
}

fn deadlock() -> Result<()> {
    let text = run("deadlock")?;
    for line in [
        "join: cannot join process 'producer' (pid ",
        "what the queue holds adds up to 10: nothing that was put is lost",
    ] {
        ensure!(text.lines().any(|printed| printed.starts_with(line)), "{text}");
    }
    Ok(())
}

fn queue_work() -> Result<()> {
    let text = run("queue_work")?;
    ensure!(text == "total 100000000\n", "{text}");
    Ok(())
}

fn mixed_lines() -> Result<()> {
    let text = run("mixed_lines")?;
    let lines = ["two writes: 200 of 200 lines are mixed", "one write:  0 of 200 lines are mixed"];
    ensure!(text.lines().eq(lines), "{text}");
    Ok(())
}

fn close_instead_of_sentinel() -> Result<()> {
    let text = run("close_instead_of_sentinel")?;
    let lines = [
        "sentinel: the late put says Ok(())",
        "sentinel: total 6, 1 left in the queue",
        "close:    the late put says Err(Closed)",
        "close:    total 6, 0 left in the queue",
    ];
    ensure!(text.lines().eq(lines));
    Ok(())
}

fn many_consumers() -> Result<()> {
    let text = run("many_consumers")?;
    let lines = [("1 sentinel: ", 1), ("3 sentinels:", 3), ("1 close:    ", 3)];
    let lines = lines.map(|(way, ended)| format!("{way} {ended} of 3 learn of the end"));
    ensure!(text.lines().eq(lines));
    Ok(())
}

fn backpressure() -> Result<()> {
    let text = run("backpressure")?;
    let mut lines = text.lines();
    ensure!(lines.next() == Some("taken 0, put 4: the producer waits"));
    // As many as were taken, and the queue's four slots; but no more than there are.
    let expected = (1..=10).map(|taken| format!("taken {taken}, put {}", 10.min(taken + 4)));
    ensure!(lines.eq(expected));
    Ok(())
}

fn batches() -> Result<()> {
    let text = run("batches")?;
    let lines = [
        "one by one: 64000 items in 64000 gets".to_string(),
        format!("in batches: 64000 items in {} gets of 64", 64_000 / 64),
    ];
    ensure!(text.lines().eq(lines));
    Ok(())
}

fn join_before_drain() -> Result<()> {
    let text = run("join_before_drain")?;
    let total: u64 = (1..=10).sum();
    let mended = format!("drained first: the child has ended, total {total}");
    ensure!(text.lines().eq(["joined first:  the child has not ended", &mended]));
    Ok(())
}

fn task_done() -> Result<()> {
    let text = run("task_done")?;
    let lines = [
        "Queue:         5 of 6 tasks are done",
        "task 3 is handed out again",
        "JoinableQueue: 6 of 6 tasks are done",
    ];
    ensure!(text.lines().eq(lines));
    Ok(())
}

fn pool() -> Result<()> {
    let text = run("pool")?;
    let mut lines = text.lines();
    let mut expect = |line: &str| {
        let found = lines.next();
        ensure!(found == Some(line), "{found:?} is not {line}");
        Ok(())
    };
    expect("map:  first result 1, 100 items read")?;
    expect("imap: first result 1, 8 items read")?;
    for number in [2, 3, 4, 1] {
        expect(&format!("imap_unordered: {}", number * number))?;
    }
    for number in [0, 1] {
        expect(&format!("result {}", number * number))?;
    }
    expect("error: item 2: no square for 2")?;
    let Some(died) = lines.next() else { bail!("item 3 is missing") };
    ensure!(died.starts_with("error: item 3: the worker that had it died: process 'worker-"));
    ensure!(died.ends_with("killed by SIGKILL"), "{died}");
    ensure!(lines.eq(["result 16"]));
    Ok(())
}
