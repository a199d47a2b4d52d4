//! Programs that end in a deadlock, or must not, each in a tree of processes of its own.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::process::{Child, Command, Stdio};

use crate::program::Ran;

/// Tells the binary, started anew, which program to run, and its number.
pub const PROGRAM: &str = "FORK_HARNESS_PROGRAM";

/// How many programs run side by side: most of them sleep.
const AT_ONCE: usize = 24;

/// What is to be known of a deadlock.
#[derive(Debug)]
pub struct Expected {
    /// Who waits for one another.
    pub circle: Vec<String>,
    /// How many processes there are, all of which are to give up.
    pub processes: u32,
}

/// Where this is a binary started anew for a program: runs it, and ends. Called first in `main`.
pub fn run_program<E: std::fmt::Debug>(programs: &dyn Fn(&str, u64) -> Result<(), E>) {
    let Ok(program) = std::env::var(PROGRAM) else { return };
    let (name, number) = program.split_once(' ').expect("a name and a number");
    if let Err(error) = programs(name, number.parse().expect("a number")) {
        eprintln!("Error: {error:?}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

/// Says that a call of this process gave up because of a deadlock.
pub fn gave_up(process: &str) {
    println!("gave up: {process}");
}

/// Runs a program of this binary. With `quiet`, a deadlock is looked for after so many milliseconds
/// without a change.
pub fn run(name: &str, number: u64, quiet: Option<u32>) -> io::Result<Ran> {
    ended(start(name, number, quiet)?)
}

fn start(name: &str, number: u64, quiet: Option<u32>) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(PROGRAM, format!("{name} {number}")).env_remove("RUST_BACKTRACE");
    if let Some(quiet) = quiet {
        command.env("DEADLOCK_REPORT", quiet.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn ended(child: Child) -> io::Result<Ran> {
    let output = child.wait_with_output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Ok(Ran { code: output.status.code(), stdout, stderr })
}

/// Runs the program `name` with each of these numbers, and hands what it printed to `check`.
fn each<E: From<io::Error>>(
    name: &str,
    mut numbers: Range<u64>,
    mut check: impl FnMut(u64, Ran) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let batch: Vec<u64> = numbers.by_ref().take(AT_ONCE).collect();
        if batch.is_empty() {
            return Ok(());
        }
        // At once, with no quiet time: what is certain then is certain after one, too.
        let start = |&number: &u64| Ok((number, start(name, number, Some(0))?));
        let children = batch.iter().map(start).collect::<io::Result<Vec<_>>>()?;
        for (number, child) in children {
            check(number, ended(child)?)?;
        }
    }
}

/// Checks that each program `deadlocking` ends in one report, with the right circle, and that every
/// process gives up.
pub fn check_deadlocks<E: From<io::Error>>(
    numbers: Range<u64>,
    expected: impl Fn(u64) -> Expected,
) -> Result<(), E> {
    let count = numbers.end - numbers.start;
    each("deadlocking", numbers, |number, ran| {
        let Expected { circle, processes } = expected(number);
        assert_eq!(ran.code, Some(0), "program {number}: {ran:?}");
        let told = |start: &'static str| {
            ran.stderr.lines().filter_map(move |line| line.strip_prefix(start))
        };
        assert_eq!(told("deadlock: ").count(), 1, "program {number}: {ran:?}");
        let parts: Vec<&str> = told("the circle: ").flat_map(|line| line.split(", and ")).collect();
        let names = |part: &&str| part.split(' ').next().unwrap_or_default().to_string();
        let found: BTreeSet<String> = parts.iter().map(names).collect();
        assert_eq!(found, circle.iter().cloned().collect(), "program {number}: {ran:?}");
        assert_eq!(parts.len(), circle.len(), "program {number}: {ran:?}");
        assert_eq!(told("  ").count(), processes as usize, "program {number}: {ran:?}");
        let gave_up: BTreeSet<&str> = ran.stdout.lines().collect();
        assert_eq!(gave_up.len(), processes as usize, "program {number}: {ran:?}");
        Ok(())
    })?;
    println!("## {count} deadlocks, each reported once, with its circle");
    Ok(())
}

/// Checks that each program `finishing` comes to its end, without a word.
pub fn check_finishing<E: From<io::Error>>(numbers: Range<u64>) -> Result<(), E> {
    let count = numbers.end - numbers.start;
    each("finishing", numbers, |number, ran| {
        assert_eq!(ran.code, Some(0), "program {number}: {ran:?}");
        assert_eq!(ran.stderr, "", "program {number}");
        Ok(())
    })?;
    println!("## {count} programs came to their end");
    Ok(())
}
