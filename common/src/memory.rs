//! A piece of memory that this process and every child it forks later see alike.

use anyhow::{Context, Result, bail, ensure};
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, ftruncate, sysconf};

/// Zeroed memory, shared with all children forked while it is mapped.
///
/// It is an anonymous file in memory (`memfd_create(2)`) mapped `MAP_SHARED`; memmap2's own
/// `map_anon` would be `MAP_PRIVATE`, where each side sees only what it wrote itself. The file has
/// no name, so nothing is left in `/dev/shm` whoever dies; its descriptor is closed as soon as it
/// is mapped, so nothing is left to leak. The memory goes back to the system when the last process
/// that maps it has unmapped it or ended.
///
/// Only raw pointers and atomics should touch it: a `&mut` would claim that nobody else writes.
#[derive(Debug)]
pub struct Mapping {
    map: MmapRaw,
}

impl Mapping {
    /// Maps `bytes` bytes (rounded up to at least one), all zero, aligned to a page.
    ///
    /// The memory is reserved at once: what the system refuses it refuses here, and not by a
    /// `SIGBUS` at some later write. A machine, or a container, whose memory is used up refuses
    /// nothing: it kills a process to get some, perhaps this one.
    ///
    /// # Errors
    ///
    /// More than half of the machine's memory (the limit that Linux gives `/dev/shm` too), or the
    /// system refuses: no free descriptor (`ulimit -n`), no address space (`ulimit -v`), a limit on
    /// the size of files (`ulimit -f`), no memory where it promises none that it lacks
    /// (`vm.overcommit_memory`).
    pub fn new(bytes: usize) -> Result<Mapping> {
        let bytes = bytes.max(1);
        refuse_absurd(bytes)?;
        Mapping::reserve(bytes)
            .with_context(|| format!("the system gives no {bytes} bytes of shared memory"))
    }

    fn reserve(bytes: usize) -> Result<Mapping> {
        let length = bytes.try_into()?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create("shared", flags).context("memfd_create (see ulimit -n)")?;
        ftruncate(&file, length).context("ftruncate")?;
        while let Err(errno) = fallocate(&file, FallocateFlags::empty(), 0, length) {
            // Some kernels give up at any signal.
            ensure!(errno == Errno::EINTR, "fallocate: {errno}");
        }
        // A file that shrinks under a mapping would turn accesses into SIGBUS: nobody may resize.
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).context("F_ADD_SEALS")?;
        let map = MmapOptions::new().len(bytes).map_raw(&file).context("mmap (see ulimit -v)")?;
        Ok(Mapping { map })
    }

    /// The first byte. It stays where it is until the mapping is dropped, and lies at the same
    /// address in every child.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }
}

/// A type for which zeros are a value, and which several processes may use at once through `&self`.
///
/// # Safety
///
/// That is what the implementor promises; atomics, and arrays and structs of them, are so.
pub(crate) unsafe trait Zeroed: Sync {}

/// A `T` of zeros that this process and all children forked later share until they end; `None` where
/// the system gives no memory. Unlike a [`Mapping`], pages that nobody writes to take none.
pub(crate) fn zeroed_for_ever<T: Zeroed>() -> Option<&'static T> {
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let len = size_of::<T>().try_into().ok()?;
    // SAFETY: a new mapping, at an address that the system chooses.
    let memory = unsafe { mmap_anonymous(None, len, access, MapFlags::MAP_SHARED) }.ok()?;
    // SAFETY: it is large enough, aligned to a page, zeroed, and never unmapped.
    Some(unsafe { memory.cast::<T>().as_ref() })
}

/// An error where `bytes` bytes are more than half of the machine's memory, since to reserve that
/// much could take from other programs what they need, or more than a file may have (`ulimit -f`).
pub fn refuse_absurd(bytes: usize) -> Result<()> {
    let read = |name| sysconf(name).ok().flatten().context("sysconf cannot tell the memory size");
    let memory = read(SysconfVar::_PHYS_PAGES)?.saturating_mul(read(SysconfVar::PAGE_SIZE)?);
    let limit = usize::try_from(memory / 2)?;
    if bytes > limit {
        bail!(
            "{bytes} bytes of shared memory are more than half of this machine's memory ({limit} \
             bytes): ask for fewer or smaller items"
        );
    }
    // Left to the system, this one would not be an error but a deadly signal, SIGXFSZ.
    let (file_limit, _) = getrlimit(Resource::RLIMIT_FSIZE).context("getrlimit")?;
    if bytes as u64 > file_limit {
        bail!(
            "{bytes} bytes of shared memory, which counts as a file, are more than a file may have \
             here ({file_limit} bytes): raise ulimit -f"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_memory_is_zero_and_keeps_what_is_written() {
        let mapping = Mapping::new(10_000).unwrap();
        // SAFETY: both bytes lie in the mapping, and no one else knows of it.
        unsafe {
            let last = mapping.as_ptr().add(9_999);
            assert_eq!((mapping.as_ptr().read(), last.read()), (0, 0));
            last.write(7);
            assert_eq!(last.read(), 7);
        }
    }

    #[test]
    fn an_absurd_size_is_an_error_that_names_it() {
        let error = Mapping::new(usize::MAX / 2).unwrap_err().to_string();
        assert!(error.contains(&(usize::MAX / 2).to_string()), "{error}");
    }
}
