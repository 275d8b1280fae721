//! Writing the elementary domains (specification 4.2.5).
//!
//! A length that does not fit its field cannot happen for short strings, and saturates for long ones and tables: the frame
//! they stand in is over every frame limit then, and is refused as a whole.

use alloc::vec::Vec;

use super::{FieldTableRef, LongStr, ReplyCode, SecretStr, ShortStr};

/// Writes one method's arguments; bits that follow each other share an octet, the first in its lowest bit.
pub(super) struct Encoder<'v> {
    out: &'v mut Vec<u8>,
    bits: u8,
    used: u8,
}

/// An octet of length, then the octets.
#[inline]
pub(super) fn short_string(out: &mut Vec<u8>, value: ShortStr<'_>) {
    out.push(value.length_octet());
    out.extend_from_slice(value.as_bytes());
}

/// Four octets of length, then the octets.
#[inline]
pub(super) fn long_string(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(octets);
}

macro_rules! domains {
    ($($name:ident($value:ident: $type:ty) |$out:ident| $write:expr;)+) => {
        $(
            #[inline]
            pub(super) fn $name(&mut self, $value: $type) {
                self.end_bits();
                let $out = &mut *self.out;
                $write;
            }
        )+
    };
}

impl<'v> Encoder<'v> {
    #[inline]
    pub(super) const fn new(out: &'v mut Vec<u8>) -> Self {
        Self {
            out,
            bits: 0,
            used: 0,
        }
    }

    #[inline]
    pub(super) fn bit(&mut self, value: bool) {
        if self.used == 8 {
            self.end_bits();
        }
        self.bits |= u8::from(value) << self.used;
        self.used = self.used.wrapping_add(1);
    }

    domains! {
        octet(value: u8) |out| out.push(value);
        short(value: u16) |out| out.extend_from_slice(&value.to_be_bytes());
        long(value: u32) |out| out.extend_from_slice(&value.to_be_bytes());
        longlong(value: u64) |out| out.extend_from_slice(&value.to_be_bytes());
        reply_code(value: ReplyCode) |out| out.extend_from_slice(&value.0.to_be_bytes());
        shortstr(value: ShortStr<'_>) |out| short_string(out, value);
        longstr(value: LongStr<'_>) |out| long_string(out, value.as_bytes());
        secret(value: SecretStr<'_>) |out| long_string(out, value.as_bytes());
        table(value: FieldTableRef<'_>) |out| long_string(out, value.as_encoded());
    }

    /// Ends the arguments.
    #[inline]
    pub(super) fn end_bits(&mut self) {
        if self.used > 0 {
            self.out.push(self.bits);
            self.bits = 0;
            self.used = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::decode::Decoder;

    /// No method has more than five bits in a row; the specification allows any number.
    #[test]
    fn bits_share_an_octet_until_it_is_full_or_something_else_follows() {
        let bits = [
            true, false, true, true, false, false, false, true, // 0x8d
            false, true, // 0x02
        ];
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        bits.into_iter().for_each(|bit| encoder.bit(bit));
        encoder.octet(7);
        encoder.bit(true);
        encoder.shortstr(ShortStr::EMPTY);
        bits[..8].iter().for_each(|bit| encoder.bit(*bit));
        encoder.end_bits();
        encoder.end_bits();
        assert_eq!(out, [0x8d, 0x02, 7, 0x01, 0, 0x8d]);

        let mut decoder = Decoder::new(&out, 0);
        for bit in bits {
            assert_eq!(decoder.bit().ok(), Some(bit));
        }
        assert_eq!(decoder.octet().ok(), Some(7));
        assert_eq!(decoder.bit().ok(), Some(true));
        assert_eq!(decoder.shortstr().ok(), Some(ShortStr::EMPTY));
        for bit in &bits[..8] {
            assert_eq!(decoder.bit().ok(), Some(*bit));
        }
        assert!(decoder.bit().is_err());
        assert_eq!(decoder.finish("bits"), Ok(()));
    }
}
