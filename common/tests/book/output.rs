//! What a command prints, and what of that may differ from run to run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Builds what the commands of the book run: nothing to do where `cargo test` has built it all.
pub fn build(root: &Path) -> Result<(), String> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--bins", "--examples"]).current_dir(root);
    let directory = built()?;
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.arg("--target-dir").arg(directory.join(".."));
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("cargo build: {other:?}")),
    }
}

/// The directory `target/<profile>`: this test lies in its `deps`.
fn built() -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    test.ancestors().nth(2).map(Path::to_path_buf).ok_or("the test lies in no directory".into())
}

/// Runs `cargo run -p PACKAGE [--example NAME] [ARGUMENTS]`, and returns what a terminal would show:
/// stdout and stderr together.
pub fn run(root: &Path, command: &str) -> Result<String, String> {
    // The picture that a reader gets beside the program, we don't want to have here.
    let drawn = command.strip_prefix("TIMELINE=");
    let timeline = drawn.map(|_| Path::new(env!("CARGO_TARGET_TMPDIR")).join("run.svg"));
    let mut words = command
        .split_whitespace()
        .filter(|&word| word != "--release")
        .skip(if drawn.is_some() { 3 } else { 2 });
    let (Some("-p"), Some(package)) = (words.next(), words.next()) else {
        return Err("it names no package with -p".into());
    };
    let mut words = words.peekable();
    let program = match words.next_if_eq(&"--example") {
        None => built()?.join(package),
        Some(_) => built()?.join("examples").join(words.next().unwrap_or("?")),
    };
    if !program.exists() {
        return Err("there is no such program".into());
    }
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("printed-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let file = File::create(&path).map_err(|error| error.to_string())?;
    let status = file.try_clone().and_then(|copy| {
        // One that hangs is killed.
        let mut limited = Command::new("timeout");
        limited
            .args(["--signal=KILL", "60"])
            .arg(&program)
            .args(words.filter(|&word| word != "--"));
        limited.envs(timeline.map(|file| ("TIMELINE", file)));
        limited.current_dir(root).env_remove("RUST_BACKTRACE").stdout(copy).stderr(file).status()
    });
    let printed = std::fs::read(&path).map_err(|error| error.to_string())?;
    let _ = std::fs::remove_file(&path);
    let printed = String::from_utf8_lossy(&printed).into_owned();
    match status {
        Ok(status) if status.success() => Ok(printed),
        Ok(status) => Err(format!("{status}, after printing:\n{printed}")),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}

/// What a process's number stands behind.
const BEFORE_PID: [&str; 4] = ["pid ", "rocess ID: ", "rocess id: ", "numbers-"];

/// `text` without what differs from run to run: the numbers of processes, seconds, addresses, and
/// what `varies` names: `numbers vary`, `order varies` (of lines), `last line` (only that counts).
pub fn normal(text: &str, varies: &str) -> Result<Vec<String>, String> {
    let mut lines: Vec<String> = text.trim_end().lines().map(String::from).collect();
    let mut addresses = Vec::new();
    for line in &mut lines {
        *line = masked(line, varies.contains("numbers vary"), &mut addresses);
    }
    for word in varies.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "numbers vary" => {}
            "order varies" => lines.sort(),
            "last line" => lines = lines.pop().into_iter().collect(),
            _ => return Err(format!("'{word}' is nothing that can vary")),
        }
    }
    Ok(lines)
}

fn masked(line: &str, numbers: bool, addresses: &mut Vec<String>) -> String {
    let mut masked = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let is_part = |c: char| c.is_ascii_hexdigit() || "x.".contains(c);
        let hexadecimal = number.starts_with("0x");
        let end =
            number.find(|c| !if hexadecimal { is_part(c) } else { c.is_ascii_digit() || c == '.' });
        let (number, after) = number.split_at(end.unwrap_or(number.len()));
        masked.push_str(before);
        if hexadecimal {
            // Equal ones stay equal.
            let known = addresses.iter().position(|address| address == number);
            let index = known.unwrap_or(addresses.len());
            if known.is_none() {
                addresses.push(number.into());
            }
            masked.push_str(&format!("ADDRESS {index}"));
        } else if BEFORE_PID.iter().any(|word| masked.ends_with(word)) {
            masked.push_str("PID");
        } else if numbers || (masked == "--- " && after == " seconds ---") {
            masked.push_str("NUMBER");
        } else {
            masked.push_str(number);
        }
        rest = after;
    }
    masked.push_str(rest);
    // Where numbers vary, so does the room that is left before them.
    if numbers { masked.split_whitespace().collect::<Vec<_>>().join(" ") } else { masked }
}
