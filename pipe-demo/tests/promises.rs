//! What a connection promises, tried out on real processes.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::message::{DecodeError, Message, Reader, Writer};
use common::{Process, join_all, spawn};
use fork_harness::watch::{self, Signal, asleep, descriptors, interrupt};
use pipe_demo::ConnectionError::{Closed, NotHere, Timeout};
use pipe_demo::{Connection, ConnectionError, MAX_MESSAGE, one_way};

fork_harness::tests! {
    messages_go_both_ways_between_parent_and_child,
    an_empty_message_is_a_message_and_not_the_end,
    a_large_message_reaches_a_child_whole,
    a_message_beyond_the_limit_is_refused_with_both_sizes,
    iter_ends_when_the_other_end_is_closed,
    send_waits_until_the_other_side_receives,
    every_wait_can_be_bounded,
    a_child_holds_only_the_ends_that_were_moved_into_its_closure,
    a_message_that_was_polled_for_moves_into_the_child_with_its_end,
    whoever_lets_go_of_an_end_closes_it_at_once_although_siblings_live,
    a_death_wakes_the_process_that_already_waits_for_a_message,
    a_death_wakes_the_process_that_already_waits_to_send,
    of_two_children_on_a_line_the_survivor_is_told,
    a_peer_killed_in_the_middle_of_a_message_is_closed_and_no_part_is_received,
    an_end_that_stayed_with_the_parent_is_not_here_and_closes_nothing_foreign,
    an_end_can_be_handed_on_to_a_grandchild,
    an_end_made_in_a_child_belongs_to_the_child,
    signals_do_not_surface,
    without_descriptors_left_pair_and_spawn_say_so,
    descriptors_do_not_grow_over_a_thousand_spawns,
    no_end_survives_exec,
}

/// Longer than anything here takes: where it runs out, something hangs.
const LONG: Duration = Duration::from_secs(10);
/// For waits that are to run out.
const SHORT: Duration = Duration::from_millis(20);
/// More than the kernel holds for a reader that does not read.
const LARGE: usize = 8 << 20;

/// Bytes that show when a part is missing or in the wrong place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// Spawns a child that runs `body` and then lives on until the parent lets go of its leash.
fn leashed<F>(name: &str, body: F) -> Result<(Process, Connection<()>)>
where
    F: FnOnce() -> Result<()> + Send,
{
    let (parents, leash) = Connection::<()>::pair()?;
    let child = spawn(name, move || {
        body()?;
        ensure!(leash.recv() == Err(Closed), "nothing is sent down a leash");
        Ok(())
    })?;
    Ok((child, parents))
}

fn messages_go_both_ways_between_parent_and_child() -> Result<()> {
    let (parent_conn, child_conn) = Connection::<u64, String>::pair()?;
    let child = spawn("speller", move || {
        for number in child_conn.iter() {
            child_conn.send(format!("number {}", number?))?;
        }
        Ok(())
    })?;
    for number in 0..1000 {
        parent_conn.send(number)?;
        assert_eq!(parent_conn.recv()?, format!("number {number}"));
    }
    parent_conn.close();
    child.join()
}

fn an_empty_message_is_a_message_and_not_the_end() -> Result<()> {
    let (receiver, sender) = one_way::<Vec<u8>>()?;
    let child = spawn("sender", move || {
        sender.send(vec![])?;
        sender.send(vec![1])?;
        Ok(sender.send(vec![])?)
    })?;
    assert_eq!(receiver.iter().collect::<Result<Vec<_>, _>>()?, [vec![], vec![1], vec![]]);
    assert_eq!(receiver.recv(), Err(Closed));
    child.join()
}

fn a_large_message_reaches_a_child_whole() -> Result<()> {
    let (parent_conn, child_conn) = Connection::<Vec<u8>>::pair()?;
    let child = spawn("echo", move || {
        let message = child_conn.recv()?;
        ensure!(message == pattern(LARGE), "{} bytes came, not those sent", message.len());
        Ok(child_conn.send(message)?)
    })?;
    parent_conn.send(pattern(LARGE))?;
    assert!(parent_conn.recv()? == pattern(LARGE));
    child.join()
}

/// A message that claims to be a byte longer than any may be.
struct TooLarge;

impl Message for TooLarge {
    fn encoded_len(&self) -> usize {
        MAX_MESSAGE + 1
    }

    fn encode(&self, _: &mut Writer<'_>) {
        unreachable!("it must be refused before");
    }

    fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(TooLarge)
    }
}

fn a_message_beyond_the_limit_is_refused_with_both_sizes() -> Result<()> {
    let (sender, receiver) = Connection::<TooLarge>::pair()?;
    let error = sender.send(TooLarge).unwrap_err();
    let max = MAX_MESSAGE;
    assert_eq!(error, ConnectionError::TooLarge { len: max + 1, max });
    for number in [max, max + 1] {
        assert!(error.to_string().contains(&number.to_string()), "{error}");
    }
    assert_eq!(receiver.poll(SHORT), Ok(false), "nothing of it was sent");
    Ok(())
}

fn iter_ends_when_the_other_end_is_closed() -> Result<()> {
    let (receiver, sender) = one_way::<u64>()?;
    let child = spawn("adder", move || {
        let numbers = receiver.iter().collect::<Result<Vec<_>, _>>()?;
        ensure!(numbers == [1, 2, 3], "got {numbers:?}");
        Ok(())
    })?;
    for number in 1..=3 {
        sender.send(number)?;
    }
    sender.close();
    child.join()
}

fn send_waits_until_the_other_side_receives() -> Result<()> {
    let (receiver, sender) = one_way::<[u64; 128]>()?;
    let child = spawn("sender", move || (0..2000).try_for_each(|n| Ok(sender.send([n; 128])?)))?;
    asleep(child.pid())?;
    for (number, message) in (0..).zip(receiver.iter()) {
        assert_eq!(message?, [number; 128]);
    }
    child.join()
}

fn every_wait_can_be_bounded() -> Result<()> {
    let (parent_conn, child_conn) = Connection::<Vec<u8>>::pair()?;
    let (go, starter) = one_way::<()>()?;
    let child = spawn("late", move || {
        go.recv()?;
        let mut received = 0;
        while !child_conn.recv()?.is_empty() {
            received += 1;
        }
        Ok(child_conn.send(vec![received])?)
    })?;
    assert_eq!(parent_conn.recv_timeout(SHORT), Err(Timeout));
    assert_eq!(parent_conn.poll(SHORT), Ok(false));
    let mut sent = 0;
    while parent_conn.send_timeout(vec![7; 50_000], SHORT).is_ok() {
        sent += 1;
    }
    assert!(sent > 0);
    assert_eq!(parent_conn.send_timeout(vec![7; 50_000], SHORT), Err(Timeout));

    starter.send(())?;
    parent_conn.send_timeout(vec![], LONG)?;
    assert_eq!(parent_conn.poll(LONG), Ok(true));
    assert_eq!(parent_conn.recv_timeout(LONG), Ok(vec![sent]), "those that were sent and no more");
    assert_eq!(parent_conn.poll(LONG), Ok(true), "the end of file is no wait either");
    assert_eq!(parent_conn.recv_timeout(LONG), Err(Closed));
    child.join()
}

/// How many sockets are open in this process.
fn sockets() -> Result<usize> {
    Ok(descriptors()?.iter().filter(|(_, target)| target.starts_with("socket:")).count())
}

fn a_child_holds_only_the_ends_that_were_moved_into_its_closure() -> Result<()> {
    let before = sockets()?;
    let mut pairs = (0..8).map(|_| Connection::<u64>::pair()).collect::<Result<Vec<_>, _>>()?;
    let mut children = Vec::new();
    let mut ours = Vec::new();
    while let Some((parent_conn, child_conn)) = pairs.pop() {
        children.push(spawn(format!("child {}", pairs.len()), move || {
            let open = sockets()? - before;
            ensure!(open == 1, "{open} sockets are open");
            Ok(child_conn.send(1)?)
        })?);
        ours.push(parent_conn);
        assert_eq!(sockets()? - before, ours.len() + 2 * pairs.len(), "the parent kept a copy");
    }
    let none_moved = spawn("none moved", || {
        let open = sockets()? - before;
        ensure!(open == 0, "{open} sockets are open");
        Ok(())
    })?;
    children.push(none_moved);
    join_all(children)
}

fn a_message_that_was_polled_for_moves_into_the_child_with_its_end() -> Result<()> {
    let (parent_conn, child_conn) = Connection::<String>::pair()?;
    parent_conn.send("first".into())?;
    parent_conn.send("second".into())?;
    assert_eq!(child_conn.poll(LONG), Ok(true)); // it is in this process's memory now
    let child = spawn("reader", move || {
        let messages = [child_conn.recv()?, child_conn.recv()?];
        ensure!(messages == ["first", "second"], "{messages:?}");
        Ok(())
    })?;
    child.join()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Drops,
    Exits,
    IsKilled,
}

/// A child, what holds it, and the parent's end of the line to it.
struct Sibling {
    process: Process,
    line: Connection<u64>,
    _leash: Connection<()>,
}

/// What the parent tells a sibling to do; it sends any other number back.
const DROP: u64 = 1;
const EXIT: u64 = 2;

/// Makes pairs (`p`) and spawns children with the first (`f`) or the last (`l`) pair that waits
/// for one, in the order of `plan`.
fn siblings(plan: &str) -> Result<Vec<Sibling>> {
    let mut pairs = Vec::new();
    let mut siblings = Vec::new();
    for step in plan.chars() {
        let (line, child_conn) = match step {
            'p' => {
                pairs.push(Connection::<u64>::pair()?);
                continue;
            }
            'f' => pairs.remove(0),
            _ => pairs.pop().context("the plan has too few pairs")?,
        };
        let (process, leash) = leashed("sibling", move || {
            for order in child_conn.iter() {
                match order? {
                    DROP => break,
                    EXIT => std::process::exit(0),
                    other => child_conn.send(other)?,
                }
            }
            Ok(())
        })?;
        siblings.push(Sibling { process, line, _leash: leash });
    }
    Ok(siblings)
}

fn whoever_lets_go_of_an_end_closes_it_at_once_although_siblings_live() -> Result<()> {
    let plans = ["pppppppppfffffffff", "pfpfpfpfpfpfpfpfpf", "pppplppfplllppflfl"];
    for plan in plans {
        for way in [Way::Drops, Way::Exits, Way::IsKilled] {
            for victim in [0, 4, 8] {
                let told = format!("plan {plan}, sibling {victim} {way:?}");
                lets_go(siblings(plan)?, victim, way).context(told)?;
            }
        }
    }
    Ok(())
}

fn lets_go(mut siblings: Vec<Sibling>, victim: usize, way: Way) -> Result<()> {
    ensure!(siblings.len() == 9);
    let mut victim = siblings.remove(victim);
    match way {
        Way::Drops => victim.line.send(DROP)?,
        Way::Exits => victim.line.send(EXIT)?,
        Way::IsKilled => victim.process.kill()?,
    }
    let received = victim.line.recv_timeout(LONG);
    ensure!(received == Err(Closed), "recv said {received:?}");
    let sent = victim.line.send(7);
    ensure!(sent == Err(Closed), "send said {sent:?}");
    ensure!(way != Way::Drops || victim.process.is_alive(), "it was to live on");
    for sibling in &siblings {
        sibling.line.send(9)?;
        ensure!(sibling.line.recv_timeout(LONG) == Ok(9), "a sibling does not answer");
    }
    Ok(())
}

fn a_death_wakes_the_process_that_already_waits_for_a_message() -> Result<()> {
    let (parent_conn, child_conn) = Connection::<u64>::pair()?;
    let parent = std::process::id();
    let child = spawn("victim", move || {
        asleep(parent)?;
        watch::send(std::process::id(), Signal::SIGKILL)?;
        Ok(child_conn.send(1)?)
    })?;
    assert_eq!(parent_conn.recv(), Err(Closed));
    assert!(child.join().unwrap_err().to_string().contains("killed by SIGKILL"));
    Ok(())
}

fn a_death_wakes_the_process_that_already_waits_to_send() -> Result<()> {
    let (parent_conn, child_conn) = Connection::<Vec<u8>>::pair()?;
    let parent = std::process::id();
    let child = spawn("victim", move || {
        asleep(parent)?;
        watch::send(std::process::id(), Signal::SIGKILL)?;
        child_conn.recv().map(drop)?;
        Ok(())
    })?;
    assert_eq!(parent_conn.send(pattern(LARGE)), Err(Closed));
    assert!(child.join().unwrap_err().to_string().contains("killed by SIGKILL"));
    Ok(())
}

fn of_two_children_on_a_line_the_survivor_is_told() -> Result<()> {
    let (one, other) = Connection::<u64>::pair()?;
    let (report, reporter) = one_way::<bool>()?;
    let survivor = spawn("survivor", move || {
        one.send(1)?;
        Ok(reporter.send(one.recv() == Err(Closed))?)
    })?;
    let (victim, _leash) = leashed("victim", move || {
        ensure!(other.recv() == Ok(1));
        std::mem::forget(other); // it stays open until the process ends
        Ok(())
    })?;
    assert_eq!(report.poll(SHORT), Ok(false), "the line is closed though both ends are held");
    victim.kill()?;
    assert_eq!(report.recv_timeout(LONG), Ok(true));
    survivor.join()
}

fn a_peer_killed_in_the_middle_of_a_message_is_closed_and_no_part_is_received() -> Result<()> {
    for some_parts_arrived in [false, true] {
        let (parent_conn, child_conn) = Connection::<Vec<u8>>::pair()?;
        let child = spawn("victim", move || {
            child_conn.send(b"whole".to_vec())?;
            Ok(child_conn.send(pattern(LARGE))?)
        })?;
        assert_eq!(parent_conn.recv(), Ok(b"whole".to_vec()));
        asleep(child.pid())?; // in the middle of `send`: nothing else makes it wait
        if some_parts_arrived {
            watch::send(child.pid(), Signal::SIGSTOP)?;
            watch::stopped(child.pid())?;
            assert_eq!(parent_conn.poll(SHORT), Ok(false), "it keeps the parts and waits for more");
        }
        child.kill()?;
        assert_eq!(parent_conn.recv(), Err(Closed));
        assert_eq!(parent_conn.recv(), Err(Closed));
        assert!(child.join().unwrap_err().to_string().contains("killed by SIGKILL"));
    }
    Ok(())
}

/// All that can be done with an end says that it is not here.
fn is_not_here(end: &Connection<u64>) -> Result<()> {
    ensure!(end.send(1) == Err(NotHere));
    ensure!(end.send_timeout(1, SHORT) == Err(NotHere));
    ensure!(end.recv() == Err(NotHere));
    ensure!(end.recv_timeout(SHORT) == Err(NotHere));
    ensure!(end.poll(SHORT) == Err(NotHere));
    ensure!(end.iter().next() == Some(Err(NotHere)));
    Ok(())
}

fn an_end_that_stayed_with_the_parent_is_not_here_and_closes_nothing_foreign() -> Result<()> {
    let (mut lent, other) = Connection::<u64>::pair()?;
    let (locked, _other) = Connection::<u64>::pair()?;
    let locked = Arc::new(Mutex::new(locked));
    let theirs = Arc::clone(&locked);
    let parents = descriptors()?;
    let child = spawn("borrower", || {
        // New ends, which get the numbers of those that stayed with the parent.
        let mut fresh = (0..8).map(|_| Connection::pair()).collect::<Result<Vec<_>, _>>()?;
        let ours = descriptors()?;
        ensure!(parents.iter().all(|(number, _)| ours.iter().any(|(mine, _)| mine == number)));

        is_not_here(&lent)?;
        is_not_here(&theirs.lock().unwrap())?;
        let (spare, spare_too) = (fresh.remove(0).0, fresh.remove(0).0);
        drop(std::mem::replace(&mut lent, spare));
        drop(std::mem::replace(&mut *theirs.lock().unwrap(), spare_too));
        ensure!(descriptors()?.len() == ours.len() - 2, "only the two spare ends' peers closed");
        for (one, other) in &fresh {
            one.send(5)?;
            ensure!(other.recv_timeout(LONG) == Ok(5));
        }
        Ok(())
    })?;
    child.join()?;
    // Nothing of this has reached the parent's ends.
    other.send(3)?;
    assert_eq!(lent.recv_timeout(LONG), Ok(3));
    assert_eq!(locked.lock().unwrap().poll(Duration::ZERO), Ok(false));
    Ok(())
}

fn an_end_can_be_handed_on_to_a_grandchild() -> Result<()> {
    let (parent_conn, child_conn) = Connection::<u64>::pair()?;
    let (mut child, leash) = leashed("child", move || {
        let grandchild = spawn("grandchild", move || {
            let number = child_conn.recv()?;
            Ok(child_conn.send(number + 1)?)
        })?;
        grandchild.join()
    })?;
    parent_conn.send(41)?;
    assert_eq!(parent_conn.recv_timeout(LONG), Ok(42));
    assert_eq!(parent_conn.recv_timeout(LONG), Err(Closed), "the child in between kept a copy");
    assert!(child.is_alive());
    leash.close();
    child.join()
}

fn an_end_made_in_a_child_belongs_to_the_child() -> Result<()> {
    let (_parent_conn, _stays) = Connection::<u64>::pair()?;
    let child = spawn("child", || {
        let pairs = (0..4).map(|_| Connection::<u64>::pair()).collect::<Result<Vec<_>, _>>()?;
        for (ours, theirs) in pairs {
            let (grandchild, _leash) = leashed("grandchild", move || {
                theirs.send(1)?;
                std::mem::forget(theirs); // it stays open until the process ends
                Ok(())
            })?;
            ensure!(ours.recv_timeout(LONG) == Ok(1));
            ensure!(ours.poll(SHORT) == Ok(false), "it is closed though the grandchild holds it");
            grandchild.kill()?;
            ensure!(ours.recv_timeout(LONG) == Err(Closed));
        }
        Ok(())
    })?;
    child.join()
}

fn signals_do_not_surface() -> Result<()> {
    let (parent_conn, child_conn) = Connection::<Vec<u8>>::pair()?;
    let child = spawn("bombarded", move || {
        watch::be_interruptible()?;
        child_conn.send(vec![])?;
        ensure!(child_conn.recv() == Ok(vec![1]));
        ensure!(child_conn.recv_timeout(LONG) == Ok(vec![2]));
        ensure!(child_conn.poll(LONG) == Ok(true));
        child_conn.recv()?;
        child_conn.send(pattern(LARGE))?;
        child_conn.send_timeout(pattern(LARGE), LONG)?;
        let joined = spawn("joined", move || {
            ensure!(child_conn.recv() == Err(Closed));
            Ok(())
        })?;
        joined.join()
    })?;
    assert_eq!(parent_conn.recv(), Ok(vec![])); // from here on signals are harmless
    for number in 1..=3 {
        interrupt(child.pid())?;
        parent_conn.send(vec![number])?;
    }
    for _ in 0..2 {
        interrupt(child.pid())?;
        assert!(parent_conn.recv()? == pattern(LARGE));
    }
    interrupt(child.pid())?; // in `join`
    parent_conn.close();
    child.join()
}

fn without_descriptors_left_pair_and_spawn_say_so() -> Result<()> {
    let before = descriptors()?;
    watch::limit_descriptors(32)?;
    let mut pairs = Vec::new();
    let error = loop {
        match Connection::<u64>::pair() {
            Ok(pair) => pairs.push(pair),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ConnectionError::System { call: "socketpair", .. }));
    assert!(error.to_string().contains("ulimit -n"), "{error}");
    let refused = spawn("too many", || Ok(())).unwrap_err();
    assert!(refused.to_string().contains("no descriptors"), "{refused}");

    drop(pairs.pop());
    spawn("enough", || Ok(()))?.join()?;
    drop(pairs);
    assert_eq!(descriptors()?, before, "what failed left descriptors behind");
    Ok(())
}

fn descriptors_do_not_grow_over_a_thousand_spawns() -> Result<()> {
    let before = descriptors()?.len();
    for number in 0..1000 {
        let (receiver, sender) = one_way::<u64>()?;
        let child = spawn("sender", move || Ok(sender.send(number)?))?;
        assert_eq!(receiver.recv(), Ok(number));
        child.join()?;
    }
    assert_eq!(descriptors()?.len(), before);
    Ok(())
}

/// How many sockets a program has that this process starts.
fn sockets_after_exec() -> Result<usize> {
    let listing = Command::new("ls").args(["-l", "/proc/self/fd"]).output()?;
    ensure!(listing.status.success(), "ls: {}", listing.status);
    Ok(String::from_utf8(listing.stdout)?.matches("socket:").count())
}

fn no_end_survives_exec() -> Result<()> {
    let before = sockets_after_exec()?;
    let (_parent_conn, child_conn) = Connection::<u64>::pair()?;
    assert_eq!(sockets_after_exec()?, before);
    let child = spawn("starter", move || {
        let count = sockets_after_exec()?;
        ensure!(child_conn.poll(Duration::ZERO) == Ok(false), "it is held here");
        ensure!(count == before, "{count} sockets are open after exec");
        Ok(())
    })?;
    child.join()
}
