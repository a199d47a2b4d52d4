//! A million frames of random bytes: no panic, no wrong message, and no memory for what did not
//! arrive.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Debug;
use std::fs::{read_dir, read_link};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use common::Message;
use common::message::{from_bytes, to_bytes};
use nix::sys::socket::{MsgFlags, send};
use pipe_demo::{Connection, ConnectionError};

fork_harness::tests! {
    decoding_needs_no_more_memory_than_the_bytes_and_the_type,
    receiving_needs_no_more_memory_than_the_bytes_and_a_packet,
    a_large_message_needs_memory_in_step_with_what_arrived,
}

const FRAMES: usize = 1_000_000;

/// What an error's text may take while it is put together.
const TEXT: usize = 256;
/// The largest packet: a part of a message and the byte that ends each packet.
const PACKET: usize = (64 << 10) + 1;
/// The bits of that byte.
const FIRST: u8 = 1;
const LAST: u8 = 2;

/// The system's allocator, with a count of the bytes that are allocated and of the most there were.
/// Each test has its process to itself, with one thread.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is the system allocator's doing; `realloc`, which is left to its default, goes
// through the other two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller vouches for `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `start` came from `alloc`, that is from the system's.
        unsafe { System.dealloc(start, layout) }
    }
}

/// What `action` returns, and how many bytes were allocated at the most while it ran, beyond those
/// that were before.
fn measured<T>(action: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = action();
    (result, PEAK.load(Relaxed) - before)
}

/// Random bytes, the same at each run. Some of them look like tags, and like parts with a length
/// before them: what the types expect.
struct Frames {
    bytes: Vec<u8>,
    random: fastrand::Rng,
}

impl Frames {
    fn new(seed: u64) -> Frames {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = Vec::new();
        while bytes.len() < 1 << 20 {
            let len = random.u8(..4);
            match random.u8(..4) {
                0 => bytes.push(random.u8(..)),
                1 => bytes.push(random.u8(..3)),
                2 => bytes.extend([len, 0, 0, 0]),
                _ => bytes.extend([len, 0, 0, 0, 0, 1, b'a'].iter().take(4 + usize::from(len))),
            }
        }
        Frames { bytes, random }
    }

    /// One frame; short ones are frequent, since they fit the types.
    fn next(&mut self) -> &[u8] {
        let longest = [4, 16, 64, 256][self.random.usize(..4)];
        let len = self.random.usize(..=longest);
        let start = self.random.usize(..=self.bytes.len() - len);
        &self.bytes[start..start + len]
    }
}

/// Calls a function for one type after the other, and tells it the type's own size: what decoding
/// may allocate beyond the bytes, because an array is collected on the heap. After a type with a
/// `Box` stands what is in the box.
macro_rules! for_every_type {
    ($call:ident: $($type:ty $(=> $boxed:ty)?;)*) => {
        $($call::<$type>(size_of::<$type>() $(+ size_of::<$boxed>())?)?;)*
    };
}

fn decoding_needs_no_more_memory_than_the_bytes_and_the_type() -> Result<()> {
    for_every_type! { decode_frames:
        u8; u16; u32; u64; u128; usize; i8; i16; i32; i64; i128; isize; f32; f64;
        bool; char; (); String; Vec<u8>;
        Box<u64> => u64; Box<[u16; 6]> => [u16; 6]; Box<Box<String>> => Box<String>;
        Option<u16>; Option<String>; Option<Option<bool>>; Option<Box<[u8; 9]>> => [u8; 9];
        Result<u32, bool>; Result<Vec<u8>, String>; Result<(), ()>;
        [u8; 0]; [u8; 3]; [char; 2]; [String; 2]; [Option<u64>; 3]; [[bool; 2]; 2]; [(); 4];
        [u64; 1000]; [String; 500];
        (u8,); (String,); (bool, Vec<u8>); (u8, char, Option<u16>); (String, String, u8, String);
        (u8, u8, u8, u8, u8); (u8, u8, u8, u8, u8, String); (u8, u8, u8, u8, u8, u8, bool);
        (u8, bool, u16, (), Box<i16>, [i8; 2], Option<bool>, String) => i16;
    }
    println!("## {FRAMES} frames as each type: at most their bytes and twice the type's size");
    Ok(())
}

fn decode_frames<T: Message>(own: usize) -> Result<()> {
    let name = std::any::type_name::<T>();
    let mut frames = Frames::new(1);
    let mut sound = 0;
    for _ in 0..FRAMES {
        let frame = frames.next();
        let (decoded, peak) = measured(|| from_bytes::<T>(frame));
        let text = if decoded.is_err() { TEXT } else { 0 };
        ensure!(peak <= frame.len() + 2 * own + text, "{peak} bytes for {name} from {frame:?}");
        if let Ok(message) = decoded {
            ensure!(to_bytes(&message) == frame, "{name} is not what {frame:?} says");
            sound += 1;
        }
    }
    ensure!(sound > 0 || own > 1000, "no frame was a {name}: they are not random enough");
    Ok(())
}

fn receiving_needs_no_more_memory_than_the_bytes_and_a_packet() -> Result<()> {
    for_every_type! { receive_frames:
        Vec<u8>; String; u32; bool; Option<String>; Result<u16, Vec<u8>>; [Option<u8>; 2];
        (u8, String); Box<(String, bool)> => (String, bool); ();
    }
    println!("## {FRAMES} frames: at most three times a message and a packet, and its decoding");
    Ok(())
}

fn receive_frames<T: Message + PartialEq + Debug>(own: usize) -> Result<()> {
    /// Fewer packets than a socket takes before it is read.
    const BATCH: usize = 50;
    let (ours, _theirs, socket) = pair::<T>()?;
    let mut frames = Frames::new(2);
    let mut unfinished = None;
    for _ in 0..FRAMES / 10 / BATCH {
        let mut sent = Vec::new();
        for _ in 0..BATCH {
            let mut packet = frames.next().to_vec();
            packet.push(match frames.random.u8(..5) {
                flags @ 0..=3 => flags,
                _ => frames.random.u8(..),
            });
            send(socket, &packet, MsgFlags::empty())?;
            sent.extend(assembled(&mut unfinished, &packet));
        }
        for sent in sent {
            let limit = 3 * (sent.as_ref().map_or(0, Vec::len) + PACKET) + 2 * own + TEXT;
            let (received, peak) = measured(|| ours.recv_timeout(Duration::from_secs(10)));
            ensure!(peak <= limit, "{peak} bytes for {sent:?}, which may take {limit}");
            match (&sent, received) {
                (Some(bytes), Ok(message)) => ensure!(from_bytes::<T>(bytes)? == message),
                (Some(bytes), Err(ConnectionError::Decode(error))) => {
                    ensure!(from_bytes::<T>(bytes) == Err(error));
                }
                (None, Err(ConnectionError::Decode(error))) => {
                    ensure!(error.to_string().contains("a packet ends with"), "{error}");
                }
                (_, received) => bail!("{sent:?} became {received:?}"),
            }
        }
        let received = ours.recv_timeout(Duration::ZERO);
        ensure!(received == Err(ConnectionError::Timeout), "{received:?} came from nowhere");
    }
    Ok(())
}

/// What has to come of a packet after those before it: nothing yet, a message's bytes, or, as
/// `Some(None)`, an error.
fn assembled(unfinished: &mut Option<Vec<u8>>, packet: &[u8]) -> Option<Option<Vec<u8>>> {
    let (&flags, part) = packet.split_last()?;
    if flags & !(FIRST | LAST) != 0 || (flags & FIRST == 0 && unfinished.is_none()) {
        *unfinished = None;
        return Some(None);
    }
    if flags & FIRST != 0 {
        *unfinished = Some(Vec::new());
    }
    unfinished.as_mut()?.extend(part);
    (flags & LAST != 0).then(|| unfinished.take())
}

fn a_large_message_needs_memory_in_step_with_what_arrived() -> Result<()> {
    const PARTS: usize = 256;
    let (ours, _theirs, socket) = pair::<Vec<u8>>()?;
    let mut packet = [7; PACKET];
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let mut most = 0.0_f64;
    for parts in 1..=PARTS {
        packet[PACKET - 1] =
            if parts == 1 { FIRST } else { 0 } | if parts == PARTS { LAST } else { 0 };
        send(socket, &packet, MsgFlags::empty())?;
        ensure!(ours.poll(Duration::ZERO)? == (parts == PARTS));
        let allowed = (parts * (PACKET - 1) + PACKET) as f64;
        most = most.max((PEAK.load(Relaxed) - before) as f64 / allowed);
    }
    let message = ours.recv()?;
    ensure!(message.len() == PARTS * (PACKET - 1));
    most = most.max((PEAK.load(Relaxed) - before) as f64 / (message.len() + PACKET) as f64);
    println!("## {most:.2} times what had arrived and one packet, at the most");
    ensure!(most <= 3.0);
    drop(message);
    ensure!(LIVE.load(Relaxed) <= before + (1 << 20), "the memory is not given back");
    Ok(())
}

/// Two ends, and the socket of the second one.
#[expect(clippy::type_complexity, reason = "each is needed once, in this order")]
fn pair<T: Message>() -> Result<(Connection<(), T>, Connection<T, ()>, RawFd)> {
    let (ours, theirs) = Connection::pair()?;
    let mut sockets = Vec::new();
    for entry in read_dir("/proc/self/fd")? {
        let entry = entry?;
        if read_link(entry.path())?.to_string_lossy().starts_with("socket:") {
            sockets.push(entry.file_name().to_string_lossy().parse()?);
        }
    }
    let [_, theirs_fd] = sockets[..] else { bail!("this process has other sockets: {sockets:?}") };
    Ok((ours, theirs, theirs_fd))
}
