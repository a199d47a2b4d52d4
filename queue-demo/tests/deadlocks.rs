//! Deadlocks of queues, locks and joins: every one is reported, with its circle, and nothing else
//! ever is.
//!
//! Each program is made from a number, and runs in a tree of processes of its own: this binary,
//! started anew.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use common::deadlock::Deadlock;
use common::message::{DecodeError, Message, Reader, Writer};
use common::{LockError, Mutex, Process, Shared, spawn};
use fastrand::Rng;
use fork_harness::deadlocks::{self, Expected, check_deadlocks, check_finishing};
use fork_harness::tests;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{self, SigHandler, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, alarm, fork};
use queue_demo::{JoinableQueue, Queue, QueueError};

fn main() -> ExitCode {
    deadlocks::run_program(&|name, number| match name {
        "finishing" => finishing(number),
        "deadlocking" => deadlocking(number).map(drop),
        "patient" => patient(number),
        "with-a-dead-one" => with_a_dead_one(),
        "with-many-dead" => with_many_dead(),
        "article" => article(),
        _ => bail!("no program {name}"),
    });
    fork_harness::main(&[
        tests!(@test the_articles_order_with_too_many_workers_is_explained, false),
        tests!(@test every_deadlock_is_reported_with_its_circle, false),
        tests!(@test who_does_something_else_is_not_waiting, false),
        tests!(@test the_dead_do_not_wait, false),
        tests!(@test many_dead_hold_up_a_report_no_longer_than_one, false),
        tests!(@test programs_that_finish_are_left_alone, false),
        tests!(@test a_thousand_deadlocks_are_reported, true),
        tests!(@test ten_thousand_programs_that_finish_are_left_alone, true),
    ])
}

/// The article's queue program with 2,000 workers and 64 slots: joins first, and gets then.
fn article() -> Result<()> {
    let queue = &Queue::with_capacity(64)?;
    let worker = |number| spawn(format!("worker-{number}"), move || Ok(queue.put(number)?));
    let workers = (0..2000).map(worker).collect::<Result<Vec<_>>>()?;
    common::join_all(workers)?;
    let total: u64 = queue.get_many(2000)?.into_iter().sum();
    bail!("came to a total of {total}")
}

fn the_articles_order_with_too_many_workers_is_explained() -> Result<()> {
    let ran = deadlocks::run("article", 0, None)?;
    ensure!(ran.code == Some(1), "{ran:?}");
    for part in [
        "deadlock: every process waits, and none of them can go on\n  MainProcess (pid ",
        " waits to join worker-",
        " and 1935 more wait for room in queue #1, which is full (64 of 64), for ",
        "queue-demo/tests/deadlocks.rs:",
        "the usual cure: get before you join\n",
    ] {
        ensure!(ran.stderr.contains(part), "{part:?} is not in\n{}", ran.stderr);
    }
    Ok(())
}

fn every_deadlock_is_reported_with_its_circle() -> Result<()> {
    check_deadlocks(0..60, expected)
}

fn a_thousand_deadlocks_are_reported() -> Result<()> {
    check_deadlocks(60..1060, expected)
}

fn programs_that_finish_are_left_alone() -> Result<()> {
    check_finishing(0..300)
}

fn ten_thousand_programs_that_finish_are_left_alone() -> Result<()> {
    check_finishing(300..10_300)
}

/// How long a patient program makes others wait: longer than a deadlock takes to be found.
const LONG: Duration = Duration::from_millis(600);

fn who_does_something_else_is_not_waiting() -> Result<()> {
    for number in 0..12 {
        let ran = deadlocks::run("patient", number, Some(0))?;
        ensure!((ran.code, &*ran.stderr) == (Some(0), ""), "program {number}: {ran:?}");
    }
    // The same program is a deadlock if nobody does anything.
    let ran = deadlocks::run("patient", 12, Some(0))?;
    ensure!(ran.code == Some(1) && ran.stderr.starts_with("deadlock: "), "{ran:?}");
    Ok(())
}

/// A message that takes long to decode.
struct Slow;

impl Message for Slow {
    fn encoded_len(&self) -> usize {
        0
    }

    fn encode(&self, _: &mut Writer<'_>) {}

    fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        thread::sleep(LONG);
        Ok(Slow)
    }
}

/// A child waits for an item, and someone who does not look as if will put one.
fn patient(number: u64) -> Result<()> {
    let queue = &Queue::<u64>::new()?;
    let shell = |command: String| std::process::Command::new("sh").args(["-c", &command]).spawn();
    let mut waiter = spawn("waiter", || {
        queue.get()?;
        Ok(())
    })?;
    match number {
        0 => thread::sleep(LONG),
        1 => {
            let start = Instant::now();
            while start.elapsed() < LONG {
                common::count_to(1_000_000);
            }
        }
        // Reads from a program, which could be a terminal.
        2 => {
            let mut command = std::process::Command::new("sleep");
            ensure!(command.arg(LONG.as_secs_f64().to_string()).output()?.status.success());
        }
        3 => ensure!(Queue::<u64>::new()?.get_timeout(LONG) == Err(QueueError::Timeout)),
        4 => ensure!(waiter.wait_timeout(LONG)?.is_none()),
        // It is stopped, as by a debugger, while everyone else waits.
        5 => {
            signal::kill(Pid::from_raw(waiter.pid() as i32), Signal::SIGSTOP)?;
            let mut shell =
                shell(format!("sleep {}; kill -9 {}", LONG.as_secs_f64(), waiter.pid()))?;
            ensure!(waiter.wait()?.signal() == Some(9), "it was not killed");
            shell.wait()?;
            return Ok(());
        }
        // Another thread of this process puts the item.
        6 => {
            return thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(LONG);
                    queue.put(1)
                });
                waiter.join()
            });
        }
        // A handler of a signal could do anything; here it does nothing.
        7 => {
            extern "C" fn handler(_: libc::c_int) {}
            // SAFETY: the handler does nothing.
            unsafe { signal::signal(Signal::SIGUSR1, SigHandler::Handler(handler))? };
            let mut shell =
                shell(format!("sleep {}; kill -9 {}", LONG.as_secs_f64(), waiter.pid()))?;
            ensure!(waiter.wait()?.signal() == Some(9), "it was not killed");
            shell.wait()?;
            return Ok(());
        }
        // A process that was not spawned by us puts the item.
        8 => {
            // SAFETY: this process has one thread, and the child ends without returning.
            match unsafe { fork()? } {
                ForkResult::Child => {
                    thread::sleep(LONG);
                    let put = queue.put(1);
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(i32::from(put.is_err())) }
                }
                ForkResult::Parent { child } => {
                    waiter.join()?;
                    waitpid(child, None)?;
                    return Ok(());
                }
            }
        }
        // It has found a task, and takes its time to decode it.
        9 => {
            let tasks = &JoinableQueue::<Slow>::with_capacity(1)?;
            let worker = spawn("worker", || {
                tasks.get()?.done();
                Ok(())
            })?;
            thread::sleep(LONG / 2); // so that it waits before there is a task
            tasks.put(Slow)?;
            worker.join()?;
        }
        // It sleeps, and who waits for it has no descriptor left to ask the system about it.
        10 => {
            let answers = &Queue::<u64>::new()?;
            let worker = spawn("worker", || {
                thread::sleep(LONG);
                Ok(answers.put(1)?)
            })?;
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, 0, most)?;
            ensure!(answers.get() == Ok(1));
            worker.join()?;
        }
        // It has set itself an alarm, which will end it.
        11 => {
            let mut child = spawn("with-an-alarm", || {
                alarm::set(1);
                queue.get()?;
                Ok(())
            })?;
            ensure!(child.wait()?.signal() == Some(libc::SIGALRM), "it was not ended");
        }
        _ => return waiter.join(),
    }
    queue.put(1)?;
    waiter.join()
}

fn the_dead_do_not_wait() -> Result<()> {
    let ran = deadlocks::run("with-a-dead-one", 0, Some(0))?;
    ensure!(ran.code == Some(0), "{ran:?}");
    let waits: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("  ")).collect();
    ensure!(waits.len() == 1 && waits[0].starts_with("  MainProcess "), "{ran:?}");
    Ok(())
}

/// A child is killed as it waits, and is not reaped; then its parent waits for what nobody does.
fn with_a_dead_one() -> Result<()> {
    let queue = &Queue::<u64>::new()?;
    let waiter = spawn("waiter", || {
        queue.get()?;
        Ok(())
    })?;
    thread::sleep(LONG / 2); // so that it waits, or is about to: both are to be seen
    waiter.kill()?;
    match queue.get() {
        Ok(item) => bail!("got {item}"),
        Err(error) => gave_up(error.into()),
    }
}

fn many_dead_hold_up_a_report_no_longer_than_one() -> Result<()> {
    let ran = deadlocks::run("with-many-dead", 0, None)?;
    ensure!(ran.code == Some(0), "{ran:?}");
    Ok(())
}

/// A child with children of its own is killed, which ends all of them; then its parent waits for
/// what nobody does.
fn with_many_dead() -> Result<()> {
    let (ready, queue) = (&Queue::new()?, &Queue::<u64>::new()?);
    let mut middle = spawn("middle", || {
        let wait = || {
            queue.get()?;
            Ok(())
        };
        let waiter = |number| spawn(format!("waiter-{number}"), wait);
        let waiters = (0..30).map(waiter).collect::<Result<Vec<_>>>()?;
        ready.put(1)?;
        common::join_all(waiters)
    })?;
    ready.get()?;
    middle.kill()?;
    middle.wait()?;
    let start = Instant::now();
    match queue.get() {
        Ok(item) => bail!("got {item}"),
        Err(error) => gave_up(error.into())?,
    }
    // And not a third of a second for each of the dead.
    ensure!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    Ok(())
}

/// Whether a call gave up because of the deadlock; any other error is one.
fn gave_up(error: anyhow::Error) -> Result<()> {
    let is = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Deadlock>()
            || cause.downcast_ref() == Some(&LockError::Deadlock)
            || cause.downcast_ref() == Some(&QueueError::Deadlock)
    };
    ensure!(error.chain().any(is), error);
    deadlocks::gave_up(&common::current_name());
    Ok(())
}

/// Starts a child that is to give up in `body`.
fn stuck(name: String, body: impl FnOnce() -> Result<()> + Send) -> Result<Process> {
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

/// Waits, without sleeping in a call of ours, until `count` have come here.
fn meet(count: &AtomicU32, wanted: u32) {
    count.fetch_add(1, Relaxed);
    while count.load(Relaxed) < wanted {
        thread::yield_now();
    }
}

/// The kinds of deadlock, and how many processes are in the circle.
fn shape(number: u64) -> (u64, u32, u32) {
    let mut random = Rng::with_seed(number);
    (number % 7, random.u32(2..6), random.u32(0..3))
}

fn expected(number: u64) -> Expected {
    let (kind, size, bystanders) = shape(number);
    let names = |range: std::ops::Range<u32>| range.map(|index| format!("p{index}")).collect();
    let with_main = |mut names: Vec<String>| {
        names.push("MainProcess".into());
        names
    };
    match kind {
        // A ring of locks, with others that wait for one of them.
        0 => Expected { circle: names(0..size), processes: size + bystanders + 1 },
        // More workers than slots, joined before anyone gets: the first that is joined is stuck.
        1 => Expected { circle: with_main(names(0..1)), processes: size + 1 },
        // Two that both get first.
        2 => Expected { circle: names(0..2), processes: 3 },
        // A child that wants the lock which its parent holds while it joins.
        3 => Expected { circle: with_main(names(0..1)), processes: 2 + bystanders },
        // Consumers that nobody tells to end.
        4 => Expected { circle: with_main(names(0..1)), processes: size + 1 },
        // One waits for an item with the lock that the other one needs to put it.
        5 => Expected { circle: names(0..2), processes: 3 },
        // A task that nobody does.
        _ => Expected { circle: with_main(names(0..1)), processes: 2 },
    }
}

fn deadlocking(number: u64) -> Result<()> {
    let (kind, size, bystanders) = shape(number);
    let met = &Shared::new(AtomicU32::new(0))?;
    let locks = &(0..size).map(|_| Shared::new(Mutex::new(0_u64))).collect::<Result<Vec<_>>>()?;
    let (queue, other) = (&Queue::<u64>::with_capacity(1)?, &Queue::<u64>::with_capacity(1)?);
    let mut children = Vec::new();
    match kind {
        0 => {
            for index in 0..size as usize {
                children.push(stuck(format!("p{index}"), move || {
                    let _held = locks[index].lock()?;
                    meet(met, size + bystanders);
                    drop(locks[(index + 1) % locks.len()].lock()?);
                    Ok(())
                })?);
            }
            for index in 0..bystanders {
                children.push(stuck(format!("bystander-{index}"), move || {
                    meet(met, size + bystanders);
                    drop(locks[0].lock()?);
                    Ok(())
                })?);
            }
            join_stuck(children)
        }
        1 => {
            queue.put(0)?;
            for index in 0..size {
                let put = move || Ok(queue.put(index.into())?);
                children.push(stuck(format!("p{index}"), put)?);
            }
            join_stuck(children)
        }
        2 => {
            for (index, from, to) in [(0, queue, other), (1, other, queue)] {
                children.push(stuck(format!("p{index}"), move || Ok(to.put(from.get()?)?))?);
            }
            join_stuck(children)
        }
        3 => {
            let held = locks[0].lock()?;
            for index in 0..=bystanders {
                let lock = move || {
                    drop(locks[0].lock()?);
                    Ok(())
                };
                children.push(stuck(format!("p{index}"), lock)?);
            }
            let first = children[0].wait();
            drop(held);
            gave_up(first.err().ok_or_else(|| anyhow::anyhow!("it went on"))?)?;
            common::join_all(children)
        }
        4 => {
            for index in 0..size {
                children.push(stuck(format!("p{index}"), || {
                    while queue.get()? > 0 {}
                    Ok(())
                })?);
            }
            (1..=size).try_for_each(|item| queue.put(item.into()))?;
            join_stuck(children)
        }
        5 => {
            children.push(stuck("p0".into(), || {
                let mut held = locks[0].lock()?;
                meet(met, 2);
                *held = queue.get()?;
                Ok(())
            })?);
            children.push(stuck("p1".into(), || {
                meet(met, 2);
                Ok(queue.put(*locks[0].lock()?)?)
            })?);
            join_stuck(children)
        }
        _ => {
            let tasks = &JoinableQueue::<u64>::with_capacity(4)?;
            children.push(stuck("p0".into(), || {
                tasks.put(1)?;
                Ok(tasks.join()?)
            })?);
            join_stuck(children)
        }
    }
}

/// What a process of a program that finishes does.
enum Step {
    /// Puts the next number into this queue.
    Put(usize),
    /// Gets the next number from this queue, of which it is the only consumer.
    Get(usize),
    /// Adds 1 under this lock, for so many milliseconds.
    Count(usize, u64),
    /// Sleeps so many milliseconds.
    Sleep(u64),
}

/// Runs a program that comes to its end in whatever order its steps happen: each queue has one
/// producer and one consumer, nobody waits for anything with a lock in hand, and the steps were
/// tried in one order before.
fn finishing(number: u64) -> Result<()> {
    let mut random = Rng::with_seed(number);
    let count = random.usize(2..5);
    let channels: Vec<(usize, usize, usize)> = (0..random.usize(1..5))
        .map(|_| {
            let from = random.usize(..count);
            (from, (from + random.usize(1..count)) % count, random.usize(1..4))
        })
        .collect();
    let mut programs: Vec<Vec<Step>> = (0..count).map(|_| Vec::new()).collect();
    let mut lengths = vec![0; channels.len()];
    let mut sleeps = 4;
    for _ in 0..random.usize(10..80) {
        let channel = random.usize(..channels.len());
        let (from, to, slots) = channels[channel];
        match random.u32(..20) {
            0 if sleeps > 0 => {
                sleeps -= 1;
                programs[random.usize(..count)].push(Step::Sleep(random.u64(1..45)));
            }
            1 | 2 => programs[random.usize(..count)]
                .push(Step::Count(random.usize(..2), random.u64(0..2))),
            3..=11 if lengths[channel] < slots => {
                lengths[channel] += 1;
                programs[from].push(Step::Put(channel));
            }
            _ if lengths[channel] > 0 => {
                lengths[channel] -= 1;
                programs[to].push(Step::Get(channel));
            }
            _ => {}
        }
    }
    let queues = &channels
        .iter()
        .map(|&(_, _, slots)| Queue::with_capacity(slots))
        .collect::<Result<Vec<_>>>()?;
    let locks = &[Shared::new(Mutex::new(0_u64))?, Shared::new(Mutex::new(0_u64))?];
    let mut children = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        children.push(spawn(format!("p{index}"), move || {
            let mut next = vec![0_u64; queues.len()];
            for step in program {
                match *step {
                    Step::Put(queue) => queues[queue].put(next[queue])?,
                    Step::Get(queue) => {
                        ensure!(queues[queue].get()? == next[queue], "out of order")
                    }
                    Step::Count(lock, time) => {
                        let mut guard = locks[lock].lock()?;
                        *guard += 1;
                        thread::sleep(Duration::from_millis(time));
                    }
                    Step::Sleep(time) => thread::sleep(Duration::from_millis(time)),
                }
                if let Step::Put(queue) | Step::Get(queue) = *step {
                    next[queue] += 1;
                }
            }
            Ok(())
        })?);
    }
    common::join_all(children)
}
