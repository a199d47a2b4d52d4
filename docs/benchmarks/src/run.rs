//! Takes the samples: each in a fresh process, contenders in turn, again where neighbours disturb.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::REPETITIONS;
use crate::contenders::outside::Tool;
use crate::crew::Sample;
use crate::machine::{self, Ticks};
use crate::report::{self, Missing, Results, Run, Series};
use crate::rows::{Contender, Row, rows};

/// A sample in which neighbours had more of the processor than this is taken again,
const TOO_MUCH_STOLEN: f64 = 0.2;
/// but not more often than this.
const RETRIES: usize = 3;
/// A sample takes a tenth of a second, a few take some seconds: after this it hangs.
const SECONDS_AT_MOST: u32 = 120;

/// Takes one sample here, in a process that does nothing else, and prints it.
pub fn sample(row: &str, contender: &str, number: u64) -> Result<()> {
    let rows = rows();
    let row = rows.iter().find(|each| each.name == row).context("no such row")?;
    let contender = row.contenders.iter().find(|each| each.name == contender);
    // SAFETY: it only sets a timer; when that runs out, the signal ends the process.
    unsafe { libc::alarm(SECONDS_AT_MOST) };
    if row.pinned {
        machine::pin_to_one_core()?;
    }
    let sample = (contender.context("no such contender")?.work)(number)?;
    ensure!(sample.seconds.len() == row.figures.len(), "as many figures as the row has");
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// Measures all `rows`, printing each as it is done.
pub fn all(rows: &[Row], quick: bool) -> Result<Results> {
    let begin = Instant::now();
    let mut facts = machine::facts();
    let missing = prepare(rows, &mut facts)?;
    let mut results = Results { facts, missing, repetitions: 0, seconds: 0, series: Vec::new() };
    results.repetitions = if quick { 2 } else { REPETITIONS };
    let progress = Progress { begin, rows: rows.len() };
    for (index, row) in rows.iter().enumerate() {
        let mut series: Vec<(&Contender, Series)> = Vec::new();
        for contender in &row.contenders {
            if results
                .missing
                .iter()
                .any(|missing| Some(missing.tool.as_str()) == tool_name(contender))
            {
                continue;
            }
            for point in points(row, quick) {
                series.push((contender, Series::new(row.name, contender.name, point)));
            }
        }
        for repetition in 1..=results.repetitions {
            for (contender, series) in &mut series {
                progress.show(index + 1, row, contender, repetition, results.repetitions);
                let number = match series.point {
                    Some(point) => point,
                    None if quick => (contender.amount / 100).max(1),
                    None => contender.amount,
                };
                take(row, number, series, if quick { 0 } else { RETRIES })?;
            }
        }
        results.series.extend(series.into_iter().map(|(_, series)| series));
        progress.clear();
        println!("{}", report::row_table(row, &results));
    }
    results.seconds = begin.elapsed().as_secs();
    Ok(results)
}

fn tool_name(contender: &Contender) -> Option<&'static str> {
    contender.tool.map(Tool::name)
}

/// Gets every tool ready that the rows need; returns those that are missing.
fn prepare(rows: &[Row], facts: &mut Vec<(String, String)>) -> Result<Vec<Missing>> {
    let contenders = rows.iter().flat_map(|row| &row.contenders);
    let tools: BTreeMap<Tool, ()> = contenders.flat_map(|each| Some((each.tool?, ()))).collect();
    let mut missing = Vec::new();
    for tool in tools.into_keys() {
        eprintln!("making ready: {}", tool.name());
        match tool.prepare() {
            Ok(version) => facts.push((tool.name().into(), version)),
            Err(error) if tool == Tool::Workspace => return Err(error),
            Err(error) => {
                let way = tool.way_to_get_it().into();
                let missed = Missing { tool: tool.name().into(), why: format!("{error:#}"), way };
                eprintln!("missing: {}", missed.text());
                missing.push(missed);
            }
        }
    }
    Ok(missing)
}

fn points(row: &Row, quick: bool) -> Vec<Option<u64>> {
    match row.growth {
        None => vec![None],
        Some((_, points)) if quick => {
            points[..points.len() - 2].iter().copied().map(Some).collect()
        }
        Some((_, points)) => points.iter().copied().map(Some).collect(),
    }
}

/// Takes one sample into `series`: of up to `retries` more tries the one with the least stolen.
fn take(row: &Row, number: u64, series: &mut Series, retries: usize) -> Result<()> {
    let mut best: Option<Run> = None;
    for attempt in 0..=retries {
        let before = Ticks::now()?;
        let sample = in_its_own_process(row.name, &series.contender, number)
            .with_context(|| format!("{}: {}", row.name, series.contender))?;
        let stolen = Ticks::now()?.stolen_since(before);
        let figures = sample.seconds.into_iter().map(|seconds| row.unit.of(seconds)).collect();
        series.note = sample.note;
        series.repeated += u32::from(attempt > 0);
        if best.as_ref().is_none_or(|best| stolen < best.stolen) {
            best = Some(Run { figures, stolen });
        }
        if stolen <= TOO_MUCH_STOLEN {
            break;
        }
    }
    series.runs.extend(best);
    Ok(())
}

fn in_its_own_process(row: &str, contender: &str, number: u64) -> Result<Sample> {
    let output = Command::new(std::env::current_exe()?)
        .args(["sample", row, contender, &number.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the sample ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One line on a terminal's stderr, written over again and again.
struct Progress {
    begin: Instant,
    rows: usize,
}

impl Progress {
    fn show(&self, index: usize, row: &Row, contender: &Contender, turn: usize, turns: usize) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let seconds = self.begin.elapsed().as_secs();
        let time = format!("{}:{:02}", seconds / 60, seconds % 60);
        let (rows, row, contender) = (self.rows, row.name, contender.name);
        eprint!("\r\x1b[K{time} row {index} of {rows}, turn {turn} of {turns}: {row}: {contender}");
        let _ = std::io::stderr().flush();
    }

    fn clear(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}
