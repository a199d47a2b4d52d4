//! Waiting for whichever of many connections has something to receive first.

use std::os::fd::BorrowedFd;
use std::panic::Location;
use std::time::{Duration, Instant};

use common::Message;
use common::deadlock::{Deadlock, Waiting, What};
use common::wait::{deadline_after, look_for, remaining};
use nix::poll::{PollFd, PollFlags};

use crate::connection::{Connection, ConnectionError, LONGEST_SLEEP, Receiver, sleep};

/// What [`wait`] can wait for: a [`Connection`] or a [`Receiver`], of any type of messages.
pub trait Waitable: Look {}

mod sealed {
    use super::{BorrowedFd, ConnectionError};

    pub trait Look {
        fn fd(&self) -> Result<BorrowedFd<'_>, ConnectionError>;
        fn look(&self) -> Result<bool, ConnectionError>;
        fn is_whole(&self) -> bool;
        fn number(&self) -> u64;
    }
}
use sealed::Look;

impl<Tx: Message, Rx: Message> Look for Connection<Tx, Rx> {
    fn fd(&self) -> Result<BorrowedFd<'_>, ConnectionError> {
        self.fd()
    }
    fn look(&self) -> Result<bool, ConnectionError> {
        self.look()
    }
    fn is_whole(&self) -> bool {
        self.is_whole()
    }
    fn number(&self) -> u64 {
        self.number()
    }
}

impl<T: Message> Look for Receiver<T> {
    fn fd(&self) -> Result<BorrowedFd<'_>, ConnectionError> {
        self.connection.fd()
    }
    fn look(&self) -> Result<bool, ConnectionError> {
        self.connection.look()
    }
    fn is_whole(&self) -> bool {
        self.connection.is_whole()
    }
    fn number(&self) -> u64 {
        self.connection.number()
    }
}

impl<Tx: Message, Rx: Message> Waitable for Connection<Tx, Rx> {}
impl<T: Message> Waitable for Receiver<T> {}

/// Waits until at least one of `ends` is ready, and returns which are: their positions in `ends`,
/// counted from 0, in ascending order. Python: `multiprocessing.connection.wait`.
///
/// An end is ready where its `recv` would not wait: its next message is here whole, or its other
/// end was closed or its process died (then `recv` says [`ConnectionError::Closed`]). A part of a
/// large message does not make it ready; what has arrived is kept for `recv`.
///
/// An end that is closed stays ready: leave it out of the next call. One that is left out loses
/// nothing.
///
/// # Errors
///
/// [`NoneGiven`](ConnectionError::NoneGiven) where `ends` is empty: nothing could end the wait. And
/// what [`Connection::poll`] answers, for the first of `ends` that has an error.
/// [`Deadlock`](ConnectionError::Deadlock) where every process waits; its report names the first of
/// `ends` only.
///
/// # Examples
///
/// ```
/// # fn main() -> anyhow::Result<()> {
/// let (first, _silent) = pipe_demo::one_way::<u64>()?;
/// let (second, sender) = pipe_demo::one_way::<u64>()?;
/// let child = common::spawn("sender", move || Ok(sender.send(5)?))?;
/// let receivers = [first, second];
/// assert_eq!(pipe_demo::wait(&receivers)?, [1]);
/// assert_eq!(receivers[1].recv()?, 5);
/// child.join()?;
/// # Ok(())
/// # }
/// ```
///
/// Ends of several types go in as what they have in common:
///
/// ```
/// use pipe_demo::{Connection, Waitable, one_way, wait};
///
/// # fn main() -> anyhow::Result<()> {
/// let (numbers, number_sender) = one_way::<u64>()?;
/// let (words, _word_sender) = Connection::<String>::pair()?;
/// number_sender.send(5)?;
/// assert_eq!(wait([&numbers as &dyn Waitable, &words])?, [0]);
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn wait<'a, W>(ends: impl IntoIterator<Item = &'a W>) -> Result<Vec<usize>, ConnectionError>
where
    W: Waitable + ?Sized + 'a,
{
    wait_until(ends, None)
}

/// As [`wait`], but waits for `limit` at the most; then no end is ready, and what it returns is
/// empty.
pub fn wait_timeout<'a, W>(
    ends: impl IntoIterator<Item = &'a W>,
    limit: Duration,
) -> Result<Vec<usize>, ConnectionError>
where
    W: Waitable + ?Sized + 'a,
{
    wait_until(ends, deadline_after(limit))
}

#[track_caller]
fn wait_until<'a, W>(
    ends: impl IntoIterator<Item = &'a W>,
    deadline: Option<Instant>,
) -> Result<Vec<usize>, ConnectionError>
where
    W: Waitable + ?Sized + 'a,
{
    let ends: Vec<&W> = ends.into_iter().collect();
    if ends.is_empty() {
        return Err(ConnectionError::NoneGiven);
    }
    let watch = |end: &&'a W| Ok(PollFd::new(end.fd()?, PollFlags::POLLIN));
    let mut watched = ends.iter().map(watch).collect::<Result<Vec<_>, _>>()?;

    let mut look = |time| match ready(&ends, &mut watched, time) {
        Ok(ready) if ready.is_empty() => None,
        result => Some(result),
    };
    if let Some(result) = look_for(|| look(Duration::ZERO)) {
        return result;
    }
    // A report of a deadlock tells the first of them.
    let what = What::Receive(ends[0].number());
    let waiting = Waiting::begin(what, deadline.is_some(), Location::caller());
    while let Some(time) = remaining(deadline, LONGEST_SLEEP) {
        match waiting.look(|| look(time)) {
            Ok(Some(result)) => return result,
            Ok(None) => {}
            Err(Deadlock) => return Err(ConnectionError::Deadlock),
        }
    }
    Ok(Vec::new())
}

/// Which of `ends` are ready, after sleeping for `time` at the most until there is news of any.
///
/// It takes a few packets at the most from each: who sends a large message does not keep the others
/// from being looked at, nor this from ending in time.
fn ready<W: Waitable + ?Sized>(
    ends: &[&W],
    watched: &mut [PollFd<'_>],
    time: Duration,
) -> Result<Vec<usize>, ConnectionError> {
    sleep(watched, time)?;
    let mut ready = Vec::new();
    for (index, (end, news)) in ends.iter().zip(watched).enumerate() {
        // A message that is here whole makes no news: it was received before.
        if end.is_whole() || (news.any() == Some(true) && end.look()?) {
            ready.push(index);
        }
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::one_way;

    const SOON: Duration = Duration::from_millis(20);
    /// Longer than anything here takes: where it runs out, something hangs.
    const LONG: Duration = Duration::from_secs(10);
    const LARGE: usize = 5_000_000;

    #[test]
    fn ready_are_those_with_a_message_or_the_end_of_file() {
        let (with_message, sender) = one_way::<u64>().unwrap();
        let (silent, _silent_sender) = one_way().unwrap();
        let (closed, closed_sender) = one_way().unwrap();
        sender.send(1).unwrap();
        closed_sender.close();
        let receivers = [silent, with_message, closed];
        assert_eq!(wait_timeout(&receivers, LONG), Ok(vec![1, 2]));
        assert_eq!(receivers[1].recv(), Ok(1));
        assert_eq!(receivers[2].recv(), Err(ConnectionError::Closed));
        assert_eq!(wait_timeout(&receivers, LONG), Ok(vec![2]), "the end of file stays");
        assert_eq!(wait_timeout(&receivers[..2], SOON), Ok(vec![]));
    }

    #[test]
    fn a_message_that_poll_has_received_is_ready_without_news() {
        let (one, other) = Connection::<u64>::pair().unwrap();
        one.send(1).unwrap();
        assert_eq!(other.poll(SOON), Ok(true));
        assert_eq!(wait_timeout([&one, &other], LONG), Ok(vec![1]));
        assert_eq!(other.recv(), Ok(1));
    }

    #[test]
    fn a_part_of_a_message_is_not_ready_and_one_cut_off_is_the_end_of_file() {
        let (one, other) = Connection::<Vec<u8>>::pair().unwrap();
        assert_eq!(one.send_timeout(vec![7; LARGE], SOON), Err(ConnectionError::Timeout));
        assert_eq!(wait_timeout([&other], SOON), Ok(vec![]));
        one.close();
        assert_eq!(wait_timeout([&other], LONG), Ok(vec![0]));
        assert_eq!(other.recv(), Err(ConnectionError::Closed));
    }

    #[test]
    fn a_message_of_several_packets_is_ready_at_once_where_all_of_it_is_here() {
        let (one, other) = Connection::<Vec<u8>>::pair().unwrap();
        one.send(vec![7; 150_000]).unwrap();
        assert_eq!(wait_timeout([&other], Duration::ZERO), Ok(vec![0]));
        assert_eq!(other.recv_timeout(Duration::ZERO), Ok(vec![7; 150_000]));
    }

    #[test]
    fn a_large_message_becomes_ready_once_it_is_whole_and_keeps_nobody_waiting() {
        let (large, large_sender) = one_way::<Vec<u8>>().unwrap();
        let (small, small_sender) = one_way::<u64>().unwrap();
        small_sender.send(1).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || large_sender.send_timeout(vec![7; LARGE], LONG).unwrap());
            let ends: [&dyn Waitable; 2] = [&large, &small];
            assert_eq!(wait_timeout(ends, LONG), Ok(vec![1]));
            assert_eq!(small.recv(), Ok(1));
            assert_eq!(wait_timeout(ends, LONG), Ok(vec![0]));
            assert_eq!(large.recv_timeout(Duration::ZERO), Ok(vec![7; LARGE]));
        });
    }

    #[test]
    fn a_wait_for_nothing_is_refused() {
        assert_eq!(wait_timeout::<Receiver<u64>>([], SOON), Err(ConnectionError::NoneGiven));
        assert_eq!(wait::<Receiver<u64>>([]), Err(ConnectionError::NoneGiven));
    }
}
