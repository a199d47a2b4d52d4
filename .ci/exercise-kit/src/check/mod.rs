//! `cargo exercise`: builds a student's program, runs it, and names the symptom.

mod exercises;
mod judge;
mod run;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use anyhow::{Context, Result, bail};

pub use exercises::{EXERCISES, Exercise};
pub use judge::{NOT_DONE, Symptom, Verdict, judge};
pub use run::{End, Limits, Record, Seen, run};

const USAGE: &str = "\
Usage: cargo exercise                  the list, with what is solved
       cargo exercise NAME             check one
       cargo exercise --json [NAME]    check all or one, and print a line of JSON for each
       cargo exercise NAME --solution  check the solution instead; --tempting: the wrong one";

/// Which of an exercise's three programs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "these are the names of the files")]
pub enum Program {
    Starter,
    Solution,
    Tempting,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match command(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn command(arguments: &[String]) -> Result<bool> {
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if has("--help") || has("-h") {
        println!("{USAGE}");
        return Ok(true);
    }
    let options = ["--json", "--solution", "--tempting"];
    if let Some(unknown) =
        arguments.iter().find(|a| a.starts_with('-') && !options.contains(&a.as_str()))
    {
        bail!("unknown option '{unknown}'\n{USAGE}");
    }
    let program = match (has("--solution"), has("--tempting")) {
        (true, _) => Program::Solution,
        (_, true) => Program::Tempting,
        _ => Program::Starter,
    };
    let names: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = match names[..] {
        [] => EXERCISES.iter().collect(),
        [name] => vec![find(name)?],
        _ => bail!("one exercise at a time\n{USAGE}"),
    };
    if has("--json") {
        for exercise in chosen {
            println!("{}", exercise.json(&exercise.check(program)?));
        }
        return Ok(true);
    }
    match chosen[..] {
        [exercise] => {
            let verdict = exercise.check(program)?;
            exercise.report(&verdict, program)?;
            Ok(verdict.is_ok())
        }
        _ => list().map(|()| true),
    }
}

fn find(name: &str) -> Result<&'static Exercise> {
    EXERCISES.iter().find(|exercise| exercise.name == name).with_context(|| {
        let names: Vec<_> = EXERCISES.iter().map(|exercise| exercise.name).collect();
        format!("there is no exercise '{name}'; there are {}", names.join(", "))
    })
}

/// What was found when each was checked last, as long as its file has not changed since.
fn list() -> Result<()> {
    for (number, exercise) in EXERCISES.iter().enumerate() {
        let readme = exercise.readme()?;
        let state = exercise.remembered().unwrap_or_else(|| "not checked yet".into());
        println!("{:2}. {:<20} {:>2} min  {state}", number + 1, exercise.name, readme.minutes());
    }
    println!("\nThe task is in CRATE/exercises/NAME/README.md. Check it: cargo exercise NAME");
    Ok(())
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Exercise {
    /// The directory, from the root of the workspace.
    pub fn directory(&self) -> PathBuf {
        Path::new(self.package).join("exercises").join(self.name)
    }

    /// The name of the example that one of its programs is.
    pub fn target(&self, program: Program) -> String {
        let ending = match program {
            Program::Starter => "",
            Program::Solution => "-solution",
            Program::Tempting => "-tempting",
        };
        format!("exercise-{}{ending}", self.name)
    }

    /// Builds the program, runs it, judges it, and remembers the verdict on a starter.
    pub fn check(&self, program: Program) -> Result<Verdict> {
        let source = fs::read(root().join(self.directory()).join("starter.rs"));
        let (path, said) = self.build(program)?;
        eprint!("{said}");
        let verdict = match path {
            Some(path) => self.verdict(&path)?,
            None => Err(Symptom::new("not built", "the compiler says why")),
        };
        if program == Program::Starter {
            self.remember(&source?, &verdict);
        }
        Ok(verdict)
    }

    /// Runs the program at `path` and judges it.
    pub fn verdict(&self, path: &Path) -> Result<Verdict> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let secret = u64::from(now.subsec_nanos()) >> 3;
        let seen = run(&mut Command::new(path), secret, self.waits_for, Limits::EXERCISE)?;
        Ok(judge(&seen, self.judge, Limits::EXERCISE))
    }

    /// Builds the program and returns where it lies, if it could be built, and what the compiler
    /// said.
    pub fn build(&self, program: Program) -> Result<(Option<PathBuf>, String)> {
        let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
        let target = self.target(program);
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--package", self.package, "--example", &target])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(root())
            .output()
            .context("cannot start cargo")?;
        let messages = String::from_utf8_lossy(&built.stdout);
        let after = messages.rsplit_once("\"executable\":\"").map(|(_, after)| after);
        let path = after.and_then(|after| after.split('"').next()).map(PathBuf::from);
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        Ok((path.filter(|_| built.status.success()), said))
    }

    /// Prints the answer to a student.
    fn report(&self, verdict: &Verdict, program: Program) -> Result<()> {
        match verdict {
            Ok(checked) => println!("{}: solved\n  {checked}", self.name),
            Err(symptom) => {
                println!("{}: {symptom}", self.name);
                for line in &symptom.evidence {
                    println!("  {line}");
                }
                println!("\nFirst hint:\n{}", self.readme()?.first_hint()?);
            }
        }
        let target = self.target(program);
        println!("\nRun it by hand: cargo run -p {} --example {target}", self.package);
        Ok(())
    }

    fn json(&self, verdict: &Verdict) -> String {
        let (symptom, detail) = match verdict {
            Ok(checked) => (String::from("null"), checked.clone()),
            Err(symptom) => (quoted(symptom.name), symptom.detail.clone()),
        };
        let evidence = verdict.as_ref().err().map_or(&[][..], |symptom| &symptom.evidence);
        let evidence: Vec<_> = evidence.iter().map(|line| quoted(line)).collect();
        format!(
            "{{\"exercise\":{},\"solved\":{},\"symptom\":{symptom},\"detail\":{},\"evidence\":[{}]}}",
            quoted(self.name),
            verdict.is_ok(),
            quoted(&detail),
            evidence.join(",")
        )
    }

    /// Its README.
    pub fn readme(&self) -> Result<Readme> {
        let path = root().join(self.directory()).join("README.md");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Readme { text })
    }

    fn memory(&self) -> PathBuf {
        root().join("target/exercises").join(self.name)
    }

    fn remember(&self, source: &[u8], verdict: &Verdict) {
        let state = match verdict {
            Ok(_) => "solved".into(),
            Err(symptom) => symptom.to_string(),
        };
        // Where this can't be written, the list knows less, and that is all.
        let _ = fs::create_dir_all(root().join("target/exercises"));
        let _ = fs::write(self.memory(), [state.as_bytes(), b"\n", source].concat());
    }

    fn remembered(&self) -> Option<String> {
        let memory = fs::read(self.memory()).ok()?;
        let source = fs::read(root().join(self.directory()).join("starter.rs")).ok()?;
        let end = memory.iter().position(|&byte| byte == b'\n')?;
        let state = String::from_utf8_lossy(&memory[..end]).into_owned();
        Some(if memory[end + 1..] == source {
            state
        } else {
            "changed since the last check".into()
        })
    }
}

/// What an exercise's README says, found by its form.
#[derive(Debug)]
pub struct Readme {
    /// All of it.
    pub text: String,
}

impl Readme {
    /// How long the exercise takes: the number after `**Minutes:**`.
    pub fn minutes(&self) -> &str {
        let after = self.text.split("**Minutes:** ").nth(1).unwrap_or("?");
        after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or("?")
    }

    /// The hints, each folded away.
    pub fn hints(&self) -> Vec<String> {
        let folded = self.text.split("</summary>").skip(1);
        let hints = folded.filter_map(|rest| rest.split("</details>").next());
        hints.map(|hint| hint.trim().to_string()).collect()
    }

    fn first_hint(&self) -> Result<String> {
        self.hints().into_iter().next().context("the README has no hint")
    }
}

/// `text` as a string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_holds_a_verdict_with_whatever_a_program_printed() {
        let mut symptom = Symptom::new("torn message", "nobody sent '\"\\'");
        symptom.evidence.push("a tab\t".into());
        assert_eq!(
            EXERCISES[0].json(&Err(symptom)),
            r#"{"exercise":"zombie","solved":false,"symptom":"torn message","detail":"nobody sent '\"\\'","evidence":["a tab\u0009"]}"#
        );
        let solved = EXERCISES[0].json(&Ok("all well".into()));
        assert!(
            solved.contains(r#""solved":true,"symptom":null,"detail":"all well","#),
            "{solved}"
        );
    }
}
