//! Two queues that look right and are not: the storm must catch them.
//!
//! Their mutex is robust, as the library's is: a holder that dies frees it, and the next owner is
//! told. But one *blocks* in `pthread_mutex_lock`, and the other in `pthread_cond_wait`, where the C
//! library counts on every process to do its part once it was woken. A killed one does not.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use anyhow::Result;
use common::{LockError, Shareable, Shared};

use crate::storm::{Channel, Item, give_way};

const SLOTS: usize = 16;

/// How the mutex is taken: `pthread_mutex_lock`, or `pthread_mutex_trylock` again and again.
type Lock = unsafe extern "C" fn(*mut libc::pthread_mutex_t) -> libc::c_int;

/// How a put waits for room, and a get for an item.
#[derive(Clone, Copy)]
pub enum Wait {
    /// It lets go of the mutex, yields, and takes it again.
    Yield,
    /// In `pthread_cond_wait`.
    Condition,
}

/// A ring on one mutex, written in the usual way.
pub struct PlainRing {
    lock: Lock,
    wait: Wait,
    shared: Shared<Inside>,
}

struct Inside {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    changed: UnsafeCell<libc::pthread_cond_t>,
    state: UnsafeCell<State>,
}

struct State {
    head: usize,
    tail: usize,
    closed: bool,
    slots: [Item; SLOTS],
}

// SAFETY: the state is only touched under the mutex; the C library's two are made to be shared.
unsafe impl Sync for Inside {}

// SAFETY: as for `Sync`; there is no address in the state, and nothing to drop.
unsafe impl Shareable for Inside {
    unsafe fn place(this: *mut Self) -> Result<(), LockError> {
        let mut for_mutex = MaybeUninit::uninit();
        let mut for_condition = MaybeUninit::uninit();
        // SAFETY: the caller has `this` to itself; attributes are initialised before they are used.
        unsafe {
            libc::pthread_mutexattr_init(for_mutex.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(
                for_mutex.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            );
            libc::pthread_mutexattr_setrobust(for_mutex.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init((*this).mutex.get(), for_mutex.as_ptr());
            libc::pthread_condattr_init(for_condition.as_mut_ptr());
            libc::pthread_condattr_setpshared(
                for_condition.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            );
            libc::pthread_cond_init((*this).changed.get(), for_condition.as_ptr());
        }
        Ok(())
    }
}

impl PlainRing {
    pub fn new(lock: Lock, wait: Wait) -> Result<PlainRing> {
        let state = State { head: 0, tail: 0, closed: false, slots: [Item::NONE; SLOTS] };
        let shared = Shared::new(Inside {
            mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            changed: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
            state: UnsafeCell::new(state),
        })?;
        Ok(PlainRing { lock, wait, shared })
    }

    /// Takes the mutex, waits until `act` returns something, tells the others, and lets go.
    fn when_ready<T>(&self, mut act: impl FnMut(&mut State) -> Option<T>) -> T {
        let Inside { mutex, changed, state } = &*self.shared;
        self.take_mutex();
        // SAFETY: `place` initialised the mutex and the condition variable, this thread holds the
        // mutex wherever it uses the state, and whoever dies with it leaves a whole state: one
        // store commits a put or a get.
        unsafe {
            let result = loop {
                if let Some(result) = act(&mut *state.get()) {
                    break result;
                }
                match self.wait {
                    Wait::Yield => {
                        libc::pthread_mutex_unlock(mutex.get());
                        give_way(0);
                        self.take_mutex();
                    }
                    Wait::Condition => {
                        self.mutex_taken(libc::pthread_cond_wait(changed.get(), mutex.get()));
                    }
                }
            };
            if matches!(self.wait, Wait::Condition) {
                libc::pthread_cond_broadcast(changed.get());
            }
            libc::pthread_mutex_unlock(mutex.get());
            result
        }
    }

    fn take_mutex(&self) {
        loop {
            // SAFETY: `place` initialised the mutex.
            let result = unsafe { (self.lock)(self.shared.mutex.get()) };
            if result != libc::EBUSY {
                return self.mutex_taken(result);
            }
            give_way(0);
        }
    }

    /// The mutex was taken, perhaps from one who died with it: then it is declared sound.
    fn mutex_taken(&self, result: libc::c_int) {
        if result == libc::EOWNERDEAD {
            // SAFETY: this thread has just been given the mutex.
            unsafe { libc::pthread_mutex_consistent(self.shared.mutex.get()) };
        } else {
            assert_eq!(result, 0, "the mutex failed");
        }
    }
}

impl Channel for PlainRing {
    fn put(&self, items: &[Item]) -> Result<()> {
        for item in items {
            self.when_ready(|state| {
                give_way(state.tail as u64);
                if state.tail - state.head == SLOTS {
                    return None;
                }
                state.slots[state.tail % SLOTS] = *item;
                state.tail += 1;
                Some(())
            });
        }
        Ok(())
    }

    fn get(&self, _: usize) -> Result<Vec<Item>> {
        Ok(self.when_ready(|state| {
            give_way(state.head as u64);
            if state.tail == state.head {
                return state.closed.then(Vec::new);
            }
            state.head += 1;
            Some(vec![state.slots[(state.head - 1) % SLOTS]])
        }))
    }

    fn close(&self) -> Result<()> {
        self.when_ready(|state| {
            state.closed = true;
            Some(())
        });
        Ok(())
    }
}
