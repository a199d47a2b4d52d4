//! A lock that processes share and that outlives its holder, and what can go wrong with one.
//!
//! It is the C library's pthread mutex with three attributes: process-shared, robust (when the
//! holder dies, the kernel frees the lock and the next owner is told) and error-checking (a second
//! lock by the same thread is an error instead of a wait for itself). See
//! `pthread_mutexattr_setrobust(3)`.
//!
//! One thing of it we never use: blocking in `pthread_mutex_lock`. A waiter that was woken and is
//! killed before it has marked the lock as contended again takes the wake-up with it, and every
//! other waiter sleeps for good. So we only ever *try* the lock, and between tries look and then
//! sleep for a bounded time: a wake-up that never comes costs a moment, not the program.
//!
//! What is lost with that is the queue of waiters. A process that lets go of the lock and takes it
//! again at once would win against a sleeper every time. So one that has waited long raises a flag,
//! and whoever comes anew while the flag is up steps back once, for longer than the other sleeps.
//! It takes the flag down as it does so: should the one who raised it be dead, that was all.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::deadlock::{self, Deadlock, Waiting, What};
use crate::process::generation;
use crate::wait;

/// The longest sleep between two tries at a lock that stays taken.
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// The same for one who has waited so long that others step back for it.
const WATCHFUL_NAP: Duration = Duration::from_micros(50);
/// How long to step back: several of those, as the system stretches each.
const STEP_BACK: Duration = Duration::from_micros(500);

/// How many locks a thread may hold at once. The kernel, when it frees the locks of a dead thread,
/// stops after 2,048 (`ROBUST_LIST_LIMIT`), and the others would stay locked for ever.
const MOST_HELD: u32 = 2_000;

/// How many locks this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// How many locks this thread holds.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// In a new child, which holds none of its parent's locks.
#[inline]
pub(crate) fn forget_held() {
    HELD.set(0);
}

/// Why a lock was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// An earlier holder died or panicked while it held the lock: the value may be half changed.
    Poisoned,
    /// The time given to a `_timeout` call ran out while someone else held the lock.
    Timeout,
    /// `try_lock` found the lock taken.
    WouldBlock,
    /// This very thread holds the lock already; waiting for it would never end.
    AlreadyHeld,
    /// Every process waits, this one for the lock: none can go on.
    Deadlock,
    /// This thread holds 2,000 locks; the kernel would not free more of them should it die.
    TooManyHeld,
    /// The lock does not lie in shared memory, so it could not lock anyone out.
    NotShared,
    /// The C library refused.
    System(Errno),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Poisoned => f.write_str(
                "lock poisoned: an earlier holder died or panicked while it held the lock: \
                 take it with lock_poisoned, mend the value, then call clear_poison",
            ),
            LockError::Timeout => f.write_str(
                "lock still held by another process when the time ran out: wait longer, or look \
                 for a holder that is stopped or never lets go",
            ),
            LockError::WouldBlock => {
                f.write_str("lock held by another process just now: try later, or wait with lock")
            }
            LockError::AlreadyHeld => f.write_str(
                "lock already held by this process: drop the guard before locking again",
            ),
            LockError::Deadlock => Deadlock.fmt(f),
            LockError::TooManyHeld => write!(
                f,
                "this thread holds {MOST_HELD} locks, the most that the kernel would free if it \
                 died: drop some guards first"
            ),
            LockError::NotShared => f.write_str(
                "this Mutex lies in memory of one process only: make it inside Shared::new(...)",
            ),
            LockError::System(errno) => write!(f, "the pthread mutex failed: {errno}"),
        }
    }
}

impl std::error::Error for LockError {}

/// A robust, process-shared lock that guards nothing by itself; see [`Mutex`](crate::Mutex) for one
/// with a value inside.
#[repr(C)]
pub struct RobustLock {
    raw: UnsafeCell<libc::pthread_mutex_t>,
    /// 1 where someone has waited for long.
    waited_for: AtomicU32,
    /// What a report of a deadlock calls it; 0 where its holder never waits for anything else, as
    /// inside a queue. Short, so that a lock and a small value lie on one cache line.
    number: u32,
}

// SAFETY: the C library's mutex is made to be used from several threads and processes at once.
unsafe impl Sync for RobustLock {}
// SAFETY: no one can move it while it is locked, because a `Held` borrows it; what a forgotten
// `Held` leaves behind is minded by `is_free`.
unsafe impl Send for RobustLock {}

impl RobustLock {
    /// A lock that does not lie at its final place yet: [`place`](Self::place) makes it a shared
    /// one. Until then it is an ordinary mutex of this process.
    pub const fn new() -> RobustLock {
        RobustLock {
            raw: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            waited_for: AtomicU32::new(0),
            number: 0,
        }
    }

    /// Makes the lock at `this` process-shared, robust and unlocked.
    ///
    /// # Safety
    ///
    /// `this` must be valid for writes and stay mapped at this address as long as anyone locks it
    /// here, and nobody may use it during the call.
    pub unsafe fn place(this: *mut RobustLock) -> Result<(), LockError> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialised by the first call and destroyed by the last, and
        // the caller vouches for `this`.
        unsafe {
            check(libc::pthread_mutexattr_init(attributes))?;
            let placed =
                check(libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))
                    .and_then(|()| {
                        check(libc::pthread_mutexattr_setrobust(
                            attributes,
                            libc::PTHREAD_MUTEX_ROBUST,
                        ))
                    })
                    .and_then(|()| {
                        check(libc::pthread_mutexattr_settype(
                            attributes,
                            libc::PTHREAD_MUTEX_ERRORCHECK,
                        ))
                    })
                    .and_then(|()| {
                        check(libc::pthread_mutex_init(
                            UnsafeCell::raw_get(&raw const (*this).raw),
                            attributes,
                        ))
                    });
            libc::pthread_mutexattr_destroy(attributes);
            placed
        }
    }

    /// Gives the lock a number, as one that may be held for as long as its holder likes, and so may be
    /// part of a deadlock.
    pub fn give_number(&mut self) {
        self.number = deadlock::number(&MADE) as u32;
    }

    /// Takes the lock if it is free; `None` where someone else holds it. Never blocks.
    #[inline]
    pub fn try_lock(&self) -> Result<Option<Held<'_>>, LockError> {
        match self.ask() {
            0 => Ok(Some(self.held(false))),
            answer => self.understand(answer),
        }
    }

    /// The C library's answer to "may I have it?": 0 for yes, `EOWNERDEAD` for yes after a death.
    #[inline]
    fn ask(&self) -> libc::c_int {
        if HELD.get() >= MOST_HELD {
            return libc::ENOLCK;
        }
        // SAFETY: `self` is an initialised mutex, by `new` or by `place`.
        unsafe { libc::pthread_mutex_trylock(self.raw.get()) }
    }

    /// For the holder, once.
    #[inline]
    fn held(&self, owner_died: bool) -> Held<'_> {
        HELD.with(|held| held.set(held.get() + 1));
        let stamp = generation() * 2 + u32::from(owner_died);
        Held { lock: self, stamp, stays_in_this_thread: PhantomData }
    }

    #[cold]
    fn understand(&self, answer: libc::c_int) -> Result<Option<Held<'_>>, LockError> {
        match answer {
            libc::EOWNERDEAD => Ok(Some(self.held(true))),
            libc::EBUSY => Ok(None),
            libc::EDEADLK => Err(LockError::AlreadyHeld),
            libc::ENOLCK => Err(LockError::TooManyHeld),
            error => Err(LockError::System(Errno::from_raw(error))),
        }
    }

    /// Takes the lock, waiting until `deadline` (`None`: for as long as it takes).
    ///
    /// A holder that dies frees the lock, so this never waits for the dead.
    ///
    /// # Errors
    ///
    /// [`Timeout`](LockError::Timeout), [`AlreadyHeld`](LockError::AlreadyHeld) and
    /// [`Deadlock`](LockError::Deadlock); the poison of a dead holder is not an error here but
    /// [`Held::owner_died`].
    #[inline]
    #[track_caller]
    pub fn lock(&self, deadline: Option<Instant>) -> Result<Held<'_>, LockError> {
        self.give_way();
        match self.ask() {
            0 => Ok(self.held(false)),
            answer => self.lock_slowly(answer, deadline),
        }
    }

    #[cold]
    #[track_caller]
    fn lock_slowly(
        &self,
        answer: libc::c_int,
        deadline: Option<Instant>,
    ) -> Result<Held<'_>, LockError> {
        if let Some(held) = self.understand(answer)? {
            return Ok(held);
        }
        if let Some(result) = wait::look_for(|| self.try_lock().transpose()) {
            return result;
        }
        // A lock without a number is soon free again, whoever has it.
        let bounded = deadline.is_some() || self.number == 0;
        let waiting = Waiting::begin(What::Lock(self.number()), bounded, Location::caller());
        let mut nap = wait::LOOK_BEFORE_SLEEP;
        let mut long = false;
        loop {
            waiting.held_by(self.holder());
            let Some(time) = wait::remaining(deadline, nap) else { return Err(LockError::Timeout) };
            thread::sleep(time);
            match waiting.look(|| self.try_lock().transpose()) {
                Ok(Some(result)) => return result,
                Ok(None) => {}
                Err(Deadlock) => return Err(LockError::Deadlock),
            }
            long |= nap == LONGEST_NAP;
            if long {
                self.ask_for_way();
                nap = WATCHFUL_NAP;
            } else {
                nap = LONGEST_NAP.min(nap * 2);
            }
        }
    }

    /// What a report of a deadlock, or a timeline, calls it.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number.into()
    }

    /// The thread that holds the lock now, as far as can be told: 0 where it is free.
    fn holder(&self) -> u32 {
        // SAFETY: the C library's mutex begins with the futex word, which it uses as an atomic. The
        // kernel fixes what a robust one holds there: the thread's id, and two bits above it.
        let word = unsafe { &*self.raw.get().cast::<AtomicU32>() };
        word.load(Relaxed) & libc::FUTEX_TID_MASK
    }

    /// Steps back for half a millisecond if someone has waited for long; [`lock`](Self::lock) does
    /// so by itself.
    #[inline]
    pub fn give_way(&self) {
        if self.waited_for.load(Relaxed) != 0 {
            self.waited_for.store(0, Relaxed);
            thread::sleep(STEP_BACK);
        }
    }

    /// Lets the next one who comes to this lock step back for this process, which should look every
    /// few microseconds now.
    pub fn ask_for_way(&self) {
        self.waited_for.store(1, Relaxed);
    }

    /// Whether nobody holds the lock, so that its memory may be unmapped here. A holder in another
    /// process is waited for, up to 100 ms.
    ///
    /// The C library keeps a list of the robust locks that a thread holds, linked through the locks
    /// themselves. A guard that was forgotten (`mem::forget`) leaves its lock in that list, and
    /// unmapping it would leave the list pointing into nothing.
    pub fn is_free(&self) -> bool {
        self.lock(wait::deadline_after(Duration::from_millis(100))).is_ok()
    }
}

impl Default for RobustLock {
    fn default() -> Self {
        RobustLock::new()
    }
}

impl fmt::Debug for RobustLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustLock").finish_non_exhaustive()
    }
}

fn check(result: libc::c_int) -> Result<(), LockError> {
    if result == 0 { Ok(()) } else { Err(LockError::System(Errno::from_raw(result))) }
}

/// A [`RobustLock`] held by this thread; dropping it unlocks.
///
/// It is neither `Send` nor `Sync`: only the thread that locked may unlock, and a forked child is
/// another one. A child can still come upon its parent's, in a `thread_local!`; there it is a copy
/// that stands for no lock, and dropping it does nothing.
#[derive(Debug)]
#[must_use = "the lock is released as soon as this is dropped"]
pub struct Held<'a> {
    lock: &'a RobustLock,
    /// The generation it belongs to, times 2, and 1 more where the previous holder died.
    stamp: u32,
    stays_in_this_thread: PhantomData<*const ()>,
}

impl Held<'_> {
    /// Whether the previous holder died with the lock in its hands.
    #[inline]
    pub fn owner_died(&self) -> bool {
        self.stamp % 2 == 1
    }

    /// Whether the lock is held by this process; not so in a child that came upon its parent's.
    #[inline]
    pub fn is_ours(&self) -> bool {
        self.stamp / 2 == generation()
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        HELD.with(|held| held.set(held.get() - 1));
        let raw = self.lock.raw.get();
        // SAFETY: this thread, of this process, locked the mutex and has not unlocked it since.
        unsafe {
            if self.owner_died() {
                // Only now: should this process die before it is done mending, the next owner is
                // told of a death again.
                libc::pthread_mutex_consistent(raw);
            }
            libc::pthread_mutex_unlock(raw);
        }
    }
}
