//! Shared memory with a name, for processes that are not relatives: Python's `SharedMemory`.

use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, anyhow, bail, ensure};
use common::memory::refuse_absurd;
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::libc::off_t;
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::ftruncate;

/// A fixed number of `AtomicU64`s in memory that any process of this user finds by a name; it
/// derefs to a slice of them. Python: `shared_memory.SharedMemory(name, create=True, size=...)`.
///
/// For a process and its children, [`Shared`](crate::Shared) and [`Array`](crate::Array) are the
/// better choice: they need no name, so none can be taken already, guessed or left behind.
///
/// The one who [creates](NamedMemory::create) it owns the name, and takes it away when dropped.
/// Those who have [attached](NamedMemory::attach) to it keep the memory, which goes when the last of
/// them lets go or dies. A creator that is killed cannot take its name away: then name and memory
/// stay until [`unlink`](NamedMemory::unlink), or until the machine restarts. The owner is a process
/// and not its children: they borrow it, since one moved into a child is dropped in the creator.
///
/// There is no lock in it. Each number is read and changed in one step, and nobody who dies can
/// leave one half written.
///
/// Trust model: it is made with mode 0600, so only processes of the same user (and root) can attach.
/// They may write any number at any time, which no atomic minds; but one that cuts the memory short
/// (`ftruncate`) ends the others by `SIGBUS` when they touch what is gone.
///
/// ```
/// use shared_value::NamedMemory;
/// use std::sync::atomic::Ordering::Relaxed;
///
/// # fn main() -> anyhow::Result<()> {
/// let name = format!("doc-{}", std::process::id());
/// let created = NamedMemory::create(&name, 2)?;
/// let attached = NamedMemory::attach(&name, 2)?; // in any process
/// created[1].store(7, Relaxed);
/// assert_eq!(attached[1].load(Relaxed), 7);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NamedMemory {
    map: MmapRaw,
    len: usize,
    /// Takes the name away when it is dropped; only the creator has one.
    _owned_name: Option<OwnedName>,
}

impl NamedMemory {
    /// Makes memory of `len` zeros under `name`, which nobody uses yet (`O_EXCL`).
    ///
    /// The name is one file name: up to 255 bytes, without a slash. The memory is reserved at once.
    ///
    /// # Errors
    ///
    /// The name exists already, in whatever size, or is no file name; `len` is 0; the system has no
    /// memory for it. Nothing is left of the name then.
    pub fn create(name: &str, len: usize) -> Result<Self> {
        let bytes = size(name, len)?;
        refuse_absurd(len * size_of::<AtomicU64>())?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = match shm_open(name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(file) => file,
            Err(Errno::EEXIST) => bail!(
                "shared memory '{name}' exists already: attach to it, choose another name, or, if \
                 its creator was killed, remove it with NamedMemory::unlink"
            ),
            Err(errno) => return Err(failed("create", name, errno)),
        };
        // From here on an error drops it, and takes the name away again.
        let owned = OwnedName { name: name.into(), creator: std::process::id() };
        ftruncate(&file, bytes)
            .and_then(|()| fallocate(&file, FallocateFlags::empty(), 0, bytes))
            .with_context(|| {
                format!("the system gives no {bytes} bytes for shared memory '{name}'")
            })?;
        Self::map(name, &file, len, Some(owned))
    }

    /// Maps the memory that some process created under `name`, with the same `len`.
    ///
    /// # Errors
    ///
    /// There is none of this name, or it has another length, or belongs to another user. One that
    /// is just being created has length 0 for a moment.
    pub fn attach(name: &str, len: usize) -> Result<Self> {
        let bytes = size(name, len)?;
        let file = match shm_open(name, OFlag::O_RDWR, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => {
                bail!(
                    "there is no shared memory '{name}': create it first, and let its creator live"
                )
            }
            Err(errno) => return Err(failed("attach to", name, errno)),
        };
        let found = fstat(&file).map_err(|errno| failed("measure", name, errno))?.st_size;
        ensure!(
            found == bytes,
            "shared memory '{name}' has {found} bytes, but {len} numbers take {bytes}: attach with \
             the length it was created with"
        );
        Self::map(name, &file, len, None)
    }

    /// Takes the name away, for good: what a killed creator left behind. Python: `unlink()`.
    ///
    /// Those attached keep the memory. Leave the name of a creator that still lives alone.
    ///
    /// # Errors
    ///
    /// There is no such name, or it belongs to another user.
    pub fn unlink(name: &str) -> Result<()> {
        shm_unlink(name).map_err(|errno| failed("unlink", name, errno))
    }

    fn map(name: &str, file: &OwnedFd, len: usize, owned: Option<OwnedName>) -> Result<Self> {
        let map = MmapOptions::new().len(len * size_of::<AtomicU64>()).map_raw(file);
        let map = map.with_context(|| format!("cannot map shared memory '{name}'"))?;
        Ok(NamedMemory { map, len, _owned_name: owned })
    }
}

impl Deref for NamedMemory {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `len` numbers are mapped, at the start of a page, for as long as `self` lives. Any
        // bytes are an AtomicU64, and atomics are made for several that use them at once.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
    }
}

/// A name that the process which made it takes away again.
#[derive(Debug)]
struct OwnedName {
    name: String,
    creator: u32,
}

impl Drop for OwnedName {
    fn drop(&mut self) {
        // A forked child that drops its copy must leave the name to its parent.
        if self.creator == std::process::id() {
            let _ = shm_unlink(self.name.as_str()); // gone already: somebody called `unlink`
        }
    }
}

/// The bytes that `len` numbers take.
fn size(name: &str, len: usize) -> Result<off_t> {
    ensure!(len > 0, "shared memory '{name}' of 0 numbers can hold nothing: give it at least 1");
    len.checked_mul(size_of::<AtomicU64>())
        .and_then(|bytes| off_t::try_from(bytes).ok())
        .with_context(|| format!("shared memory of {len} numbers is larger than any memory"))
}

fn failed(what: &str, name: &str, errno: Errno) -> anyhow::Error {
    anyhow!(errno).context(format!("cannot {what} shared memory '{name}' ({errno})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::Ordering::Relaxed;

    fn name(test: &str) -> String {
        format!("{test}-{}", std::process::id())
    }

    #[test]
    fn fresh_memory_is_zero_and_what_one_writes_the_other_reads() {
        let name = name("fresh");
        let created = NamedMemory::create(&name, 600).unwrap();
        let attached = NamedMemory::attach(&name, 600).unwrap();
        assert_eq!((created.len(), attached.len()), (600, 600));
        assert!(attached.iter().all(|number| number.load(Relaxed) == 0));
        created[599].store(7, Relaxed);
        assert_eq!(attached[599].fetch_add(1, Relaxed), 7);
        assert_eq!(created[599].load(Relaxed), 8);
    }

    #[test]
    fn a_second_create_is_refused_and_harms_nothing() {
        let name = name("second");
        let created = NamedMemory::create(&name, 1).unwrap();
        created[0].store(5, Relaxed);
        let error = NamedMemory::create(&name, 1).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("exists already"), "{error}");
        assert_eq!(NamedMemory::attach(&name, 1).unwrap()[0].load(Relaxed), 5);
    }

    #[test]
    fn another_size_is_refused_with_both_named() {
        let name = name("size");
        let _created = NamedMemory::create(&name, 3).unwrap();
        for len in [1, 2, 4, 1000] {
            let error = NamedMemory::attach(&name, len).unwrap_err().to_string();
            assert!(error.contains("24 bytes") && error.contains(&format!("{len} numbers")));
        }
    }

    #[test]
    fn the_name_goes_with_its_creator_and_the_memory_with_the_last_one() {
        let name = name("gone");
        let created = NamedMemory::create(&name, 1).unwrap();
        let attached = NamedMemory::attach(&name, 1).unwrap();
        drop(NamedMemory::attach(&name, 1).unwrap()); // one that attached does not take it away
        let other = NamedMemory::attach(&name, 1).unwrap();
        drop(created);
        let error = NamedMemory::attach(&name, 1).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("there is no"), "{error}");
        assert!(NamedMemory::unlink(&name).unwrap_err().to_string().contains(&name));
        attached[0].store(9, Relaxed);
        assert_eq!(other[0].load(Relaxed), 9);
    }

    #[test]
    fn no_other_user_may_open_it() {
        let name = name("mode");
        let _created = NamedMemory::create(&name, 1).unwrap();
        let file = std::fs::metadata(format!("/dev/shm/{name}")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn bad_names_and_sizes_are_errors_that_name_them() {
        for bad in ["", "a/b", &"x".repeat(256), "nul\0"] {
            for result in [NamedMemory::create(bad, 1), NamedMemory::attach(bad, 1)] {
                assert!(result.unwrap_err().to_string().contains(&format!("'{bad}'")));
            }
        }
        let name = name("bad");
        for len in [0, usize::MAX, usize::MAX / 16, 1 << 55] {
            let error = NamedMemory::create(&name, len).unwrap_err().to_string();
            let named = [format!("{len} numbers"), format!("{} bytes", len.wrapping_mul(8))];
            assert!(named.iter().any(|named| error.contains(named)), "{error}");
        }
    }
}
