//! The limits: what the system calls, the C library and the processor do without a library of ours.

use std::cell::UnsafeCell;
use std::ffi::CString;
use std::fs::{self, File};
use std::hint::{black_box, spin_loop};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{SLOTS, block, block_number, check_body, number_block};
use crate::crew::{Crew::Processes, Sample, Watch};

/// Turns the answer of a system call into a `Result`.
fn check(answer: i32) -> io::Result<i32> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn fork_child() -> io::Result<i32> {
    // SAFETY: this process has one thread, and the child does nothing but end.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        // SAFETY: it ends the child at once.
        unsafe { libc::_exit(0) }
    }
    Ok(pid)
}

fn wait_for(pid: i32) -> Result<()> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the answer.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    ensure!(status == 0, "a child ended with status {status}");
    Ok(())
}

pub fn fork_and_wait(n: u64) -> Result<Sample> {
    let start = Instant::now();
    for _ in 0..n {
        wait_for(fork_child()?)?;
    }
    Ok(Sample::new(start.elapsed(), n))
}

/// `workers` children at once.
pub fn crowd(workers: u64) -> Result<Sample> {
    let start = Instant::now();
    let children = (0..workers).map(|_| fork_child()).collect::<io::Result<Vec<_>>>()?;
    children.into_iter().try_for_each(wait_for)?;
    Ok(Sample::new(start.elapsed(), 1))
}

/// A `T` of zeros in memory that children share; it stays until the process ends.
///
/// # Safety
///
/// Zeros must be a valid `T`, which may be no larger than a page.
unsafe fn shared<T>() -> Result<&'static T> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANON);
    // SAFETY: a mapping at an address of the kernel's choice touches nothing that exists.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, access, flags, -1, 0) };
    ensure!(page != libc::MAP_FAILED, "no shared memory: {}", io::Error::last_os_error());
    // SAFETY: the page is large enough, aligned, full of zeros, and never unmapped.
    Ok(unsafe { &*page.cast::<T>() })
}

#[repr(C)]
struct LockedCount {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    count: UnsafeCell<u64>,
}

// SAFETY: the count is only touched by whoever holds the mutex.
unsafe impl Sync for LockedCount {}

/// A robust pthread mutex, locked as C programs do: it sleeps when the lock is taken.
pub fn locked_counter(processes: u64, n: u64) -> Result<Sample> {
    // SAFETY: it is initialised below, before anyone uses it.
    let shared = unsafe { shared::<LockedCount>()? };
    let mutex = shared.mutex.get();
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised first, and the mutex will not move.
    let refused = unsafe {
        libc::pthread_mutexattr_init(attributes.as_mut_ptr())
            | libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            )
            | libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST)
            | libc::pthread_mutex_init(mutex, attributes.as_ptr())
    };
    ensure!(refused == 0, "no robust mutex");
    let sample = Processes.together(processes, n, || {
        // SAFETY: the mutex is initialised, and the count is touched while it is locked.
        let refused = unsafe {
            let locked = libc::pthread_mutex_lock(shared.mutex.get());
            *shared.count.get() += 1;
            locked | libc::pthread_mutex_unlock(shared.mutex.get())
        };
        ensure!(refused == 0, "the lock failed");
        Ok(())
    })?;
    // SAFETY: all other processes that use it have ended.
    let count = unsafe { *shared.count.get() };
    ensure!(count == n, "counted to {count} instead of {n}");
    Ok(sample)
}

pub fn atomic_counter(processes: u64, n: u64) -> Result<Sample> {
    // SAFETY: zero is a valid number.
    let value = unsafe { shared::<AtomicU64>()? };
    let sample = Processes.together(processes, n, || {
        value.fetch_add(1, Relaxed);
        Ok(())
    })?;
    let count = value.load(Relaxed);
    ensure!(count == n, "counted to {count} instead of {n}");
    Ok(sample)
}

/// What bytes go through.
#[derive(Clone, Copy, PartialEq)]
pub enum Line {
    Seqpacket,
    Stream,
    Pipe,
}

impl Line {
    /// Two ends; of a pipe, the one to read from and the one to write to.
    fn open(self) -> Result<(File, File)> {
        let mut ends = [0; 2];
        let kind = if self == Line::Stream { libc::SOCK_STREAM } else { libc::SOCK_SEQPACKET };
        // SAFETY: `ends` has room for two descriptors.
        check(unsafe {
            match self {
                Line::Pipe => libc::pipe(ends.as_mut_ptr()),
                _ => libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()),
            }
        })?;
        // SAFETY: the two descriptors are new and nobody else's.
        let [one, other] = ends.map(|end| File::from(unsafe { OwnedFd::from_raw_fd(end) }));
        Ok((one, other))
    }

    /// The most that goes into one `write`: a packet must fit into the socket's buffer.
    fn longest_write(self) -> usize {
        if self == Line::Seqpacket { 64 << 10 } else { usize::MAX }
    }
}

pub fn numbers_through(line: Line, n: u64) -> Result<Sample> {
    let (mut receiving, mut sending) = line.open()?;
    let send = move |k: u64| Ok(sending.write_all(&k.to_ne_bytes())?);
    let receive = move || {
        let mut bytes = [0; 8];
        receiving.read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    Processes.flow(n, vec![send], vec![receive])
}

pub fn blocks_through(line: Line, size: usize, n: u64) -> Result<Sample> {
    let (mut receiving, mut sending) = line.open()?;
    let sent = block(size);
    let (mut outgoing, mut incoming) = (sent.to_vec(), sent.to_vec());
    let send = move |k| {
        number_block(&mut outgoing, k);
        Ok(outgoing.chunks(line.longest_write()).try_for_each(|part| sending.write_all(part))?)
    };
    let receive = move || {
        receiving.read_exact(&mut incoming)?;
        block_number(&incoming, sent)
    };
    Processes.flow(n, vec![send], vec![receive])
}

pub fn seqpacket_exchange(watch: Watch, n: u64) -> Result<Sample> {
    let (mut here, mut there) = Line::Seqpacket.open()?;
    let call = move |k: u64| {
        let mut bytes = k.to_ne_bytes();
        here.write_all(&bytes)?;
        here.read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    let echo = move || {
        let mut bytes = [0; 8];
        there.read_exact(&mut bytes)?;
        Ok(there.write_all(&bytes)?)
    };
    Processes.exchange(watch, n, call, echo)
}

/// One copy of each message, inside one process.
pub fn copy_blocks(size: usize, n: u64) -> Result<Sample> {
    let sent = block(size);
    let (mut outgoing, mut incoming) = (sent.to_vec(), sent.to_vec());
    let start = Instant::now();
    for k in 0..n {
        number_block(&mut outgoing, k);
        black_box(&mut incoming).copy_from_slice(black_box(&outgoing));
        check_body(k, &incoming[8..], &sent[8..])?;
    }
    Ok(Sample::new(start.elapsed(), n))
}

/// Two words, each on cache lines of its own.
#[repr(C)]
struct Words<T> {
    there: T,
    apart: [u64; 31],
    back: T,
}

/// Both sides look at a word without pause. Only with a core for each.
pub fn spinning_exchange(watch: Watch, n: u64) -> Result<Sample> {
    // SAFETY: zeros are valid numbers.
    let Words { there, back, .. } = unsafe { shared::<Words<AtomicU64>>()? };
    let call = |k| {
        there.store(k + 1, Release);
        while back.load(Acquire) == k {
            spin_loop();
        }
        Ok(back.load(Acquire) - 1)
    };
    let mut seen = 0;
    let echo = move || {
        while there.load(Acquire) == seen {
            spin_loop();
        }
        seen += 1;
        back.store(seen, Release);
        Ok(())
    };
    Processes.exchange(watch, n, call, echo)
}

/// Sleeps until `word` is no longer `old`.
fn sleep_while(word: &AtomicU32, old: u32) {
    while word.load(Acquire) == old {
        let forever = ptr::null::<libc::timespec>();
        // SAFETY: the pointer comes from a reference; the kernel looks at the word and waits.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, old, forever) };
    }
}

fn set_and_wake(word: &AtomicU32, new: u32) {
    word.store(new, Release);
    // SAFETY: the pointer comes from a reference.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// Both sides sleep at once, by futex, and never look twice.
pub fn futex_exchange(n: u64) -> Result<Sample> {
    // SAFETY: zeros are valid numbers.
    let Words { there, back, .. } = unsafe { shared::<Words<AtomicU32>>()? };
    let call = |k| {
        set_and_wake(there, k as u32 + 1);
        sleep_while(back, k as u32);
        Ok(u64::from(back.load(Acquire)) - 1)
    };
    let mut seen = 0;
    let echo = move || {
        sleep_while(there, seen);
        seen += 1;
        set_and_wake(back, seen);
        Ok(())
    };
    Processes.exchange(Watch::All, n, call, echo)
}

/// A POSIX message queue of as many slots as the system allows, up to ours.
pub fn posix_queue_numbers(n: u64) -> Result<Sample> {
    let allowed: usize = fs::read_to_string("/proc/sys/fs/mqueue/msg_max")?.trim().parse()?;
    let name = CString::new(format!("/benchmarks-{}", std::process::id()))?;
    let open = |slots: usize| {
        // SAFETY: zeros are valid attributes, and the name and they outlive the call.
        check(unsafe {
            let mut attributes: libc::mq_attr = std::mem::zeroed();
            attributes.mq_maxmsg = slots as i64;
            attributes.mq_msgsize = 8;
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
            libc::mq_open(name.as_ptr(), flags, 0o600, &raw const attributes)
        })
    };
    // More than `msg_max` is for the privileged.
    let (slots, queue) = match open(SLOTS) {
        Ok(queue) => (SLOTS, queue),
        Err(_) => (allowed.min(SLOTS), open(allowed.min(SLOTS)).context("no POSIX queue")?),
    };
    // SAFETY: the name outlives the call; the descriptor lives on without it.
    check(unsafe { libc::mq_unlink(name.as_ptr()) })?;
    let send = move |k: u64| {
        // SAFETY: the 8 bytes outlive the call.
        check(unsafe { libc::mq_send(queue, (&raw const k).cast(), 8, 0) })?;
        Ok(())
    };
    let receive = move || {
        let mut k = 0_u64;
        // SAFETY: there is room for 8 bytes.
        let len =
            unsafe { libc::mq_receive(queue, (&raw mut k).cast(), 8, ptr::null_mut::<u32>()) };
        ensure!(len == 8, "received {len} bytes: {}", io::Error::last_os_error());
        Ok(k)
    };
    let mut sample = Processes.flow(n, vec![send], vec![receive])?;
    sample.note = format!(
        "{slots} slots (fs.mqueue.msg_max is {allowed}; `sysctl fs.mqueue.msg_max={SLOTS}` for more)"
    );
    Ok(sample)
}
