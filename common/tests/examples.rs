//! The examples of this crate, run as a reader runs them: does each show what it claims?

use anyhow::{Context, Result, bail, ensure};

fork_harness::tests! {
    every_example_says_how_to_run_it_and_is_tested,
    isolation,
    exit_status,
    zombie,
    context_switches,
    fork_cost,
}

fn run(name: &str) -> Result<String> {
    fork_harness::run_example(name).map_err(anyhow::Error::msg)
}

fn every_example_says_how_to_run_it_and_is_tested() -> Result<(), String> {
    fork_harness::check_examples(include_str!("examples.rs"))
}

/// The word after each occurrence of `before`.
fn words<'a>(text: &'a str, before: &'a str) -> Vec<&'a str> {
    let rest = text.split(before).skip(1);
    rest.filter_map(|rest| rest.split([' ', ',', '\n']).next()).collect()
}

fn isolation() -> Result<()> {
    let text = run("isolation")?;
    ensure!(text.lines().count() == 2 && text.starts_with("Child: "));
    let [child, parent] = words(&text, "plain at ")[..] else { bail!("not two addresses") };
    ensure!(child == parent && child.starts_with("0x"), "different addresses of the plain one");
    let [child, parent] = words(&text, "shared at ")[..] else { bail!("not two addresses") };
    ensure!(child == parent && child.starts_with("0x"), "different addresses of the shared one");
    ensure!(words(&text, " is ") == ["1", "1", "0", "1"], "plain and shared, child and parent");
    Ok(())
}

fn exit_status() -> Result<()> {
    let text = run("exit_status")?;
    let mut lines = text.lines();
    ensure!(lines.next() == Some("Ok       join: Ok"));
    for (way, cause) in [
        ("Err", "exited with 1"),
        ("panic", "exited with 101"),
        ("exit(3)", "exited with 3"),
        ("SIGKILL", "killed by SIGKILL"),
        ("SIGSEGV", "killed by SIGSEGV"),
    ] {
        let line = lines.next().context("a line is missing")?;
        ensure!(line.starts_with(way) && line.contains(&format!("process '{way}'")), "{line}");
        ensure!(line.ends_with(cause), "{line}");
    }
    ensure!(lines.next().is_none());
    Ok(())
}

fn zombie() -> Result<()> {
    let text = run("zombie")?;
    ensure!(text == "ended:  Z\nkilled: Z\njoined: gone\n");
    Ok(())
}

fn context_switches() -> Result<()> {
    let text = run("context_switches")?;
    let voluntary = |name| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context(name)?;
        Ok(line.strip_suffix(" voluntary switches").context("no number")?.trim().parse()?)
    };
    let (talking, counting) = (voluntary("ping-pong:")?, voluntary("counting:")?);
    // Each of the 1000 balls finds the other player asleep, but for a few that fly while the system
    // makes both players wait for a processor.
    ensure!(talking >= 900 && counting <= 90, "{talking} against {counting}");
    Ok(())
}

fn fork_cost() -> Result<()> {
    let text = run("fork_cost")?;
    let row = |line: &str| line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
    let rows = text.lines().skip(1).map(row).collect::<Result<Vec<_>, _>>()?;
    let sizes = [0, 8, 16, 32];
    ensure!(rows.iter().map(|row| row[0]).eq(sizes));
    ensure!(rows.iter().all(|row| row.len() == 4 && row[2] > 0), "a time is missing");
    // 8 bytes for each page of 4096, and a few KiB more or less for everything else.
    for (row, size) in rows.iter().zip(sizes) {
        ensure!((row[1] - rows[0][1]).abs_diff(size * 2) <= 16, "{} KiB for {size} MiB", row[1]);
    }
    Ok(())
}
