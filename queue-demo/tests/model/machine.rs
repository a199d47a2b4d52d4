//! The machine that the model runs the ring on, in the place of `src/machine.rs`.
//!
//! Atomics, threads and the scheduler are loom's. On top of them here: the robust lock, the futex,
//! the memory, and death: a thread that is killed lets go of its lock, as the kernel makes it, and
//! takes no further step.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Instant;

use common::deadlock::Deadlock;
use common::{LockError, message};

pub use common::deadlock::What;

pub fn number() -> u64 {
    1
}
use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex, MutexGuard, atomic};

loom::thread_local! {
    /// How many steps this thread has left to live; `None` where it is not to be killed.
    static STEPS_LEFT: Cell<Option<u32>> = Cell::new(None);
    /// The lock that this thread holds.
    static HELD: RefCell<Option<MutexGuard<'static, ()>>> = RefCell::new(None);
    /// Whether this thread had a nap that ended by itself.
    static NAPPED: Cell<bool> = Cell::new(false);
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// What there is besides the threads; new with each [`Mapping`], of which a run makes one.
#[derive(Default)]
struct World {
    words: Vec<Rc<Sleepers>>,
    slots: HashMap<usize, Rc<UnsafeCell<()>>>,
    /// Whether somebody was killed, so that a wake-up may be missing.
    death: bool,
}

struct Killed;

/// Runs `life` and kills it after `steps` steps; `None` where it did not come to its end.
pub fn run<T>(steps: Option<u32>, life: impl FnOnce() -> T) -> Option<T> {
    STEPS_LEFT.with(|left| left.set(steps));
    let end = catch_unwind(AssertUnwindSafe(life)).map_err(|panic: Box<dyn Any + Send>| {
        if !panic.is::<Killed>() {
            resume_unwind(panic);
        }
    });
    STEPS_LEFT.with(|left| left.set(None));
    if end.is_err() {
        end_all_naps();
    }
    end.ok()
}

/// Whatever other threads or the kernel can see of a thread is a step: before it, it may be killed.
fn step() {
    match STEPS_LEFT.with(Cell::get) {
        None => {}
        Some(0) => {
            // The kernel frees the lock of a dead holder.
            HELD.with(RefCell::take);
            resume_unwind(Box::new(Killed));
        }
        Some(left) => STEPS_LEFT.with(|cell| cell.set(Some(left - 1))),
    }
}

/// Time passes after a death: those who sleep now wake by themselves, and so does, once, everyone
/// who is about to.
fn end_all_naps() {
    let words = WORLD.with_borrow_mut(|world| {
        world.death = true;
        world.words.clone()
    });
    words.iter().for_each(|sleepers| sleepers.wake_all());
}

pub fn fence(order: atomic::Ordering) {
    step();
    atomic::fence(order);
}

#[derive(Default)]
pub struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub fn store(&self, value: u64, order: atomic::Ordering) {
        // A panic's commit is no step of a thread that was killed: it unwinds in this model only.
        if !std::thread::panicking() {
            step();
            self.0.store(value, order);
        }
    }
}

impl Deref for AtomicU64 {
    type Target = atomic::AtomicU64;

    fn deref(&self) -> &Self::Target {
        step();
        &self.0
    }
}

/// An atomic that is also a futex word.
pub struct AtomicU32(atomic::AtomicU32, Rc<Sleepers>);

impl Default for AtomicU32 {
    fn default() -> Self {
        let sleepers = Rc::new(Sleepers::default());
        WORLD.with_borrow_mut(|world| world.words.push(sleepers.clone()));
        AtomicU32(Default::default(), sleepers)
    }
}

impl Deref for AtomicU32 {
    type Target = atomic::AtomicU32;

    fn deref(&self) -> &Self::Target {
        step();
        &self.0
    }
}

/// The kernel's list of those who sleep on one word.
#[derive(Default)]
struct Sleepers {
    list: Mutex<()>,
    wake: Condvar,
}

impl Sleepers {
    fn wake_all(&self) {
        let _list = self.list.lock().unwrap();
        self.wake.notify_all();
    }
}

pub mod futex {
    use super::*;

    /// Sleeps without a limit: a wake-up that is lost shows as a deadlock, not as a long nap.
    pub fn wait(word: &AtomicU32, expected: u32, _: std::time::Duration) {
        step();
        let list = word.1.list.lock().unwrap();
        if WORLD.with_borrow(|world| world.death) && !NAPPED.with(|nap| nap.replace(true)) {
            drop(list);
            loom::thread::yield_now();
        } else if word.0.load(atomic::Ordering::Relaxed) == expected {
            drop(word.1.wake.wait(list));
        }
    }

    pub fn wake_all(word: &AtomicU32) {
        step();
        word.1.wake_all();
    }
}

/// A lock that waits as long as it takes: in the ring a holder does not wait for anything.
pub struct RobustLock(&'static Mutex<()>);

impl Default for RobustLock {
    fn default() -> Self {
        RobustLock(Box::leak(Box::default()))
    }
}

impl RobustLock {
    pub unsafe fn place(_: *mut RobustLock) -> Result<(), LockError> {
        Ok(())
    }

    pub fn lock(&self, _: Option<Instant>) -> Result<Held<'_>, LockError> {
        step();
        let guard = self.0.lock().unwrap();
        HELD.with(|held| assert!(held.replace(Some(guard)).is_none(), "two locks at a time"));
        Ok(Held(PhantomData))
    }

    pub fn try_lock(&self) -> Result<Option<Held<'_>>, LockError> {
        self.lock(None).map(Some)
    }

    /// Who steps back for whom changes which order of events is likely; here all are tried.
    pub fn give_way(&self) {}
    pub fn ask_for_way(&self) {}

    pub fn is_free(&self) -> bool {
        true
    }
}

pub struct Held<'a>(PhantomData<&'a RobustLock>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            step();
            HELD.with(RefCell::take);
        }
    }
}

/// Here a deadlock shows by itself.
pub struct Waiting;

impl Waiting {
    pub fn begin(_: What, _: bool, _: &Location<'_>) -> Waiting {
        Waiting
    }

    pub fn look<T>(&self, look: impl FnOnce() -> Option<T>) -> Result<Option<T>, Deadlock> {
        Ok(look())
    }
}

pub mod timeline {
    pub fn note(_: common::timeline::Kind, _: u64, _: u64) {}
}

pub mod wait {
    use std::time::{Duration, Instant};

    /// Looks once: to look again before sleeping only makes more of the same orders.
    pub fn look_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
        look()
    }

    pub fn spin(ready: impl Fn() -> bool) -> bool {
        ready()
    }

    pub fn pause() {}

    /// There is always time left.
    pub fn remaining(_: Option<Instant>, nap: Duration) -> Option<Duration> {
        Some(nap)
    }

    pub use common::wait::{LOOK_BEFORE_SLEEP, deadline_after};
}

/// A cache line, as the ring aligns what it keeps apart.
#[repr(align(128))]
struct Line(#[expect(dead_code, reason = "only its address is used")] [u8; 128]);

pub struct Mapping(Vec<std::cell::UnsafeCell<Line>>);

impl Mapping {
    pub fn new(bytes: usize) -> anyhow::Result<Mapping> {
        WORLD.take();
        let line = || std::cell::UnsafeCell::new(Line([0; 128]));
        Ok(Mapping((0..bytes.div_ceil(128)).map(|_| line()).collect()))
    }

    pub fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr().cast_mut().cast()
    }
}

/// Each slot has a cell, by which loom finds a read or write that another one may meet.
fn slot(start: *const u8) -> Rc<UnsafeCell<()>> {
    WORLD.with_borrow_mut(|world| world.slots.entry(start as usize).or_default().clone())
}

pub struct Writer;

impl Writer {
    pub unsafe fn from_raw<'a>(start: *mut u8, len: usize) -> message::Writer<'a> {
        step();
        slot(start).with_mut(|_| ());
        // SAFETY: the caller vouches for the bytes.
        unsafe { message::Writer::from_raw(start, len) }
    }
}

pub struct Reader;

impl Reader {
    pub unsafe fn from_raw<'a>(start: *const u8, len: usize) -> message::Reader<'a> {
        step();
        slot(start).with(|_| ());
        // SAFETY: the caller vouches for the bytes.
        unsafe { message::Reader::from_raw(start, len) }
    }
}
