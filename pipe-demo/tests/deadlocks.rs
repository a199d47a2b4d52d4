//! Deadlocks of connections, locks and joins: every one is reported, with its circle, and nothing
//! else ever is.
//!
//! Each program is made from a number, and runs in a tree of processes of its own: this binary,
//! started anew.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use common::deadlock::Deadlock;
use common::{LockError, Mutex, Process, Shared, spawn};
use fastrand::Rng;
use fork_harness::deadlocks::{self, Expected, check_deadlocks, check_finishing};
use fork_harness::tests;
use pipe_demo::{Connection, ConnectionError, one_way};

fn main() -> ExitCode {
    deadlocks::run_program(&|name, number| match name {
        "finishing" => finishing(number),
        "deadlocking" => deadlocking(number).map(drop),
        _ => bail!("no program {name}"),
    });
    fork_harness::main(&[
        tests!(@test every_deadlock_is_reported_with_its_circle, false),
        tests!(@test programs_that_finish_are_left_alone, false),
        tests!(@test a_thousand_deadlocks_are_reported, true),
        tests!(@test ten_thousand_programs_that_finish_are_left_alone, true),
    ])
}

fn every_deadlock_is_reported_with_its_circle() -> Result<()> {
    check_deadlocks(0..60, expected)
}

fn a_thousand_deadlocks_are_reported() -> Result<()> {
    check_deadlocks(60..1060, expected)
}

fn programs_that_finish_are_left_alone() -> Result<()> {
    check_finishing(0..200)
}

fn ten_thousand_programs_that_finish_are_left_alone() -> Result<()> {
    check_finishing(200..10_200)
}

/// More bytes than the system keeps on their way.
const MUCH: usize = 8 << 20;

/// Whether a call gave up because of the deadlock; any other error is one.
fn gave_up(error: anyhow::Error) -> Result<()> {
    let is = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Deadlock>()
            || cause.downcast_ref() == Some(&LockError::Deadlock)
            || cause.downcast_ref() == Some(&ConnectionError::Deadlock)
    };
    ensure!(error.chain().any(is), error);
    deadlocks::gave_up(&common::current_name());
    Ok(())
}

/// Starts a child that is to give up in `body`.
fn stuck(name: &str, body: impl FnOnce() -> Result<()> + Send) -> Result<Process> {
    spawn(name, || match body() {
        Ok(()) => bail!("it went on"),
        Err(error) => gave_up(error),
    })
}

/// Joins them all; the first to be joined is stuck, and so is this process.
fn join_stuck(mut children: Vec<Process>) -> Result<()> {
    match children[0].wait() {
        Ok(status) => bail!("the first child ended with {status}"),
        Err(error) => gave_up(error)?,
    }
    common::join_all(children)
}

/// The kind of deadlock, and how many processes are in the circle where that varies.
fn shape(number: u64) -> (u64, usize) {
    (number % 5, Rng::with_seed(number).usize(2..6))
}

fn expected(number: u64) -> Expected {
    let (kind, size) = shape(number);
    let names = |count: usize| (0..count).map(|index| format!("p{index}")).collect::<Vec<_>>();
    let with_main = || vec!["p0".to_string(), "MainProcess".into()];
    match kind {
        // A ring of processes that all receive first.
        0 => Expected { circle: names(size), processes: size as u32 + 1 },
        // Two that both send first, and much.
        1 => Expected { circle: names(2), processes: 3 },
        // A child that is joined before what it sends is received.
        2 => Expected { circle: with_main(), processes: 2 },
        // A parent and its child that both receive first.
        3 => Expected { circle: with_main(), processes: 2 },
        // One receives with the lock that the other one needs to send.
        _ => Expected { circle: names(2), processes: 3 },
    }
}

fn deadlocking(number: u64) -> Result<()> {
    let (kind, size) = shape(number);
    let mut children = Vec::new();
    match kind {
        0 => {
            let (mut receivers, mut senders) = (Vec::new(), Vec::new());
            for _ in 0..size {
                let (receiver, sender) = one_way::<u64>()?;
                receivers.push(receiver);
                senders.push(sender);
            }
            senders.rotate_left(1);
            for (index, (receiver, sender)) in receivers.into_iter().zip(senders).enumerate() {
                let pass = move || Ok(sender.send(receiver.recv()?)?);
                children.push(stuck(&format!("p{index}"), pass)?);
            }
            join_stuck(children)
        }
        1 => {
            let (one, other) = Connection::<Vec<u8>>::pair()?;
            for (name, end) in [("p0", one), ("p1", other)] {
                children.push(stuck(name, move || {
                    end.send(vec![7; MUCH])?;
                    end.recv()?;
                    Ok(())
                })?);
            }
            join_stuck(children)
        }
        2 => {
            let (receiver, sender) = one_way::<Vec<u8>>()?;
            children.push(stuck("p0", move || Ok(sender.send(vec![7; MUCH])?))?);
            let joined = join_stuck(children);
            drop(receiver); // not before: a sender without a receiver has nothing to wait for
            joined
        }
        3 => {
            let (one, other) = Connection::<u64>::pair()?;
            let child = stuck("p0", move || Ok(other.send(other.recv()?)?))?;
            gave_up(one.recv().err().map(Into::into).unwrap_or_else(|| anyhow::anyhow!("got it")))?;
            child.join()
        }
        _ => {
            let lock = &Shared::new(Mutex::new(0_u64))?;
            let (one, other) = Connection::<u64>::pair()?;
            children.push(stuck("p0", move || {
                let mut held = lock.lock()?;
                one.send(1)?;
                *held = one.recv()?;
                Ok(())
            })?);
            children.push(stuck("p1", move || {
                other.recv()?;
                Ok(other.send(*lock.lock()?)?)
            })?);
            join_stuck(children)
        }
    }
}

/// What a process of a program that finishes does.
enum Step {
    /// Sends the next message, of so many bytes, down this connection.
    Send(usize, usize),
    /// Receives the next message from this connection.
    Receive(usize, usize),
    /// Sleeps so many milliseconds.
    Sleep(u64),
}

/// Runs a program that comes to its end in whatever order its steps happen: each message is sent
/// before it is received in one order that was tried, and each connection has one sender and one
/// receiver.
fn finishing(number: u64) -> Result<()> {
    let mut random = Rng::with_seed(number);
    let count = random.usize(2..5);
    let mut programs: Vec<Vec<Step>> = (0..count).map(|_| Vec::new()).collect();
    let routes: Vec<(usize, usize)> = (0..random.usize(1..5))
        .map(|_| {
            let from = random.usize(..count);
            (from, (from + random.usize(1..count)) % count)
        })
        .collect();
    for _ in 0..random.usize(5..40) {
        let route = random.usize(..routes.len());
        let (from, to) = routes[route];
        match random.u32(..20) {
            0 | 1 => programs[random.usize(..count)].push(Step::Sleep(random.u64(1..45))),
            kind => {
                let bytes = if kind == 2 { random.usize(..1 << 20) } else { random.usize(..100) };
                programs[from].push(Step::Send(route, bytes));
                programs[to].push(Step::Receive(route, bytes));
            }
        }
    }
    let (mut senders, mut receivers): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for _ in &routes {
        let (receiver, sender) = one_way::<Vec<u8>>()?;
        senders.push(Some(sender));
        receivers.push(Some(receiver));
    }
    let mut children = Vec::new();
    for (index, program) in programs.into_iter().enumerate() {
        let mine = |of: fn(&(usize, usize)) -> usize, route: usize| of(&routes[route]) == index;
        let senders: Vec<_> = senders
            .iter_mut()
            .enumerate()
            .map(|(route, end)| if mine(|ends| ends.0, route) { end.take() } else { None })
            .collect();
        let receivers: Vec<_> = receivers
            .iter_mut()
            .enumerate()
            .map(|(route, end)| if mine(|ends| ends.1, route) { end.take() } else { None })
            .collect();
        children.push(spawn(format!("p{index}"), move || {
            for step in program {
                match step {
                    Step::Send(route, bytes) => {
                        senders[route].as_ref().unwrap().send(vec![route as u8; bytes])?;
                    }
                    Step::Receive(route, bytes) => {
                        let message = receivers[route].as_ref().unwrap().recv()?;
                        ensure!(message == vec![route as u8; bytes], "another message");
                    }
                    Step::Sleep(time) => thread::sleep(Duration::from_millis(time)),
                }
            }
            Ok(())
        })?);
    }
    common::join_all(children)
}
