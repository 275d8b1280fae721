//! Strings out of a fuzzer's octets.

use arbitrary::{Arbitrary, Result, Unstructured};

use super::{LongStr, SecretStr, ShortStr};

/// An octet of length, then as many octets as are there of it; from 240 on the length counts in pieces of 512.
pub(super) fn octets<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let length = match usize::from(u8::arbitrary(u)?) {
        length @ 0..240 => length,
        length => length.saturating_sub(239).saturating_mul(512),
    };
    u.bytes(length.min(u.len()))
}

impl<'a> Arbitrary<'a> for ShortStr<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let length = usize::from(u8::arbitrary(u)?).min(u.len());
        u.bytes(length).map(Self::delimited)
    }
}

impl<'a> Arbitrary<'a> for LongStr<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        octets(u).map(Self::new)
    }
}

impl<'a> Arbitrary<'a> for SecretStr<'a> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        octets(u).map(Self::new)
    }
}
