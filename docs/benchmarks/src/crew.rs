//! Runs the members of one measurement, each in a process or a thread of its own, from one starting
//! shot on, and checks what they say they did.
//!
//! All contenders that run in processes are forked by [`common::spawn`]; only `fork` itself is
//! measured otherwise. The clock runs from the shot until the last member is done, so neither a
//! fork nor an exit counts.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use common::{Process, Shared, join_all};
use serde::{Deserialize, Serialize};

/// What one run of one contender found.
#[derive(Serialize, Deserialize)]
pub struct Sample {
    /// Seconds for each operation, or at each of [`PERCENTILES`].
    pub seconds: Vec<f64>,
    /// What a reader of the figure has to know.
    pub note: String,
}

impl Sample {
    /// `operations` took `time`.
    pub fn new(time: Duration, operations: u64) -> Sample {
        Sample { seconds: vec![time.as_secs_f64() / operations as f64], note: String::new() }
    }

    /// The time of all `operations`, where they were counted one by one.
    pub fn whole(mut self, operations: u64) -> Sample {
        self.seconds.iter_mut().for_each(|seconds| *seconds *= operations as f64);
        self
    }
}

/// What is timed of an exchange.
#[derive(Clone, Copy)]
pub enum Watch {
    /// All round trips together: the mean.
    All,
    /// Each one on its own: the percentiles.
    Each,
}

/// The share of all round trips that took no longer than the figure.
pub const PERCENTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// What a member of a crew does; it calls [`Gate::pass`] once it is ready.
pub type Member<'a> = Box<dyn FnOnce(&Gate) -> Result<()> + Send + 'a>;

/// Where the members wait for the starting shot, and leave the time when they were done.
pub struct Gate {
    ready: Shared<AtomicU64>,
    open: Shared<AtomicU64>,
    last_done: Shared<AtomicU64>,
    /// The clock is the same in every process.
    zero: Instant,
}

impl Gate {
    fn new() -> Result<Gate> {
        let word = || Shared::new(AtomicU64::new(0));
        Ok(Gate { ready: word()?, open: word()?, last_done: word()?, zero: Instant::now() })
    }

    /// Waits for the starting shot.
    pub fn pass(&self) {
        self.ready.fetch_add(1, SeqCst);
        while self.open.load(SeqCst) == 0 {
            thread::yield_now();
        }
    }

    fn run(&self, member: Member<'_>) -> Result<()> {
        member(self)?;
        self.last_done.fetch_max(self.now(), SeqCst);
        Ok(())
    }

    /// Waits until `members` are ready, opens the gate and says when that was.
    fn shoot(&self, members: usize, mut healthy: impl FnMut() -> bool) -> Result<u64> {
        while self.ready.load(SeqCst) < members as u64 {
            ensure!(healthy(), "a member ended before the start");
            thread::sleep(Duration::from_micros(100));
        }
        let start = self.now();
        self.open.store(1, SeqCst);
        Ok(start)
    }

    fn now(&self) -> u64 {
        self.zero.elapsed().as_nanos() as u64
    }
}

/// What the members are.
#[derive(Clone, Copy)]
pub enum Crew {
    Processes,
    Threads,
}

impl Crew {
    /// How long `members` took, from the shot until the last was done.
    pub fn run(self, members: Vec<Member<'_>>) -> Result<Duration> {
        let gate = &Gate::new()?;
        let count = members.len();
        let start = match self {
            Crew::Processes => {
                let mut processes = Vec::new();
                for member in members {
                    processes.push(common::spawn("member", move || gate.run(member))?);
                }
                let start = gate.shoot(count, || processes.iter_mut().all(Process::is_alive))?;
                join_all(processes)?;
                start
            }
            Crew::Threads => thread::scope(|scope| {
                let threads: Vec<_> =
                    members.into_iter().map(|member| scope.spawn(|| gate.run(member))).collect();
                let start = gate.shoot(count, || true)?;
                for thread in threads {
                    match thread.join() {
                        Ok(result) => result?,
                        Err(_) => bail!("a thread panicked"),
                    }
                }
                anyhow::Ok(start)
            })?,
        };
        Ok(Duration::from_nanos(gate.last_done.load(SeqCst) - start))
    }

    /// `count` members that each call `work` `n / count` times.
    pub fn together<W>(self, count: u64, n: u64, work: W) -> Result<Sample>
    where
        W: Fn() -> Result<()> + Copy + Send,
    {
        ensure!(n.is_multiple_of(count), "{n} operations cannot be shared out to {count} members");
        let member = |_| -> Member<'_> {
            Box::new(move |gate| {
                gate.pass();
                (0..n / count).try_for_each(|_| work())
            })
        };
        Ok(Sample::new(self.run((0..count).map(member).collect())?, n))
    }

    /// `n` messages, sent in equal shares by `senders` and taken in equal shares by `receivers`.
    /// Each sender numbers its messages from 0 on; the sum of all numbers received is checked.
    pub fn flow<S, R>(self, n: u64, senders: Vec<S>, receivers: Vec<R>) -> Result<Sample>
    where
        S: FnMut(u64) -> Result<()> + Send,
        R: FnMut() -> Result<u64> + Send,
    {
        let (share, take) = (n / senders.len() as u64, n / receivers.len() as u64);
        let expected = senders.len() as u64 * (share * (share - 1) / 2);
        ensure!(
            share * senders.len() as u64 == take * receivers.len() as u64,
            "{n}: no fair share"
        );
        let sum = &Shared::new(AtomicU64::new(0))?;
        let mut members: Vec<Member<'_>> = Vec::new();
        for mut send in senders {
            members.push(Box::new(move |gate| {
                gate.pass();
                (0..share).try_for_each(&mut send)
            }));
        }
        for mut receive in receivers {
            members.push(Box::new(move |gate| {
                gate.pass();
                let mut received = 0;
                for _ in 0..take {
                    received += receive()?;
                }
                sum.fetch_add(received, SeqCst);
                Ok(())
            }));
        }
        let time = self.run(members)?;
        let sum = sum.load(SeqCst);
        ensure!(sum == expected, "what was received adds up to {sum} instead of {expected}");
        Ok(Sample::new(time, n))
    }

    /// `n` calls that each send a number and wait until the other member's `echo` has sent it back.
    pub fn exchange<C, E>(self, watch: Watch, n: u64, mut call: C, mut echo: E) -> Result<Sample>
    where
        C: FnMut(u64) -> Result<u64> + Send,
        E: FnMut() -> Result<()> + Send,
    {
        let found = &Shared::new([const { AtomicU64::new(0) }; PERCENTILES.len()])?;
        let mut call = move |k: u64| {
            let answer = call(k)?;
            ensure!(answer == k, "the answer to {k} is {answer}");
            Ok(())
        };
        let caller: Member<'_> = match watch {
            Watch::All => Box::new(move |gate| {
                gate.pass();
                (0..n).try_for_each(call)
            }),
            Watch::Each => Box::new(move |gate| {
                let mut times = vec![0; n as usize];
                gate.pass();
                for (k, time) in (0..).zip(&mut times) {
                    let start = Instant::now();
                    call(k)?;
                    *time = start.elapsed().as_nanos() as u64;
                }
                times.sort_unstable();
                for (word, share) in found.iter().zip(PERCENTILES) {
                    word.store(times[(share * (n - 1) as f64) as usize], SeqCst);
                }
                Ok(())
            }),
        };
        let answerer: Member<'_> = Box::new(move |gate| {
            gate.pass();
            (0..n).try_for_each(|_| echo())
        });
        let mut sample = Sample::new(self.run(vec![caller, answerer])?, n);
        if let Watch::Each = watch {
            sample.seconds = found.iter().map(|word| word.load(SeqCst) as f64 / 1e9).collect();
        }
        Ok(sample)
    }
}
