//! What is wrong with a program, judged by what was seen of it.

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::process::ExitStatusExt;

use super::run::{End, Limits, Seen};

/// What is wrong, in the words of a diagnosis.
#[derive(Clone, Debug, PartialEq)]
pub struct Symptom {
    /// Its name, one of a few.
    pub name: &'static str,
    /// What was seen: numbers, pids.
    pub detail: String,
    /// More of that, by the line.
    pub evidence: Vec<String>,
}

impl Symptom {
    /// A symptom without more evidence than its detail.
    pub fn new(name: &'static str, detail: impl Into<String>) -> Symptom {
        Symptom { name, detail: detail.into(), evidence: Vec::new() }
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}

/// What a judge of an exercise says: a sentence on what was checked, or what is wrong.
pub type Verdict = Result<String, Symptom>;

/// The first line of what the library reports when every process waits.
const DEADLOCK_REPORT: &str = "deadlock: every process waits";

/// Judges a program: first how it ended, and that it left nothing behind, which holds for all
/// exercises; then, with `judge`, what the exercise is about.
pub fn judge(seen: &Seen, judge: fn(&Seen) -> Verdict, limits: Limits) -> Verdict {
    let ended = ended(seen, limits).and_then(|()| left_behind(seen));
    let verdict = ended.and_then(|()| match (judge(seen), how_it_failed(seen)) {
        // Where work is missing, the failure is the reason; any other symptom says more than it.
        (Err(symptom), Some(failed)) if symptom.name == NOT_DONE => {
            Err(Symptom { evidence: vec![symptom.to_string()], ..failed })
        }
        (Ok(_), Some(failed)) => Err(failed),
        (verdict, _) => verdict,
    });
    verdict.map_err(|mut symptom| {
        if symptom.name != "deadlock" || symptom.evidence.is_empty() {
            let stderr: Vec<_> = seen.stderr.lines().collect();
            let last = stderr.iter().skip(stderr.len().saturating_sub(5));
            symptom.evidence.extend(last.map(|line| format!("stderr: {line:.200}")));
        }
        symptom
    })
}

fn ended(seen: &Seen, limits: Limits) -> Result<(), Symptom> {
    if let Some(start) = seen.stderr.find(DEADLOCK_REPORT) {
        let lines = seen.stderr[start..].lines().take(20);
        let report: Vec<_> = lines.map(|line| format!("{line:.200}")).collect();
        let detail = report.get(1).map_or("", |line| line.trim()).to_string();
        return Err(Symptom { evidence: report, ..Symptom::new("deadlock", detail) });
    }
    Err(match &seen.end {
        End::Status(_) => return Ok(()),
        End::Still(lines, no_end_of_file) => {
            let name = match no_end_of_file {
                true => "no end of file",
                false if lines.iter().any(|line| line.contains("is stopped")) => "stopped",
                false => "deadlock",
            };
            Symptom { evidence: lines.clone(), ..Symptom::new(name, in_short(lines)) }
        }
        End::TimedOut => {
            Symptom::new("timed out", format!("still running after {:?}", limits.time))
        }
        End::Processes(count) => Symptom::new(
            "too many processes",
            format!("{count} at the same time, {} are allowed", limits.processes),
        ),
        End::Output => {
            let detail = format!("more than {} bytes were printed or told", limits.output);
            Symptom::new("too much output", detail)
        }
    })
}

/// What the parent waits for, and what that waits for: `parent 1 waits for process 2 to end, which
/// waits for room in the queue`.
fn in_short(lines: &[String]) -> String {
    let Some(parent) = lines.first() else { return "there is no process".into() };
    let of_child =
        |pid: &str| lines.iter().find_map(|line| line.strip_prefix("child ")?.strip_prefix(pid));
    let child =
        parent.split_once("for process ").and_then(|(_, rest)| rest.strip_suffix(" to end"));
    match child.and_then(of_child) {
        Some(child) => format!("{parent}, which{child}"),
        None => parent.clone(),
    }
}

fn how_it_failed(seen: &Seen) -> Option<Symptom> {
    let End::Status(status) = &seen.end else { return None };
    let how = match (status.code(), status.signal()) {
        (Some(0), _) => return None,
        (Some(code), _) => format!("the program exited with {code}"),
        (None, signal) => format!("the program was killed by signal {}", signal.unwrap_or(0)),
    };
    Some(Symptom::new("failed", how))
}

fn left_behind(seen: &Seen) -> Result<(), Symptom> {
    if seen.left.is_empty() {
        return Ok(());
    }
    let pids: Vec<_> = seen.left.iter().map(u32::to_string).collect();
    let detail = format!("the program ended and had not waited for {}", pids.join(", "));
    Err(Symptom::new("left behind", detail))
}

/// The name of the symptom that work was not done, or not by those who should.
pub const NOT_DONE: &str = "work not done";

/// What judges look at.
impl Seen {
    /// What followed `word` in each record that begins with it, and who told it.
    pub fn told<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (u32, &'a str)> {
        self.records.iter().filter_map(move |record| {
            let rest = record.what.strip_prefix(word)?;
            (rest.is_empty() || rest.starts_with(' ')).then_some((record.pid, rest.trim_start()))
        })
    }

    /// The same as numbers.
    pub fn numbers<'a>(&'a self, word: &'a str) -> impl Iterator<Item = u64> {
        self.told(word).filter_map(|(_, number)| number.parse().ok())
    }

    /// Checks that at least so many different children told `word`.
    pub fn by_children(&self, word: &str, at_least: usize) -> Result<(), Symptom> {
        let children: BTreeSet<_> =
            self.told(word).map(|(pid, _)| pid).filter(|&pid| pid != self.main).collect();
        let count = children.len();
        if count >= at_least {
            return Ok(());
        }
        let detail = format!("{count} of {at_least} child processes took part ('{word}')");
        Err(Symptom::new(NOT_DONE, detail))
    }

    /// Checks that `word` was told so many times in all.
    pub fn times(&self, word: &str, expected: usize) -> Result<(), Symptom> {
        let count = self.told(word).count();
        if count == expected {
            return Ok(());
        }
        let detail = format!("'{word}' {count} times instead of {expected}");
        Err(Symptom::new(NOT_DONE, detail))
    }

    /// Checks that so many different children met, and that nobody waited in vain for the others.
    pub fn together(&self, children: usize) -> Result<(), Symptom> {
        if let Some((pid, _)) = self.told("alone").next() {
            let detail = format!("{pid} waited in vain for the others to work at the same time");
            return Err(Symptom::new("one at a time", detail));
        }
        self.by_children("met", children)
    }

    /// The number that the main process told in the end.
    pub fn result(&self) -> Result<u64, Symptom> {
        let result = self.told("result").find(|(pid, _)| *pid == self.main);
        result
            .and_then(|(_, number)| number.parse().ok())
            .ok_or_else(|| Symptom::new(NOT_DONE, "the parent never told a result"))
    }
}
