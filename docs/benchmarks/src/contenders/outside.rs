//! Whole programs: this workspace's, CPython's, C's and C++'s.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::FILES;
use crate::crew::Sample;

/// The article's queue program on a queue that sleeps at once, built with this program.
const PLAIN: &str = "plain-queue-demo";

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// What a contender needs that Cargo does not bring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tool {
    /// The three programs of this workspace, built for release.
    Workspace,
    Python,
    C,
    Boost,
    /// The kernel's POSIX message queues.
    PosixQueues,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Workspace => "this workspace",
            Tool::Python => "CPython",
            Tool::C => "C compiler",
            Tool::Boost => "Boost.Interprocess",
            Tool::PosixQueues => "POSIX message queues",
        }
    }

    pub fn way_to_get_it(self) -> &'static str {
        match self {
            Tool::Workspace => "cargo build --release",
            Tool::Python => "apt-get install python3",
            Tool::C => "apt-get install gcc libc6-dev",
            Tool::Boost => "apt-get install g++ libboost-dev",
            Tool::PosixQueues => "a kernel with CONFIG_POSIX_MQUEUE",
        }
    }

    /// Builds it where it needs to be built, and returns its version; an error says what is missing.
    pub fn prepare(self) -> Result<String> {
        std::fs::create_dir_all(FILES)?;
        match self {
            Tool::Workspace => {
                let top = format!("{HERE}/../../Cargo.toml");
                cargo_build(&["--bins", "--manifest-path", &top, "--target-dir", FILES])?;
                // Beside this program, whose dependencies are built there already.
                let here = std::env::current_exe()?;
                let target = here.parent().and_then(Path::parent).context("no target")?;
                let target = target.to_str().context("a path that is no text")?;
                cargo_build(&["--bin", PLAIN, "--target-dir", target])?;
                let commit = ["-C", HERE, "describe", "--always", "--dirty"];
                Ok(output(Command::new("git").args(commit)).unwrap_or_else(|_| "unknown".into()))
            }
            Tool::Python => output(Command::new("python3").arg("--version")),
            Tool::C => {
                let flags = ["-O2", "-pthread", "peers/programs.c", "-o"];
                output(at_home("cc").args(flags).arg(built("programs")))?;
                let version = output(Command::new("cc").arg("--version"))?;
                Ok(version.lines().next().unwrap_or_default().to_string())
            }
            Tool::Boost => {
                let flags = ["-O2", "-pthread", "peers/message_queue.cpp", "-lrt", "-o"];
                output(at_home("g++").args(flags).arg(built("message_queue")))?;
                output(Command::new(built("message_queue")).arg("--version"))
            }
            Tool::PosixQueues => {
                let limit = std::fs::read_to_string("/proc/sys/fs/mqueue/msg_max")?;
                Ok(format!("fs.mqueue.msg_max = {}", limit.trim()))
            }
        }
    }
}

/// A command that runs beside this crate's `Cargo.toml`, so that what it says names no other place.
fn at_home(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(HERE);
    command
}

fn cargo_build(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    output(at_home(&cargo).args(["build", "--release", "--quiet"]).args(arguments))
}

/// Where what was built for this run is.
fn built(program: &str) -> String {
    format!("{FILES}/{program}")
}

/// What `command` prints on stdout.
pub fn output(command: &mut Command) -> Result<String> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_owned();
    let name = name.to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // A compiler's notes stand before and after the one line that tells.
        let line = said.lines().find(|line| line.contains("error")).or(said.lines().last());
        bail!("{name} ended with {}: {}", output.status, line.unwrap_or("it said nothing"));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_string())
}

/// One of the article's three programs.
#[derive(Clone, Copy)]
pub enum Program {
    Value,
    Pipe,
    Queue,
}

impl Program {
    /// The last line but for what says "done" begins so, and ends with the total.
    fn total(self) -> &'static str {
        match self {
            Program::Value => "Final Data in parent process: 450",
            Program::Pipe => "Main-processing total count: 1000000",
            Program::Queue => "Main-processing total count: 5000000",
        }
    }

    pub fn ours(self, n: u64) -> Result<Sample> {
        let name = match self {
            Program::Value => "shared-value",
            Program::Pipe => "pipe-demo",
            Program::Queue => "queue-demo",
        };
        self.run(&mut Command::new(built(&format!("release/{name}"))), n)
    }

    /// The same program on a plain queue; only for [`Program::Queue`].
    pub fn with_plain_queue(self, n: u64) -> Result<Sample> {
        let beside = std::env::current_exe()?.with_file_name(PLAIN);
        self.run(&mut Command::new(beside), n)
    }

    pub fn in_c(self, n: u64) -> Result<Sample> {
        self.run(Command::new(built("programs")).arg(self.word()), n)
    }

    pub fn in_python(self, n: u64) -> Result<Sample> {
        let script = format!("{HERE}/python/{}_program.py", self.word());
        self.run(Command::new("python3").arg(script), n)
    }

    fn word(self) -> &'static str {
        match self {
            Program::Value => "value",
            Program::Pipe => "pipe",
            Program::Queue => "queue",
        }
    }

    /// Runs the whole program `n` times.
    fn run(self, command: &mut Command, n: u64) -> Result<Sample> {
        let start = Instant::now();
        for _ in 0..n {
            let printed = output(command)?;
            ensure!(printed.lines().any(|line| line == self.total()), "it printed\n{printed}");
        }
        Ok(Sample::new(start.elapsed(), n))
    }
}

/// One primitive of CPython's multiprocessing, by the name that `python/primitives.py` has for it.
pub fn python(primitive: &str, n: u64) -> Result<Sample> {
    let script = format!("{HERE}/python/primitives.py");
    timed(Command::new("python3").args([&script, primitive, &n.to_string()]), n)
}

pub fn boost_numbers(n: u64) -> Result<Sample> {
    timed(Command::new(built("message_queue")).arg(n.to_string()), n)
}

/// A program that prints the seconds that its `n` operations took.
fn timed(command: &mut Command, n: u64) -> Result<Sample> {
    let seconds: f64 = output(command)?.parse()?;
    Ok(Sample { seconds: vec![seconds / n as f64], note: String::new() })
}
