//! A process is killed at every instruction of `Connection::send`: the other end gets the whole
//! message or `Closed`, never a part of it, and never waits for the dead.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use common::message::{DecodeError, Message, Reader, Writer};
use common::spawn;
use fork_harness::tracer::{Strike, is_asleep, mark, prove, trace_me, traced};
use pipe_demo::{Connection, ConnectionError};

fork_harness::tests! {
    a_message_arrives_whole_or_not_at_all,
    a_message_of_many_packets_arrives_whole_or_not_at_all,
}

/// What the receiver may find, in the order of a call's points.
const STATES: [&str; 2] = ["closed", "the message, then closed"];
/// Longer than any wait of these tests: when it has passed, something hangs.
const HANG: Duration = Duration::from_secs(5);

/// What is left of a connection whose other end sent `first`, then was killed as it sent `second`.
fn look<T: Message>(end: &Connection<(), T>, is_second: impl Fn(&T) -> bool) -> Result<usize> {
    let state = match end.recv_timeout(HANG) {
        Ok(message) => {
            ensure!(is_second(&message), "another message than was sent");
            ensure!(matches!(end.recv_timeout(HANG), Err(ConnectionError::Closed)), "not the end");
            1
        }
        Err(ConnectionError::Closed) => 0,
        Err(error) => bail!(error),
    };
    ensure!(end.send(()) == Err(ConnectionError::Closed), "a dead peer still takes messages");
    Ok(state)
}

fn a_message_arrives_whole_or_not_at_all() -> Result<()> {
    prove("send", &STATES, |strike| {
        let (ours, theirs) = Connection::<(), u64>::pair()?;
        let victim = spawn("victim", move || {
            theirs.send(1)?;
            Ok(traced(|| theirs.send(2))??)
        })?;
        strike.reach(victim.pid(), || ())?;
        drop(victim); // SIGKILL, and reaped
        ensure!(ours.recv_timeout(HANG)? == 1, "what was sent before is lost");
        look(&ours, |&message| message == 2)
    })?;
    prove("send, receiver asleep", &STATES, |strike| {
        let (ours, theirs) = Connection::<(), u64>::pair()?;
        let (told, teller) = Connection::<(), u8>::pair()?;
        let mut receiver = spawn("receiver", move || {
            let state = look(&ours, |&message| message == 2)?;
            Ok(teller.send(state as u8)?)
        })?;
        let victim = spawn("victim", move || Ok(traced(|| theirs.send(2))??))?;
        while !is_asleep(receiver.pid())? {
            nix::sched::sched_yield()?;
        }
        strike.reach(victim.pid(), || ())?;
        drop(victim); // SIGKILL, and reaped
        let status = receiver.wait_timeout(2 * HANG)?.context("the receiver sleeps on")?;
        ensure!(status.success(), "the receiver: {status}");
        Ok(told.recv()?.into())
    })
}

/// A message of many packets. To encode it takes many instructions and touches nothing that is
/// shared, so the tracer's work begins after it.
struct Large(Vec<u8>);

impl Message for Large {
    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(&self.0);
        mark();
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Large(input.rest()))
    }
}

fn a_message_of_many_packets_arrives_whole_or_not_at_all() -> Result<()> {
    let bytes = |len: usize| (0..len).map(|index| (index % 251) as u8).collect::<Vec<u8>>();
    // Two packets fit into the connection; with five of them the victim waits for the receiver.
    for (title, len) in [("send, two packets", 70_000), ("send, sleeping for room", 270_000)] {
        let whole = bytes(len);
        prove(title, &STATES, |strike: &mut Strike| {
            let (ours, theirs) = Connection::<(), Large>::pair()?;
            let message = Large(whole.clone());
            let victim = spawn("victim", move || {
                trace_me()?;
                theirs.send(message)?;
                mark();
                Ok(())
            })?;
            // Receives what is there, which makes room.
            let receive = || drop(ours.poll(Duration::ZERO));
            strike.reach(victim.pid(), receive)?;
            drop(victim); // SIGKILL, and reaped
            look(&ours, |message| message.0 == whole)
        })?;
    }
    Ok(())
}
