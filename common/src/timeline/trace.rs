//! The run in the Chrome trace format, which Perfetto opens.

use std::fmt::Write;

use super::run::{Run, Span};

/// The track of a process that shows what it does, and the one that shows the locks it holds.
const STATE: u32 = 1;
const LOCKS: u32 = 2;

pub fn json(run: &Run) -> String {
    let mut events = Vec::new();
    for process in &run.processes {
        let pid = process.pid;
        events.push(format!(
            r#"{{"ph":"M","name":"process_name","pid":{pid},"args":{{"name":{}}}}}"#,
            quoted(&process.name)
        ));
        for (track, name) in [(STATE, "runs and waits"), (LOCKS, "holds locks")] {
            events.push(format!(
                r#"{{"ph":"M","name":"thread_name","pid":{pid},"tid":{track},"args":{{"name":"{name}"}}}}"#
            ));
        }
        let mut slice = |track: u32, span: &Span| {
            events.push(format!(
                r#"{{"ph":"X","name":{},"pid":{pid},"tid":{track},"ts":{},"dur":{}}}"#,
                quoted(&span.what),
                micros(span.from),
                micros(span.to.saturating_sub(span.from))
            ));
        };
        let end = process.died.as_ref().map_or(process.gone, |died| died.0);
        slice(STATE, &Span { from: process.born, to: end, what: "runs".into() });
        process.waits.iter().for_each(|span| slice(STATE, span));
        process.locks.iter().for_each(|span| slice(LOCKS, span));
        if end < process.gone {
            slice(STATE, &Span { from: end, to: process.gone, what: "ended, not reaped".into() });
        }
        for (time, what) in process.signals.iter().chain(&process.died) {
            events.push(format!(
                r#"{{"ph":"i","s":"p","name":{},"pid":{pid},"tid":{STATE},"ts":{}}}"#,
                quoted(what),
                micros(*time)
            ));
        }
    }
    for (id, message) in run.messages.iter().enumerate() {
        for (phase, (place, time)) in [("s", message.from), ("f", message.to)] {
            events.push(format!(
                r#"{{"ph":"{phase}","bp":"e","cat":"message","id":{id},"name":{},"pid":{},"tid":{STATE},"ts":{}}}"#,
                quoted(&message.what),
                run.processes[place].pid,
                micros(time)
            ));
        }
    }
    format!(
        "{{\"otherData\":{{\"events dropped\":{}}},\"traceEvents\":[\n{}\n]}}\n",
        run.dropped,
        events.join(",\n")
    )
}

/// The format counts in microseconds.
fn micros(nanoseconds: u64) -> String {
    format!("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000)
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
