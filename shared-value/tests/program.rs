//! The program as a reader runs it.

use anyhow::Result;
use fork_harness::program::{check_bad_arguments, check_help, check_refused_fork, run};

fork_harness::tests! {
    it_prints_what_the_article_prints,
    it_adds_up_with_any_number_of_workers,
    help_tells_how_to_call_it,
    a_bad_argument_is_named_and_nothing_is_forked,
    a_refused_fork_is_an_error_and_leaves_nothing_running,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_shared-value");
const ARGUMENTS: [&str; 2] = ["WORKERS", "INCREMENTS"];

fn check(arguments: &[&str], workers: u64, increments: u64) -> Result<()> {
    let ran = run(PROGRAM, arguments)?;
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    let lines: Vec<_> = ran.stdout.lines().collect();
    let [first, children @ .., last] = &lines[..] else { panic!("{ran:?}") };

    let pid: u32 = first.strip_prefix("Parent Process ID: ").unwrap_or_default().parse()?;
    assert_ne!(pid, 0);
    let mut names = Vec::new();
    let mut values = Vec::new();
    for line in children {
        let (name, value) = line.split_once(" data ").unwrap_or_default();
        names.push(name.strip_prefix("Process-").unwrap_or_default().parse::<u64>()?);
        values.push(value.parse::<u64>()?);
    }
    names.sort();
    assert_eq!(names, (1..=workers).collect::<Vec<_>>());
    // Each sees at least what it added itself, and the last one to look sees all.
    let total = workers * increments;
    assert!(values.iter().all(|value| (increments..=total).contains(value)), "{values:?}");
    assert_eq!(values.into_iter().max(), Some(total));
    assert_eq!(*last, format!("Final Data in parent process: {total}"));
    Ok(())
}

fn it_prints_what_the_article_prints() -> Result<()> {
    check(&[], 9, 50)
}

fn it_adds_up_with_any_number_of_workers() -> Result<()> {
    check(&["1"], 1, 50)?;
    check(&["4", "50000"], 4, 50_000)?; // long enough for all to add at the same time
    check(&["100", "1"], 100, 1)?;
    check(&["1000", "2"], 1000, 2)
}

fn help_tells_how_to_call_it() -> Result<()> {
    Ok(check_help(PROGRAM, &ARGUMENTS)?)
}

fn a_bad_argument_is_named_and_nothing_is_forked() -> Result<()> {
    Ok(check_bad_arguments(PROGRAM, &ARGUMENTS)?)
}

fn a_refused_fork_is_an_error_and_leaves_nothing_running() -> Result<()> {
    // Two children start, and would add for years.
    Ok(check_refused_fork(PROGRAM, &["5", "18446744073709551615"], 3)?)
}
