//! Plain data: the values that may lie in memory which several processes share.

/// Plain data: every pattern of bits is a value, and there are no pointers and no padding.
///
/// Such a value can be copied out of shared memory whatever another process left there, and it
/// means the same in every process. Integers, floats and arrays of them are plain data. `bool` and
/// `char` are not (most bit patterns are no value of theirs), nor is anything with a reference, a
/// `Box` or a `String` inside: an address means nothing in another process.
///
/// # Safety
///
/// An implementor promises just that: any bytes of the right length are a valid value, the type
/// has no padding bytes, holds no address, and needs no `Drop`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not plain data, so it cannot lie in shared memory",
    note = "plain data: integers, floats and arrays of them"
)]
pub unsafe trait Pod: Copy + Send + Sync + 'static {}

macro_rules! plain {
    ($($number:ty)*) => {$(
        // SAFETY: every bit pattern of a number is a value; there is no padding and no address.
        unsafe impl Pod for $number {}
    )*};
}
plain!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

// SAFETY: it has no bytes at all.
unsafe impl Pod for () {}

// SAFETY: an array is its elements one after the other, with nothing between them.
unsafe impl<T: Pod, const N: usize> Pod for [T; N] {}
