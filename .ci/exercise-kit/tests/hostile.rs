//! The checker against programs that misbehave on purpose: it names what they do, comes back, and
//! leaves nothing behind (which the harness looks at after each test).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use exercise_kit::check::{EXERCISES, Limits, Symptom, judge, run};

fork_harness::tests! {
    a_program_that_hangs_is_a_deadlock,
    a_program_that_forks_and_hangs_is_a_deadlock_that_names_who_waits_for_whom,
    a_killed_program_failed,
    a_flood_of_output_is_cut_off,
    a_flood_of_records_is_cut_off,
    an_endless_loop_times_out,
    a_grandchild_that_holds_stdout_is_found_and_killed,
    a_zombie_that_is_left_is_found,
    stopped_processes_are_killed,
    blocked_signals_do_not_help,
    a_fork_bomb_is_killed,
    the_right_answer_without_the_work_does_not_pass,
    the_right_answer_from_one_process_does_not_pass,
    a_sequential_rewrite_does_not_pass,
    a_report_of_a_deadlock_is_the_evidence,
}

const LIMITS: Limits = Limits {
    time: Duration::from_secs(30),
    still: Duration::from_secs(2),
    processes: 64,
    output: 100_000,
};

/// Runs the hostile program `which` as if it were the first exercise on shared values.
fn symptom(which: &str) -> Result<Symptom> {
    symptom_within(which, LIMITS)
}

fn symptom_within(which: &str, limits: Limits) -> Result<Symptom> {
    let exercise = EXERCISES.iter().find(|exercise| exercise.name == "lost-update");
    let test = std::env::current_exe()?;
    let profile = test.parent().and_then(Path::parent).context("the test lies in no directory")?;
    let mut command = Command::new(profile.join("examples/hostile"));
    let start = Instant::now();
    let seen = run(command.arg(which), 1, "at a queue", limits)?;
    ensure!(start.elapsed() < Duration::from_secs(60), "it took {:?}", start.elapsed());
    ensure!(seen.stdout.len() < 1_000_000);
    let verdict = judge(&seen, exercise.context("no such exercise")?.judge, limits);
    println!("{verdict:?}");
    verdict.err().context("it passed")
}

fn shows(which: &str, name: &str, part: &str) -> Result<()> {
    let symptom = symptom(which)?;
    ensure!(symptom.name == name && symptom.detail.contains(part), "{symptom}");
    Ok(())
}

fn a_program_that_hangs_is_a_deadlock() -> Result<()> {
    shows("hangs", "deadlock", "parent ")
}

fn a_program_that_forks_and_hangs_is_a_deadlock_that_names_who_waits_for_whom() -> Result<()> {
    let symptom = symptom("forks-and-hangs")?;
    ensure!(symptom.name == "deadlock" && symptom.evidence.len() == 2, "{symptom:?}");
    let child = symptom.evidence[1].split(' ').nth(1).context("no pid")?;
    let waits = format!("waits for process {child} to end, which waits at a queue");
    ensure!(symptom.detail.contains(&waits), "{symptom:?}");
    Ok(())
}

fn a_killed_program_failed() -> Result<()> {
    shows("is-killed", "failed", "killed by signal 9")
}

fn a_flood_of_output_is_cut_off() -> Result<()> {
    shows("floods", "too much output", "100000 bytes")
}

fn a_flood_of_records_is_cut_off() -> Result<()> {
    shows("floods-the-lab", "too much output", "100000 bytes")
}

fn an_endless_loop_times_out() -> Result<()> {
    let limits = Limits { time: Duration::from_secs(2), ..LIMITS };
    let symptom = symptom_within("counts-for-ever", limits)?;
    ensure!(symptom.name == "timed out" && symptom.detail.contains("2s"), "{symptom}");
    Ok(())
}

fn a_grandchild_that_holds_stdout_is_found_and_killed() -> Result<()> {
    let symptom = left_behind("leaks-a-grandchild")?;
    ensure!(symptom.detail.split(", ").count() == 1, "{symptom}");
    Ok(())
}

fn a_zombie_that_is_left_is_found() -> Result<()> {
    left_behind("leaves-a-zombie").map(drop)
}

/// The work is not done either, but what is left must be named.
fn left_behind(which: &str) -> Result<Symptom> {
    let symptom = symptom(which)?;
    ensure!(symptom.name == "left behind", "{symptom}");
    Ok(symptom)
}

fn stopped_processes_are_killed() -> Result<()> {
    shows("stops-itself-and-its-child", "stopped", "is stopped")
}

fn blocked_signals_do_not_help() -> Result<()> {
    shows("ignores-signals", "deadlock", "")
}

fn a_fork_bomb_is_killed() -> Result<()> {
    shows("bomb", "too many processes", "64 are allowed")
}

fn the_right_answer_without_the_work_does_not_pass() -> Result<()> {
    shows("right-answer", "work not done", "")
}

fn the_right_answer_from_one_process_does_not_pass() -> Result<()> {
    shows("right-answer-alone", "work not done", "0 of 2 child processes")
}

fn a_sequential_rewrite_does_not_pass() -> Result<()> {
    shows("sequential", "one at a time", "waited in vain")
}

fn a_report_of_a_deadlock_is_the_evidence() -> Result<()> {
    let symptom = symptom("reports-a-deadlock")?;
    ensure!(symptom.name == "deadlock" && symptom.evidence.len() == 2, "{symptom:?}");
    ensure!(symptom.evidence[0] == "deadlock: every process waits", "{symptom:?}");
    ensure!(symptom.detail.ends_with("waits for itself"), "{symptom:?}");
    Ok(())
}
