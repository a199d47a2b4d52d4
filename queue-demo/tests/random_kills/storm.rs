//! Producers and consumers on one queue, killed and started again at random moments.
//!
//! What each of them did is written down in shared memory, in the [`Ledger`], where no death can
//! undo it. After each burst of kills the survivors must get on within [`HANG`], first by
//! themselves, then with those who take the place of the dead.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail, ensure};
use common::message::{DecodeError, Length, Message, Reader, Writer};
use common::{Process, Shared, spawn};
use nix::sched::sched_yield;

/// A process that gets nowhere for so long counts as one that hangs.
const HANG: Duration = Duration::from_secs(5);
/// How long a kill is waited for, at the most.
const CALM: Duration = Duration::from_micros(400);
/// How many are killed, at the most, before the survivors are looked at.
const BURST: usize = 3;

/// The most producers that there may be, and the most consumers.
const PAIRS: usize = 4;

/// What is put: who put it, its number there (from 1 on), and a checksum of both.
#[derive(Clone, Copy)]
pub struct Item {
    producer: u64,
    number: u64,
    checksum: u64,
}

impl Item {
    pub const NONE: Item = Item { producer: 0, number: 0, checksum: 0 };

    fn new(producer: usize, number: u64) -> Item {
        let producer = producer as u64;
        Item { producer, number, checksum: scramble(number ^ producer << 56) }
    }
}

impl Message for Item {
    const LENGTH: Length = Length::Exactly(24);

    fn encoded_len(&self) -> usize {
        24
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.field(&self.producer);
        out.field(&self.number);
        give_way(self.number);
        out.field(&self.checksum);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (producer, number) = (input.field()?, input.field()?);
        give_way(number);
        Ok(Item { producer, number, checksum: input.field()? })
    }
}

/// Called in the midst of a put or get, with the lock in hand: for one item in four it is as if the
/// time slice ended just there. So others meet a lock that is taken, and a kill meets its holder.
pub fn give_way(number: u64) {
    if number % 4 == 0 {
        let _ = sched_yield(); // cannot fail on Linux
    }
}

/// What is put to the test.
pub trait Channel: Sync {
    /// Puts all of `items`, waiting for room.
    fn put(&self, items: &[Item]) -> Result<()>;
    /// Takes one item or more, waiting for the first; none once it is closed and empty.
    fn get(&self, at_most: usize) -> Result<Vec<Item>>;
    /// Nothing will be put any more.
    fn close(&self) -> Result<()>;
}

/// A process waits and waits.
#[derive(Debug)]
pub struct Hang {
    who: usize,
    kills: u64,
}

impl fmt::Display for Hang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hang { who, kills } = self;
        write!(f, "a hang: process {who} got nowhere for {HANG:?} after {kills} kills")
    }
}

impl std::error::Error for Hang {}

/// Random numbers: splitmix64.
pub struct Random(u64);

impl Random {
    /// Begins with the number in the variable `SEED`, or else with the time, and prints which.
    pub fn new() -> Result<Random> {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse()?,
            Err(_) => SystemTime::UNIX_EPOCH.elapsed()?.as_nanos() as u64,
        };
        println!("SEED={seed}");
        Ok(Random(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (scramble(self.0) % bound as u64) as usize
    }
}

fn scramble(mut number: u64) -> u64 {
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// A storm to come.
#[derive(Clone)]
pub struct Storm {
    pub kills: u64,
    /// How many producers there are, from process 0 on, and after them as many consumers.
    pub pairs: usize,
    /// How many items are put at once, and at the most taken at once.
    pub batch: usize,
    /// The processes that may be killed.
    pub victims: Range<usize>,
}

/// What came of it.
#[derive(Default)]
pub struct Report {
    pub kills: u64,
    consumers_killed: u64,
    /// How many were killed between the beginning and the end of a put or a get.
    killed_in_a_call: u64,
    /// Items whose put returned.
    put: u64,
    /// Of those, the ones that nobody received: a consumer took them and was killed.
    lost: u64,
    /// The longest of all puts and gets whose caller lived to see the end.
    pub longest_call: Duration,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.kills += other.kills;
        self.consumers_killed += other.consumers_killed;
        self.killed_in_a_call += other.killed_in_a_call;
        self.put += other.put;
        self.lost += other.lost;
        self.longest_call = self.longest_call.max(other.longest_call);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} of them in a call; {} items put: 0 twice, 0 torn, 0 out of order, 0 never \
             put, {} lost with {} killed consumers; longest call {:?}",
            self.kills,
            self.killed_in_a_call,
            self.put,
            self.lost,
            self.consumers_killed,
            self.longest_call
        )
    }
}

impl Storm {
    /// Lets the storm loose on `channel`, then drains it and checks the ledger. It ends early where
    /// the ledger gets full. The error is a [`Hang`] where a process got nowhere.
    pub fn rage(&self, channel: &impl Channel, random: &mut Random) -> Result<Report> {
        let ledger = Ledger::new()?;
        let (crew, unsure, report) = (Vec::new(), Vec::new(), Report::default());
        let mut run = Run { storm: self, channel, ledger: &ledger, crew, unsure, report };
        let everyone = 0..2 * self.pairs;
        for who in everyone.clone() {
            run.crew.push(run.start(who)?);
        }
        while run.report.kills < self.kills && ledger.has_room() {
            let dead = run.burst(random)?;
            let survivors: Vec<usize> =
                everyone.clone().filter(|who| !dead.contains(who)).collect();
            // Without a producer or without a consumer the others rightly wait.
            let producers = survivors.iter().filter(|&&who| self.produces(who)).count();
            if producers > 0 && producers < survivors.len() {
                run.wait_for(survivors)?;
            }
            for who in dead {
                run.crew[who] = run.start(who)?;
            }
            run.wait_for(everyone.clone())?;
        }
        run.end()
    }

    fn produces(&self, who: usize) -> bool {
        who < self.pairs
    }
}

/// A storm as it rages.
struct Run<'a, C> {
    storm: &'a Storm,
    channel: &'a C,
    ledger: &'a Ledger,
    crew: Vec<Process>,
    /// Producers that were killed, and the numbers that they may have put or not.
    unsure: Vec<(usize, RangeInclusive<u64>)>,
    report: Report,
}

impl<C: Channel> Run<'_, C> {
    fn start(&self, who: usize) -> Result<Process> {
        let Run { storm: Storm { batch, .. }, channel, ledger, .. } = *self;
        let produces = self.storm.produces(who);
        spawn(who.to_string(), || match produces {
            true => produce(who, *batch, channel, ledger),
            false => consume(who, *batch, channel, ledger),
        })
    }

    /// Kills one process or a few, and returns which.
    fn burst(&mut self, random: &mut Random) -> Result<Vec<usize>> {
        let mut dead = Vec::new();
        for _ in 0..=random.below(BURST) {
            let who = self.storm.victims.start + random.below(self.storm.victims.len());
            if dead.contains(&who) {
                continue;
            }
            thread::sleep(CALM / 100 * random.below(100) as u32);
            self.crew[who].kill()?;
            let status = self.crew[who].wait()?;
            ensure!(status.signal() == Some(9), "process {who} ended by itself: {status}");
            dead.push(who);
            self.report.kills += 1;
            self.report.killed_in_a_call += self.ledger.in_a_call[who].swap(0, Relaxed);
            if self.storm.produces(who) {
                self.unsure.push((who, self.ledger.unsure(who)));
            } else {
                self.report.consumers_killed += 1;
            }
        }
        Ok(dead)
    }

    /// Waits until each of these processes has finished a call.
    fn wait_for(&mut self, processes: impl IntoIterator<Item = usize>) -> Result<()> {
        let start = Instant::now();
        let calls = |who: usize| self.ledger.calls[who].load(Relaxed);
        let before: Vec<u64> = (0..self.crew.len()).map(calls).collect();
        for who in processes {
            while calls(who) == before[who] {
                ensure!(self.crew[who].is_alive(), "process {who} ended by itself");
                if start.elapsed() > HANG {
                    bail!(Hang { who, kills: self.report.kills });
                }
                thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(())
    }

    /// The producers end, then the queue is closed and drained, then all is checked.
    fn end(mut self) -> Result<Report> {
        let pairs = self.storm.pairs;
        self.ledger.stop.store(true, Relaxed);
        self.join(0..pairs)?;
        self.channel.close()?;
        self.join(pairs..2 * pairs)?;
        self.ledger.check(&self.unsure, &mut self.report)?;
        let bound = self.report.consumers_killed * self.storm.batch as u64;
        let lost = self.report.lost;
        ensure!(lost <= bound, "{lost} items lost, and at most {bound} can be with a consumer");
        Ok(self.report)
    }

    fn join(&mut self, processes: Range<usize>) -> Result<()> {
        for who in processes {
            match self.crew[who].wait_timeout(HANG)? {
                Some(status) => ensure!(status.success(), "process {who}: {status}"),
                None => bail!(Hang { who, kills: self.report.kills }),
            }
        }
        Ok(())
    }
}

fn produce(who: usize, batch: usize, channel: &impl Channel, ledger: &Ledger) -> Result<()> {
    while !ledger.stop.load(Relaxed) {
        let first = ledger.begun[who].load(Relaxed) + 1;
        let last = first + batch as u64 - 1;
        ensure!(last < NUMBERS, "the ledger is full");
        let items: Vec<Item> = (first..=last).map(|number| Item::new(who, number)).collect();
        ledger.begun[who].store(last, Release);
        ledger.call(who, || channel.put(&items))?;
        ledger.returned[who].store(last, Release);
        rest(first);
    }
    Ok(())
}

fn consume(who: usize, batch: usize, channel: &impl Channel, ledger: &Ledger) -> Result<()> {
    loop {
        let items = ledger.call(who, || channel.get(batch))?;
        let Some(last) = items.last() else { return Ok(()) };
        items.iter().for_each(|item| ledger.note(who, item));
        rest(last.number);
    }
}

/// Takes a rest now and then, in every other thousand of items. With rests the queue is now full, now
/// empty, and its processes fall asleep; without, they are in a call nearly all of the time.
fn rest(number: u64) {
    if number >> 10 & 1 == 0 && scramble(number) % 16 == 0 {
        thread::sleep(Duration::from_micros(10));
    }
}

/// How many numbers a producer has in one storm: a bit each, in so many pages of so many words.
const NUMBERS: u64 = (PAGES * WORDS * 64) as u64;
const PAGES: usize = 8;
const WORDS: usize = 32 << 10;

/// What must never happen to an item.
const FAULTS: [&str; 4] = ["torn", "never put", "received twice", "out of their producer's order"];
const TORN: usize = 0;
const NEVER_PUT: usize = 1;
const TWICE: usize = 2;
const OUT_OF_ORDER: usize = 3;

type Counters<const N: usize> = Shared<[AtomicU64; N]>;

/// What everyone did, in shared memory.
struct Ledger {
    /// By producer: the last number that it began to put.
    begun: Counters<PAIRS>,
    /// By producer: the last number whose put returned.
    returned: Counters<PAIRS>,
    /// By producer: a bit for each number, set when it was received.
    received: [Vec<Counters<WORDS>>; PAIRS],
    /// By process that receives, and producer: the last number received.
    last: [Counters<PAIRS>; 2 * PAIRS],
    /// By process: how many calls it has finished.
    calls: Counters<{ 2 * PAIRS }>,
    /// By process: 1 while it is in a call.
    in_a_call: Counters<{ 2 * PAIRS }>,
    /// In nanoseconds.
    longest_call: Counters<1>,
    faults: Counters<4>,
    stop: Shared<AtomicBool>,
}

fn counters<const N: usize>() -> Result<Counters<N>> {
    Shared::new([const { AtomicU64::new(0) }; N])
}

/// An array of as many as there is room for.
fn all<T, const N: usize>(new: impl Fn() -> Result<T>) -> Result<[T; N]> {
    let all = (0..N).map(|_| new()).collect::<Result<Vec<T>>>()?;
    Ok(all.try_into().unwrap_or_else(|_| unreachable!("there are N")))
}

impl Ledger {
    fn new() -> Result<Ledger> {
        let pages = || (0..PAGES).map(|_| counters()).collect::<Result<Vec<_>>>();
        Ok(Ledger {
            begun: counters()?,
            returned: counters()?,
            received: all(pages)?,
            last: all(counters)?,
            calls: counters()?,
            in_a_call: counters()?,
            longest_call: counters()?,
            faults: counters()?,
            stop: Shared::new(AtomicBool::new(false))?,
        })
    }

    /// Whether every producer is far from its last number.
    fn has_room(&self) -> bool {
        self.begun.iter().all(|begun| begun.load(Relaxed) < NUMBERS / 2)
    }

    /// Makes a put or a get for process `who`.
    fn call<T>(&self, who: usize, call: impl FnOnce() -> T) -> T {
        self.in_a_call[who].store(1, Relaxed);
        let start = Instant::now();
        let result = call();
        self.longest_call[0].fetch_max(start.elapsed().as_nanos() as u64, Relaxed);
        self.in_a_call[who].store(0, Relaxed);
        self.calls[who].fetch_add(1, Relaxed);
        result
    }

    /// Writes down that consumer `who` received an item.
    fn note(&self, who: usize, item: &Item) {
        let Item { number, checksum, .. } = *item;
        let fault = |kind: usize| self.faults[kind].fetch_add(1, Relaxed);
        let producer = item.producer as usize;
        if producer >= PAIRS || checksum != Item::new(producer, number).checksum {
            fault(TORN);
            return;
        }
        if number == 0 || number > self.begun[producer].load(Acquire) {
            fault(NEVER_PUT);
            return;
        }
        let (word, bit) = self.bit(producer, number);
        if word.fetch_or(bit, Relaxed) & bit != 0 {
            fault(TWICE);
        }
        if self.last[who][producer].swap(number, Relaxed) >= number {
            fault(OUT_OF_ORDER);
        }
    }

    fn bit(&self, producer: usize, number: u64) -> (&AtomicU64, u64) {
        let word = (number / 64) as usize;
        (&self.received[producer][word / WORDS][word % WORDS], 1 << (number % 64))
    }

    /// Of a producer that is dead: the numbers that it had begun to put, and has put or not.
    fn unsure(&self, producer: usize) -> RangeInclusive<u64> {
        let begun = self.begun[producer].load(Acquire);
        self.returned[producer].swap(begun, Relaxed) + 1..=begun
    }

    /// At the end, when all have ended and the queue is drained.
    fn check(&self, unsure: &[(usize, RangeInclusive<u64>)], report: &mut Report) -> Result<()> {
        for (count, fault) in self.faults.iter().zip(FAULTS) {
            let count = count.load(Relaxed);
            ensure!(count == 0, "{count} items {fault}");
        }
        for producer in 0..PAIRS {
            let mut next = 1;
            let begun = self.begun[producer].load(Relaxed);
            let mine = unsure.iter().filter(|entry| entry.0 == producer).map(|entry| &entry.1);
            for unsure in mine.chain([&(begun + 1..=begun)]) {
                for number in next..*unsure.start() {
                    let (word, bit) = self.bit(producer, number);
                    report.put += 1;
                    report.lost += u64::from(word.load(Relaxed) & bit == 0);
                }
                next = unsure.end() + 1;
            }
        }
        report.longest_call = Duration::from_nanos(self.longest_call[0].load(Relaxed));
        Ok(())
    }
}
