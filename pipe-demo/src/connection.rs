//! Whole messages between two processes, over a pair of sockets.
//!
//! The sockets are of type `SOCK_SEQPACKET` (`unix(7)`): the kernel keeps the packets apart, so a
//! reader gets a whole packet or none, even from a peer that is killed while it sends. Each packet
//! ends with one byte of ours, for two reasons. A message of no bytes would otherwise look like the
//! end of file. And a message too large for one packet goes in several: the byte says whether its
//! packet is a message's first, and whether it is its last. A first packet that comes while an
//! earlier message is incomplete replaces it: its sender gave up.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::Location;
use std::time::{Duration, Instant};

use common::deadlock::{Deadlock, Waiting, What};
use common::ends::End;
use common::message::{self, DecodeError, Message, Writer};
use common::timeline::{self, Kind};
use common::wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

/// The longest message, in bytes: 1 GiB.
pub const MAX_MESSAGE: usize = 1 << 30;

/// The longest part of a message in one packet, in bytes.
const PART: usize = 64 << 10;
/// More packets of that length than the kernel holds.
const AT_ONCE: usize = 8;
/// What a connection keeps for its next message, in bytes; a larger buffer is given back.
const KEEP: usize = 4 << 20;

/// How long to sleep at a time: who waits looks now and then whether the wait can end at all.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// The bits of a packet's last byte.
const FIRST: u8 = 1;
const LAST: u8 = 2;

/// One end of a line between two processes; the other end is a `Connection<Rx, Tx>`. Python:
/// what `Pipe()` returns two of.
///
/// It sends messages of type `Tx` and receives messages of type `Rx`, whole and in order, of up to
/// [`MAX_MESSAGE`] bytes each.
///
/// # Who holds an end
///
/// An end belongs to one process. One that is moved into the closure given to
/// [`spawn`](common::spawn) is the child's: the parent's copy is closed there, and all others are
/// closed in the child. So when the process that holds an end drops it, ends or is killed, the
/// other side knows at once: `recv` says [`Closed`](ConnectionError::Closed) after the last message,
/// and `send` says it too.
///
/// ```
/// use pipe_demo::Connection;
///
/// # fn main() -> anyhow::Result<()> {
/// let (parent_conn, child_conn) = Connection::<u64, String>::pair()?;
/// let child = common::spawn("speller", move || {
///     for number in child_conn.iter() {
///         child_conn.send(format!("number {}", number?))?;
///     }
///     Ok(())
/// })?;
/// parent_conn.send(7)?;
/// assert_eq!(parent_conn.recv()?, "number 7");
/// parent_conn.close(); // the child's loop ends
/// child.join()?;
/// # Ok(())
/// # }
/// ```
///
/// An end cannot be lent to a child. Without `move` the closure borrows it, and does not compile:
///
/// ```compile_fail,E0277
/// let (parent_conn, child_conn) = pipe_demo::Connection::<u64>::pair().unwrap();
/// common::spawn("child", || Ok(child_conn.send(1)?));
/// ```
pub struct Connection<Tx, Rx = Tx> {
    end: End,
    incoming: RefCell<Incoming>,
    outgoing: RefCell<Vec<u8>>,
    /// How many messages were sent and received.
    counts: [Cell<u64>; 2],
    messages: PhantomData<fn(Tx) -> Rx>,
}

/// What has arrived of the next message.
#[derive(Default)]
struct Incoming {
    buffer: Vec<u8>,
    /// How many bytes at the buffer's beginning belong to the message.
    len: usize,
    stage: Stage,
}

#[derive(Default, PartialEq)]
enum Stage {
    #[default]
    Nothing,
    Parts,
    Whole,
}

impl<Tx: Message, Rx: Message> Connection<Tx, Rx> {
    /// Two connected ends. Python: `Pipe()`.
    ///
    /// # Errors
    ///
    /// [`System`](ConnectionError::System) where no descriptors are left (`RLIMIT_NOFILE`).
    #[expect(clippy::type_complexity, reason = "it says what comes back, in that order")]
    pub fn pair() -> Result<(Connection<Tx, Rx>, Connection<Rx, Tx>), ConnectionError> {
        let kind = SockType::SeqPacket;
        let (one, other) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| ConnectionError::System { call: "socketpair", errno })?;
        let (one, other) = End::pair(one, other);
        Ok((Connection::new(one), Connection::new(other)))
    }

    fn new(end: End) -> Self {
        Connection {
            end,
            incoming: RefCell::default(),
            outgoing: RefCell::default(),
            counts: Default::default(),
            messages: PhantomData,
        }
    }

    /// Sends `message`. It waits where more is on its way already than the kernel buffers (about
    /// 200 KiB), until the other side receives.
    ///
    /// # Errors
    ///
    /// [`Closed`](ConnectionError::Closed) where the other end was closed or its process died;
    /// [`TooLarge`](ConnectionError::TooLarge); [`Deadlock`](ConnectionError::Deadlock) where every
    /// process waits, so that nobody will ever receive it.
    #[track_caller]
    pub fn send(&self, message: Tx) -> Result<(), ConnectionError> {
        self.send_until(&message, None)
    }

    /// As [`send`](Connection::send), but waits for `limit` at the most, then says
    /// [`Timeout`](ConnectionError::Timeout): the other side will not get the message, nor a part
    /// of it.
    pub fn send_timeout(&self, message: Tx, limit: Duration) -> Result<(), ConnectionError> {
        self.send_until(&message, wait::deadline_after(limit))
    }

    /// Receives the next message, waiting until there is one.
    ///
    /// # Errors
    ///
    /// [`Closed`](ConnectionError::Closed) where the other end was closed or its process died, and
    /// all that it sent whole has been received: Python's `EOFError`.
    /// [`Deadlock`](ConnectionError::Deadlock) where every process waits, so that nothing will ever
    /// come.
    #[track_caller]
    pub fn recv(&self) -> Result<Rx, ConnectionError> {
        self.recv_until(None)
    }

    /// As [`recv`](Connection::recv), but waits for `limit` at the most, then says
    /// [`Timeout`](ConnectionError::Timeout). What has arrived by then is kept for the next call.
    pub fn recv_timeout(&self, limit: Duration) -> Result<Rx, ConnectionError> {
        self.recv_until(wait::deadline_after(limit))
    }

    /// Waits for `limit` at the most until [`recv`](Connection::recv) would not wait: a message is
    /// here whole, or the other end is closed. Python: `poll`.
    pub fn poll(&self, limit: Duration) -> Result<bool, ConnectionError> {
        match self.fill(wait::deadline_after(limit)) {
            Ok(()) | Err(ConnectionError::Closed) => Ok(true),
            Err(ConnectionError::Timeout) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Receives until the other end is closed; an error other than that is an item.
    pub fn iter(&self) -> Iter<'_, Tx, Rx> {
        Iter { connection: self }
    }

    /// Closes this end, as dropping it does.
    pub fn close(self) {}

    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>, ConnectionError> {
        let fd = self.end.fd().ok_or(ConnectionError::NotHere)?;
        // SAFETY: the end says that the descriptor is open here, and it stays so as long as the end
        // is borrowed.
        Ok(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    #[track_caller]
    fn send_until(&self, message: &Tx, deadline: Option<Instant>) -> Result<(), ConnectionError> {
        let len = message.encoded_len();
        if len > MAX_MESSAGE {
            return Err(ConnectionError::TooLarge { len, max: MAX_MESSAGE });
        }
        // Taken out, not borrowed: `encode` is the caller's code.
        let mut buffer = self.outgoing.take();
        if buffer.len() <= len {
            buffer.resize(len + 1, 0);
        }
        message::write_to(message, Writer::new(&mut buffer[..len]));
        let number = self.counts[0].replace(self.counts[0].get() + 1);
        timeline::note(Kind::Sends, self.end.number(), timeline::messages(number, 1));
        let sent = self.send_parts(&mut buffer, len, deadline);
        if buffer.len() <= KEEP {
            self.outgoing.replace(buffer);
        }
        sent
    }

    /// Sends the first `len` bytes of `buffer`, which has at least one more.
    #[track_caller]
    fn send_parts(
        &self,
        buffer: &mut [u8],
        len: usize,
        deadline: Option<Instant>,
    ) -> Result<(), ConnectionError> {
        let fd = self.fd()?;
        let wish = (What::Send(self.end.number()), Location::caller());
        let mut start = 0;
        loop {
            let end = len.min(start + PART);
            let first = if start == 0 { FIRST } else { 0 };
            let last = if end == len { LAST } else { 0 };
            // The byte goes where the next part begins, and that is put back.
            let next = std::mem::replace(&mut buffer[end], first | last);
            let packet = &buffer[start..=end];
            let sent = patiently(fd, PollFlags::POLLOUT, deadline, &wish, || send_now(fd, packet));
            buffer[end] = next;
            sent?;
            start = end;
            if start == len {
                return Ok(());
            }
        }
    }

    #[track_caller]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<Rx, ConnectionError> {
        self.fill(deadline)?;
        let number = self.counts[1].replace(self.counts[1].get() + 1);
        timeline::note(Kind::Receives, self.end.number() ^ 1, timeline::messages(number, 1));
        // Taken out, not borrowed: `decode` is the caller's code.
        let Incoming { buffer, len, .. } = self.incoming.take();
        let message = message::from_bytes(&buffer[..len]).map_err(ConnectionError::Decode);
        let mut incoming = self.incoming.borrow_mut();
        // Unless `decode` has received from this connection itself.
        if incoming.buffer.is_empty() && buffer.len() <= KEEP {
            incoming.buffer = buffer;
        }
        message
    }

    /// Receives packets until the message in `incoming` is whole.
    #[track_caller]
    fn fill(&self, deadline: Option<Instant>) -> Result<(), ConnectionError> {
        let fd = self.fd()?;
        let mut incoming = self.incoming.borrow_mut();
        let wish = (What::Receive(self.end.number()), Location::caller());
        while incoming.stage != Stage::Whole {
            incoming.take_packet(|room| {
                patiently(fd, PollFlags::POLLIN, deadline, &wish, || recv_now(fd, room))
            })?;
        }
        Ok(())
    }

    /// Takes what is here of the next message, without waiting and [`AT_ONCE`] packets at the most;
    /// returns whether [`recv`](Connection::recv) would not wait now.
    pub(crate) fn look(&self) -> Result<bool, ConnectionError> {
        let fd = self.fd()?;
        let mut incoming = self.incoming.borrow_mut();
        for _ in 0..AT_ONCE {
            if incoming.stage == Stage::Whole {
                break;
            }
            let nothing = Err(ConnectionError::Timeout);
            match incoming.take_packet(|room| recv_now(fd, room).unwrap_or(nothing)) {
                Ok(()) => {}
                Err(ConnectionError::Closed) => return Ok(true),
                Err(ConnectionError::Timeout) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(incoming.stage == Stage::Whole)
    }

    /// Whether the next message is here already, received but not yet handed out.
    pub(crate) fn number(&self) -> u64 {
        self.end.number()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.incoming.borrow().stage == Stage::Whole
    }
}

impl Incoming {
    /// Adds the packet that `receive` puts into the room it is given.
    fn take_packet(
        &mut self,
        receive: impl FnOnce(&mut [u8]) -> Result<usize, ConnectionError>,
    ) -> Result<(), ConnectionError> {
        let Incoming { buffer, len, stage } = self;
        // Never more room than one packet may need: what a peer sends is not announced, so
        // nothing is allocated before it arrives.
        if buffer.len() < *len + PART + 1 {
            buffer.resize(*len + PART + 1, 0);
        }
        let room = &mut buffer[*len..*len + PART + 1];
        let got = receive(room)?;
        let Some(part) = got.checked_sub(1) else { return Err(ConnectionError::Closed) };
        let flags = room[part];
        if flags & !(FIRST | LAST) != 0 || (*stage == Stage::Nothing && flags & FIRST == 0) {
            (*len, *stage) = (0, Stage::Nothing);
            let why = format!("a packet ends with {flags:#04x}, which has no meaning there");
            return Err(ConnectionError::Decode(DecodeError::Invalid(why)));
        }
        if flags & FIRST != 0 && *len > 0 {
            buffer.copy_within(*len..*len + part, 0);
            *len = 0;
        }
        *len += part;
        *stage = if flags & LAST != 0 { Stage::Whole } else { Stage::Parts };
        if *len > MAX_MESSAGE {
            let error = ConnectionError::TooLarge { len: *len, max: MAX_MESSAGE };
            (*len, *stage) = (0, Stage::Nothing);
            return Err(error);
        }
        Ok(())
    }
}

/// What a call came to; `None` where it would have waited.
type Now<T> = Option<Result<T, ConnectionError>>;

fn send_now(fd: BorrowedFd<'_>, packet: &[u8]) -> Now<()> {
    match send(fd.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
        Ok(_) => Some(Ok(())),
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        Err(Errno::EPIPE | Errno::ECONNRESET) => Some(Err(ConnectionError::Closed)),
        Err(errno) => Some(Err(ConnectionError::System { call: "send", errno })),
    }
}

/// The length of the packet received into `room`; 0 at the end of file.
fn recv_now(fd: BorrowedFd<'_>, room: &mut [u8]) -> Now<usize> {
    received(|| recv(fd.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT))
}

fn received(mut recv: impl FnMut() -> nix::Result<usize>) -> Now<usize> {
    let mut ended = false;
    loop {
        match recv() {
            // The kernel looks for a packet first and for the end of file then. What comes between
            // the two looks, a last message and the end, shows as the end alone: look once more.
            Ok(0) if !ended => ended = true,
            Ok(len) => return Some(Ok(len)),
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            // The peer is gone and left messages of ours unread. Said once; what it sent itself can
            // still be received, and after that the end of file.
            Err(Errno::ECONNRESET) => {}
            Err(errno) => return Some(Err(ConnectionError::System { call: "recv", errno })),
        }
    }
}

/// Makes a call that may find the socket not ready: looks a while, then sleeps in the kernel.
fn patiently<T>(
    fd: BorrowedFd<'_>,
    ready: PollFlags,
    deadline: Option<Instant>,
    (what, place): &(What, &Location<'_>),
    mut call: impl FnMut() -> Now<T>,
) -> Result<T, ConnectionError> {
    if let Some(result) = wait::look_for(&mut call) {
        return result;
    }
    let waiting = Waiting::begin(*what, deadline.is_some(), place);
    loop {
        let Some(time) = wait::remaining(deadline, LONGEST_SLEEP) else {
            return Err(ConnectionError::Timeout);
        };
        sleep(&mut [PollFd::new(fd, ready)], time)?;
        match waiting.look(&mut call) {
            Ok(Some(result)) => return result,
            Ok(None) => {}
            Err(Deadlock) => return Err(ConnectionError::Deadlock),
        }
    }
}

/// Sleeps until one of `watched` is ready or `time` is over; it may return early.
pub(crate) fn sleep(watched: &mut [PollFd<'_>], time: Duration) -> Result<(), ConnectionError> {
    // `poll` counts in whole milliseconds: the next one, so that no wait ends too early.
    let time = PollTimeout::try_from(time.as_nanos().div_ceil(1_000_000));
    match poll(watched, time.unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(ConnectionError::System { call: "poll", errno }),
    }
}

impl<Tx, Rx> fmt::Debug for Connection<Tx, Rx> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("end", &self.end).finish_non_exhaustive()
    }
}

/// The messages of a [`Connection`] until its other end is closed; see [`Connection::iter`].
#[derive(Debug)]
pub struct Iter<'a, Tx, Rx> {
    connection: &'a Connection<Tx, Rx>,
}

impl<Tx: Message, Rx: Message> Iterator for Iter<'_, Tx, Rx> {
    type Item = Result<Rx, ConnectionError>;

    #[track_caller]
    fn next(&mut self) -> Option<Self::Item> {
        match self.connection.recv() {
            Err(ConnectionError::Closed) => None,
            result => Some(result),
        }
    }
}

/// A line on which messages go one way only. Python: `Pipe(duplex=False)`, which returns the
/// receiving end first too.
///
/// Errors: as for [`Connection::pair`].
///
/// ```
/// # fn main() -> anyhow::Result<()> {
/// let (receiver, sender) = pipe_demo::one_way()?;
/// let child = common::spawn("sender", move || Ok(sender.send("hello".to_string())?))?;
/// assert_eq!(receiver.recv()?, "hello");
/// child.join()?;
/// # Ok(())
/// # }
/// ```
pub fn one_way<T: Message>() -> Result<(Receiver<T>, Sender<T>), ConnectionError> {
    let (receiving, sending) = Connection::pair()?;
    Ok((Receiver { connection: receiving }, Sender { connection: sending }))
}

/// The end of a [`one_way`] line that receives. What holds for a [`Connection`] holds for it.
#[derive(Debug)]
pub struct Receiver<T> {
    pub(crate) connection: Connection<(), T>,
}

impl<T: Message> Receiver<T> {
    /// Receives the next message; see [`Connection::recv`].
    #[track_caller]
    pub fn recv(&self) -> Result<T, ConnectionError> {
        self.connection.recv()
    }

    /// Receives within `limit`; see [`Connection::recv_timeout`].
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, ConnectionError> {
        self.connection.recv_timeout(limit)
    }

    /// Whether a message or the end of file comes within `limit`; see [`Connection::poll`].
    pub fn poll(&self, limit: Duration) -> Result<bool, ConnectionError> {
        self.connection.poll(limit)
    }

    /// Receives until the sender is closed; see [`Connection::iter`].
    pub fn iter(&self) -> Iter<'_, (), T> {
        self.connection.iter()
    }

    /// Closes this end, as dropping it does.
    pub fn close(self) {}
}

/// The end of a [`one_way`] line that sends. What holds for a [`Connection`] holds for it.
#[derive(Debug)]
pub struct Sender<T> {
    connection: Connection<T, ()>,
}

impl<T: Message> Sender<T> {
    /// Sends `message`; see [`Connection::send`].
    #[track_caller]
    pub fn send(&self, message: T) -> Result<(), ConnectionError> {
        self.connection.send(message)
    }

    /// Sends within `limit`; see [`Connection::send_timeout`].
    pub fn send_timeout(&self, message: T, limit: Duration) -> Result<(), ConnectionError> {
        self.connection.send_timeout(message, limit)
    }

    /// Closes this end, as dropping it does.
    pub fn close(self) {}
}

/// Why a message was not sent or not received.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The other end was closed, or its process ended or was killed.
    Closed,
    /// The time given to a `_timeout` call ran out.
    Timeout,
    /// Every process waits, this one at the connection, and none can go on; see
    /// [`common::deadlock`].
    Deadlock,
    /// The message is longer than any connection carries.
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The longest there may be.
        max: usize,
    },
    /// What arrived is no message of this type.
    Decode(DecodeError),
    /// This end stayed with the parent: it was not moved into this child's closure.
    NotHere,
    /// [`wait`](crate::wait()) was given no ends.
    NoneGiven,
    /// The system refused.
    System {
        /// The system call.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionError::Closed => f.write_str(
                "connection closed: the process at the other end closed it, ended or was killed",
            ),
            ConnectionError::Timeout => f.write_str(
                "time ran out on the connection: the other end did not receive or send in time",
            ),
            ConnectionError::Deadlock => Deadlock.fmt(f),
            ConnectionError::TooLarge { len, max } => write!(
                f,
                "a connection carries messages of up to {max} bytes, this one has {len}: send it \
                 in pieces"
            ),
            ConnectionError::Decode(error) => error.fmt(f),
            ConnectionError::NotHere => f.write_str(
                "this end of the connection belongs to another process: a child holds only the \
                 ends that are moved into its closure",
            ),
            ConnectionError::NoneGiven => {
                f.write_str("a wait for no connections would never end: give it at least 1")
            }
            ConnectionError::System { call, errno: errno @ (Errno::EMFILE | Errno::ENFILE) } => {
                write!(f, "{call} failed: {errno}: close connections, or raise ulimit -n")
            }
            ConnectionError::System { call, errno } => write!(f, "{call} failed: {errno}"),
        }
    }
}

impl std::error::Error for ConnectionError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn a_last_message_that_came_just_before_the_end_of_file_is_not_lost() {
        let mut looks = [Ok(0), Ok(9)].into_iter();
        assert_eq!(received(|| looks.next().unwrap()), Some(Ok(9)));
        let mut looks = [Ok(0), Ok(0)].into_iter();
        assert_eq!(received(|| looks.next().unwrap()), Some(Ok(0)));
    }

    #[test]
    fn messages_of_every_size_arrive_whole_and_in_order() {
        let (one, other) = Connection::<Vec<u8>>::pair().unwrap();
        std::thread::scope(|scope| {
            let sizes = || [0, 1, PART - 1, PART, PART + 1, 3 * PART, 5_000_000, 0, 2];
            let receiver = scope.spawn(move || {
                for size in sizes() {
                    let message = other.recv().unwrap();
                    assert_eq!(message.len(), size);
                    assert!(message.iter().enumerate().all(|(i, &byte)| byte == (i % 251) as u8));
                }
                assert_eq!(other.recv(), Err(ConnectionError::Closed));
            });
            for size in sizes() {
                one.send((0..size).map(|i| (i % 251) as u8).collect()).unwrap();
            }
            one.close();
            receiver.join().unwrap();
        });
    }

    #[test]
    fn what_was_sent_before_closing_is_received_even_with_messages_unread() {
        let (one, other) = Connection::<u64>::pair().unwrap();
        one.send(1).unwrap();
        other.send(2).unwrap();
        one.close(); // with the 2 unread
        assert_eq!(other.send(3), Err(ConnectionError::Closed));
        assert_eq!(other.recv(), Ok(1));
        assert_eq!(other.recv(), Err(ConnectionError::Closed));
        assert_eq!(other.poll(SOON), Ok(true));
    }

    #[test]
    fn every_wait_can_be_bounded() {
        let (one, other) = Connection::<Vec<u8>>::pair().unwrap();
        assert_eq!(one.recv_timeout(SOON), Err(ConnectionError::Timeout));
        assert_eq!(one.poll(SOON), Ok(false));
        assert_eq!(one.send_timeout(vec![7; 5_000_000], SOON), Err(ConnectionError::Timeout));
        assert_eq!(other.recv_timeout(SOON), Err(ConnectionError::Timeout), "only a part is here");
        // The next message replaces the one given up.
        std::thread::scope(|scope| {
            scope.spawn(move || one.send(vec![8; 300_000]).unwrap());
            assert_eq!(other.recv(), Ok(vec![8; 300_000]));
        });
    }

    #[test]
    fn bytes_of_another_type_are_an_error_and_the_next_message_is_sound() {
        let (one, other) = Connection::<String, u64>::pair().unwrap();
        one.send("not eight bytes".into()).unwrap();
        one.send("8 bytes!".into()).unwrap();
        // Read as the other type: as a program would whose two ends disagree.
        let other: Connection<u64, u64> = Connection::new(other.end);
        assert!(matches!(other.recv(), Err(ConnectionError::Decode(_))));
        assert_eq!(other.recv(), Ok(u64::from_le_bytes(*b"8 bytes!")));
    }

    #[test]
    fn a_packet_that_makes_no_sense_is_an_error_that_says_so() {
        let (one, other) = Connection::<u64>::pair().unwrap();
        for packet in [&[0x37][..], &[1, 2, 3, LAST]] {
            send(one.fd().unwrap().as_raw_fd(), packet, MsgFlags::empty()).unwrap();
            let error = other.recv().unwrap_err().to_string();
            assert!(error.contains("a packet ends with"), "{error}");
        }
        one.send(5).unwrap();
        assert_eq!(other.recv(), Ok(5));
    }
}
