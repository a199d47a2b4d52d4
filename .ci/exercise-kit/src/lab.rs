//! What the programs of the exercises stand on: named pause points and meetings, which make what
//! goes wrong sometimes go wrong every time.

use std::fmt::Display;
use std::os::fd::RawFd;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use common::Shared;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::getpid;

use crate::proc;

/// The variables of the environment in which the checker names its socket and its secret.
pub(crate) const RECORD: &str = "EXERCISE_RECORD";
pub(crate) const SECRET: &str = "EXERCISE_SECRET";

/// How many processes take part at the most, and how many items there are.
const SEATS: usize = 8;
const ITEMS: usize = 64;
/// How often a process looks whether the others have come, before it gives up: for two seconds and
/// more. A number of looks and not a time, since on a busy machine everything takes longer.
const LOOKS: u32 = 4000;
/// The time between two looks, and after how many of them the checker hears that this one waits.
const LOOK: Duration = Duration::from_micros(500);
const SIGN_OF_LIFE: u32 = 500;
/// The marks of a process that has said so.
const READY: u32 = 1;
const BEGUN: u32 = 2;
/// Longer than anyone sleeps who hopes that the trouble passes meanwhile.
const LATE: Duration = Duration::from_secs(1);

/// How many items there are in a check with this secret.
pub(crate) fn items(secret: u64) -> u64 {
    12 + secret % 8
}

/// The place where an exercise happens: its pause points, and the line to whoever checks it.
///
/// Make it in `main` before the first child, and lend it to the children. Each of its calls that
/// waits is bounded. Run by hand, it works the same and tells nobody.
#[derive(Debug)]
pub struct Lab {
    record: Option<RawFd>,
    secret: u64,
    crew: usize,
    /// The pid of each process that takes part, in the order in which they came.
    seats: Shared<[AtomicU32; SEATS]>,
    /// How often each of them has met the others.
    turns: Shared<[AtomicU32; SEATS]>,
    /// What has happened to each item, or in each seat.
    marks: Shared<[AtomicU32; ITEMS]>,
    /// 1 once somebody waited for the others in vain: nobody waits again.
    alone: Shared<AtomicU32>,
}

impl Lab {
    /// A lab in which `crew` processes take part at the same time, 1 to 8.
    pub fn new(crew: usize) -> Result<Lab> {
        anyhow::ensure!((1..=SEATS).contains(&crew), "a crew of {crew}: at least 1, at most 8");
        let variable = |name| std::env::var(name).ok()?.parse().ok();
        if variable(RECORD).is_some() {
            // Where the checker is interrupted, nobody else ends what it was checking.
            set_pdeathsig(Signal::SIGKILL)?;
        }
        Ok(Lab {
            record: variable(RECORD).map(|number| number as RawFd),
            secret: variable(SECRET).unwrap_or(7),
            crew,
            seats: Shared::new([const { AtomicU32::new(0) }; SEATS])?,
            turns: Shared::new([const { AtomicU32::new(0) }; SEATS])?,
            marks: Shared::new([const { AtomicU32::new(0) }; ITEMS])?,
            alone: Shared::new(AtomicU32::new(0))?,
        })
    }

    /// Tells the checker that this process works on `item`.
    pub fn work(&self, item: u64) {
        self.tell(&format!("work {item}"));
    }

    /// Tells the checker what came out in the end.
    pub fn result(&self, number: u64) {
        self.tell(&format!("result {number}"));
    }

    /// Tells the checker that `item` has arrived where it belongs.
    pub fn received(&self, item: impl Display) {
        self.tell(&format!("received {item:.200}"));
    }

    /// Tells the checker that this process has ended its loop.
    pub fn done(&self) {
        self.tell("done");
    }

    /// How many items there are today: another number in each check.
    pub fn items(&self) -> u64 {
        items(self.secret)
    }

    /// The message with this number that this process is to send: four words, in one line.
    pub fn message(&self, number: u64) -> String {
        let pid = process::id();
        let mixed = (self.secret ^ (u64::from(pid) << 20) ^ number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 32;
        let message = format!("message {number} from {pid}:{mixed:08x}");
        self.tell(&format!("sent {message}"));
        message
    }

    /// Waits until every process of the crew has made this call as often as this one has.
    ///
    /// Where they don't come, because they were not started yet or wait for this one, it gives up
    /// after 2 seconds, and the checker learns of it.
    pub fn meet(&self) {
        let seat = self.sit();
        let turn = self.turns[seat].fetch_add(1, SeqCst) + 1;
        let all_here = || (0..self.crew).all(|other| self.turns[other].load(SeqCst) >= turn);
        let has_ended = |other: usize| {
            let pid = self.seats[other].load(SeqCst);
            pid != 0 && self.turns[other].load(SeqCst) < turn && proc::has_ended(pid)
        };
        self.look_until(|| {
            if (0..self.crew).any(has_ended) {
                self.give_up();
            }
            all_here() || self.alone.load(SeqCst) == 1
        });
        if all_here() {
            self.tell("met");
        } else {
            self.give_up();
        }
    }

    /// A pause at the worst moment: waits until each of the others has come to the same pause, or
    /// sleeps because it waits for something (for a lock, say), or has ended. They should have
    /// [met](Lab::meet) before.
    pub fn pause(&self) {
        self.tell("pause");
        let seat = self.sit();
        let turn = self.turns[seat].fetch_add(1, SeqCst) + 1;
        for other in (0..self.crew).filter(|&other| other != seat) {
            let here = || self.turns[other].load(SeqCst) >= turn;
            self.wait_unless_asleep(other, Duration::from_millis(3), here);
        }
    }

    /// Computes item `item`, which takes the others of the crew to be at it at the same time.
    pub fn compute(&self, item: u64) -> u64 {
        self.meet();
        self.work(item);
        item * item
    }

    /// Process `number` is prepared now: 0, 1 and so on. Each takes its time over that: until the one
    /// before it has begun, or has been asleep for a second.
    pub fn ready(&self, number: usize) {
        let seat = number.min(SEATS - 1);
        self.seats[seat].store(process::id(), SeqCst);
        if seat > 0 {
            let is = |mark| self.marks[seat - 1].load(SeqCst) >= mark;
            self.look_until(|| is(READY));
            self.wait_unless_asleep(seat - 1, LATE, || is(BEGUN));
        }
        self.tell("ready");
        self.marks[seat].store(READY, SeqCst);
    }

    /// This process begins now.
    pub fn begin(&self) {
        self.tell("begin");
        self.marks[self.sit()].store(BEGUN, SeqCst);
    }

    /// A pause of a second: longer than anyone waits who hopes that nothing more will come.
    pub fn late(&self) {
        sleep(LATE);
    }

    /// The first process that comes here is killed, with `SIGKILL`.
    pub fn die_here(&self) {
        if self.marks[0].swap(1, SeqCst) == 0 {
            self.tell("dies");
            let _ = kill(getpid(), Signal::SIGKILL);
        }
    }

    /// Works on `item`, and is killed with `SIGKILL` where it is the first to work on item 5.
    pub fn risky_work(&self, item: u64) -> u64 {
        self.work(item);
        if item == 5 {
            self.die_here();
        }
        item * item
    }

    /// The square of `item`, of which every third one takes longer than the one after it.
    pub fn slow_square(&self, item: u64) -> u64 {
        self.work(item);
        let mark = |item: u64| &self.marks[item as usize % ITEMS];
        if item % 3 == 0 {
            let next = mark(item + 1);
            self.look_until(|| next.load(SeqCst) == 1 || self.alone.load(SeqCst) == 1);
            if next.load(SeqCst) == 0 {
                self.give_up();
            }
        }
        mark(item).store(1, SeqCst);
        item * item
    }

    /// Tells the checker that `item` is taken up.
    pub fn taken(&self, item: u64) {
        self.tell(&format!("taken {item}"));
    }

    /// The server has nothing to do: waits until all children of this process have ended, looks
    /// which of them are zombies, and returns how many that are. Afterwards another crew may meet.
    pub fn idle(&self) -> usize {
        let me = process::id();
        let children = || proc::descendants(me).into_iter().filter(move |p| p.parent == me);
        self.look_until(|| children().all(|child| child.state == 'Z'));
        let zombies: Vec<_> = children().map(|child| child.pid.to_string()).collect();
        self.tell(&format!("idle {}", zombies.join(" ")));
        for cell in self.seats.iter().chain(self.turns.iter()) {
            cell.store(0, SeqCst);
        }
        zombies.len()
    }

    /// The seat of this process, which it takes at its first call.
    fn sit(&self) -> usize {
        let pid = process::id();
        let mine = |seat: &AtomicU32| {
            let before = seat.compare_exchange(0, pid, SeqCst, SeqCst).unwrap_or_else(|held| held);
            before == 0 || before == pid
        };
        self.seats.iter().position(mine).unwrap_or(SEATS - 1)
    }

    /// Waits until `happened` on the part of the process in seat `other`, or until that one has
    /// ended, or has slept for `long` after it was ready.
    fn wait_unless_asleep(&self, other: usize, long: Duration, happened: impl Fn() -> bool) {
        let mut asleep_since = None;
        self.look_until(|| {
            let state = proc::process(self.seats[other].load(SeqCst)).map(|process| process.state);
            if state != Some('S') {
                asleep_since = None;
                return happened() || matches!(state, None | Some('Z' | 'X'));
            }
            happened() || asleep_since.get_or_insert_with(Instant::now).elapsed() >= long
        });
    }

    /// Looks until `condition` holds, or for long enough.
    fn look_until(&self, mut condition: impl FnMut() -> bool) {
        for look in 1..=LOOKS {
            if condition() {
                return;
            }
            if look % SIGN_OF_LIFE == 0 {
                self.tell("waiting");
            }
            sleep(LOOK);
        }
    }

    /// Tells the checker, once, that somebody has waited for the others in vain.
    fn give_up(&self) {
        if self.alone.swap(1, SeqCst) == 0 {
            self.tell("alone");
        }
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = self.record {
            // Where the checker is gone there is nobody to tell.
            let _ = send(socket, what.as_bytes(), MsgFlags::MSG_NOSIGNAL);
        }
    }
}
