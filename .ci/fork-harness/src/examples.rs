//! Runs the examples of the package whose tests call this.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No example takes a reader longer than this.
const LIMIT: Duration = Duration::from_secs(5);
/// How often one may try to keep to it, on a machine that other work keeps busy.
const TRIES: u32 = 3;
/// Nor is one much longer than a page: some 60 lines, or 80 with a server and its clients.
const LINES: usize = 85;

/// Runs the example `name` and returns what it printed on stdout.
///
/// An error where it does not exit with 0, or never takes less than 5 seconds. One that hangs is
/// killed by the watchdog of the test, and one that leaves a process behind fails the test.
pub fn run_example(name: &str) -> Result<String, String> {
    let program = built(name)?;
    for _ in 0..TRIES {
        let start = Instant::now();
        let output = Command::new(&program)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let time = start.elapsed();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{printed}example {name} took {time:?}"); // shown where the test fails
        if !output.status.success() {
            return Err(format!("example {name}: {}", output.status));
        }
        if time < LIMIT {
            return Ok(printed);
        }
    }
    Err(format!("example {name} takes longer than {LIMIT:?}"))
}

/// `target/<profile>/examples/NAME`, beside the `deps` in which the test itself lies.
fn built(name: &str) -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = test.parent().and_then(Path::parent).ok_or("the test lies in no directory")?;
    let program = profile.join("examples").join(name);
    if program.exists() {
        return Ok(program);
    }
    Err(format!(
        "{} is not built: `cargo test` and `cargo build --examples` do that, `cargo test --test` \
         does not",
        program.display()
    ))
}

/// Checks that every example says at its top how to run it, what to predict and what to expect,
/// that it is short, has no `unsafe` and does not sleep, and that `tests`, the text of the test
/// target, runs it.
pub fn check_examples(tests: &str) -> Result<(), String> {
    // Cargo sets both for a test that it runs.
    let variable = |name| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let package = variable("CARGO_PKG_NAME")?;
    let directory = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("examples");
    for file in directory.read_dir().map_err(|error| error.to_string())? {
        let path = file.map_err(|error| error.to_string())?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let command = format!("`cargo run -p {package} --example {name}`");
        for part in ["Section \"", &command, "Predict: ", "Expect: "] {
            if !header.contains(part) {
                return Err(format!("the header of example {name} lacks {part}"));
            }
        }
        for word in ["unsafe", "sleep("] {
            if text.contains(word) {
                return Err(format!("example {name} contains {word}"));
            }
        }
        if text.lines().count() > LINES {
            return Err(format!("example {name} has more than {LINES} lines"));
        }
        if !tests.contains(&format!("run(\"{name}\")")) {
            return Err(format!("no test runs example {name}"));
        }
    }
    Ok(())
}
