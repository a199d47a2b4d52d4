//! The report of a deadlock: who waits for what, the circle among them, and the usual cure.

use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Row, What};

/// How many waits the report tells one by one.
const SHOWN: usize = 20;

/// What a row says.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub name: String,
    pub pid: u32,
    pub what: What,
    pub holder: u32,
    pub ends: Vec<u64>,
    pub place: String,
    pub waits: Duration,
}

/// The report, from the rows of a board.
pub(super) fn report(rows: &[Row], now: u64) -> String {
    let waiting = rows.iter().filter(|row| row.waits());
    let processes: Vec<Process> = waiting
        .map(|row| Process {
            name: row.name.get(),
            pid: row.pid.load(Relaxed),
            what: row.what(),
            holder: row.holder.load(Relaxed),
            ends: row.ends.iter().map(|end| end.load(Relaxed)).filter(|&end| end > 0).collect(),
            place: format!("{}:{}", row.file.get(), row.line.load(Relaxed)),
            waits: Duration::from_nanos(now.saturating_sub(row.since.load(Relaxed))),
        })
        .collect();
    text(&processes)
}

/// The whole report: a line for each wait, the circle in one sentence, the usual cure.
pub(super) fn text(processes: &[Process]) -> String {
    let mut text = String::from("deadlock: every process waits, and none of them can go on\n");
    // A thousand workers that wait for the same thing at the same place make one line.
    let mut groups: Vec<(&Process, usize)> = Vec::new();
    for process in processes {
        let alike = |(first, _): &&mut (&Process, usize)| {
            processes.len() > SHOWN && first.what == process.what && first.place == process.place
        };
        match groups.iter_mut().find(alike) {
            Some((_, count)) => *count += 1,
            None => groups.push((process, 1)),
        }
    }
    for (first, count) in groups.iter().take(SHOWN) {
        let _ = match count {
            1 => write!(text, "  {first} waits "),
            _ => write!(text, "  {first} and {} more wait ", count - 1),
        };
        let _ = writeln!(
            text,
            "{}, for {:.1} s, at {}",
            object(first.what, successor(first, processes, &[]).map(|next| &processes[next])),
            first.waits.as_secs_f64(),
            first.place
        );
    }
    if groups.len() > SHOWN {
        let _ = writeln!(text, "  and {} more waits", groups.len() - SHOWN);
    }
    let circle = circle(processes);
    let parts: Vec<String> = circle
        .iter()
        .map(|&(index, next)| {
            let next = next.map(|next| processes[next].name.as_str());
            format!("{} waits {}", processes[index].name, step(processes[index].what, next))
        })
        .collect();
    let _ = writeln!(text, "the circle: {}", parts.join(", and "));
    let kinds: Vec<What> = circle.iter().map(|&(index, _)| processes[index].what).collect();
    let _ = writeln!(text, "the usual cure: {}", cure(&kinds));
    text
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// `queue #3`: the number is the third that its process gave out.
fn short(number: u64) -> u64 {
    number & u64::from(u32::MAX)
}

/// What a process waits for, on its own line.
fn object(what: What, next: Option<&Process>) -> String {
    match (what, next) {
        (What::Join(_), Some(next)) => format!("to join {next}"),
        (What::Join(pid), None) => format!("to join process {pid}"),
        (What::Lock(0), _) => "for a queue's own lock".into(),
        (What::Lock(lock), Some(next)) => format!("for lock #{}, held by {next}", short(lock)),
        (What::Lock(lock), None) => format!("for lock #{}", short(lock)),
        (What::Room(queue, slots), _) => {
            format!("for room in queue #{}, which is full ({slots} of {slots})", short(queue))
        }
        (What::Items(queue), _) => {
            format!("for an item in queue #{}, which is empty", short(queue))
        }
        (What::Tasks(queue), _) => {
            format!("for the tasks of queue #{} to be done", short(queue))
        }
        (What::Send(_), Some(next)) => format!("to send to {next}, whose end is full"),
        (What::Send(_), None) => "to send on a full connection".into(),
        (What::Receive(_), Some(next)) => format!("to receive from {next}"),
        (What::Receive(_), None) => "to receive on a connection".into(),
    }
}

/// The same where nobody knows who could end it.
pub(crate) fn object_alone(what: What) -> String {
    object(what, None)
}

/// What a process waits for, in the sentence about the circle.
fn step(what: What, next: Option<&str>) -> String {
    let missing = |does: &str, queue: u64, nobody: &str| match next {
        Some(next) => format!("for {does} queue #{}, {nobody} while {next} waits", short(queue)),
        None => format!("for {does} queue #{}, {nobody}", short(queue)),
    };
    let next = next.unwrap_or("another process");
    match what {
        What::Join(_) => format!("to join {next}"),
        What::Lock(lock) => format!("for lock #{}, which {next} holds", short(lock)),
        What::Room(queue, _) => missing("room in", queue, "which nobody reads"),
        What::Items(queue) => missing("an item in", queue, "into which nobody puts"),
        What::Tasks(queue) => missing("the tasks of", queue, "which nobody does"),
        What::Send(_) => format!("to send to {next}"),
        What::Receive(_) => format!("to receive from {next}"),
    }
}

/// Who could end this process's wait, given the `path` on which we came to it.
fn successor(process: &Process, processes: &[Process], path: &[usize]) -> Option<usize> {
    let position = |pid: u32| processes.iter().position(|other| other.pid == pid);
    match process.what {
        What::Join(pid) => position(pid),
        What::Lock(_) => position(process.holder),
        What::Send(end) | What::Receive(end) => {
            processes.iter().position(|other| other.ends.contains(&(end ^ 1)))
        }
        What::Room(..) | What::Items(_) | What::Tasks(_) => {
            // A queue is open to all. Whoever waits for the same will not help. Of the others, one
            // who joins should have emptied the queue first, and one who does not should have
            // filled it.
            let joins = |index: &usize| matches!(processes[*index].what, What::Join(_));
            let wanted = |index: &usize| joins(index) != matches!(process.what, What::Items(_));
            let others =
                || (0..processes.len()).filter(|&index| processes[index].what != process.what);
            let on_path = || {
                path.iter().rev().copied().filter(|&index| processes[index].what != process.what)
            };
            on_path()
                .find(wanted)
                .or_else(|| others().find(wanted))
                .or_else(|| on_path().next())
                .or_else(|| others().next())
        }
    }
}

/// Those who wait for one another in a circle, each with who comes next; or, where the first
/// process's wait leads to one that nobody at all could end, that one.
fn circle(processes: &[Process]) -> Vec<(usize, Option<usize>)> {
    let mut path: Vec<usize> = Vec::new();
    let mut index = 0;
    loop {
        if let Some(start) = path.iter().position(|&passed| passed == index) {
            let circle = &path[start..];
            return circle
                .iter()
                .enumerate()
                .map(|(step, &index)| (index, Some(circle[(step + 1) % circle.len()])))
                .collect();
        }
        path.push(index);
        match processes.get(index).and_then(|process| successor(process, processes, &path)) {
            Some(next) => index = next,
            None => return vec![(index, None)],
        }
    }
}

/// What usually helps where the waits of a circle are of these kinds.
fn cure(circle: &[What]) -> &'static str {
    let any = |wanted: fn(&What) -> bool| circle.iter().any(wanted);
    let all = |wanted: fn(&What) -> bool| circle.iter().all(wanted);
    if any(|what| matches!(what, What::Join(_))) {
        return if any(|what| matches!(what, What::Room(..))) {
            "get before you join"
        } else if any(|what| matches!(what, What::Send(_))) {
            "receive before you join"
        } else if any(|what| matches!(what, What::Items(_))) {
            "before you join, put an end mark for each consumer, or close the queue"
        } else if any(|what| matches!(what, What::Receive(_))) {
            "before you join, send what is waited for, or drop your end"
        } else if any(|what| matches!(what, What::Tasks(_))) {
            "before you join, get each task and call done on it"
        } else {
            "drop the guard of the lock before you join"
        };
    }
    if all(|what| matches!(what, What::Lock(_))) {
        "take the locks in the same order everywhere"
    } else if all(|what| matches!(what, What::Items(_) | What::Receive(_))) {
        "let one of them put or send first"
    } else if all(|what| matches!(what, What::Room(..) | What::Send(_))) {
        "let one of them get or receive first"
    } else if any(|what| matches!(what, What::Tasks(_))) {
        "get each task and call done on it, before you wait for all of them"
    } else if !any(|what| matches!(what, What::Lock(_))) {
        "let one of them do first what another one waits for"
    } else {
        "hold no lock while you wait for something else"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, pid: u32, what: What) -> Process {
        let (place, waits) = ("main.rs:1".into(), Duration::from_secs(1));
        Process { name: name.into(), pid, what, holder: 0, ends: Vec::new(), place, waits }
    }

    #[test]
    fn a_writer_that_is_joined_before_its_queue_is_read_is_named_with_the_cure() {
        let text = text(&[
            process("MainProcess", 1, What::Join(2)),
            process("writer", 2, What::Room(7, 64)),
            process("idle", 3, What::Items(8)),
        ]);
        for line in [
            "  MainProcess (pid 1) waits to join writer (pid 2), for 1.0 s, at main.rs:1",
            "  writer (pid 2) waits for room in queue #7, which is full (64 of 64), for 1.0 s, at main.rs:1",
            "the circle: MainProcess waits to join writer, and writer waits for room in queue #7, \
             which nobody reads while MainProcess waits",
            "the usual cure: get before you join",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn the_circle_leaves_out_who_only_waits_for_it() {
        let mut processes = [
            process("MainProcess", 1, What::Join(2)),
            process("first", 2, What::Lock(5)),
            process("second", 3, What::Lock(6)),
        ];
        processes[1].holder = 3;
        processes[2].holder = 2;
        assert_eq!(circle(&processes), [(1, Some(2)), (2, Some(1))]);
        assert_eq!(
            cure(&[What::Lock(5), What::Lock(6)]),
            "take the locks in the same order everywhere"
        );
    }

    #[test]
    fn connections_lead_to_who_holds_the_other_end() {
        let mut processes = [
            process("MainProcess", 1, What::Join(2)),
            process("first", 2, What::Receive(10)),
            process("second", 3, What::Receive(21)),
        ];
        processes[1].ends = vec![10, 20];
        processes[2].ends = vec![11, 21];
        assert_eq!(circle(&processes), [(1, Some(2)), (2, Some(1))]);
    }

    #[test]
    fn a_wait_that_nobody_at_all_could_end_is_said_so() {
        let text = text(&[process("MainProcess", 1, What::Items(7))]);
        let circle =
            "the circle: MainProcess waits for an item in queue #7, into which nobody puts";
        assert!(text.lines().any(|line| line == circle), "{text}");
    }

    #[test]
    fn a_cure_speaks_of_locks_only_where_there_are_some() {
        for circle in [
            &[What::Tasks(1)][..],
            &[What::Join(2), What::Tasks(1)],
            &[What::Items(1), What::Room(2, 4)],
            &[What::Receive(1), What::Send(2)],
        ] {
            assert!(!cure(circle).contains("lock"), "{circle:?}: {}", cure(circle));
        }
    }

    #[test]
    fn thousands_that_wait_alike_make_one_line() {
        let mut processes = vec![process("MainProcess", 1, What::Join(2))];
        processes.extend((2..2002).map(|pid| process("worker", pid, What::Room(7, 64))));
        let text = text(&processes);
        assert!(text.contains("  worker (pid 2) and 1999 more wait for room"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }
}
