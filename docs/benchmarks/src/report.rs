//! What a run found, and what is made of it: tables, plots, the book's chapter. All of it comes
//! from [`Results`], so none of it can say something else.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::rows::{Bound, Contender, Row, Target};
use crate::svg::{self, Bar};

/// Everything that a run found; the content of `results.json`.
#[derive(Serialize, Deserialize)]
pub struct Results {
    /// The machine, the versions.
    pub facts: Vec<(String, String)>,
    pub missing: Vec<Missing>,
    pub repetitions: usize,
    /// How long the run took.
    pub seconds: u64,
    pub series: Vec<Series>,
}

/// A peer that could not be measured.
#[derive(Serialize, Deserialize)]
pub struct Missing {
    pub tool: String,
    pub why: String,
    pub way: String,
}

impl Missing {
    pub fn text(&self) -> String {
        format!("{} ({}); to have it: {}", self.tool, self.why, self.way)
    }
}

/// All samples of one contender in one row, or at one point of a growth row.
#[derive(Serialize, Deserialize)]
pub struct Series {
    pub row: String,
    pub contender: String,
    pub point: Option<u64>,
    /// In the row's unit.
    pub runs: Vec<Run>,
    /// Samples that were taken again because too much was stolen.
    pub repeated: u32,
    pub note: String,
}

#[derive(Serialize, Deserialize)]
pub struct Run {
    pub figures: Vec<f64>,
    /// The share of processor time that the host gave to others meanwhile.
    pub stolen: f64,
}

impl Series {
    pub fn new(row: &str, contender: &str, point: Option<u64>) -> Series {
        let (row, contender, note) = (row.into(), contender.into(), String::new());
        Series { row, contender, point, runs: Vec::new(), repeated: 0, note }
    }

    fn sorted(&self, figure: usize) -> Vec<f64> {
        let mut samples: Vec<f64> = self.runs.iter().map(|run| run.figures[figure]).collect();
        samples.sort_by(f64::total_cmp);
        samples
    }

    fn median(&self, figure: usize) -> f64 {
        let samples = self.sorted(figure);
        let half = samples.len() / 2;
        if samples.len() % 2 == 1 {
            samples[half]
        } else {
            (samples[half - 1] + samples[half]) / 2.0
        }
    }

    fn stolen(&self) -> f64 {
        self.runs.iter().map(|run| run.stolen).sum::<f64>() / self.runs.len() as f64
    }
}

impl Results {
    fn find(&self, row: &str, contender: &str, point: Option<u64>) -> Option<&Series> {
        self.series
            .iter()
            .find(|each| each.row == row && each.contender == contender && each.point == point)
    }

    /// The median of a plain row's contender.
    fn median(&self, row: &Row, contender: &str) -> Option<f64> {
        self.find(row.name, contender, None).map(|series| series.median(0))
    }

    fn why_missing(&self, contender: &Contender) -> String {
        let tool = contender.tool.map(|tool| tool.name());
        let missing = self.missing.iter().find(|missing| Some(missing.tool.as_str()) == tool);
        missing.map_or("not measured".into(), |missing| format!("missing: {}", missing.text()))
    }
}

/// Three digits, and as many before the point as there are.
fn short(value: f64) -> String {
    match value {
        _ if value >= 99.95 => format!("{value:.0}"),
        _ if value >= 9.995 => format!("{value:.1}"),
        _ if value >= 0.09995 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// A time in the unit that suits it.
fn time(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")];
    let (scale, name) =
        units.into_iter().find(|(scale, _)| seconds * scale >= 1.0).unwrap_or((1e9, "ns"));
    format!("{}\u{a0}{name}", short(seconds * scale))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A contender's name as it stands in a table: one of Rust's types must not look like HTML.
fn shown(name: &str) -> String {
    if name.contains('<') { format!("`{name}`") } else { name.into() }
}

/// A Markdown table, padded so that it can be read as it is.
fn table(lines: &[Vec<String>]) -> String {
    let columns = lines[0].len();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            widths.iter().for_each(|&width| text += &format!("| {:-<width$} ", ""));
            text.push_str("|\n");
        }
    }
    text
}

fn cells<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(String::from).into()
}

/// The table of one row, under its title.
pub fn row_table(row: &Row, results: &Results) -> String {
    let body = match row.growth {
        None => plain_table(row, results),
        Some((what, points)) => growth_table(row, results, what, points),
    };
    let place = if row.pinned { ", one core" } else { "" };
    format!("### {} ({}{place})\n\n`{}`\n\n{body}", row.title, row.unit.name, row.name)
}

fn plain_table(row: &Row, results: &Results) -> String {
    let mut lines = vec![cells(["", "min", "median", "max", "ours ÷ it", "stolen", "again"])];
    let mut notes = String::new();
    for (index, contender) in row.contenders.iter().enumerate() {
        let Some(series) = results.find(row.name, contender.name, None) else {
            let _ = writeln!(notes, "\n{}: {}", contender.name, results.why_missing(contender));
            continue;
        };
        if !series.note.is_empty() {
            let _ = writeln!(notes, "\n{}: {}", contender.name, series.note);
        }
        for (figure, figure_name) in row.figures.iter().enumerate() {
            let samples = series.sorted(figure);
            let median = series.median(figure);
            let ours = results.find(row.name, row.contenders[0].name, None);
            let ratio = match ours {
                Some(ours) if index > 0 => short(ours.median(figure) / median),
                _ => String::new(),
            };
            lines.push(vec![
                format!("{} {figure_name}", shown(contender.name)).trim().into(),
                short(samples[0]),
                short(median),
                short(samples[samples.len() - 1]),
                ratio,
                percent(series.stolen()),
                series.repeated.to_string(),
            ]);
        }
    }
    table(&lines) + &notes
}

fn growth_table(row: &Row, results: &Results, what: &str, points: &[u64]) -> String {
    let mut head = vec![what.to_string()];
    for contender in &row.contenders {
        head.push(shown(contender.name));
        head.push(format!("each of the {what}"));
    }
    head.push("stolen".into());
    let mut lines = vec![head];
    for &point in points {
        let mut line = vec![point.to_string()];
        let mut stolen = 0_f64;
        for contender in &row.contenders {
            match results.find(row.name, contender.name, Some(point)) {
                Some(series) => {
                    let seconds = row.unit.seconds(series.median(0));
                    line.extend([time(seconds), time(seconds / point as f64)]);
                    stolen = stolen.max(series.stolen());
                }
                None => line.extend(cells(["not measured", ""])),
            }
        }
        line.push(percent(stolen));
        lines.push(line);
    }
    let mut text = table(&lines);
    for contender in &row.contenders {
        if let Some(slope) = slope(row, results, contender) {
            let _ = writeln!(
                text,
                "\n{}: over the upper half of the points the time grows with the number of {what} \
                 to the power of {slope:.2}.",
                contender.name
            );
        }
    }
    text
}

/// The medians of a growth row's contender.
fn curve(row: &Row, results: &Results, contender: &Contender) -> Vec<(f64, f64)> {
    let points = row.growth.map_or(&[][..], |(_, points)| points);
    let median = |&point: &u64| {
        Some((point as f64, results.find(row.name, contender.name, Some(point))?.median(0)))
    };
    points.iter().flat_map(median).collect()
}

/// The power with which the upper half of a curve grows: 1 is a straight line, less is one that
/// begins above zero.
fn slope(row: &Row, results: &Results, contender: &Contender) -> Option<f64> {
    let curve = curve(row, results, contender);
    fitted_power(&curve[curve.len() / 2..])
}

/// The exponent of the power that fits the points best: a line through their logarithms.
fn fitted_power(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < 2 {
        return None;
    }
    let logs = points.iter().map(|(x, y)| (x.ln(), y.ln()));
    let count = points.len() as f64;
    let (sum_x, sum_y) = logs.clone().fold((0.0, 0.0), |sums, (x, y)| (sums.0 + x, sums.1 + y));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let covariance: f64 = logs.clone().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = logs.map(|(x, _)| (x - mean_x).powi(2)).sum();
    Some(covariance / variance)
}

/// A curve counts as straight up to this power.
const STRAIGHT: f64 = 1.1;

/// A target and what was measured.
struct Outcome<'a> {
    row: &'a Row,
    target: &'a Target,
    /// The medians of ours and the peer's.
    found: Option<(f64, f64)>,
}

impl Outcome<'_> {
    /// In the terms of the target.
    fn ratio(&self) -> Option<f64> {
        self.found.map(|(ours, peer)| match self.target.bound {
            Bound::Faster => peer / ours,
            Bound::AtMost | Bound::AtLeast => ours / peer,
        })
    }

    /// How often `bound` is met: 1 is just so, more is better.
    fn reach(&self, bound: f64) -> Option<f64> {
        self.ratio().map(|ratio| match self.target.bound {
            Bound::AtMost => bound / ratio,
            Bound::AtLeast | Bound::Faster => ratio / bound,
        })
    }

    fn must(&self) -> bool {
        let or =
            self.target.or_figure.zip(self.found).is_some_and(|(figure, found)| found.0 >= figure);
        or || self.reach(self.target.must).is_some_and(|reach| reach >= 1.0)
    }

    fn aim(&self) -> bool {
        self.reach(self.target.aim).is_some_and(|reach| reach >= 1.0)
    }

    fn terms(&self, bound: f64) -> String {
        match self.target.bound {
            Bound::AtMost => format!("≤\u{a0}{bound}×"),
            Bound::AtLeast => format!("≥\u{a0}{bound}×"),
            Bound::Faster => format!("{bound}× faster"),
        }
    }

    fn line(&self) -> Vec<String> {
        let Target { peer, must, aim, or_figure, .. } = self.target;
        let unit = self.row.unit.name;
        let or = or_figure.map_or(String::new(), |figure| format!(" or {figure} {unit}"));
        let verdict = match (self.found, self.must(), self.aim()) {
            (None, ..) => "not measured",
            (_, _, true) => "aim met",
            (_, true, _) => "must met",
            _ => "**missed**",
        };
        let with_unit = |value: f64| format!("{}\u{a0}{unit}", short(value));
        vec![
            self.row.title.into(),
            peer.to_string(),
            self.terms(*must) + &or,
            self.terms(*aim),
            self.found.map_or("—".into(), |(ours, _)| with_unit(ours)),
            self.found.map_or("—".into(), |(_, peer)| with_unit(peer)),
            self.ratio().map_or("—".into(), |ratio| format!("{}×", short(ratio))),
            verdict.into(),
        ]
    }
}

fn outcomes<'a>(rows: &'a [Row], results: &Results) -> Vec<Outcome<'a>> {
    let outcome = |row: &'a Row, target: &'a Target| {
        let ours = results.median(row, row.contenders[0].name);
        Outcome { row, target, found: ours.zip(results.median(row, target.peer)) }
    };
    rows.iter().flat_map(|row| row.targets.iter().map(move |target| outcome(row, target))).collect()
}

/// The design's targets beside what was measured.
pub fn targets(rows: &[Row], results: &Results) -> String {
    let outcomes = outcomes(rows, results);
    let head = ["work", "against", "must", "aim", "ours", "it", "reached", ""];
    let mut lines = vec![cells(head)];
    lines.extend(outcomes.iter().map(Outcome::line));
    for row in rows.iter().filter(|row| row.growth.is_some()) {
        let ours = &row.contenders[0];
        let slope = slope(row, results, ours);
        let verdict = match slope {
            None => "not measured",
            Some(slope) if slope <= STRAIGHT => "met",
            Some(_) => "**missed**",
        };
        lines.push(vec![
            format!("{}: {}", row.title, ours.name),
            "a straight line".into(),
            format!("power ≤ {STRAIGHT}"),
            String::new(),
            String::new(),
            String::new(),
            slope.map_or("—".into(), |slope| format!("{slope:.2}")),
            verdict.into(),
        ]);
    }
    let measured = outcomes.iter().filter(|outcome| outcome.found.is_some()).count();
    let must = outcomes.iter().filter(|outcome| outcome.must()).count();
    let aim = outcomes.iter().filter(|outcome| outcome.aim()).count();
    format!(
        "{}\nOf {} ratios, {measured} were measured: {must} meet what they must, {aim} the aim.\n",
        table(&lines),
        outcomes.len(),
    )
}

/// A picture for the chapter.
pub struct Plot {
    pub file: String,
    pub svg: String,
    /// What it shows, for whom cannot see it.
    alt: String,
}

impl Plot {
    fn markdown(&self, directory: &str) -> String {
        format!("![{}]({directory}{})\n", self.alt, self.file)
    }
}

/// All pictures: the targets' first.
pub fn plots(rows: &[Row], results: &Results) -> Vec<Plot> {
    let mut plots = vec![targets_plot(rows, results)];
    plots.extend(rows.iter().flat_map(|row| row_plot(row, results)));
    plots
}

fn targets_plot(rows: &[Row], results: &Results) -> Plot {
    let outcomes = outcomes(rows, results);
    let bar = |outcome: &Outcome| {
        let Outcome { row, target, .. } = outcome;
        let reach = outcome.reach(target.must)?;
        let aim = reach / outcome.reach(target.aim)?;
        let label = format!("{}: {}", row.name, target.peer);
        let text = format!("{}×", short(reach));
        let highlighted = outcome.must();
        Some(Bar { label, value: reach, range: None, mark: Some(aim), text, highlighted })
    };
    let bars: Vec<Bar> = outcomes.iter().flat_map(bar).collect();
    let title = "How far the targets are met";
    let axis = "times what must be reached; orange: reached; the stroke: the aim";
    let alt = format!("{title}: {}", spoken(&bars));
    Plot { file: "targets.svg".into(), svg: svg::bars(title, axis, &bars), alt }
}

fn row_plot(row: &Row, results: &Results) -> Option<Plot> {
    let file = format!("{}.svg", row.name);
    let unit = row.unit.name;
    if let Some((what, _)) = row.growth {
        let lines: Vec<(&str, Vec<(f64, f64)>)> = row
            .contenders
            .iter()
            .map(|contender| (contender.name, curve(row, results, contender)))
            .filter(|(_, curve)| !curve.is_empty())
            .collect();
        let ends = |(name, curve): &(&str, Vec<(f64, f64)>)| {
            let ((x1, y1), (x2, y2)) = (curve[0], curve[curve.len() - 1]);
            format!("{name} from {} {unit} at {x1} to {} {unit} at {x2}", short(y1), short(y2))
        };
        let spoken: Vec<String> = lines.iter().map(ends).collect();
        let alt = format!("{}: {}", row.title, spoken.join("; "));
        return Some(Plot { file, svg: svg::lines(row.title, what, unit, &lines), alt });
    }
    if !row.plotted {
        return None;
    }
    let mut bars = Vec::new();
    for contender in &row.contenders {
        let Some(series) = results.find(row.name, contender.name, None) else { continue };
        for (figure, name) in row.figures.iter().enumerate() {
            let (samples, value) = (series.sorted(figure), series.median(figure));
            let label = format!("{} {name}", contender.name).trim().to_string();
            let range = Some((samples[0], samples[samples.len() - 1]));
            bars.push(Bar {
                label,
                value,
                range,
                mark: None,
                text: short(value),
                highlighted: contender.ours,
            });
        }
    }
    let better = if row.unit.rate { "more is better" } else { "less is better" };
    let axis = format!("{unit}, {better}; the stroke is from the least to the most");
    let alt = format!("{}, in {unit}: {}", row.title, spoken(&bars));
    Some(Plot { file, svg: svg::bars(row.title, &axis, &bars), alt })
}

fn spoken(bars: &[Bar]) -> String {
    let spoken: Vec<String> =
        bars.iter().map(|bar| format!("{} {}", bar.label, bar.text)).collect();
    spoken.join(", ")
}

/// The chapter `measurements.md`, with its plots in `directory`.
pub fn chapter(rows: &[Row], results: &Results, directory: &str) -> String {
    let plots = plots(rows, results);
    let mut facts = vec![cells(["this run", ""])];
    facts.extend(results.facts.iter().map(|(name, value)| vec![name.clone(), value.clone()]));
    let mut text = format!(
        "<!-- Made by docs/benchmarks from results.json. Change it there. -->\n\n\
         # Measurements\n\n\
         What this workspace costs, beside its peers: the system calls and the C library without \
         us, threads, and other libraries. All of it was measured in one run of\n\n\
         ```sh\n\
         cargo run --release --manifest-path docs/benchmarks/Cargo.toml\n\
         ```\n\n\
         which took {} minutes. Each sample is taken in a process of its own. The contenders of a \
         row take turns, {} times, so that whatever else the machine does meets all of them. What \
         they deliver is counted and added up; a wrong sum fails the run. *Stolen* is the share of \
         processor time that the host of a virtual machine gave to others meanwhile; a sample with \
         more than 20 % is taken *again*, up to three times. Ratios are those of medians. On \
         another machine the times differ, and some ratios with them: the further apart its cores \
         are, the more a word in shared memory costs beside a system call. What bounds our side \
         stands in [internals](internals.md#what-bounds-the-speed).\n\n\
         {}\n",
        (results.seconds + 30) / 60,
        results.repetitions,
        table(&facts)
    );
    for missing in &results.missing {
        let _ = writeln!(text, "Not measured: {}.\n", missing.text());
    }
    text += "## The targets\n\n\
             ≤ bounds a time and ≥ a rate, as so many times that of what stands under *against*. Where \
             only *must* is met, the aim is not.\n\n";
    text += &targets(rows, results);
    let _ = write!(text, "\n{}", plots[0].markdown(directory));
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = row.section;
            let _ = write!(text, "\n## {section}\n");
        }
        let _ = write!(text, "\n{}", row_table(row, results));
        let file = format!("{}.svg", row.name);
        if let Some(plot) = plots.iter().find(|plot| plot.file == file) {
            let _ = write!(text, "\n{}", plot.markdown(directory));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::rows;

    #[test]
    fn the_chapter_and_its_plots_are_what_the_results_say() {
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        let results = serde_json::from_str(&read("results/results.json")).unwrap();
        let rows = rows();
        assert_eq!(read("../measurements.md"), chapter(&rows, &results, "benchmarks/results/"));
        for plot in plots(&rows, &results) {
            assert_eq!(read(&format!("results/{}", plot.file)), plot.svg);
        }
    }

    /// Results in which ours takes `ours` and every other contender 1, in the row's unit.
    fn results(row: &Row, ours: f64) -> Results {
        let series = row.contenders.iter().enumerate().map(|(index, contender)| {
            let mut series = Series::new(row.name, contender.name, None);
            let figure = if index == 0 { ours } else { 1.0 };
            series.runs = vec![Run { figures: vec![figure], stolen: 0.0 }];
            series
        });
        let series = series.collect();
        Results { facts: vec![], missing: vec![], repetitions: 1, seconds: 0, series }
    }

    fn verdict(name: &str, ours: f64) -> String {
        let rows = rows();
        let row = rows.iter().find(|row| row.name == name).unwrap();
        outcomes(&rows, &results(row, ours))
            .iter()
            .find(|each| each.row.name == name)
            .unwrap()
            .line()[7]
            .clone()
    }

    #[test]
    fn a_time_is_held_to_its_bounds_from_above() {
        assert_eq!(verdict("round-trip", 0.15), "aim met");
        assert_eq!(verdict("round-trip", 0.4), "must met");
        assert_eq!(verdict("round-trip", 0.6), "**missed**");
    }

    #[test]
    fn a_rate_is_held_to_its_bounds_from_below() {
        assert_eq!(verdict("one-way-1MiB", 0.95), "aim met");
        assert_eq!(verdict("one-way-1MiB", 0.6), "must met");
        assert_eq!(verdict("one-way-1MiB", 0.4), "**missed**");
        assert_eq!(verdict("batch-64", 4.0), "**missed**");
    }

    #[test]
    fn a_program_has_to_be_so_many_times_faster() {
        assert_eq!(verdict("program-queue", 1.0 / 41.0), "aim met");
        assert_eq!(verdict("program-queue", 1.0 / 21.0), "must met");
        assert_eq!(verdict("program-queue", 1.0 / 19.0), "**missed**");
    }

    #[test]
    fn what_was_not_measured_is_named() {
        let rows = rows();
        let row = rows.iter().find(|row| row.name == "queue-1-1").unwrap();
        let mut results = results(row, 1.0);
        results.series.retain(|series| series.contender != "Boost.Interprocess");
        let (tool, why) = ("Boost.Interprocess".into(), "no header".into());
        results.missing.push(Missing { tool, why, way: "install it".into() });
        let expected =
            "Boost.Interprocess: missing: Boost.Interprocess (no header); to have it: install it";
        assert!(row_table(row, &results).contains(expected));
        assert!(targets(&rows, &results).contains("not measured"));
    }

    #[test]
    fn the_power_of_a_curve_is_found() {
        let curve = |power: f64| [1.0_f64, 10.0, 100.0].map(|x| (x, 7.0 * x.powf(power)));
        for power in [0.0, 1.0, 2.0] {
            assert!((fitted_power(&curve(power)).unwrap() - power).abs() < 1e-9);
        }
    }

    #[test]
    fn every_target_names_a_contender_of_its_row_and_no_name_is_used_twice() {
        let rows = rows();
        for row in &rows {
            assert_eq!(
                rows.iter().filter(|other| other.name == row.name).count(),
                1,
                "{}",
                row.name
            );
            assert!(row.contenders[0].ours, "{}", row.name);
            for target in &row.targets {
                let peers =
                    row.contenders.iter().filter(|each| each.name == target.peer && !each.ours);
                assert_eq!(peers.count(), 1, "{}: {}", row.name, target.peer);
            }
        }
    }
}
