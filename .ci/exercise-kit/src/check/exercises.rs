//! The twelve exercises, easy to hard, and what is checked of each.

use std::collections::BTreeSet;

use super::judge::{NOT_DONE, Symptom, Verdict};
use super::run::Seen;
use crate::lab;

/// An exercise: where it lies, and how it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Exercise {
    /// The name of its directory.
    pub name: &'static str,
    /// The crate in whose directory it lies.
    pub package: &'static str,
    /// The symptom of the starter, and that of the tempting fix.
    pub symptoms: [&'static str; 2],
    /// What its children wait for where they wait at a queue.
    pub waits_for: &'static str,
    /// Judges what its program did.
    pub judge: fn(&Seen) -> Verdict,
}

/// All of them.
pub const EXERCISES: &[Exercise] = &[
    Exercise {
        name: "zombie",
        package: "common",
        symptoms: ["zombie", "one at a time"],
        waits_for: "",
        judge: zombie,
    },
    Exercise {
        name: "lost-update",
        package: "shared-value",
        symptoms: ["lost updates", "lost updates"],
        waits_for: "",
        judge: lost_update,
    },
    Exercise {
        name: "slow-lock",
        package: "shared-value",
        symptoms: ["one at a time", "lost updates"],
        waits_for: "",
        judge: slow_lock,
    },
    Exercise {
        name: "tennis",
        package: "pipe-demo",
        symptoms: ["deadlock", NOT_DONE],
        waits_for: "",
        judge: tennis,
    },
    Exercise {
        name: "start-together",
        package: "pipe-demo",
        symptoms: ["false start", "false start"],
        waits_for: "",
        judge: start_together,
    },
    Exercise {
        name: "join-before-drain",
        package: "queue-demo",
        symptoms: ["deadlock", "deadlock"],
        waits_for: "for room in the queue",
        judge: join_before_drain,
    },
    Exercise {
        name: "one-sentinel",
        package: "queue-demo",
        symptoms: ["deadlock", "lost items"],
        waits_for: "for an item in the queue",
        judge: one_sentinel,
    },
    Exercise {
        name: "missing-end-of-file",
        package: "pipe-demo",
        symptoms: ["no end of file", "lost messages"],
        waits_for: "",
        judge: missing_end_of_file,
    },
    Exercise {
        name: "torn-messages",
        package: "pipe-demo",
        symptoms: ["torn message", "lost messages"],
        waits_for: "",
        judge: torn_messages,
    },
    Exercise {
        name: "killed-holder",
        package: "shared-value",
        symptoms: ["gave up", "half-done change"],
        waits_for: "",
        judge: killed_holder,
    },
    Exercise {
        name: "worker-dies",
        package: "queue-demo",
        symptoms: ["lost items", "lost items"],
        waits_for: "for an item in the queue",
        judge: worker_dies,
    },
    Exercise {
        name: "imap-in-order",
        package: "queue-demo",
        symptoms: ["out of order", "everything first"],
        waits_for: "for an item in the queue",
        judge: imap_in_order,
    },
];

/// Four bursts of three requests, and no zombie between them.
fn zombie(seen: &Seen) -> Verdict {
    seen.together(12)?;
    seen.by_children("work", 12)?;
    seen.times("idle", 4)?;
    if let Some((_, zombies)) = seen.told("idle").find(|(_, zombies)| !zombies.is_empty()) {
        let most = seen.told("idle").map(|(_, pids)| pids.split(' ').count()).max().unwrap_or(0);
        let mut symptom = Symptom::new("zombie", format!("{zombies} in state Z"));
        symptom.evidence.push(format!("{most} at the most, all children of {}", seen.main));
        return Err(symptom);
    }
    Ok("12 children answered, three at a time, and none was a zombie when the server rested".into())
}

fn lost_update(seen: &Seen) -> Verdict {
    seen.together(2)?;
    seen.by_children("pause", 2)?;
    seen.times("pause", 100)?;
    no_update_lost(seen.result()?, 100)?;
    Ok("two processes paused in every one of 100 updates, and none was lost".into())
}

fn slow_lock(seen: &Seen) -> Verdict {
    seen.together(2)?;
    seen.by_children("work", 2)?;
    seen.times("work", 10)?;
    no_update_lost(seen.result()?, 2 * (1 + 4 + 9 + 16 + 25))?;
    Ok("two processes computed at the same time, five times each, and the total is right".into())
}

fn no_update_lost(found: u64, expected: u64) -> Result<(), Symptom> {
    if found > expected {
        return Err(Symptom::new("wrong result", format!("{found} instead of {expected}")));
    }
    if found == expected {
        return Ok(());
    }
    let mut symptom = Symptom::new("lost updates", format!("{} of {expected}", expected - found));
    symptom.evidence.push(format!("the value ended at {found} instead of {expected}"));
    Err(symptom)
}

fn tennis(seen: &Seen) -> Verdict {
    seen.by_children("work", 1)?;
    let returned = seen.numbers("work").next().unwrap_or(0);
    if (returned, seen.result()?) != (10, 10) {
        let detail = format!("{returned} of 10 balls came back");
        return Err(Symptom::new("wrong result", detail));
    }
    Ok("ten balls went to and fro, and the other player ended by itself".into())
}

/// Nobody begins before all are ready.
fn start_together(seen: &Seen) -> Verdict {
    let mut ready = BTreeSet::new();
    for record in &seen.records {
        match &*record.what {
            "ready" => drop(ready.insert(record.pid)),
            "begin" if ready.len() < 3 => {
                let detail = format!("{} began when {} of 3 were ready", record.pid, ready.len());
                return Err(Symptom::new("false start", detail));
            }
            _ => {}
        }
    }
    seen.by_children("ready", 3)?;
    seen.by_children("begin", 3)?;
    Ok("three processes began, and each after all three were ready".into())
}

fn join_before_drain(seen: &Seen) -> Verdict {
    let items = lab::items(seen.secret);
    seen.by_children("work", 1)?;
    every_item(seen, "work", 0..items)?;
    every_item(seen, "received", 0..items)?;
    // Four in the queue, one on its way in and one on its way out.
    if most_on_their_way(seen, "work") > 6 {
        let detail = "more items were on their way than four slots hold";
        return Err(Symptom::new("queue enlarged", detail));
    }
    if seen.result()? != (0..items).sum() {
        return Err(Symptom::new("wrong result", format!("the total is not {}", seen.result()?)));
    }
    Ok(format!("{items} items went through four slots, and the total is right"))
}

fn one_sentinel(seen: &Seen) -> Verdict {
    let items = lab::items(seen.secret);
    seen.together(3)?;
    every_item(seen, "work", 0..items)?;
    seen.by_children("done", 3)?;
    Ok(format!("three consumers shared {items} items, and each learned of the end"))
}

fn missing_end_of_file(seen: &Seen) -> Verdict {
    seen.together(3)?;
    every_message(seen, 3, 4)?;
    Ok("twelve messages of three processes arrived, then the end of file".into())
}

fn torn_messages(seen: &Seen) -> Verdict {
    seen.together(2)?;
    seen.by_children("pause", 2)?;
    if seen.told("pause").count() < 10 {
        return Err(Symptom::new(NOT_DONE, "fewer pauses than messages"));
    }
    every_message(seen, 2, 5)?;
    Ok("ten messages of two processes arrived whole".into())
}

fn killed_holder(seen: &Seen) -> Verdict {
    seen.together(2)?;
    seen.times("dies", 1)?;
    let survivor = seen.told("work").count();
    if survivor < 5 {
        let detail = format!("the other clerk made {survivor} of 5 transfers");
        return Err(Symptom::new("gave up", detail));
    }
    let money = seen.result()?;
    if money != 1000 {
        return Err(Symptom::new("half-done change", format!("{money} of 1000 is left")));
    }
    Ok("one clerk died with the lock, the other made its five transfers, no money is lost".into())
}

fn worker_dies(seen: &Seen) -> Verdict {
    let items = lab::items(seen.secret);
    seen.together(3)?;
    seen.times("dies", 1)?;
    let results: Vec<_> = seen.numbers("received").collect();
    if results.len() as u64 > items {
        return Err(Symptom::new("twice", format!("{} results of {items} items", results.len())));
    }
    if let Some(item) = (0..items).find(|item| !results.contains(&(item * item))) {
        return Err(Symptom::new("lost items", format!("the result of item {item} never arrived")));
    }
    Ok(format!("a worker died, and all {items} results are there"))
}

fn imap_in_order(seen: &Seen) -> Verdict {
    seen.together(3)?;
    let received: Vec<_> = seen.numbers("received").collect();
    if let Some(pair) = received.windows(2).find(|pair| pair[0] > pair[1]) {
        let detail = format!("{} came before {}", pair[0], pair[1]);
        return Err(Symptom::new("out of order", detail));
    }
    every_item(seen, "received", 0..12)?;
    every_item(seen, "work", 0..12)?;
    let most = most_on_their_way(seen, "taken");
    if most > 6 {
        let detail = format!("{most} items were taken up before the first result was handed out");
        return Err(Symptom::new("everything first", detail));
    }
    Ok("three processes worked, at most six items ahead, and all results came in order".into())
}

/// Checks that each of `items` was told, and once.
fn every_item(seen: &Seen, word: &str, items: impl Iterator<Item = u64>) -> Result<(), Symptom> {
    let mut told: Vec<_> = seen.numbers(word).collect();
    told.sort();
    if let Some(pair) = told.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Symptom::new("twice", format!("{word} {} came twice", pair[0])));
    }
    let missing: Vec<_> =
        items.filter(|item| !told.contains(item)).map(|item| item.to_string()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Symptom::new("lost items", format!("{} never arrived ('{word}')", missing.join(", "))))
}

/// How many items were begun (`word`) and not yet received, at the most.
fn most_on_their_way(seen: &Seen, word: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for record in &seen.records {
        match record.what.split(' ').next() {
            Some("received") => now = now.saturating_sub(1),
            Some(first) if first == word => now += 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

/// Checks that so many children sent so many messages each, and that each arrived whole.
fn every_message(seen: &Seen, writers: usize, each: usize) -> Result<(), Symptom> {
    let sent: BTreeSet<_> = seen.told("sent").map(|(_, message)| message).collect();
    let received: Vec<_> = seen.told("received").map(|(_, message)| message).collect();
    if let Some(torn) = received.iter().find(|message| !sent.contains(*message)) {
        let mut symptom = Symptom::new("torn message", format!("nobody sent '{torn}'"));
        let whole = received.iter().filter(|message| sent.contains(*message)).count();
        symptom.evidence.push(format!("{whole} of {} messages arrived whole", sent.len()));
        return Err(symptom);
    }
    seen.by_children("sent", writers)?;
    seen.times("sent", writers * each)?;
    let lost = sent.iter().filter(|message| !received.contains(message)).count();
    if lost > 0 {
        let detail = format!("{lost} of {} never arrived", sent.len());
        return Err(Symptom::new("lost messages", detail));
    }
    Ok(())
}
