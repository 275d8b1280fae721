//! What leaves: the core writes frames into it, the caller writes it to the socket.

mod frames;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, Bytes};

use crate::wire::encode::{Output, USUAL};
use crate::wire::frame::{FRAME_OVERHEAD, HEARTBEAT, body_frame, write_body, write_header, write_method};
use crate::wire::{Arguments, CarriesContent, EncodeError, PROTOCOL_HEADER, Properties};

/// A shared body from this size on is not copied: below, one more chunk to write costs more than the copy.
const SHARED_FROM: usize = 4096;

/// Memory that an emptied buffer keeps for the next messages, however little was in it for a while.
const IDLE: usize = 8 * 1024;

/// Memory that an emptied buffer gives back at once, beyond this.
const BUSY: usize = USUAL;

/// After how many small fillings in a row a busy buffer becomes an idle one.
const QUIET: u8 = 16;

/// What the caller writes out: octets in order, in few chunks.
///
/// Methods, headers and small bodies stand in one piece; a shared body of 4096 octets or more stays where it is and is a
/// chunk of its own. Read it as a [`bytes::Buf`]: [`chunk`](Buf::chunk) or `chunks_vectored`, then [`advance`](Buf::advance) by
/// what the socket took.
///
/// ```
/// use amqp_proto::wire::{BasicPublish, Properties, QueueDeclare};
/// use amqp_proto::SendBuf;
/// use bytes::Buf;
///
/// let mut output = SendBuf::new();
/// output.method(1, &QueueDeclare { queue: "hello".try_into()?, ..Default::default() }, 131_072)?;
/// let publish = BasicPublish { routing_key: "hello".try_into()?, ..Default::default() };
/// output.content(1, &publish, &Properties::default(), b"Hello World!", 131_072)?;
///
/// let mut socket = Vec::new();
/// while output.has_remaining() {
///     let count = std::io::Write::write(&mut socket, output.chunk())?;
///     output.advance(count);
/// }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// It keeps memory for as much as it usually holds, at most 1 MiB and 64 KiB, and 8 KiB after sixteen small fillings in a row;
/// [`shrink`](Self::shrink) gives it back at once.
#[derive(Default)]
pub struct SendBuf {
    /// Everything that was copied, one after the other.
    flat: Output,
    /// How much of `flat` has been read.
    start: usize,
    /// What was not copied, and before which octet of `flat` it stands.
    shared: VecDeque<(usize, Bytes)>,
    /// How many octets of `shared` are left.
    shared_size: usize,
    /// How many times in a row it was emptied of little.
    small_fillings: u8,
}

/// A body to send: octets to copy, or [`Bytes`] that need no copy.
#[derive(Clone)]
pub enum Payload<'a> {
    /// Octets that are copied.
    Borrowed(&'a [u8]),
    /// Octets that are shared; small ones are copied all the same.
    Shared(Bytes),
}

impl SendBuf {
    /// An empty buffer; allocates when something is first written.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the protocol header that opens a connection.
    pub fn protocol_header(&mut self) {
        self.flat.put(PROTOCOL_HEADER);
    }

    /// Appends a heartbeat.
    pub fn heartbeat(&mut self) {
        self.flat.put(HEARTBEAT);
    }

    /// Appends a method; `frame_max` is what the peer accepts, in octets of the whole frame. Where it accepts any, which the
    /// negotiation writes as 0, that is `u32::MAX`.
    ///
    /// # Errors
    /// The method makes a larger frame; nothing is written.
    #[inline]
    pub fn method<A: Arguments>(
        &mut self,
        channel: u16,
        method: &A,
        frame_max: u32,
    ) -> Result<(), EncodeError> {
        let mut room = self.flat.room(method.long_parts().min(frame_max as usize));
        write_method(&mut room, channel, method, frame_max)?;
        let left = room.left();
        self.flat.commit(left);
        Ok(())
    }

    /// Appends a method with its content, in one step: nothing can come between. The body is split into frames of at most
    /// `frame_max` octets.
    ///
    /// # Errors
    /// The method or the properties make a larger frame; nothing is written.
    #[inline]
    pub fn content<'p, A: CarriesContent>(
        &mut self,
        channel: u16,
        method: &A,
        properties: &Properties<'_>,
        body: impl Into<Payload<'p>>,
        frame_max: u32,
    ) -> Result<(), EncodeError> {
        self.content_frames(channel, method, properties, body.into(), frame_max)
            .map(|_| ())
    }

    /// The same; says how many frames it took.
    #[inline(always)]
    pub(crate) fn content_frames<A: CarriesContent>(
        &mut self,
        channel: u16,
        method: &A,
        properties: &Properties<'_>,
        body: Payload<'_>,
        frame_max: u32,
    ) -> Result<usize, EncodeError> {
        if body.len() < SHARED_FROM {
            return if body.len() <= piece_max(frame_max) {
                self.copied(channel, method, properties, body.as_bytes(), frame_max)
            } else {
                self.copied_in_pieces(channel, method, properties, body.as_bytes(), frame_max)
            };
        }
        let body = match body {
            // One copy into memory of its own: `flat` would have to grow, and to be initialised, for it.
            Payload::Borrowed(body) => Bytes::copy_from_slice(body),
            Payload::Shared(body) => body,
        };
        self.shared(channel, method, properties, body, frame_max)
    }

    /// The body is small and fits a frame.
    #[inline(always)]
    fn copied<A: CarriesContent>(
        &mut self,
        channel: u16,
        method: &A,
        properties: &Properties<'_>,
        body: &[u8],
        frame_max: u32,
    ) -> Result<usize, EncodeError> {
        let long_parts = long_parts(method, properties, frame_max).wrapping_add(body.len());
        let mut room = self.flat.room(long_parts);
        write_method(&mut room, channel, method, frame_max)?;
        write_header(&mut room, channel, body.len() as u64, properties, frame_max)?;
        let mut frames = 2;
        if !body.is_empty() {
            write_body(&mut room, channel, body);
            frames = 3;
        }
        let left = room.left();
        self.flat.commit(left);
        Ok(frames)
    }

    /// The body is small, and the frames are smaller.
    #[cold]
    fn copied_in_pieces<A: CarriesContent>(
        &mut self,
        channel: u16,
        method: &A,
        properties: &Properties<'_>,
        body: &[u8],
        frame_max: u32,
    ) -> Result<usize, EncodeError> {
        let pieces = body.chunks(piece_max(frame_max));
        let frames = pieces.len();
        let bodies = body.len() + frames * FRAME_OVERHEAD as usize;
        let mut room = self
            .flat
            .room(long_parts(method, properties, frame_max).wrapping_add(bodies));
        write_method(&mut room, channel, method, frame_max)?;
        write_header(&mut room, channel, body.len() as u64, properties, frame_max)?;
        for piece in pieces {
            write_body(&mut room, channel, piece);
        }
        let left = room.left();
        self.flat.commit(left);
        Ok(2 + frames)
    }

    #[inline(never)]
    fn shared<A: CarriesContent>(
        &mut self,
        channel: u16,
        method: &A,
        properties: &Properties<'_>,
        body: Bytes,
        frame_max: u32,
    ) -> Result<usize, EncodeError> {
        let mut room = self.flat.room(long_parts(method, properties, frame_max));
        write_method(&mut room, channel, method, frame_max)?;
        write_header(&mut room, channel, body.len() as u64, properties, frame_max)?;
        let left = room.left();
        self.flat.commit(left);
        let frames = 2 + body.len().div_ceil(piece_max(frame_max));
        self.share(channel, body, piece_max(frame_max));
        Ok(frames)
    }

    fn share(&mut self, channel: u16, mut body: Bytes, piece_max: usize) {
        self.shared_size += body.len();
        while !body.is_empty() {
            let piece = body.split_to(piece_max.min(body.len()));
            let (before, behind) = body_frame(channel, piece.len());
            self.flat.put(before);
            self.shared.push_back((self.flat.len(), piece));
            self.flat.put(behind);
        }
    }

    /// The unread part of `flat` up to the next shared piece, then that piece if there is one.
    fn front(&self) -> (&[u8], Option<&Bytes>) {
        match self.shared.front() {
            Some((place, piece)) => (
                self.flat.as_slice().get(self.start..*place).unwrap_or_default(),
                Some(piece),
            ),
            None => (self.flat.as_slice().get(self.start..).unwrap_or_default(), None),
        }
    }

    /// Shows all that is unread, in order, until `visit` says `false`; no chunk is empty.
    // Not an iterator: one made of adapters takes a quarter more instructions for a write.
    #[inline(always)]
    fn visit_chunks<'a>(&'a self, mut visit: impl FnMut(&'a [u8]) -> bool) {
        let mut from = self.start;
        let shared = self.shared.iter().map(|(place, piece)| (*place, &piece[..]));
        for (place, piece) in shared.chain([(self.flat.len(), &[][..])]) {
            for chunk in [self.flat.as_slice().get(from..place).unwrap_or_default(), piece] {
                if !chunk.is_empty() && !visit(chunk) {
                    return;
                }
            }
            from = place;
        }
    }

    /// Gives memory back now: keeps what is to be written, and little more.
    pub fn shrink(&mut self) {
        self.move_up();
        self.flat.shrink();
        self.shared.shrink_to_fit();
        self.small_fillings = 0;
    }

    /// All of it was read: start anew, with memory for the usual and not for the largest.
    fn reset(&mut self) {
        let is_small = self.flat.len() <= IDLE / 2;
        self.small_fillings = if is_small {
            self.small_fillings.saturating_add(1)
        } else {
            0
        };
        self.flat
            .clear(if self.small_fillings >= QUIET { IDLE } else { BUSY });
        self.start = 0;
    }

    /// Moves what is to be written to the beginning, over what was.
    fn move_up(&mut self) {
        self.flat.remove(self.start);
        self.shared.iter_mut().for_each(|(place, _)| *place -= self.start);
        self.start = 0;
    }
}

/// How much room the tables of a message need: no more than fits a frame, since what does not fit is refused.
#[inline]
fn long_parts(method: &impl CarriesContent, properties: &Properties<'_>, frame_max: u32) -> usize {
    let octets = method.long_parts().saturating_add(properties.long_parts());
    octets.min(frame_max as usize)
}

/// How much of a body goes into one frame.
#[inline]
const fn piece_max(frame_max: u32) -> usize {
    let octets = frame_max.saturating_sub(FRAME_OVERHEAD);
    if octets == 0 { 1 } else { octets as usize }
}

impl Buf for SendBuf {
    fn remaining(&self) -> usize {
        self.flat.len() - self.start + self.shared_size
    }

    fn chunk(&self) -> &[u8] {
        match self.front() {
            ([], Some(piece)) => piece,
            (flat, _) => flat,
        }
    }

    /// Marks octets as written; more than there are is taken for all there are.
    fn advance(&mut self, mut count: usize) {
        loop {
            let (flat, piece) = self.front();
            let from_flat = count.min(flat.len());
            let flat_is_done = from_flat == flat.len();
            let piece_len = piece.map_or(0, Bytes::len);
            self.start += from_flat;
            count -= from_flat;
            if !flat_is_done || piece_len == 0 {
                break;
            }
            let from_piece = count.min(piece_len);
            self.shared_size -= from_piece;
            count -= from_piece;
            if from_piece < piece_len {
                if let Some((_, piece)) = self.shared.front_mut() {
                    piece.advance(from_piece);
                }
                break;
            }
            self.shared.pop_front();
        }
        if self.remaining() == 0 {
            self.reset();
        } else if self.start > IDLE && self.start > self.flat.len() / 2 {
            // A buffer that never runs empty would grow for ever. This way an octet is moved once at most.
            self.move_up();
        }
    }

    #[cfg(feature = "std")]
    fn chunks_vectored<'a>(&'a self, slices: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut count = 0;
        self.visit_chunks(|chunk| {
            let Some(slice) = slices.get_mut(count) else {
                return false;
            };
            *slice = std::io::IoSlice::new(chunk);
            count += 1;
            true
        });
        count
    }
}

impl Payload<'_> {
    /// How many octets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(octets) => octets,
            Self::Shared(octets) => octets,
        }
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(octets: &'a [u8]) -> Self {
        Self::Borrowed(octets)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(octets: &'a [u8; N]) -> Self {
        Self::Borrowed(octets)
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self::Borrowed(text.as_bytes())
    }
}

impl From<Bytes> for Payload<'_> {
    fn from(octets: Bytes) -> Self {
        Self::Shared(octets)
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(octets: Vec<u8>) -> Self {
        Self::Shared(octets.into())
    }
}

/// The same octets, shared or not.
impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Payload<'_>) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Payload<'_> {}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} octets)", self.len())
    }
}

impl fmt::Debug for SendBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBuf")
            .field("remaining", &self.remaining())
            .field("shared_pieces", &self.shared.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
