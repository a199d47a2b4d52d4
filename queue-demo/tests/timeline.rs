//! The timeline of a run: both forms of it, what is in them, and that a child that is killed, a log
//! that is full and a file that cannot be written do no harm.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use common::{Mutex, Shared, spawn};
use fork_harness::deadlocks;
use fork_harness::tests;
use queue_demo::Queue;
use serde_json::Value;

fn main() -> ExitCode {
    deadlocks::run_program(&|name, _| match name {
        "killed" => killed(),
        "many" => many(),
        "names" => names(),
        _ => bail!("no program {name}"),
    });
    fork_harness::main(&[
        tests!(@test the_articles_program_shows_its_workers_and_their_messages, false),
        tests!(@test a_killed_child_ends_with_its_death, false),
        tests!(@test names_of_all_kinds_are_drawn, false),
        tests!(@test a_full_log_is_counted, false),
        tests!(@test a_file_that_cannot_be_written_is_named, false),
    ])
}

/// Runs a command with a timeline and returns what was drawn.
fn drawn(command: &mut Command, kind: &str) -> Result<String> {
    let file = tempfile::Builder::new().suffix(kind).tempfile()?;
    let output = command.env("TIMELINE", file.path()).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(std::fs::read_to_string(file.path())?)
}

/// What happened, as the trace tells it.
fn events(command: &mut Command) -> Result<(Vec<Value>, u64)> {
    let trace: Value = serde_json::from_str(&drawn(command, ".json")?)?;
    let events = trace["traceEvents"].as_array().context("no events")?.clone();
    Ok((events, trace["otherData"]["events dropped"].as_u64().context("no count")?))
}

fn article() -> Command {
    Command::new(env!("CARGO_BIN_EXE_queue-demo"))
}

/// This binary, started anew for one of its programs.
fn program(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(deadlocks::PROGRAM, format!("{name} 0"));
    Ok(command)
}

fn count(events: &[Value], fits: impl Fn(&Value) -> bool) -> usize {
    events.iter().filter(|event| fits(event)).count()
}

fn the_articles_program_shows_its_workers_and_their_messages() -> Result<()> {
    let (events, dropped) = events(&mut article())?;
    assert_eq!(dropped, 0);
    let named = |event: &Value| event["name"] == "process_name";
    assert_eq!(count(&events, named), 6, "MainProcess and five workers");
    // Each worker's subtotal. That all of them are done is a message from MainProcess to itself.
    assert_eq!(count(&events, |event| event["ph"] == "s"), 5);
    assert_eq!(count(&events, |event| event["ph"] == "f"), 5);
    assert_eq!(count(&events, |event| event["name"] == "ended with 0"), 5);
    for event in events.iter().filter(|event| event["ph"] == "X") {
        ensure!(event["dur"].as_f64().context("no duration")? >= 0.0, "{event}");
    }
    let picture = drawn(&mut article(), ".svg")?;
    ensure!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    assert_eq!(picture.matches("marker-end").count(), 5 + 1, "and the legend's");
    for part in [">MainProcess<title>", "MainProcess runs, 0 to ", "<title>6 processes in "] {
        ensure!(picture.contains(part), "{part} is not in\n{picture}");
    }
    ensure!(!picture.contains("not drawn"), "{picture}");
    Ok(())
}

fn names() -> Result<()> {
    let child = |name| spawn(name, || Ok(()));
    common::join_all([child("a\u{1}<\"&\u{ffff}")?, child("one, then many:éééééééééééé")?])
}

fn names_of_all_kinds_are_drawn() -> Result<()> {
    let (events, _) = events(&mut program("names")?)?;
    for name in ["a\u{1}<\"&\u{ffff}", "one, then many:ééééééé"] {
        let named = |event: &Value| {
            event["args"]["name"].as_str().is_some_and(|other| other.starts_with(name))
        };
        assert_eq!(count(&events, named), 1, "{name} in {events:?}");
    }
    let picture = drawn(&mut program("names")?, ".svg")?;
    ensure!(picture.contains("a\u{fffd}&lt;\"&amp;\u{fffd}"), "{picture}");
    Ok(())
}

fn killed() -> Result<()> {
    let lock = &Shared::new(Mutex::new(0))?;
    let (queue, never) = (&Queue::<u64>::new()?, &Queue::<u64>::new()?);
    let mut child = spawn("a <victim>", || {
        let _held = lock.lock()?;
        queue.put(1)?;
        never.get()?;
        Ok(())
    })?;
    queue.get()?;
    child.kill()?;
    child.wait()?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    Ok(())
}

fn a_killed_child_ends_with_its_death() -> Result<()> {
    let (events, _) = events(&mut program("killed")?)?;
    assert_eq!(count(&events, |event| event["name"] == "killed by signal 9"), 1);
    assert_eq!(count(&events, |event| event["name"] == "signal 9 from MainProcess"), 1);
    // Nothing of it lasts longer than it does: its life, its wait, its lock.
    let name = |event: &&Value| event["name"] == "process_name";
    let victim = events.iter().filter(name).find(|event| event["args"]["name"] == "a <victim>");
    let pid = &victim.context("no victim")?["pid"];
    let end = |event: &Value| Some(event["ts"].as_f64()? + event["dur"].as_f64()?);
    let of = |event: &&Value| event["pid"] == *pid && event["ph"] == "X";
    let ends: Vec<f64> = events.iter().filter(of).filter_map(end).collect();
    let death = events.iter().find(|event| event["name"] == "killed by signal 9");
    let death = death.and_then(|event| event["ts"].as_f64()).context("no time")?;
    ensure!(ends.len() >= 2 && ends.iter().all(|&end| end <= death + 1.0), "{ends:?}, {death}");
    let picture = drawn(&mut program("killed")?, ".svg")?;
    ensure!(picture.contains("a &lt;victim&gt; holds lock #"), "{picture}");
    Ok(())
}

fn many() -> Result<()> {
    let queue = Queue::<u64>::new()?;
    for number in 0..100_000 {
        queue.put(number)?;
        queue.get()?;
    }
    Ok(())
}

fn a_full_log_is_counted() -> Result<()> {
    let (_, dropped) = events(&mut program("many")?)?;
    // Two for each round, one for its birth and one for its name, and room for 131,072.
    assert_eq!(dropped, 200_000 + 2 - (1 << 17));
    let picture = drawn(&mut program("many")?, ".svg")?;
    ensure!(picture.contains("68930 events found no room"), "{picture}");
    Ok(())
}

fn a_file_that_cannot_be_written_is_named() -> Result<()> {
    for (file, problem) in [
        ("/nowhere/run.svg", "cannot write the timeline /nowhere/run.svg: "),
        ("run.png", "cannot write the timeline run.png: name a file .svg or .json"),
    ] {
        let output = article().env("TIMELINE", file).output()?;
        ensure!(output.status.success(), "{output:?}");
        let stderr = String::from_utf8(output.stderr)?;
        ensure!(stderr.starts_with(problem), "{stderr}");
        // Nor does it matter whether anyone can be told.
        let full = std::fs::File::options().write(true).open("/dev/full")?;
        ensure!(article().env("TIMELINE", file).stderr(full).status()?.success());
    }
    Ok(())
}
