//! 1,000 processes are killed while they send 1 MiB: the other side gets a message whole or not at
//! all, and the end of file at once.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use common::{Process, Shared, count_to, join_all, spawn};
use fork_harness::eventually;
use nix::sys::signal::{Signal, raise};
use pipe_demo::{Connection, ConnectionError};

fork_harness::tests! {
    a_killed_sender_leaves_whole_messages_and_an_end_of_file_at_once,
    a_sender_is_told_that_its_receiver_was_killed,
}

const MESSAGE: usize = 1 << 20;
const SIBLINGS: usize = 8;
/// How many victims one set of siblings sees die.
const VICTIMS: usize = 50;
/// The bound on the time from a kill to the end of file.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Who waits longer than this counts as hanging.
const HANG: Duration = Duration::from_secs(10);

type End = Connection<Vec<u8>>;

fn a_killed_sender_leaves_whole_messages_and_an_end_of_file_at_once() -> Result<()> {
    // How many messages the victim has begun to send, and how many of these sends returned.
    let counts = Shared::new([const { AtomicU64::new(0) }; 2])?;
    let [begun, returned] = &*counts;
    let messages = &messages();
    let mut random = fastrand::Rng::with_seed(5);
    let (mut kills, mut in_the_middle, mut received) = (0, 0, 0);
    let mut times = Vec::new();
    while in_the_middle < 1_000 {
        // All pairs are there before any child is: each child is forked with a copy of every end.
        let pairs = (0..VICTIMS).map(|_| Ok(End::pair()?)).collect::<Result<Vec<_>>>()?;
        let (family, siblings) = siblings()?;
        for (ours, theirs) in pairs {
            begun.store(0, SeqCst);
            returned.store(0, SeqCst);
            let mut victim = spawn("victim", move || {
                for message in messages.iter().cycle() {
                    begun.fetch_add(1, SeqCst);
                    theirs.send(message.clone())?;
                    returned.fetch_add(1, SeqCst);
                }
                Ok(())
            })?;
            eventually("the victim sends", || begun.load(SeqCst) > 0);
            let mut expected = messages.iter().cycle();
            let some_time = Duration::from_micros(random.u64(..3_000));
            let (mut whole, _) = receive(&ours, some_time, &mut expected)?;
            count_to(random.u64(..100_000));

            let kill = Instant::now();
            victim.kill()?;
            // Every other time nothing is left to wait for: the victim is dead, so the end is here.
            let patience = if kills % 2 == 0 { HANG } else { Duration::ZERO };
            if patience.is_zero() {
                expect_killed(&mut victim)?;
            }
            let (more, closed) = receive(&ours, patience, &mut expected)?;
            times.push(kill.elapsed());
            ensure!(closed, "no end of file after {patience:?}");
            expect_killed(&mut victim)?;

            whole += more;
            let (begun, returned) = (begun.load(SeqCst), returned.load(SeqCst));
            ensure!((returned..=begun).contains(&whole), "{returned} were sent, {whole} came");
            kills += 1;
            in_the_middle += u64::from(begun > returned);
            received += whole;
        }
        drop(family);
        join_all(siblings)?;
    }
    println!("## {in_the_middle} of {kills} killed in the middle of a send; {received} came whole");
    times.sort();
    let [median, most, longest] = [50, 90, 100].map(|part| times[times.len() * part / 100 - 1]);
    println!("## from a kill to the end of file: median {median:?}, longest {longest:?}");
    // Some may be the doing of others, where they keep the machine's cores from the victim.
    ensure!(most < AT_ONCE, "the end of file took {most:?} or more in one case of ten");
    Ok(())
}

fn a_sender_is_told_that_its_receiver_was_killed() -> Result<()> {
    let messages = &messages();
    let mut random = fastrand::Rng::with_seed(6);
    let mut sent = 0;
    for _ in 0..4 {
        let pairs = (0..VICTIMS).map(|_| Ok(End::pair()?)).collect::<Result<Vec<_>>>()?;
        let (family, siblings) = siblings()?;
        for (ours, theirs) in pairs {
            let some_time = Duration::from_micros(random.u64(..2_000));
            let mut victim = spawn("victim", move || {
                receive(&theirs, some_time, &mut messages.iter().cycle())?;
                Ok(raise(Signal::SIGKILL)?)
            })?;
            let told = messages.iter().cycle().find_map(|message| {
                sent += 1;
                ours.send_timeout(message.clone(), HANG).err()
            });
            ensure!(told == Some(ConnectionError::Closed), "told {told:?}");
            expect_killed(&mut victim)?;
        }
        drop(family);
        join_all(siblings)?;
    }
    println!("## 200 receivers killed, each told in the middle of one of {sent} sends");
    Ok(())
}

/// Processes that live on, each with an end of its own, until the ends returned are dropped.
fn siblings() -> Result<(Vec<End>, Vec<Process>)> {
    let pairs = (0..SIBLINGS).map(|_| Ok(End::pair()?)).collect::<Result<Vec<_>>>()?;
    let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let siblings = theirs.into_iter().map(|end| {
        spawn("sibling", move || {
            ensure!(end.recv() == Err(ConnectionError::Closed));
            Ok(())
        })
    });
    Ok((ours, siblings.collect::<Result<_>>()?))
}

/// Receives for so long, or until the end of file. Returns how many messages came, and whether that
/// was the end.
fn receive<'a>(
    end: &End,
    time: Duration,
    expected: &mut impl Iterator<Item = &'a Vec<u8>>,
) -> Result<(u64, bool)> {
    let deadline = Instant::now() + time;
    let mut count = 0;
    loop {
        match end.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(message) => ensure!(expected.next() == Some(&message), "torn, or not in order"),
            Err(ConnectionError::Timeout) => return Ok((count, false)),
            Err(ConnectionError::Closed) => return Ok((count, true)),
            Err(error) => return Err(error.into()),
        }
        count += 1;
    }
}

/// Three messages with nothing in common.
fn messages() -> [Vec<u8>; 3] {
    [1, 2, 3].map(|number| {
        let mut message = vec![0; MESSAGE];
        fastrand::Rng::with_seed(number).fill(&mut message);
        message
    })
}

fn expect_killed(victim: &mut Process) -> Result<()> {
    ensure!(victim.wait()?.signal() == Some(Signal::SIGKILL as i32), "it ended by itself");
    Ok(())
}
