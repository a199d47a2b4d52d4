//! The program as a reader runs it.

use anyhow::Result;
use fork_harness::program::{
    check_bad_arguments, check_counting, check_help, check_refused_fork, run,
};

fork_harness::tests! {
    it_prints_what_the_article_prints,
    it_adds_up_with_any_number_of_workers,
    help_tells_how_to_call_it,
    a_bad_argument_is_named_and_nothing_is_forked,
    more_workers_than_any_queue_has_slots_is_an_error,
    a_refused_fork_is_an_error_and_leaves_nothing_running,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_queue-demo");
const ARGUMENTS: [&str; 2] = ["WORKERS", "COUNT"];

fn check(arguments: &[&str], workers: u64, count: u64) -> Result<()> {
    let total = format!("Main-processing total count: {}", workers * count);
    let last = ["", &total, "Main-processing done."];
    check_counting(&run(PROGRAM, arguments)?, 0..workers, count, &last);
    Ok(())
}

fn it_prints_what_the_article_prints() -> Result<()> {
    check(&[], 5, 1_000_000)
}

fn it_adds_up_with_any_number_of_workers() -> Result<()> {
    check(&["1"], 1, 1_000_000)?;
    check(&["2", "3000000"], 2, 3_000_000)?;
    check(&["100", "1"], 100, 1)?;
    check(&["1000", "10"], 1000, 10)?;
    check(&["1100", "10"], 1100, 10) // more than an ordinary queue has slots
}

fn help_tells_how_to_call_it() -> Result<()> {
    Ok(check_help(PROGRAM, &ARGUMENTS)?)
}

fn a_bad_argument_is_named_and_nothing_is_forked() -> Result<()> {
    Ok(check_bad_arguments(PROGRAM, &ARGUMENTS)?)
}

fn more_workers_than_any_queue_has_slots_is_an_error() -> Result<()> {
    let absurd =
        [("1000000000000000", "cannot make a queue"), ("18446744073709551615", "too many WORKERS")];
    for (workers, problem) in absurd {
        let ran = run(PROGRAM, &[workers])?;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(problem), "{ran:?}");
    }
    Ok(())
}

fn a_refused_fork_is_an_error_and_leaves_nothing_running() -> Result<()> {
    // Two children start, and would count for years.
    Ok(check_refused_fork(PROGRAM, &["5", "18446744073709551615"], 3)?)
}
