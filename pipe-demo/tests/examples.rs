//! The examples of this crate, run as a reader runs them: does each show what it claims?

use anyhow::{Result, ensure};

fork_harness::tests! {
    every_example_says_how_to_run_it_and_is_tested,
    tennis,
    one_way,
    end_of_file,
    large_message,
    many,
    pipe_work,
}

fn run(name: &str) -> Result<String> {
    fork_harness::run_example(name).map_err(anyhow::Error::msg)
}

fn pipe_work() -> Result<()> {
    let text = run("pipe_work")?;
    ensure!(text == "total 100000000\n", "{text}");
    Ok(())
}

fn every_example_says_how_to_run_it_and_is_tested() -> Result<(), String> {
    fork_harness::check_examples(include_str!("examples.rs"))
}

fn tennis() -> Result<()> {
    let rallies = (1..=3).map(|ball| format!("A serves ball {ball}\nB returns ball {ball}\n"));
    let end = "A leaves the court\nB sees the end of file: the game is over\n";
    ensure!(run("tennis")? == rallies.collect::<String>() + end);
    Ok(())
}

fn one_way() -> Result<()> {
    let numbers = (1..=3).map(|number| format!("received {number}\n"));
    let end = "the sender was told that nobody receives any more\n";
    ensure!(run("one_way")? == numbers.collect::<String>() + end);
    Ok(())
}

fn end_of_file() -> Result<()> {
    let text = run("end_of_file")?;
    let lines = [
        "raw pipe, the bystander lives: end of file false",
        "raw pipe, the bystander ended: end of file true",
        "one_way,  the bystander lives: end of file true",
    ];
    ensure!(text.lines().eq(lines));
    Ok(())
}

fn large_message() -> Result<()> {
    let text = run("large_message")?;
    let sent = format!("a child receives: {} bytes arrived, each as it was sent", 64 << 20);
    ensure!(text.lines().eq(["nobody receives: send waited, and its time ran out", &sent]));
    Ok(())
}

fn many() -> Result<()> {
    let heard = [3, 2, 1, 0].map(|child| format!("child {child} speaks\n  and is heard\n"));
    ensure!(run("many")? == heard.concat());
    Ok(())
}
