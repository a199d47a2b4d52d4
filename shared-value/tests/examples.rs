//! The examples of this crate, run as a reader runs them: does each show what it claims?

use anyhow::{Context, Result, bail, ensure};

fork_harness::tests! {
    every_example_says_how_to_run_it_and_is_tested,
    with_lock_differs_from_lost_update_in_the_marked_line,
    lost_update,
    with_lock,
    atomic,
    array,
    poisoned,
    named_memory,
    manager,
    value_work,
}

fn run(name: &str) -> Result<String> {
    fork_harness::run_example(name).map_err(anyhow::Error::msg)
}

/// What stands behind `label` in the line that begins with it.
fn value<'a>(text: &'a str, label: &str) -> Result<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    Ok(line.with_context(|| format!("no line '{label}'"))?.trim())
}

fn value_work() -> Result<()> {
    let text = run("value_work")?;
    ensure!(text == "total 100000000\n", "{text}");
    Ok(())
}

fn every_example_says_how_to_run_it_and_is_tested() -> Result<(), String> {
    fork_harness::check_examples(include_str!("examples.rs"))
}

fn with_lock_differs_from_lost_update_in_the_marked_line() -> Result<()> {
    let bad = code(include_str!("../examples/lost_update.rs"));
    let good = code(include_str!("../examples/with_lock.rs"));
    let differ = bad.iter().zip(&good).filter(|(bad, good)| bad != good).collect::<Vec<_>>();
    let [rounds, line] = differ[..] else {
        bail!("more or fewer lines than two differ: {differ:?}")
    };
    ensure!(good.len() == bad.len() && rounds.0.starts_with("const ROUNDS"), "{rounds:?}");
    ensure!(line.0.contains("// <- the line") && line.1.contains("// <- the line"), "{line:?}");
    Ok(())
}

fn code(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("//!")).collect()
}

/// The counts `found` and `lost` of each round.
fn rounds(text: &str) -> Result<Vec<(u64, u64)>> {
    let round = |(line, number): (&str, u64)| {
        let line = line.strip_prefix(&format!("round {number}: ")).context("not the next round")?;
        let (found, lost) = line.split_once(" of 100000, ").context("not of 100000")?;
        Ok((found.parse()?, lost.strip_suffix(" lost").context("no loss told")?.parse()?))
    };
    text.lines().zip(1..).map(round).collect()
}

fn lost_update() -> Result<()> {
    let rounds = rounds(&run("lost_update")?)?;
    let Some((last, before)) = rounds.split_last() else { bail!("no round") };
    ensure!(before.iter().all(|&round| round == (100_000, 0)));
    ensure!(last.1 > 0 && last.0 + last.1 == 100_000, "no loss in {} rounds", rounds.len());
    Ok(())
}

fn with_lock() -> Result<()> {
    ensure!(rounds(&run("with_lock")?)? == [(100_000, 0); 10]);
    Ok(())
}

fn atomic() -> Result<()> {
    ensure!(rounds(&run("atomic")?)? == [(100_000, 0); 10]);
    Ok(())
}

fn array() -> Result<()> {
    let text = run("array")?;
    let squares: Vec<_> = (0..50).map(|number| number * number).collect();
    ensure!(text.starts_with(&format!("{squares:?}\n")));
    ensure!(value(&text, "sum ")?.parse() == Ok(squares.iter().sum::<i32>()));
    ensure!(value(&text, "index 50:")?.contains("0 to 49"));
    Ok(())
}

fn poisoned() -> Result<()> {
    let text = run("poisoned")?;
    ensure!(value(&text, "child:")?.ends_with("killed by SIGKILL"));
    ensure!(value(&text, "lock:")?.starts_with("lock poisoned"));
    ensure!(value(&text, "mended:")? == "30 were missing");
    ensure!(value(&text, "now:")? == "70 and 30");
    Ok(())
}

fn named_memory() -> Result<()> {
    let text = run("named_memory")?;
    ensure!(value(&text, "second create:")?.contains("exists already"));
    ensure!(value(&text, "wrong size:")?.contains("400 bytes, but 51 numbers take 408"));
    ensure!(value(&text, "sum:")?.starts_with(&format!("{},", (1..=50).sum::<u32>())));
    let gone = value(&text, "after unlink:")?;
    let name = gone.split('\'').nth(1).context("it names no name")?;
    ensure!(gone.starts_with("there is no") && name.starts_with("numbers-"), "{gone}");
    ensure!(!std::fs::exists(format!("/dev/shm/{name}"))?, "{name} is left behind");
    Ok(())
}

fn manager() -> Result<()> {
    let text = run("manager")?;
    ensure!(value(&text, "process 'Client-4'")?.ends_with("killed by SIGKILL"));
    ensure!(value(&text, "eat apples:")?.starts_with("error: "));
    ensure!(value(&text, "get apples:")? == "300");
    Ok(())
}
