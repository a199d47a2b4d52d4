//! Sleeping until another process changes a word of shared memory; see `futex(2)`.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` is `expected`, until someone wakes it or `limit` has passed. It may return
/// early; the caller looks again in any case.
pub fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
    let limit = libc::timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: both pointers come from references that outlive the call. The operation is not the
    // private one: the word is the same for every process that maps it.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const limit,
            ptr::null::<u32>(),
            0,
        );
    }
}

/// Wakes all who sleep on `word`.
pub fn wake_all(word: &AtomicU32) {
    // SAFETY: the pointer comes from a reference that outlives the call.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
    }
}
