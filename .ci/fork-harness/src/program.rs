//! Checks that hold for each of the article's programs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::observe::{has_no_child, unprivileged_user};

/// What a program printed, and the code it exited with (`None`: killed).
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program at `path` to its end; panics if it leaves a process behind.
pub fn run(path: &str, arguments: &[&str]) -> io::Result<Ran> {
    to_its_end(Command::new(path).args(arguments))
}

/// Runs it as a user who may have so many processes, and who has no other where we are root.
pub fn run_limited(path: &str, arguments: &[&str], processes: u32) -> io::Result<Ran> {
    let mut command = Command::new("prlimit");
    // That user may have no access to the directory where the program lies: hand it over open.
    command.stdin(File::open(path)?);
    command.arg(format!("--nproc={processes}")).arg("/proc/self/fd/0").args(arguments);
    if let Some(user) = unprivileged_user() {
        command.uid(user);
    }
    to_its_end(&mut command)
}

fn to_its_end(command: &mut Command) -> io::Result<Ran> {
    // A process that the program leaves behind becomes our child.
    nix::sys::prctl::set_child_subreaper(true)?;
    command.env_remove("RUST_BACKTRACE"); // its errors are read as they are without one
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.spawn()?.wait_with_output()?;
    assert!(has_no_child(), "a process was left behind by {command:?}");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Ok(Ran { code: output.status.code(), stdout, stderr })
}

/// Checks that `--help` prints a usage which names every one of `arguments`.
pub fn check_help(path: &str, arguments: &[&str]) -> io::Result<()> {
    for option in ["--help", "-h"] {
        let ran = run(path, &[option])?;
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{ran:?}");
        assert_eq!(ran.stdout.lines().next(), Some(&*usage(path, arguments)));
        // One line for each argument, with what it means and its default.
        let lines: Vec<_> = ran.stdout.lines().skip(1).collect();
        assert_eq!(lines.len(), arguments.len(), "{ran:?}");
        for (line, argument) in lines.iter().zip(arguments) {
            assert!(line.trim_start().starts_with(argument) && line.contains("default"), "{line}");
        }
    }
    Ok(())
}

/// Checks that bad values in place of each of `arguments`, and one argument too many, are named on
/// stderr, with the usage, before anything is printed or forked.
pub fn check_bad_arguments(path: &str, arguments: &[&str]) -> io::Result<()> {
    let refused = |given: &[&str], named: &[&str]| {
        // With one process allowed, a fork would fail with another code.
        let ran = run_limited(path, given, 1)?;
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{given:?}: {ran:?}");
        let mut lines = ran.stderr.lines();
        let problem = lines.next().unwrap_or_default();
        assert!(named.iter().all(|word| problem.contains(word)), "{given:?}: {problem}");
        assert_eq!(lines.next(), Some(&*usage(path, arguments)));
        io::Result::Ok(())
    };
    for (before, argument) in arguments.iter().enumerate() {
        for bad in ["0", "-1", "abc", "1e9", "", "1.5", "18446744073709551616"] {
            let mut given = vec!["1"; before];
            given.push(bad);
            refused(&given, &[argument, &format!("'{bad}'")])?;
        }
    }
    let mut given = vec!["1"; arguments.len()];
    given.push("77");
    refused(&given, &["'77'", "too many"])
}

/// Checks that a fork which the system refuses ends the program with 1 and an error that says so;
/// [`run_limited`] sees to it that no process is left.
pub fn check_refused_fork(path: &str, arguments: &[&str], processes: u32) -> io::Result<()> {
    let ran = run_limited(path, arguments, processes)?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("the system refuses to fork"), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 1, "only the line with the parent's pid: {ran:?}");
    Ok(())
}

/// Checks what a program printed whose children, of these names, count to `count`: its pid, for each
/// child two lines that stand together, the seconds it took, and `last`.
pub fn check_counting(ran: &Ran, names: impl IntoIterator<Item = u64>, count: u64, last: &[&str]) {
    let mut lines = ran.stdout.lines();
    let mut line = |before, after| -> &str {
        let line = lines.next().and_then(|line| line.strip_prefix(before)?.strip_suffix(after));
        line.unwrap_or_else(|| panic!("no line '{before}...{after}' where it belongs: {ran:?}"))
    };
    let mut pids = vec![line("Parent process id: ", "")];
    let mut names: BTreeSet<_> = names.into_iter().map(|name| name.to_string()).collect();
    while !names.is_empty() {
        let (pid, name) = line("Process ID: ", "").split_once(", Process Name: ").unwrap();
        assert!(names.remove(name), "'{name}' is no child, or was there before: {ran:?}");
        assert_eq!(line("Result: ", ""), count.to_string());
        pids.push(pid);
    }
    assert!(pids.iter().all(|pid| pid.parse::<u32>().is_ok_and(|pid| pid > 0)), "{ran:?}");
    let different: BTreeSet<_> = pids.iter().collect();
    assert_eq!(different.len(), pids.len(), "{ran:?}");
    let seconds: f64 = line("--- ", " seconds ---").parse().unwrap();
    assert!(seconds > 0.0);
    assert_eq!(lines.collect::<Vec<_>>(), last);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
}

/// The first line of a program's usage.
fn usage(path: &str, arguments: &[&str]) -> String {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    format!("Usage: {name} [{}]", arguments.join("] ["))
}
