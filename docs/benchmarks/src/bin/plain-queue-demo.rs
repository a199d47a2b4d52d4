//! The article's "Queue" program as `queue-demo` has it, but on the plainest queue there is: a
//! pthread mutex and a semaphore, both of which put who must wait to sleep at once, by futex.
//!
//! It is what `queue-demo` is held against where all processes share one core.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::time::Instant;

use anyhow::{Result, ensure};
use common::memory::Mapping;
use common::{counting_worker, join_all, spawn};

const WORKERS: u64 = 5;
const COUNT: u64 = 1_000_000;
/// What the parent puts after the last total.
const EXIT: u64 = u64::MAX;
/// The totals and `EXIT`.
const SLOTS: usize = 6;

#[repr(C)]
struct PlainQueue {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    items: UnsafeCell<libc::sem_t>,
    /// Touched only with the mutex locked.
    state: UnsafeCell<State>,
}

struct State {
    put: usize,
    taken: usize,
    slots: [u64; SLOTS],
}

// SAFETY: the mutex and the semaphore are made for several processes, and the mutex guards the rest.
unsafe impl Sync for PlainQueue {}

impl PlainQueue {
    fn new() -> Result<&'static PlainQueue> {
        // Never unmapped: the queue lives as long as the process.
        let memory = Box::leak(Box::new(Mapping::new(size_of::<PlainQueue>())?));
        // SAFETY: the mapping is large enough, aligned to a page, and full of zeros, which are a
        // valid state; the mutex and the semaphore are initialised before anyone uses them.
        unsafe {
            let queue = &*memory.as_ptr().cast::<PlainQueue>();
            let mut attributes = MaybeUninit::uninit();
            let attributes = attributes.as_mut_ptr();
            let refused = libc::pthread_mutexattr_init(attributes)
                | libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED)
                | libc::pthread_mutex_init(queue.mutex.get(), attributes)
                | libc::sem_init(queue.items.get(), 1, 0);
            ensure!(refused == 0, "no mutex or no semaphore");
            Ok(queue)
        }
    }

    fn put(&self, item: u64) {
        self.locked(|state| {
            state.slots[state.put % SLOTS] = item;
            state.put += 1;
        });
        // SAFETY: the semaphore is initialised.
        unsafe { libc::sem_post(self.items.get()) };
    }

    fn get(&self) -> Result<u64> {
        // SAFETY: the semaphore is initialised.
        while unsafe { libc::sem_wait(self.items.get()) } == -1 {
            let error = io::Error::last_os_error();
            ensure!(error.kind() == io::ErrorKind::Interrupted, "no wait: {error}");
        }
        Ok(self.locked(|state| {
            state.taken += 1;
            state.slots[(state.taken - 1) % SLOTS]
        }))
    }

    fn locked<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        // SAFETY: the mutex is initialised, and the state is touched only while it is locked.
        unsafe {
            libc::pthread_mutex_lock(self.mutex.get());
            let result = change(&mut *self.state.get());
            libc::pthread_mutex_unlock(self.mutex.get());
            result
        }
    }
}

fn main() -> Result<()> {
    println!("Parent process id: {}", std::process::id());
    let mut processes = Vec::new();
    let start_time = Instant::now();
    let queue = PlainQueue::new()?;
    for number in 0..WORKERS {
        let deliver = |sub_total| {
            queue.put(sub_total);
            Ok(())
        };
        processes.push(spawn(number.to_string(), move || counting_worker(COUNT, deliver))?);
    }
    join_all(processes)?;
    println!("--- {} seconds ---", start_time.elapsed().as_secs_f64());

    queue.put(EXIT);
    let mut total = 0;
    loop {
        match queue.get()? {
            EXIT => break,
            sub_total => total += sub_total,
        }
    }
    println!();
    println!("Main-processing total count: {total}");
    println!("Main-processing done.");
    Ok(())
}
