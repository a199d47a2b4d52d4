//! What a wait for many connections promises, tried out on real processes.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, ensure};
use common::{Process, join_all, spawn};
use fork_harness::watch::{asleep, be_interruptible, interrupt};
use pipe_demo::ConnectionError::{Closed, NotHere};
use pipe_demo::{Connection, Receiver, one_way, wait, wait_timeout};

fork_harness::tests! {
    what_is_ready_is_received_without_waiting_and_nothing_is_lost,
    a_death_wakes_the_process_that_waits_for_many,
    a_peer_killed_in_the_middle_of_a_message_is_ready_and_closed,
    signals_do_not_surface,
    an_end_that_stayed_with_the_parent_is_not_here,
}

/// More than the kernel holds for a reader that does not read.
const LARGE: usize = 8 << 20;

fn what_is_ready_is_received_without_waiting_and_nothing_is_lost() -> Result<()> {
    const SENDERS: usize = 4;
    const MESSAGES: usize = 200;
    // Of no bytes up to several packets; now and then of more than the kernel holds.
    let length = |sender: usize, message: usize| match message % 20 {
        19 => 2_000_000,
        _ => (sender + 1) * message * 7919 % 300_000,
    };

    let (mut lines, mut children) = (Vec::new(), Vec::new());
    for sender in 0..SENDERS {
        let (line, theirs) = one_way::<Vec<u8>>()?;
        lines.push(line);
        children.push(spawn(format!("sender-{sender}"), move || {
            (0..MESSAGES).try_for_each(|message| {
                Ok(theirs.send(vec![sender as u8; length(sender, message)])?)
            })
        })?);
    }
    let mut received = [0; SENDERS];
    let mut open: Vec<usize> = (0..SENDERS).collect();
    while !open.is_empty() {
        let ready = wait(open.iter().map(|&sender| &lines[sender]))?;
        ensure!(!ready.is_empty() && ready.is_sorted(), "{ready:?}");
        for index in ready.into_iter().rev() {
            let sender = open[index];
            match lines[sender].recv_timeout(Duration::ZERO) {
                Ok(message) => {
                    let expected = vec![sender as u8; length(sender, received[sender])];
                    ensure!(message == expected, "message {} of {sender}", received[sender]);
                    received[sender] += 1;
                }
                Err(Closed) => drop(open.remove(index)),
                Err(error) => Err(error)?, // a Timeout: it was not ready
            }
        }
    }
    ensure!(received == [MESSAGES; SENDERS], "{received:?}");
    join_all(children)
}

/// Spawns a child that sends a message of so many bytes, tells, and does nothing until it is killed.
fn sender_to_kill(len: usize) -> Result<(Receiver<Vec<u8>>, Process, Receiver<()>)> {
    let (line, theirs) = one_way::<Vec<u8>>()?;
    let (ready, tell) = one_way()?;
    let child = spawn("victim", move || {
        tell.send(())?;
        theirs.send(vec![7; len])?;
        loop {
            std::thread::park();
        }
    })?;
    Ok((line, child, ready))
}

fn a_death_wakes_the_process_that_waits_for_many() -> Result<()> {
    let (silent, _sender) = one_way::<Vec<u8>>()?;
    let (line, mut victim, _ready) = sender_to_kill(0)?;
    ensure!(line.recv()?.is_empty());
    let waiter = spawn("waiter", move || {
        let lines = [silent, line];
        ensure!(wait(&lines)? == [1], "not the one that died");
        ensure!(lines[1].recv() == Err(Closed), "not the end of file");
        Ok(())
    })?;
    asleep(waiter.pid())?;
    victim.kill()?;
    victim.wait()?;
    waiter.join()
}

fn a_peer_killed_in_the_middle_of_a_message_is_ready_and_closed() -> Result<()> {
    let (line, mut victim, ready) = sender_to_kill(LARGE)?;
    ready.recv()?;
    ensure!(wait_timeout([&line], Duration::from_millis(1))?.is_empty(), "a part is no message");
    // Not all of it can have been sent: nobody has received that much.
    asleep(victim.pid())?;
    victim.kill()?;
    victim.wait()?;
    ensure!(wait([&line])? == [0], "the end of file makes it ready");
    ensure!(line.recv() == Err(Closed), "a part was received as a message");
    Ok(())
}

fn signals_do_not_surface() -> Result<()> {
    let (line, sender) = one_way::<u64>()?;
    let waiter = spawn("waiter", move || {
        be_interruptible()?;
        ensure!(wait([&line])? == [0], "what came was no message");
        ensure!(line.recv()? == 5, "another message");
        Ok(())
    })?;
    interrupt(waiter.pid())?;
    sender.send(5)?;
    waiter.join()
}

fn an_end_that_stayed_with_the_parent_is_not_here() -> Result<()> {
    let (parents, theirs) = Connection::<u64>::pair()?;
    let (childs, _) = Connection::<u64>::pair()?;
    let parents = Mutex::new(parents); // this a closure can borrow
    let lent = &parents;
    let child = spawn("child", move || {
        let lent = lent.lock().expect("nobody panicked");
        ensure!(wait([&childs, &lent]) == Err(NotHere), "the child holds no such end");
        Ok(())
    })?;
    child.join()?;
    theirs.send(1)?;
    ensure!(wait([&*parents.lock().expect("nobody panicked")])? == [0]);
    Ok(())
}
