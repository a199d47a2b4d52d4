//! The picture of a run: a row for each process, time from left to right.
//!
//! Its ground is transparent, and its colours stand out from a light page and from a dark one. What
//! they say is said by form as well, for print and for those who see colours in another way: a
//! process that runs is a thick dark bar, one that waits a thin light one, a lock is a line below.

use std::fmt::Write;

use super::run::{Process, Run, Span, time};

const TEXT: &str = "#7a7a7a";
const RUNS: &str = "#0072b2";
const WAITS: &str = "#e69f00";
const LOCKS: &str = "#d55e00";
const MESSAGE: &str = "#7a7a7a";

const WIDTH: f64 = 960.0;
const TOP: f64 = 32.0;
const RIGHT: f64 = 24.0;
/// So many processes and messages are drawn at the most; the others are counted below.
const ROWS: usize = 200;
const ARROWS: usize = 300;
/// What is narrower than this is not drawn.
const NARROW: f64 = 0.25;

struct Picture<'a> {
    run: &'a Run,
    text: String,
    left: f64,
    /// From one row to the next.
    row: f64,
}

pub fn svg(run: &Run) -> String {
    let shown = run.processes.len().min(ROWS);
    let longest = run.processes.iter().take(shown).map(|process| label(process).chars().count());
    let left = 16.0 + 6.8 * longest.max().unwrap_or(0) as f64;
    let row = if shown <= 60 { 24.0 } else { 14.0 };
    let mut picture = Picture { run, text: String::new(), left, row };
    picture.axis(shown);
    for (index, process) in run.processes.iter().take(shown).enumerate() {
        picture.process(index, process);
    }
    let arrows = picture.messages(shown);
    let notes = notes(run, shown, arrows);
    let bottom = TOP + row * shown as f64 + 16.0;
    picture.legend(bottom, &notes);
    let height = bottom + 22.0 + 18.0 * notes.len() as f64;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n\
         <title>{} processes in {}</title>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 6 6\" refX=\"6\" refY=\"3\" markerWidth=\"6\" \
         markerHeight=\"6\" orient=\"auto\"><path d=\"M0,0 L6,3 L0,6 z\" fill=\"{MESSAGE}\"/>\
         </marker></defs>\n{}</svg>\n",
        run.processes.len(),
        time(run.length),
        picture.text
    )
}

/// What the picture leaves out.
fn notes(run: &Run, shown: usize, arrows: usize) -> Vec<String> {
    let mut notes = Vec::new();
    let mut left_out = |count: u64, what: &str| {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    };
    left_out((run.processes.len() - shown) as u64, "more processes are not drawn");
    left_out((run.messages.len() - arrows) as u64, "more messages are not drawn");
    left_out(run.dropped, "events found no room in the log and are missing here");
    notes
}

fn label(process: &Process) -> String {
    const LONGEST: usize = 26;
    match process.name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &process.name[..end]),
        None => process.name.clone(),
    }
}

fn escaped(text: &str) -> String {
    // Some characters XML cannot tell in any way.
    let forbidden = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || "\u{fffe}\u{ffff}".contains(c);
    let text = text.replace(forbidden, "\u{fffd}");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Picture<'_> {
    fn x(&self, time: u64) -> f64 {
        let share = time as f64 / self.run.length as f64;
        self.left + share * (WIDTH - RIGHT - self.left)
    }

    /// The middle of a row.
    fn y(&self, index: usize) -> f64 {
        TOP + self.row * (index as f64 + 0.5)
    }

    /// A line for each round time, with about eight of them.
    fn axis(&mut self, shown: usize) {
        let wanted = self.run.length as f64 / 8.0;
        let decade = 10_f64.powf(wanted.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * decade);
        let step = step.into_iter().find(|&step| step >= wanted).unwrap_or(wanted).max(1.0) as u64;
        let bottom = TOP + self.row * shown as f64;
        for tick in (0..=self.run.length).step_by(step as usize) {
            let x = self.x(tick);
            let _ = writeln!(
                self.text,
                "<path d=\"M{x:.1},{TOP} V{bottom:.1}\" stroke=\"{TEXT}\" stroke-opacity=\"0.3\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                TOP - 6.0,
                time(tick)
            );
        }
    }

    fn bar(&mut self, index: usize, span: &Span, thick: f64, colour: &str, who: &str) {
        let (from, to) = (self.x(span.from), self.x(span.to));
        if to - from < NARROW {
            return;
        }
        let _ = writeln!(
            self.text,
            "<rect x=\"{from:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{thick:.1}\" \
             fill=\"{colour}\"><title>{} {}, {} to {} ({})</title></rect>",
            self.y(index) - thick / 2.0,
            to - from,
            escaped(who),
            escaped(&span.what),
            time(span.from),
            time(span.to),
            time(span.to - span.from)
        );
    }

    fn process(&mut self, index: usize, process: &Process) {
        let (who, y) = (&process.name, self.y(index));
        let _ = writeln!(
            self.text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}<title>{} (pid {})</title></text>",
            self.left - 8.0,
            y + 4.0,
            escaped(&label(process)),
            escaped(who),
            process.pid
        );
        let thick = self.row * 0.5;
        let end = process.died.as_ref().map_or(process.gone, |died| died.0);
        // What it ran is what lies between its waits.
        let mut from = process.born;
        for wait in &process.waits {
            let runs = Span { from, to: wait.from, what: "runs".into() };
            self.bar(index, &runs, thick, RUNS, who);
            self.bar(index, wait, thick * 0.5, WAITS, who);
            from = wait.to;
        }
        self.bar(index, &Span { from, to: end.max(from), what: "runs".into() }, thick, RUNS, who);
        if end < process.gone {
            let zombie = Span { from: end, to: process.gone, what: "is a zombie".into() };
            self.bar(index, &zombie, 2.0, TEXT, who);
        }
        for lock in &process.locks {
            let (from, to) = (self.x(lock.from), self.x(lock.to));
            if to - from >= NARROW {
                let y = y + thick / 2.0 + 2.0;
                let _ = writeln!(
                    self.text,
                    "<path d=\"M{from:.2},{y:.1} H{to:.2}\" stroke=\"{LOCKS}\" stroke-width=\"3\">\
                     <title>{} {}, {} to {}</title></path>",
                    escaped(who),
                    escaped(&lock.what),
                    time(lock.from),
                    time(lock.to)
                );
            }
        }
        let killed = process.died.iter().filter(|died| died.1.starts_with("killed"));
        for (when, what) in process.signals.iter().chain(killed) {
            let _ = writeln!(
                self.text,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"14\" \
                 font-weight=\"bold\" fill=\"{LOCKS}\">×<title>{}: {}, at {}</title></text>",
                self.x(*when),
                y + 5.0,
                escaped(who),
                escaped(what),
                time(*when)
            );
        }
    }

    /// Draws the messages between rows that are shown, and returns how many.
    fn messages(&mut self, shown: usize) -> usize {
        let run = self.run;
        let mut drawn = 0;
        for message in &run.messages {
            let ((from, sent), (to, received)) = (message.from, message.to);
            if from >= shown || to >= shown || drawn == ARROWS {
                continue;
            }
            drawn += 1;
            let _ = writeln!(
                self.text,
                "<path d=\"M{:.1},{:.1} L{:.1},{:.1}\" stroke=\"{MESSAGE}\" stroke-width=\"1\" \
                 stroke-opacity=\"0.8\" marker-end=\"url(#tip)\"><title>{}, {} to {}: {} to {}\
                 </title></path>",
                self.x(sent),
                self.y(from),
                self.x(received),
                self.y(to),
                message.what,
                escaped(&run.processes[from].name),
                escaped(&run.processes[to].name),
                time(sent),
                time(received)
            );
        }
        drawn
    }

    fn legend(&mut self, y: f64, notes: &[String]) {
        let mut x = self.left;
        for (form, name) in [
            (format!("<rect y=\"-10\" width=\"22\" height=\"12\" fill=\"{RUNS}\"/>"), "runs"),
            (format!("<rect y=\"-7\" width=\"22\" height=\"6\" fill=\"{WAITS}\"/>"), "waits"),
            (
                format!("<path d=\"M0,-3 H22\" stroke=\"{LOCKS}\" stroke-width=\"3\"/>"),
                "holds a lock",
            ),
            (format!("<rect y=\"-5\" width=\"22\" height=\"2\" fill=\"{TEXT}\"/>"), "is a zombie"),
            (
                format!("<path d=\"M0,-4 H22\" stroke=\"{MESSAGE}\" marker-end=\"url(#tip)\"/>"),
                "message",
            ),
            (
                format!(
                    "<text x=\"11\" text-anchor=\"middle\" font-size=\"14\" font-weight=\"bold\" \
                     fill=\"{LOCKS}\">×</text>"
                ),
                "signal, or death by one",
            ),
        ] {
            let _ = writeln!(
                self.text,
                "<g transform=\"translate({x:.1},{y:.1})\">{form}<text x=\"28\">{name}</text></g>"
            );
            x += 46.0 + 7.0 * name.len() as f64;
        }
        for (line, note) in notes.iter().enumerate() {
            let y = y + 20.0 + 18.0 * line as f64;
            let _ = writeln!(self.text, "<text x=\"{:.1}\" y=\"{y:.1}\">{note}</text>", self.left);
        }
    }
}
