//! The ring of slots in shared memory, and why a process may be killed at any instruction of it.
//!
//! ```text
//!            head                 tail
//!             |                    |
//!   +----+----+----+----+----+----+----+----+
//!   |    |    | 17 | 18 | 19 | 20 |    |    |     capacity 8, positions count up for ever,
//!   +----+----+----+----+----+----+----+----+     slot = position modulo capacity
//!              ^ next get          ^ next put
//! ```
//!
//! Producers share one lock, consumers another, so that at any time one process writes at `tail`
//! and one reads at `head`. A put writes its slot and then moves `tail`: that one store is its
//! commit. A get reads its slot and then moves `head`: that one store is its commit. A process that
//! is killed before its commit has not put or got anything, and one that is killed after it has:
//! there is no state in between, and so nothing to repair. Its lock is freed by the kernel (see
//! [`common::lock`]).
//!
//! Waiting is by flag and futex. Who is about to sleep raises the flag of its side, looks once
//! more, and sleeps. Who has committed looks at the other side's flag, lowers it and wakes all
//! sleepers there. So that one of the two always sees the other, the flag is raised under the lock
//! of those who commit: who holds it later finds the flag, and what was committed before is found by
//! the sleeper. (A fence on either side would do too, and would cost each put and get as much as
//! all the rest of it.)
//!
//! A flag and not a count of sleepers, because a sleeper that is killed would never leave the count;
//! all and not one, because the one might just have been killed; and never much longer than the wait
//! has lasted already ([`NAP`]) without looking again, because the waker itself may be killed between
//! its commit and the wake.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::LockError;
use common::deadlock::Deadlock;
use common::message::{self, Message};
use common::timeline::{Kind, messages};

use crate::machine::{
    AtomicU32, AtomicU64, Held, Mapping, Reader, RobustLock, Waiting, What, Writer, fence, futex,
    number, timeline, wait,
};
use crate::queue::QueueError;

/// The longest sleep without looking again, at first. It doubles with each that was in vain: a
/// wake-up that got lost costs at most as long as the wait has lasted already.
const NAP: Duration = Duration::from_millis(20);
const LONGEST_NAP: Duration = Duration::from_millis(160);
/// After so long a call may ask others of its side to step back.
const LONG_WAIT: Duration = Duration::from_millis(10);
/// How long a `try_` call, which does not wait for items or room, waits for a busy lock.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);

/// How long a call may wait.
#[derive(Clone, Copy)]
pub enum Patience {
    /// Not at all.
    None,
    /// Until then; `None` is for as long as it takes.
    Until(Option<Instant>),
}

/// Two cache lines for itself (processors fetch them in pairs), so that one side's writes do not
/// take away what the other side reads.
#[derive(Default)]
#[repr(C, align(128))]
struct Apart<T>(T);

/// What one side, all producers or all consumers, has to itself.
#[derive(Default)]
#[repr(C)]
struct Side {
    lock: RobustLock,
    /// The other side's position when this side last looked. Read and written under the lock. The
    /// other side has only moved on since, so an old one errs on the safe side.
    seen: AtomicU64,
    /// This side's own position when it last had to wait. Read and written under the lock.
    waited_at: AtomicU64,
}

impl Side {
    /// Whether the two sides take turns: one item or none went through since this side last had to
    /// wait, and so the next is near. For the holder of the lock who has to wait at `position`.
    ///
    /// If more went through, they stream, and it pays to let some gather before looking again:
    /// otherwise each item costs both sides the trip of a cache line.
    fn takes_turns(&self, position: u64) -> bool {
        let last = self.waited_at.load(Relaxed);
        self.waited_at.store(position, Relaxed);
        position - last <= 1
    }
}

#[derive(Default)]
#[repr(C)]
struct Header {
    producers: Apart<Side>,
    consumers: Apart<Side>,
    /// How many items were ever put. Written by producers alone, under their lock.
    tail: Apart<AtomicU64>,
    /// How many items were ever taken. Written by consumers alone, under their lock.
    head: Apart<AtomicU64>,
    /// Rarely written, read by all: one place for the three.
    signs: Apart<Signs>,
}

#[derive(Default)]
#[repr(C)]
struct Signs {
    /// 1 once the queue is closed.
    closed: AtomicU32,
    /// By this consumers sleep until there are items.
    items_wanted: AtomicU32,
    /// By this producers sleep until there is room.
    room_wanted: AtomicU32,
}

/// The lowest bit of a sign to sleep by: raised where somebody may sleep. The bits above count how
/// often it was lowered. Without that, one who has raised the flag and is about to sleep would miss
/// a wake-up after which another one has raised it again.
const FLAG: u32 = 1;

/// The ring itself, as one process sees it.
pub struct Ring<T> {
    /// The header, then the slots.
    mapping: ManuallyDrop<Mapping>,
    /// What a report of a deadlock calls it.
    number: u64,
    capacity: usize,
    bytes_each: usize,
    /// From one slot to the next, in bytes.
    stride: usize,
    items: PhantomData<fn(T) -> T>,
}

/// A slot is the item's length in bytes, then its bytes.
const LEN: usize = size_of::<u32>();

impl<T: Message> Ring<T> {
    pub fn new(capacity: usize, bytes_each: usize) -> Result<Ring<T>> {
        ensure!(capacity > 0, "a queue of 0 slots can hold nothing: give it at least 1");
        ensure!(bytes_each > 0, "slots of 0 bytes can hold nothing: give them at least 1");
        ensure!(
            u32::try_from(bytes_each).is_ok(),
            "slots of {bytes_each} bytes are too large: at most {} each",
            u32::MAX
        );
        let sizes = || {
            let stride = bytes_each.checked_add(LEN)?.checked_next_multiple_of(LEN)?;
            Some((stride, capacity.checked_mul(stride)?.checked_add(size_of::<Header>())?))
        };
        let (stride, bytes) = sizes().with_context(|| {
            format!("{capacity} slots of {bytes_each} bytes are larger than any memory")
        })?;
        let mapping = Mapping::new(bytes)
            .with_context(|| format!("cannot make a queue of {capacity} x {bytes_each} bytes"))?;
        let header = mapping.as_ptr().cast::<Header>();
        // SAFETY: the mapping has room for the header and is aligned to a page, and nobody else
        // knows it yet.
        unsafe {
            header.write(Header::default());
            RobustLock::place(&raw mut (*header).producers.0.lock)?;
            RobustLock::place(&raw mut (*header).consumers.0.lock)?;
        }
        let mapping = ManuallyDrop::new(mapping);
        let number = number();
        Ok(Ring { mapping, number, capacity, bytes_each, stride, items: PhantomData })
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn bytes_each(&self) -> usize {
        self.bytes_each
    }

    /// How many items there were at some moment of this call.
    pub fn len(&self) -> usize {
        let Header { tail: Apart(tail), head: Apart(head), .. } = self.header();
        let mut taken = head.load(Acquire);
        loop {
            let put = tail.load(Acquire);
            // Where items were taken between two looks, others may have been put in their place:
            // the difference would count both.
            let since = std::mem::replace(&mut taken, head.load(Acquire));
            if since == taken {
                return (put - taken) as usize;
            }
        }
    }

    /// Waits until there is room for one item or more, puts as many of `items` as there is room
    /// for, with one commit, and returns how many. None of them may be too large.
    #[track_caller]
    pub fn put(&self, items: &[T], patience: Patience) -> Result<usize, QueueError> {
        let Header { producers, consumers, tail: Apart(tail), head: Apart(head), signs } =
            self.header();
        let side = &producers.0;
        let mut wait = Wait {
            lock: &side.lock,
            others: &consumers.0.lock,
            sign: &signs.0.room_wanted,
            what: What::Room(self.number, self.capacity),
            gathers: false,
            patience,
            since: None,
        };
        loop {
            let held = lock(&side.lock, patience)?;
            if self.is_closed() {
                return Err(QueueError::Closed);
            }
            let position = tail.load(Relaxed);
            let wanted = items.len().min(self.capacity);
            let room = |seen: u64| self.capacity - (position - seen) as usize;
            let mut seen = side.seen.load(Relaxed);
            if room(seen) < wanted {
                seen = head.load(Acquire);
                side.seen.store(seen, Relaxed);
            }
            let count = room(seen).min(wanted);
            if count > 0 {
                for (position, item) in (position..).zip(&items[..count]) {
                    self.write(position, item, &held);
                }
                timeline::note(Kind::Sends, self.number, messages(position, count));
                tail.store(position + count as u64, Release); // the commit
                drop(held);
                wake(&signs.0.items_wanted);
                return Ok(count);
            }
            let near = side.takes_turns(position);
            drop(held);
            let changed = || head.load(Acquire) != seen || self.is_closed();
            wait.until(changed, near, QueueError::Full)?;
        }
    }

    /// Waits until there is an item or more, hands up to `at_most` of them to `sink`, and takes
    /// them with one commit. An item that does not decode is taken and reported, on its own.
    #[track_caller]
    pub fn get(
        &self,
        at_most: usize,
        patience: Patience,
        mut sink: impl FnMut(T),
    ) -> Result<(), QueueError> {
        let Header { producers, consumers, tail: Apart(tail), head: Apart(head), signs } =
            self.header();
        let side = &consumers.0;
        let mut wait = Wait {
            lock: &side.lock,
            others: &producers.0.lock,
            sign: &signs.0.items_wanted,
            what: What::Items(self.number),
            gathers: true,
            patience,
            since: None,
        };
        loop {
            // In this order: nothing is put once the queue is closed, so what `tail` says after
            // that is all there will ever be.
            let closed = self.is_closed();
            let held = lock(&side.lock, patience)?;
            let position = head.load(Relaxed);
            let mut seen = side.seen.load(Relaxed);
            if ((seen - position) as usize) < at_most {
                seen = tail.load(Acquire);
                side.seen.store(seen, Relaxed);
            }
            let count = ((seen - position) as usize).min(at_most);
            if count > 0 {
                let mut commit = Commit { head, position };
                let mut undecodable = None;
                for next in position..position + count as u64 {
                    commit.position = next + 1; // an item whose `decode` panics is taken too
                    match self.read(next, &held) {
                        Ok(item) => sink(item),
                        Err(error) if next == position => {
                            undecodable = Some(error);
                            break;
                        }
                        Err(_) => {
                            commit.position = next; // the next call will meet it, alone
                            break;
                        }
                    }
                }
                let taken = (commit.position - position) as usize;
                drop(commit);
                drop(held);
                timeline::note(Kind::Receives, self.number, messages(position, taken));
                wake(&signs.0.room_wanted);
                return match undecodable {
                    None => Ok(()),
                    Some(error) => Err(QueueError::Decode(error)),
                };
            }
            let near = side.takes_turns(position);
            drop(held);
            if closed {
                return Err(QueueError::Closed);
            }
            let changed = || tail.load(Acquire) != seen || self.is_closed();
            wait.until(changed, near, QueueError::Empty)?;
        }
    }

    /// Closes the queue: when this returns, nothing is put any more.
    #[track_caller]
    pub fn close(&self, patience: Patience) -> Result<(), QueueError> {
        let Header { producers, signs: Apart(signs), .. } = self.header();
        // Under the lock, so that a put that is under way commits before.
        let held = lock(&producers.0.lock, patience)?;
        signs.closed.store(1, Release);
        drop(held);
        // A producer raises its flag under the consumers' lock. So here the order is ours to keep:
        // `closed`, then the look at the flag, where it raises the flag and then looks at `closed`.
        fence(SeqCst);
        wake(&signs.items_wanted);
        wake(&signs.room_wanted);
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.header().signs.0.closed.load(Acquire) != 0
    }

    /// Writes an item at `position`, which is not committed, for the holder of the producers' lock.
    fn write(&self, position: u64, item: &T, _: &Held<'_>) {
        let len = item.encoded_len();
        assert!(len <= self.bytes_each, "Message::encoded_len gave two answers for one item");
        let slot = self.slot(position);
        // SAFETY: `slot` has room for the length and `bytes_each` bytes. Its position is not
        // between head and tail, so no consumer reads it, and we hold the producers' lock.
        let room = unsafe {
            slot.cast::<u32>().write(len as u32);
            Writer::from_raw(slot.add(LEN), len)
        };
        message::write_to(item, room);
    }

    /// Reads the item at `position`, between head and tail, for the holder of the consumers' lock.
    fn read(&self, position: u64, _: &Held<'_>) -> Result<T, message::DecodeError> {
        let slot = self.slot(position);
        // SAFETY: a put has committed this slot, so it holds a length of at most `bytes_each` and
        // as many bytes. No producer writes it before head has moved past it, which only we, with
        // the consumers' lock, can do.
        let bytes = unsafe {
            let len = slot.cast::<u32>().read() as usize;
            Reader::from_raw(slot.add(LEN), len.min(self.bytes_each))
        };
        message::read_from(bytes)
    }

    fn slot(&self, position: u64) -> *mut u8 {
        let index = (position % self.capacity as u64) as usize;
        // SAFETY: the mapping has room for the header and `capacity` slots.
        unsafe { self.mapping.as_ptr().add(size_of::<Header>() + index * self.stride) }
    }

    fn header(&self) -> &Header {
        // SAFETY: `new` made it there. All of it is atomics and locks, made to be shared.
        unsafe { &*self.mapping.as_ptr().cast::<Header>() }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // SAFETY: as in `header`.
        let header = unsafe { &*self.mapping.as_ptr().cast::<Header>() };
        if header.producers.0.lock.is_free() && header.consumers.0.lock.is_free() {
            // SAFETY: it is not used again, and no lock in it is in this process's list of held
            // locks. Otherwise the pages stay mapped until the process ends.
            unsafe { ManuallyDrop::drop(&mut self.mapping) }
        }
    }
}

/// Takes a side's lock. That its last holder died is no news here: it left a whole state.
#[inline(always)]
#[track_caller]
fn lock(lock: &RobustLock, patience: Patience) -> Result<Held<'_>, QueueError> {
    let held = match patience {
        Patience::Until(deadline) => lock.lock(deadline),
        Patience::None => lock_soon(lock),
    };
    held.map_err(|error| match error {
        LockError::Timeout => QueueError::Timeout,
        LockError::Deadlock => QueueError::Deadlock,
        error => QueueError::Lock(error),
    })
}

#[cold]
fn lock_soon(lock: &RobustLock) -> Result<Held<'_>, LockError> {
    lock.give_way();
    match lock.try_lock()? {
        Some(held) => Ok(held),
        None => lock.lock(wait::deadline_after(LOCK_PATIENCE)),
    }
}

/// Moves the consumers' position when it is dropped, in a panic too.
struct Commit<'a> {
    head: &'a AtomicU64,
    position: u64,
}

impl Drop for Commit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.head.store(self.position, Release); // the commit
    }
}

/// Wakes all who sleep by `sign`, if its flag is up.
#[inline]
fn wake(sign: &AtomicU32) {
    let raised = sign.load(Relaxed);
    if raised & FLAG != 0 {
        // Lowers the flag and counts on; where it fails, another waker has just done so.
        let _ = sign.compare_exchange(raised, raised.wrapping_add(FLAG), Relaxed, Relaxed);
        futex::wake_all(sign);
    }
}

/// One call's waiting.
struct Wait<'a> {
    /// The lock of its own side.
    lock: &'a RobustLock,
    /// The lock of the other side, which it waits for.
    others: &'a RobustLock,
    /// By this its own side sleeps.
    sign: &'a AtomicU32,
    what: What,
    /// Whether to pause where items stream. A consumer does; a producer that finds no room rather
    /// gives the processor away, to the consumer.
    gathers: bool,
    patience: Patience,
    /// When its first wait began.
    since: Option<Instant>,
}

impl Wait<'_> {
    /// Waits until `changed`, looking first and sleeping then; looking closely where what it waits
    /// for is `near`.
    #[cold]
    #[track_caller]
    fn until(
        &mut self,
        changed: impl Fn() -> bool,
        near: bool,
        unready: QueueError,
    ) -> Result<(), QueueError> {
        let Patience::Until(deadline) = self.patience else { return Err(unready) };
        if near && wait::spin(&changed) {
            return Ok(());
        }
        if !near && self.gathers {
            wait::pause();
        }
        // Where items or room came more than once and others were faster each time, they are to
        // step back: otherwise those who are awake always win against one who has to wake up first.
        if self.since.get_or_insert_with(Instant::now).elapsed() > LONG_WAIT {
            self.lock.ask_for_way();
        }
        if wait::look_for(|| changed().then_some(())).is_some() {
            return Ok(());
        }
        let waiting = Waiting::begin(self.what, deadline.is_some(), Location::caller());
        let mut nap = NAP;
        loop {
            let raised = match self.others.try_lock().map_err(QueueError::Lock)? {
                // Under the lock of those who are to see the flag: whoever holds it after us finds
                // the flag, and the commits of all who held it before us we find.
                Some(_held) => Some(self.sign.fetch_or(FLAG, Relaxed) | FLAG),
                // One of them is at it, or was stopped there.
                None => None,
            };
            fence(SeqCst); // `close` holds one of the locks only
            match waiting.look(|| changed().then_some(())) {
                Ok(Some(())) => return Ok(()),
                Ok(None) => {}
                Err(Deadlock) => return Err(QueueError::Deadlock),
            }
            let Some(time) = wait::remaining(deadline, nap) else {
                return Err(QueueError::Timeout);
            };
            match raised {
                Some(raised) => futex::wait(self.sign, raised, time),
                None => thread::sleep(time.min(wait::LOOK_BEFORE_SLEEP)),
            }
            nap = LONGEST_NAP.min(nap * 2);
        }
    }
}
