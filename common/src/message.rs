//! How a message becomes bytes, and how it comes back.
//!
//! Python pickles; here a type says at compile time what its bytes are. The rule that keeps it
//! simple: **a message is decoded from exactly the bytes that it was encoded to.** Whoever carries
//! a message (a queue slot, a packet) knows its length, so a `String` needs no length of its own.
//! Only where several parts stand side by side, as in a tuple, does [`Writer::field`] put a length
//! before each part that needs one.
//!
//! [`Writer`] and [`Reader`] copy bytes in and out and never lend a slice: the bytes may lie in
//! memory that another process writes to later.

use std::fmt;
use std::marker::PhantomData;

/// A type whose values can be sent to another process.
///
/// Ready for integers, floats, `bool`, `char`, `()`, `String`, `Vec<u8>`, and for tuples, arrays,
/// `Option`, `Result` and `Box` of messages. A struct joins by listing its fields:
///
/// ```
/// use common::message::{DecodeError, Length, Message, Reader, Writer, field_len};
///
/// #[derive(Debug, PartialEq)]
/// struct Answer {
///     question: u32,
///     text: String,
/// }
///
/// impl Message for Answer {
///     fn encoded_len(&self) -> usize {
///         field_len(&self.question) + field_len(&self.text)
///     }
///     fn encode(&self, out: &mut Writer<'_>) {
///         out.field(&self.question);
///         out.field(&self.text);
///     }
///     fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
///         Ok(Answer { question: input.field()?, text: input.field()? })
///     }
/// }
///
/// let answer = Answer { question: 7, text: "because".into() };
/// let bytes = common::message::to_bytes(&answer);
/// assert_eq!(common::message::from_bytes::<Answer>(&bytes)?, answer);
/// # Ok::<(), DecodeError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    note = "numbers, bool, char, String, Vec<u8>, and tuples, arrays, Option, Result and Box of \
            them can; for a struct of your own implement `common::Message`"
)]
pub trait Message: Sized {
    /// What is known of the encoded length before there is a value.
    const LENGTH: Length = Length::Any;

    /// How many bytes [`encode`](Message::encode) writes for this value.
    fn encoded_len(&self) -> usize;

    /// Writes exactly [`encoded_len`](Message::encoded_len) bytes.
    fn encode(&self, out: &mut Writer<'_>);

    /// Reads a value from `input`, which holds exactly what [`encode`](Message::encode) wrote.
    /// What is left unread is an error of the caller's, so there is no need to look for it.
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// What a type tells of its encoded length, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Every value takes this many bytes.
    Exactly(usize),
    /// No value takes more than this.
    AtMost(usize),
    /// It depends on the value, without a bound.
    Any,
}

impl Length {
    /// The largest possible length, if there is one.
    pub const fn max(self) -> Option<usize> {
        match self {
            Length::Exactly(bytes) | Length::AtMost(bytes) => Some(bytes),
            Length::Any => None,
        }
    }

    /// The length of a part written with [`Writer::field`].
    const fn as_field(self) -> Length {
        match self {
            Length::Exactly(bytes) => Length::Exactly(bytes),
            Length::AtMost(bytes) => Length::AtMost(bytes + PREFIX),
            Length::Any => Length::Any,
        }
    }

    /// The length of two parts, one after the other.
    const fn then(self, next: Length) -> Length {
        match (self, next) {
            (Length::Exactly(a), Length::Exactly(b)) => Length::Exactly(a + b),
            (Length::Any, _) | (_, Length::Any) => Length::Any,
            (Length::Exactly(a) | Length::AtMost(a), Length::Exactly(b) | Length::AtMost(b)) => {
                Length::AtMost(a + b)
            }
        }
    }

    /// The length of either of two parts.
    const fn or(self, other: Length) -> Length {
        match (self.max(), other.max()) {
            (Some(a), Some(b)) => Length::AtMost(if a > b { a } else { b }),
            _ => Length::Any,
        }
    }

    const fn times(self, count: usize) -> Length {
        match self {
            Length::Exactly(bytes) => Length::Exactly(bytes * count),
            Length::AtMost(bytes) => Length::AtMost(bytes * count),
            Length::Any if count == 0 => Length::Exactly(0),
            Length::Any => Length::Any,
        }
    }
}

/// Bytes of the length that [`Writer::field`] puts before a part of no fixed length.
const PREFIX: usize = size_of::<u32>();

/// How many bytes [`Writer::field`] writes for `part`: its own and, where its type has no fixed
/// length, four that tell how many.
pub fn field_len<M: Message>(part: &M) -> usize {
    match M::LENGTH {
        Length::Exactly(bytes) => bytes,
        _ => PREFIX + part.encoded_len(),
    }
}

/// The bytes of `message`.
pub fn to_bytes<M: Message>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0; message.encoded_len()];
    write_to(message, Writer::new(&mut bytes));
    bytes
}

/// The message that `bytes` are, all of them.
pub fn from_bytes<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    read_from(Reader::new(bytes))
}

/// Encodes `message` into `out`, which has room for exactly its length.
///
/// # Panics
///
/// Where `encode` writes more or less than `encoded_len` said: a fault of that implementation.
pub fn write_to<M: Message>(message: &M, mut out: Writer<'_>) {
    message.encode(&mut out);
    assert!(
        out.left == 0,
        "Message::encode of {} wrote {} bytes fewer than encoded_len told",
        std::any::type_name::<M>(),
        out.left
    );
}

/// Decodes a message from all that `input` holds.
pub fn read_from<M: Message>(mut input: Reader<'_>) -> Result<M, DecodeError> {
    let message = M::decode(&mut input)?;
    match input.left {
        0 => Ok(message),
        left => Err(DecodeError::TooLong { what: std::any::type_name::<M>(), left }),
    }
}

/// Where a message writes its bytes; it copies them out and lends nothing.
#[derive(Debug)]
pub struct Writer<'a> {
    next: *mut u8,
    left: usize,
    room: PhantomData<&'a mut [u8]>,
}

impl<'a> Writer<'a> {
    /// Writes into `room`.
    #[inline]
    pub fn new(room: &'a mut [u8]) -> Writer<'a> {
        Writer { next: room.as_mut_ptr(), left: room.len(), room: PhantomData }
    }

    /// Writes to the `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// They must be valid for writes for as long as the writer lives, and nobody else, in any
    /// process, may use them meanwhile.
    #[inline]
    pub unsafe fn from_raw(start: *mut u8, len: usize) -> Writer<'a> {
        Writer { next: start, left: len, room: PhantomData }
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    ///
    /// Where there is no room for them: `encoded_len` told fewer bytes than `encode` writes.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.left, "Message::encode wrote more than encoded_len told");
        // SAFETY: `next` has room for `left` bytes, which no one else uses; `bytes` is memory of
        // this process alone.
        unsafe {
            self.next.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            self.next = self.next.add(bytes.len());
        }
        self.left -= bytes.len();
    }

    /// Appends one of several parts, with its length before it where its type has no fixed one.
    ///
    /// # Panics
    ///
    /// Where the part is longer than 4 GiB: no carrier takes that much.
    pub fn field<M: Message>(&mut self, part: &M) {
        let len = part.encoded_len();
        if !matches!(M::LENGTH, Length::Exactly(_)) {
            let prefix = u32::try_from(len).expect("a part of a message is longer than 4 GiB");
            self.write(&prefix.to_le_bytes());
        }
        assert!(len <= self.left, "Message::encode wrote more than encoded_len told");
        // SAFETY: the first `len` of the bytes that are this writer's own.
        write_to(part, unsafe { Writer::from_raw(self.next, len) });
        // SAFETY: as above, `len` is at most `left`.
        self.next = unsafe { self.next.add(len) };
        self.left -= len;
    }
}

/// Where a message reads its bytes; it hands out copies and lends nothing.
#[derive(Debug)]
pub struct Reader<'a> {
    next: *const u8,
    left: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { next: bytes.as_ptr(), left: bytes.len(), bytes: PhantomData }
    }

    /// Reads from the `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// They must be valid for reads for as long as the reader lives, and nobody, in any process,
    /// may write to them meanwhile.
    #[inline]
    pub unsafe fn from_raw(start: *const u8, len: usize) -> Reader<'a> {
        Reader { next: start, left: len, bytes: PhantomData }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next `N` bytes; `what` names in the error what they were to be.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.need(N, what)?;
        let mut array = [0; N];
        // SAFETY: there are `N` bytes left, and `array` is another piece of memory.
        unsafe { array.as_mut_ptr().copy_from_nonoverlapping(self.take(N), N) };
        Ok(array)
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> Vec<u8> {
        let len = self.left;
        let mut rest = Vec::<u8>::with_capacity(len);
        // SAFETY: `len` bytes are left, the vector has room for as many, and after the copy they
        // are initialised.
        unsafe {
            rest.as_mut_ptr().copy_from_nonoverlapping(self.take(len), len);
            rest.set_len(len);
        }
        rest
    }

    /// Reads one of several parts, as [`Writer::field`] wrote it.
    pub fn field<M: Message>(&mut self) -> Result<M, DecodeError> {
        let what = std::any::type_name::<M>();
        let len = match M::LENGTH {
            Length::Exactly(bytes) => bytes,
            _ => u32::from_le_bytes(self.array(what)?) as usize,
        };
        self.need(len, what)?;
        // SAFETY: `len` of the bytes that are this reader's own.
        read_from(unsafe { Reader::from_raw(self.take(len), len) })
    }

    #[inline]
    fn need(&self, needed: usize, what: &'static str) -> Result<(), DecodeError> {
        if needed <= self.left {
            Ok(())
        } else {
            Err(DecodeError::TooShort { what, needed, left: self.left })
        }
    }

    /// Moves on by `len` bytes, at most `left`, and returns where they begin.
    #[inline]
    fn take(&mut self, len: usize) -> *const u8 {
        let start = self.next;
        self.left -= len;
        // SAFETY: the caller checked that `len` bytes are left.
        self.next = unsafe { start.add(len) };
        start
    }
}

/// Why bytes are not the message they were taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    TooShort {
        /// What was to be read.
        what: &'static str,
        /// How many bytes that takes.
        needed: usize,
        /// How many there were.
        left: usize,
    },
    /// Bytes are left over.
    TooLong {
        /// What was read.
        what: &'static str,
        /// How many bytes were left then.
        left: usize,
    },
    /// The bytes are no value of the type.
    Invalid(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot decode the message: ")?;
        match self {
            DecodeError::TooShort { what, needed, left } => {
                write!(f, "{what} takes {needed} bytes, {left} are left")
            }
            DecodeError::TooLong { what, left } => write!(f, "{left} bytes are left after {what}"),
            DecodeError::Invalid(why) => f.write_str(why),
        }?;
        f.write_str(": do both ends use the same type?")
    }
}

impl std::error::Error for DecodeError {}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Message for $number {
            const LENGTH: Length = Length::Exactly(size_of::<$number>());

            #[inline]
            fn encoded_len(&self) -> usize {
                size_of::<$number>()
            }

            #[inline]
            fn encode(&self, out: &mut Writer<'_>) {
                out.write(&self.to_le_bytes());
            }

            #[inline]
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(<$number>::from_le_bytes(input.array(stringify!($number))?))
            }
        }
    )*};
}
numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

impl Message for () {
    const LENGTH: Length = Length::Exactly(0);

    fn encoded_len(&self) -> usize {
        0
    }

    fn encode(&self, _: &mut Writer<'_>) {}

    fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl Message for bool {
    const LENGTH: Length = Length::Exactly(1);

    fn encoded_len(&self) -> usize {
        1
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(&[u8::from(*self)]);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(tag(input, "bool")? == 1)
    }
}

impl Message for char {
    const LENGTH: Length = Length::Exactly(size_of::<u32>());

    fn encoded_len(&self) -> usize {
        size_of::<u32>()
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(&u32::from(*self).to_le_bytes());
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = u32::from_le_bytes(input.array("char")?);
        char::from_u32(code).ok_or_else(|| DecodeError::Invalid(format!("{code:#x} is no char")))
    }
}

impl Message for Vec<u8> {
    fn encoded_len(&self) -> usize {
        self.len()
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(self);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(input.rest())
    }
}

impl Message for String {
    fn encoded_len(&self) -> usize {
        self.len()
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(self.as_bytes());
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        String::from_utf8(input.rest())
            .map_err(|error| DecodeError::Invalid(format!("a String must be UTF-8: {error}")))
    }
}

impl<M: Message> Message for Box<M> {
    const LENGTH: Length = M::LENGTH;

    fn encoded_len(&self) -> usize {
        (**self).encoded_len()
    }

    fn encode(&self, out: &mut Writer<'_>) {
        (**self).encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        M::decode(input).map(Box::new)
    }
}

impl<M: Message> Message for Option<M> {
    const LENGTH: Length = Length::Exactly(1).then(M::LENGTH.or(Length::Exactly(0)));

    fn encoded_len(&self) -> usize {
        1 + self.as_ref().map_or(0, M::encoded_len)
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(&[u8::from(self.is_some())]);
        if let Some(message) = self {
            message.encode(out);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match tag(input, "Option")? {
            0 => Ok(None),
            _ => M::decode(input).map(Some),
        }
    }
}

impl<M: Message, E: Message> Message for Result<M, E> {
    const LENGTH: Length = Length::Exactly(1).then(M::LENGTH.or(E::LENGTH));

    fn encoded_len(&self) -> usize {
        1 + match self {
            Ok(message) => message.encoded_len(),
            Err(error) => error.encoded_len(),
        }
    }

    fn encode(&self, out: &mut Writer<'_>) {
        out.write(&[u8::from(self.is_err())]);
        match self {
            Ok(message) => message.encode(out),
            Err(error) => error.encode(out),
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match tag(input, "Result")? {
            0 => M::decode(input).map(Ok),
            _ => E::decode(input).map(Err),
        }
    }
}

/// A byte that is 0 or 1.
fn tag(input: &mut Reader<'_>, what: &'static str) -> Result<u8, DecodeError> {
    match input.array(what)? {
        [tag @ (0 | 1)] => Ok(tag),
        [other] => Err(DecodeError::Invalid(format!("{what} begins with 0 or 1, not {other}"))),
    }
}

impl<M: Message, const N: usize> Message for [M; N] {
    const LENGTH: Length = M::LENGTH.as_field().times(N);

    fn encoded_len(&self) -> usize {
        self.iter().map(field_len).sum()
    }

    fn encode(&self, out: &mut Writer<'_>) {
        for element in self {
            out.field(element);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // Before anything is allocated: are there bytes enough for so many elements?
        let least = if let Length::Exactly(bytes) = M::LENGTH { bytes } else { PREFIX };
        input.need(least * N, std::any::type_name::<Self>())?;
        let mut elements = Vec::with_capacity(N);
        for _ in 0..N {
            elements.push(input.field()?);
        }
        Ok(elements.try_into().ok().expect("N elements were read"))
    }
}

macro_rules! tuples {
    ($($($name:ident $index:tt),+;)*) => {$(
        impl<$($name: Message),+> Message for ($($name,)+) {
            const LENGTH: Length = Length::Exactly(0)$(.then($name::LENGTH.as_field()))+;

            fn encoded_len(&self) -> usize {
                0 $(+ field_len(&self.$index))+
            }

            fn encode(&self, out: &mut Writer<'_>) {
                $(out.field(&self.$index);)+
            }

            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(($(input.field::<$name>()?,)+))
            }
        }
    )*};
}
tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
    A 0, B 1, C 2, D 3, E 4;
    A 0, B 1, C 2, D 3, E 4, F 5;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    /// There and back, and every shorter or longer run of the same bytes is an error.
    fn round_trip<M: Message + PartialEq + Debug>(message: M, len: usize) {
        let mut bytes = to_bytes(&message);
        assert_eq!(bytes.len(), len, "{message:?}");
        if let Length::Exactly(fixed) = M::LENGTH {
            assert_eq!(fixed, len, "{message:?}");
        }
        assert!(M::LENGTH.max().is_none_or(|max| len <= max), "{message:?}");
        assert_eq!(from_bytes::<M>(&bytes).as_ref(), Ok(&message));
        if M::LENGTH != Length::Any {
            bytes.push(1);
            assert!(from_bytes::<M>(&bytes).is_err(), "{message:?} with one byte more");
            bytes.truncate(len.saturating_sub(1));
            assert!(len == 0 || from_bytes::<M>(&bytes).is_err(), "{message:?}, one byte less");
        }
    }

    #[test]
    fn every_kind_of_message_comes_back_as_it_was() {
        round_trip(0x1234_u16, 2);
        round_trip(i128::MIN, 16);
        round_trip(f64::MAX, 8);
        round_trip(true, 1);
        round_trip('ß', 4);
        round_trip((), 0);
        round_trip(String::new(), 0);
        round_trip("hello".to_string(), 5);
        round_trip(vec![1_u8, 2, 3], 3);
        round_trip(None::<u64>, 1);
        round_trip(Some(5_u64), 9);
        round_trip(Some("hello".to_string()), 6);
        round_trip(Ok::<u64, String>(5), 9);
        round_trip(Err::<u64, String>("no".into()), 3);
        round_trip(Box::new(7_u8), 1);
        round_trip([1_u32, 2, 3], 12);
        round_trip([String::from("a"), String::from("bc")], 4 + 1 + 4 + 2);
        round_trip([0_u8; 0], 0);
        round_trip((1_u8, "two".to_string(), Some(3_u16)), 1 + (4 + 3) + (4 + 3));
        round_trip((1_u8, 2_u8, 3_u8, 4_u8, 5_u8, 6_u8, 7_u8, [8_u8]), 8);
    }

    #[test]
    fn bytes_that_are_no_value_are_an_error_that_names_the_type() {
        let message = |error: DecodeError| error.to_string();
        assert!(message(from_bytes::<bool>(&[2]).unwrap_err()).contains("bool"));
        assert!(message(from_bytes::<char>(&[0, 0xd8, 0, 0]).unwrap_err()).contains("0xd800"));
        assert!(message(from_bytes::<String>(&[0xff]).unwrap_err()).contains("UTF-8"));
        assert!(message(from_bytes::<Option<u8>>(&[9]).unwrap_err()).contains("Option"));
        assert!(message(from_bytes::<u64>(&[1]).unwrap_err()).contains("8 bytes, 1"));
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        let huge = [0xff, 0xff, 0xff, 0xff, b'a'];
        let error = from_bytes::<(String,)>(&huge).unwrap_err();
        assert!(matches!(error, DecodeError::TooShort { needed: 0xffff_ffff, left: 1, .. }));
        assert!(from_bytes::<[u64; 10_000]>(&[0; 8]).is_err());
    }

    struct Liar;

    impl Message for Liar {
        fn encoded_len(&self) -> usize {
            2
        }
        fn encode(&self, out: &mut Writer<'_>) {
            out.write(&[0; 3]);
        }
        fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
            Ok(Liar)
        }
    }

    #[test]
    #[should_panic(expected = "more than encoded_len")]
    fn writing_past_the_announced_length_panics() {
        to_bytes(&Liar);
    }
}
