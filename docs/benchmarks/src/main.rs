//! Measures this workspace beside its peers, and says how far the design's targets are met.
//!
//! ```text
//! cargo run --release --manifest-path docs/benchmarks/Cargo.toml            all: ten minutes
//! cargo run --release --manifest-path docs/benchmarks/Cargo.toml -- lock    rows that begin so
//! ... -- --list        the rows
//! ... -- --quick       everything once or twice and small: that it works, not how fast it is
//! ... -- --out DIR     where the results go
//! ... -- --report      makes tables and plots anew from the last results
//! ```
//!
//! A run of everything writes `results/results.json`, plots, and the chapter `docs/measurements.md`
//! made from them. Each sample is taken in a process of its own, and the contenders of a row take
//! turns, so that whatever else goes on meets all of them alike.

mod contenders;
mod crew;
mod machine;
mod report;
mod rows;
mod run;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::report::Results;
use crate::rows::Row;

/// How often each contender of a row is measured.
const REPETITIONS: usize = 15;

/// Where a run of everything leaves what the book shows.
const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results");
const CHAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../measurements.md");

#[derive(Default)]
struct Arguments {
    names: Vec<String>,
    quick: bool,
    list: bool,
    report: bool,
    out: Option<PathBuf>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
        let mut arguments = Arguments::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => arguments.quick = true,
                "--list" => arguments.list = true,
                "--report" => arguments.report = true,
                "--out" => {
                    let directory = words.next().context("--out needs a directory")?;
                    arguments.out = Some(directory.into());
                }
                _ if word.starts_with('-') => {
                    bail!("no option {word}: [NAME...] [--list] [--quick] [--report] [--out DIR]")
                }
                _ => arguments.names.push(word),
            }
        }
        Ok(arguments)
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [first, row, contender, number] if first == "sample" => {
            return run::sample(row, contender, number.parse()?);
        }
        _ => {}
    }
    let arguments = Arguments::parse(words.into_iter())?;
    let rows = chosen(&arguments.names)?;
    if arguments.list {
        rows.iter().for_each(|row| println!("{:<24}{}", row.name, row.title));
        return Ok(());
    }
    let everything = arguments.names.is_empty() && !arguments.quick;
    if arguments.report {
        let directory = arguments.out.as_deref().unwrap_or(RESULTS.as_ref());
        let text = fs::read_to_string(directory.join("results.json"))
            .context("no results yet: run without --report first")?;
        return write(&serde_json::from_str(&text)?, arguments.out.as_deref());
    }
    ensure!(!cfg!(debug_assertions), "measure what is built with --release");
    let results = run::all(&rows, arguments.quick)?;
    println!("\n{}", report::targets(&rows, &results));
    if everything || arguments.out.is_some() {
        write(&results, arguments.out.as_deref())?;
    }
    Ok(())
}

/// The rows of these names, or that begin so; without names all.
fn chosen(names: &[String]) -> Result<Vec<Row>> {
    let mut rows = rows::rows();
    for name in names {
        ensure!(rows.iter().any(|row| row.name.starts_with(name)), "no row {name}: see --list");
    }
    let exact: Vec<bool> =
        names.iter().map(|name| rows.iter().any(|row| row.name == name)).collect();
    rows.retain(|row| {
        let fits = |(name, exact): (&String, &bool)| {
            if *exact { row.name == name } else { row.name.starts_with(name) }
        };
        names.is_empty() || names.iter().zip(&exact).any(fits)
    });
    Ok(rows)
}

/// Writes the results, the plots and the chapter: into `out`, or where the book has them.
fn write(results: &Results, out: Option<&Path>) -> Result<()> {
    let (directory, chapter, plots) = match out {
        Some(out) => (out, out.join("measurements.md"), ""),
        None => (RESULTS.as_ref(), CHAPTER.into(), "benchmarks/results/"),
    };
    let rows = rows::rows();
    fs::create_dir_all(directory)?;
    fs::write(directory.join("results.json"), serde_json::to_string_pretty(results)? + "\n")?;
    for plot in report::plots(&rows, results) {
        fs::write(directory.join(&plot.file), plot.svg)?;
    }
    fs::write(&chapter, report::chapter(&rows, results, plots))?;
    eprintln!("written: {} and {}", directory.display(), chapter.display());
    Ok(())
}
