//! What the events of a run add up to: for each process its life, its waits and its locks, and the
//! messages between them.

use std::collections::{BTreeMap, HashMap};

use super::{Event, Kind};
use crate::deadlock::{What, object};

/// A piece of time, in nanoseconds since the run began, and what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub from: u64,
    pub to: u64,
    pub what: String,
}

#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    pub born: u64,
    /// When its closure returned, or it was killed; with what.
    pub died: Option<(u64, String)>,
    /// When it was reaped, or the run ended.
    pub gone: u64,
    pub waits: Vec<Span>,
    pub locks: Vec<Span>,
    /// Signals that it was sent, and by whom.
    pub signals: Vec<(u64, String)>,
}

/// From one process at one time to another at another, by their places in the list.
#[derive(Debug, PartialEq)]
pub struct Message {
    pub from: (usize, u64),
    pub to: (usize, u64),
    pub what: String,
}

#[derive(Debug)]
pub struct Run {
    pub processes: Vec<Process>,
    pub messages: Vec<Message>,
    pub length: u64,
    /// How many events found no room.
    pub dropped: u64,
}

impl Run {
    /// `events` are in the order of time.
    pub fn new(events: &[Event], until: u64, dropped: u64) -> Run {
        let start = events.first().map_or(until, |event| event.time);
        let length = until.saturating_sub(start).max(1);
        let mut run = Run { processes: Vec::new(), messages: Vec::new(), length, dropped };
        let mut places: HashMap<u32, usize> = HashMap::new();
        // Who put or sent messages and which is the first one after them, by the queue or end and
        // the position of the first of them.
        let mut sent: BTreeMap<(u64, u64), (u64, (usize, u64))> = BTreeMap::new();
        // First the births: a child may have done something before its parent came to note it.
        for event in events.iter().filter(|event| event.kind == Kind::Born) {
            places.insert(event.pid, run.processes.len());
            run.processes.push(Process {
                pid: event.pid,
                name: String::new(),
                born: event.time - start,
                died: None,
                gone: length,
                waits: Vec::new(),
                locks: Vec::new(),
                signals: Vec::new(),
            });
        }
        for event in events {
            let time = event.time - start;
            let [first, second] = event.numbers;
            let Some(&place) = places.get(&event.pid) else { continue };
            let open = |what: String| Span { from: time, to: length, what };
            match event.kind {
                Kind::Named => {
                    let bytes = [first.to_le_bytes(), second.to_le_bytes()].concat();
                    let text = String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string();
                    run.processes[place].name += &text;
                }
                Kind::Leaves => {
                    run.processes[place].died = Some((time, format!("ended with {first}")));
                }
                Kind::Reaped => {
                    let process = &mut run.processes[place];
                    process.gone = time;
                    let signal = first & 0x7f;
                    let died =
                        process.died.get_or_insert((time, format!("killed by signal {signal}")));
                    let end = died.0;
                    for span in process.waits.iter_mut().chain(&mut process.locks) {
                        span.to = span.to.min(end);
                    }
                }
                Kind::Signals => {
                    let by = format!("signal {second} from {}", run.processes[place].name);
                    if let Some(&target) = places.get(&(first as u32)) {
                        run.processes[target].signals.push((time, by));
                    }
                }
                Kind::Waits => {
                    let what = What::from_numbers(second as u8 as u32, first, second >> 8);
                    let name = |pid| Some(run.processes[*places.get(&pid)?].name.clone());
                    let what = match what {
                        What::Join(pid) => format!("to join {}", name(pid).unwrap_or_default()),
                        what => object(what),
                    };
                    run.processes[place].waits.push(open(format!("waits {what}")));
                }
                Kind::GoesOn => {
                    if let Some(wait) = run.processes[place].waits.last_mut() {
                        wait.to = wait.to.min(time);
                    }
                }
                Kind::Locks => {
                    run.processes[place].locks.push(open(format!("holds lock #{}", first as u32)));
                }
                Kind::Unlocks => {
                    let what = format!("holds lock #{}", first as u32);
                    let locks = run.processes[place].locks.iter_mut().rev();
                    if let Some(lock) = locks.into_iter().find(|lock| lock.what == what) {
                        lock.to = lock.to.min(time);
                    }
                }
                Kind::Sends => {
                    let (position, count) = (second >> 16, second & 0xffff);
                    sent.insert((first, position), (position + count, (place, time)));
                }
                Kind::Receives => {
                    let (position, count) = (second >> 16, second & 0xffff);
                    let mut at_or_before = sent.range((first, 0)..=(first, position));
                    let batch = at_or_before.next_back().map(|(_, batch)| *batch);
                    let batch = batch.filter(|(end, from)| position < *end && from.0 != place);
                    if let Some((_, from)) = batch {
                        let what = match count {
                            1 => format!("message {position}"),
                            _ => format!("messages {position} to {}", position + count - 1),
                        };
                        run.messages.push(Message { from, to: (place, time), what });
                    }
                }
                Kind::Born => {}
            }
        }
        run
    }
}

/// A time in the unit that suits it.
pub fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0 => "0".into(),
        1..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{} µs", short(nanoseconds as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", short(nanoseconds as f64 / 1e6)),
        _ => format!("{} s", short(nanoseconds as f64 / 1e9)),
    }
}

fn short(value: f64) -> String {
    let text = if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::messages;

    #[test]
    fn a_message_comes_from_whoever_put_the_batch_that_it_was_in() {
        let event = |time, pid, kind, numbers| Event { time, pid, kind, numbers };
        let born = [1, 2, 3].map(|pid| event(1, pid, Kind::Born, [0, 0]));
        let done = [
            event(2, 1, Kind::Sends, [7, messages(0, 10)]),
            event(3, 2, Kind::Sends, [7, messages(10, 1)]),
            event(4, 3, Kind::Receives, [7, messages(9, 2)]),
            event(5, 3, Kind::Receives, [7, messages(10, 1)]),
            event(6, 3, Kind::Receives, [7, messages(11, 1)]),
            event(7, 3, Kind::Receives, [8, messages(0, 1)]),
        ];
        let run = Run::new(&[&born[..], &done].concat(), 10, 0);
        let from: Vec<_> = run.messages.iter().map(|message| message.from).collect();
        assert_eq!(from, [(0, 1), (1, 2)]);
    }
}
