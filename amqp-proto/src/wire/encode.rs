//! Writing: the memory that frames are written into, and the elementary domains (specification 4.2.5).
//!
//! A length that does not fit its field cannot happen for short strings, and saturates for long ones and tables: the frame
//! they stand in is over every frame limit then, and is refused as a whole.

use alloc::vec::Vec;
use core::mem;

use super::{EncodeError, FieldTableRef, LongStr, ReplyCode, SecretStr, ShortStr};

/// More than all short strings, numbers and framing of a method with its content header take: at most three short strings in
/// one and ten in the other, of 256 octets each. Only tables, long strings and bodies come on top.
const SHORT_PARTS: usize = 4096;

/// What an emptied buffer may keep is reached before more than that is taken: 1 MiB, which is how much may wait to be written by
/// default, and room for what comes on top of it.
pub(crate) const USUAL: usize = 1024 * 1024 + 64 * 1024;

/// Octets that grow at the end. Behind them is memory that is already initialised, so that a frame is written into a slice with
/// one comparison a value; a `Vec` that grows value by value takes twice as long.
#[derive(Default)]
pub(crate) struct Output {
    storage: Vec<u8>,
    end: usize,
}

/// The room that a frame is written into: always larger than the frame. What does not fit all the same is left out, and
/// leaves no room behind.
#[derive(Debug)]
#[expect(unnameable_types, reason = "the sealed half of `Arguments` writes into it")]
pub struct Room<'o> {
    rest: &'o mut [u8],
}

/// Writes one method's arguments; bits that follow each other share an octet, the first in its lowest bit.
pub(super) struct Encoder<'r, 'o> {
    room: &'r mut Room<'o>,
    bits: u8,
    used: u8,
}

impl Output {
    pub(crate) const fn len(&self) -> usize {
        self.end
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.storage.get(..self.end).unwrap_or_default()
    }

    /// Room behind what there is. `long_parts` is how many octets will be written at most, besides those of short strings,
    /// numbers and framing. Nothing is appended until [`commit`](Self::commit) is told how much room was left.
    #[inline(always)]
    pub(crate) fn room(&mut self, long_parts: usize) -> Room<'_> {
        let size = SHORT_PARTS.wrapping_add(long_parts);
        if self.storage.len().wrapping_sub(self.end) < size {
            self.grow(size);
        }
        Room {
            rest: self.storage.get_mut(self.end..).unwrap_or_default(),
        }
    }

    /// Appends what was written into the room.
    #[inline(always)]
    pub(crate) const fn commit(&mut self, room_left: usize) {
        self.end = self.storage.len().wrapping_sub(room_left);
    }

    /// Appends octets.
    #[inline]
    pub(crate) fn put<const N: usize>(&mut self, octets: [u8; N]) {
        let mut room = self.room(N);
        room.put(octets);
        let left = room.left();
        self.commit(left);
    }

    #[cfg(test)]
    pub(crate) const fn capacity(&self) -> usize {
        self.storage.capacity()
    }

    /// Takes the first octets out; what follows moves up.
    pub(crate) fn remove(&mut self, count: usize) {
        let count = count.min(self.end);
        self.storage.copy_within(count..self.end, 0);
        self.end = self.end.wrapping_sub(count);
    }

    /// Gives back the memory behind the octets.
    pub(crate) fn shrink(&mut self) {
        self.storage.truncate(self.end);
        self.storage.shrink_to_fit();
    }

    /// Empties it, and keeps so much memory at most.
    pub(crate) fn clear(&mut self, kept: usize) {
        self.end = 0;
        self.storage.truncate(kept);
        self.storage.shrink_to(kept);
    }

    #[cold]
    fn grow(&mut self, room: usize) {
        let doubled = self.storage.len().saturating_mul(2);
        let size = if self.storage.len() < USUAL {
            doubled.min(USUAL)
        } else {
            doubled
        };
        self.storage.resize(size.max(self.end.saturating_add(room)), 0);
    }
}

/// Appends what `write` writes to somebody else's vector, or nothing if it fails. A table that is over the limit all by itself
/// gets no room.
pub(super) fn append_to(
    out: &mut Vec<u8>,
    long_parts: usize,
    limit: u32,
    write: impl FnOnce(&mut Room<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let before = out.len();
    let size = SHORT_PARTS.saturating_add(long_parts.min(limit as usize));
    // Not doubled, as `Output` does: the vector's length is the caller's, and would be initialised again for each frame.
    out.resize(before.saturating_add(size), 0);
    let mut room = Room {
        rest: out.get_mut(before..).unwrap_or_default(),
    };
    let result = write(&mut room);
    let left = if result.is_ok() { room.left() } else { size };
    out.truncate(out.len().saturating_sub(left));
    result
}

impl<'o> Room<'o> {
    #[inline]
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// A place to fill in later.
    #[inline]
    pub(super) fn place<const N: usize>(&mut self) -> Option<&'o mut [u8; N]> {
        let (place, rest) = mem::take(&mut self.rest).split_first_chunk_mut()?;
        self.rest = rest;
        Some(place)
    }

    #[inline]
    pub(super) fn put<const N: usize>(&mut self, octets: [u8; N]) {
        if let Some(place) = self.place() {
            *place = octets;
        }
    }

    #[inline]
    pub(super) fn put_octets(&mut self, octets: &[u8]) {
        if let Some((place, rest)) = mem::take(&mut self.rest).split_at_mut_checked(octets.len()) {
            place.copy_from_slice(octets);
            self.rest = rest;
        }
    }

    /// An octet of length, then the octets.
    #[inline]
    pub(super) fn put_short_string(&mut self, value: ShortStr<'_>) {
        // Often it is empty, as the name of the default exchange is, and copying nothing is not free.
        if value.is_empty() {
            return self.put([0]);
        }
        let size = value.len().wrapping_add(1);
        if let Some(([length, octets @ ..], rest)) = mem::take(&mut self.rest).split_at_mut_checked(size) {
            *length = value.length_octet();
            octets.copy_from_slice(value.as_bytes());
            self.rest = rest;
        }
    }

    /// Four octets of length, then the octets.
    #[inline]
    pub(super) fn put_long_string(&mut self, octets: &[u8]) {
        self.put(u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.put_octets(octets);
    }
}

macro_rules! domains {
    ($($name:ident($value:ident: $type:ty) |$room:ident| $write:expr;)+) => {
        $(
            #[inline]
            pub(super) fn $name(&mut self, $value: $type) {
                self.end_bits();
                let $room = &mut *self.room;
                $write;
            }
        )+
    };
}

impl<'r, 'o> Encoder<'r, 'o> {
    #[inline]
    pub(super) const fn new(room: &'r mut Room<'o>) -> Self {
        Self {
            room,
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
        octet(value: u8) |room| room.put([value]);
        short(value: u16) |room| room.put(value.to_be_bytes());
        long(value: u32) |room| room.put(value.to_be_bytes());
        longlong(value: u64) |room| room.put(value.to_be_bytes());
        reply_code(value: ReplyCode) |room| room.put(value.0.to_be_bytes());
        shortstr(value: ShortStr<'_>) |room| room.put_short_string(value);
        longstr(value: LongStr<'_>) |room| room.put_long_string(value.as_bytes());
        secret(value: SecretStr<'_>) |room| room.put_long_string(value.as_bytes());
        table(value: FieldTableRef<'_>) |room| room.put_long_string(value.as_encoded());
    }

    /// Ends the arguments.
    #[inline]
    pub(super) fn end_bits(&mut self) {
        if self.used > 0 {
            self.room.put([self.bits]);
            self.bits = 0;
            self.used = 0;
        }
    }
}

/// An octet of length, then the octets: for a field table, which grows entry by entry.
pub(super) fn short_string(out: &mut Vec<u8>, value: ShortStr<'_>) {
    out.push(value.length_octet());
    out.extend_from_slice(value.as_bytes());
}

/// Four octets of length, then the octets: likewise.
pub(super) fn long_string(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(octets);
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
        let mut out = [0xff; 7];
        let mut room = Room { rest: &mut out };
        let mut encoder = Encoder::new(&mut room);
        bits.into_iter().for_each(|bit| encoder.bit(bit));
        encoder.octet(7);
        encoder.bit(true);
        encoder.shortstr(ShortStr::EMPTY);
        bits[..8].iter().for_each(|bit| encoder.bit(*bit));
        encoder.end_bits();
        encoder.end_bits();
        assert_eq!(room.left(), 1);
        assert_eq!(out, [0x8d, 0x02, 7, 0x01, 0, 0x8d, 0xff]);

        let mut decoder = Decoder::new(&out[..6], 0);
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

    #[test]
    fn what_does_not_fit_is_left_out_and_leaves_no_room() {
        let mut out = [0; 5];
        let mut room = Room { rest: &mut out };
        room.put([1, 2]);
        room.put_octets(&[3, 4, 5, 6]);
        assert_eq!(room.left(), 0);
        room.put([7]);
        room.put_octets(&[8]);
        assert!(room.place::<1>().is_none());
        assert_eq!(out, [1, 2, 0, 0, 0]);
    }

    #[test]
    fn room_is_made_for_long_parts_and_kept_for_the_next() {
        let mut output = Output::default();
        let append = |output: &mut Output, long_parts, size: usize| {
            let mut room = output.room(long_parts);
            assert!(room.left() >= SHORT_PARTS + long_parts);
            (0..size).for_each(|_| room.put([7]));
            room.left()
        };
        assert_eq!(append(&mut output, 0, 0), SHORT_PARTS);
        assert_eq!(append(&mut output, 0, 0), SHORT_PARTS);
        let left = append(&mut output, 0, 10);
        output.commit(left);
        append(&mut output, 0, 10);
        assert_eq!(output.as_slice(), [7; 10]);
        let left = append(&mut output, 100_000, 99_990);
        output.commit(left);
        assert_eq!((output.len(), output.as_slice()), (100_000, &[7; 100_000][..]));
        output.remove(99_000);
        assert_eq!((output.len(), output.as_slice()), (1000, &[7; 1000][..]));
        output.remove(usize::MAX);
        assert_eq!(output.len(), 0);
        output.clear(5000);
        assert_eq!(
            (output.len(), output.storage.len(), output.storage.capacity()),
            (0, 5000, 5000)
        );
        let left = append(&mut output, 0, 3);
        output.commit(left);
        assert_eq!((output.as_slice(), output.capacity()), (&[7; 3][..], 5000));
    }

    #[test]
    fn a_vector_of_somebody_else_s_is_appended_to_or_left_alone() {
        let mut out = b"before".to_vec();
        let written = append_to(&mut out, 3, 4096, |room| {
            assert_eq!(room.left(), SHORT_PARTS + 3);
            room.put_octets(b"after");
            Ok(())
        });
        assert_eq!((written, &out[..]), (Ok(()), &b"beforeafter"[..]));
        let refused = EncodeError::FrameTooLarge {
            name: "x",
            size: 1,
            limit: 0,
        };
        let written = append_to(&mut out, 1 << 40, 10, |room| {
            assert_eq!(room.left(), SHORT_PARTS + 10);
            room.put_octets(b"never");
            Err(refused.clone())
        });
        assert_eq!((written, &out[..]), (Err(refused), &b"beforeafter"[..]));
    }
}
