//! The program as a reader runs it.

use anyhow::Result;
use fork_harness::program::{
    check_bad_arguments, check_counting, check_help, check_refused_fork, run,
};

fork_harness::tests! {
    it_prints_what_the_article_prints,
    it_counts_as_far_as_it_is_told,
    help_tells_how_to_call_it,
    a_bad_argument_is_named_and_nothing_is_forked,
    a_refused_fork_is_an_error_and_leaves_nothing_running,
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_pipe-demo");

fn check(arguments: &[&str], count: u64) -> Result<()> {
    let total = format!("Main-processing total count: {count}");
    check_counting(&run(PROGRAM, arguments)?, [1], count, &[&total, "Main-processing done."]);
    Ok(())
}

fn it_prints_what_the_article_prints() -> Result<()> {
    check(&[], 1_000_000)
}

fn it_counts_as_far_as_it_is_told() -> Result<()> {
    check(&["1"], 1)?;
    check(&["12345678"], 12_345_678)
}

fn help_tells_how_to_call_it() -> Result<()> {
    Ok(check_help(PROGRAM, &["COUNT"])?)
}

fn a_bad_argument_is_named_and_nothing_is_forked() -> Result<()> {
    Ok(check_bad_arguments(PROGRAM, &["COUNT"])?)
}

fn a_refused_fork_is_an_error_and_leaves_nothing_running() -> Result<()> {
    Ok(check_refused_fork(PROGRAM, &[], 1)?)
}
