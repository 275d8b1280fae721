//! What leaves: the core writes frames into it, the caller writes it to the socket.

mod frames;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use bytes::{Buf, Bytes};

use crate::wire::encode::Output;
use crate::wire::frame::{FRAME_OVERHEAD, HEARTBEAT, body_frame, write_body, write_header, write_method};
use crate::wire::{Arguments, CarriesContent, EncodeError, PROTOCOL_HEADER, Properties};

/// A shared body from this size on is not copied: below, one more chunk to write costs more than the copy.
const SHARED_FROM: usize = 4096;

/// Memory that an emptied buffer keeps for the next messages, however little was in it for a while.
const IDLE: usize = 8 * 1024;

/// Memory that an emptied buffer gives back at once, beyond this.
const BUSY: usize = 1024 * 1024;

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
/// It keeps memory for as much as it usually holds, at most 1 MiB, and 8 KiB after sixteen small fillings in a row;
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

    /// All that is unread, in order; no chunk is empty.
    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = self.start;
        let shared = self.shared.iter().map(|(place, piece)| (*place, &piece[..]));
        shared
            .chain([(self.flat.len(), &[][..])])
            .flat_map(move |(place, piece)| {
                let flat = self.flat.as_slice().get(from..place).unwrap_or_default();
                from = place;
                [flat, piece]
            })
            .filter(|chunk| !chunk.is_empty())
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
        for chunk in self.chunks() {
            let Some(slice) = slices.get_mut(count) else {
                return count;
            };
            *slice = std::io::IoSlice::new(chunk);
            count += 1;
        }
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
mod tests {
    use super::*;
    use crate::wire::{BasicPublish, ChannelOpen, Frame, FrameLimits, RawFrame};
    use alloc::vec;

    const LIMITS: FrameLimits = FrameLimits {
        body: 1 << 20,
        other: 1 << 20,
    };

    fn publish(output: &mut SendBuf, body: impl Into<Payload<'static>>, frame_max: u32) {
        output
            .content(
                1,
                &BasicPublish::default(),
                &Properties::default(),
                body,
                frame_max,
            )
            .unwrap();
    }

    /// All octets, read `step` at a time.
    fn drain(output: &mut SendBuf, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while output.has_remaining() {
            let chunk = output.chunk();
            assert!(!chunk.is_empty());
            let count = step.min(chunk.len());
            all.extend_from_slice(&chunk[..count]);
            output.advance(count);
        }
        all
    }

    /// The bodies and how many frames each came in.
    fn bodies(mut octets: &[u8]) -> Vec<(Vec<u8>, usize)> {
        let mut bodies: Vec<(Vec<u8>, usize)> = Vec::new();
        while let Some(raw) = RawFrame::parse(octets, &LIMITS).unwrap() {
            match raw.decode().unwrap() {
                Frame::Header { header, .. } => {
                    assert!(
                        bodies
                            .last()
                            .is_none_or(|(body, _)| body.capacity() == body.len())
                    );
                    bodies.push((Vec::with_capacity(usize::try_from(header.body_size).unwrap()), 0));
                }
                Frame::Body { payload, .. } => {
                    let (body, frames) = bodies.last_mut().unwrap();
                    body.extend_from_slice(payload);
                    *frames += 1;
                }
                Frame::Method { .. } | Frame::Heartbeat => {}
            }
            octets = &octets[raw.size()..];
        }
        assert!(octets.is_empty());
        bodies
    }

    fn sample(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i * 7).to_le_bytes()[0]).collect()
    }

    #[test]
    fn bodies_are_split_at_frame_max_and_no_body_has_no_frame() {
        for shared in [false, true] {
            let mut output = SendBuf::new();
            let sizes = [0, 1, 4088, 4089, 8176, 8177, 20_000];
            for size in sizes {
                if shared {
                    publish(&mut output, sample(size), 4096);
                } else {
                    publish(&mut output, &*sample(size).leak(), 4096);
                }
            }
            let all = drain(&mut output, 1000);
            let expected: Vec<_> = sizes
                .iter()
                .map(|&size| (sample(size), size.div_ceil(4088)))
                .collect();
            assert_eq!(bodies(&all), expected);
        }
    }

    #[test]
    fn a_shared_body_is_a_chunk_of_its_own_from_4096_octets_on() {
        let body = Bytes::from(sample(4096));
        let mut output = SendBuf::new();
        publish(&mut output, body.clone(), 1 << 20);
        let before = output.chunk().len();
        output.advance(before);
        assert_eq!(output.chunk().as_ptr(), body.as_ptr());
        output.advance(4095);
        assert_eq!(output.chunk(), &body[4095..]);
        output.advance(1);
        assert_eq!(output.chunk(), [0xCE]);

        let mut output = SendBuf::new();
        publish(&mut output, body.slice(1..), 1 << 20);
        assert_eq!(output.chunk().len(), output.remaining());
    }

    #[test]
    fn a_shared_body_of_several_frames_is_one_chunk_a_frame() {
        let mut output = SendBuf::new();
        publish(&mut output, sample(10_000), 4096);
        heartbeat_and_count(&mut output, 3);
    }

    fn heartbeat_and_count(output: &mut SendBuf, pieces: usize) {
        output.heartbeat();
        assert_eq!(output.shared.len(), pieces);
        let all = drain(output, usize::MAX);
        assert_eq!(all[all.len() - 8..], HEARTBEAT);
    }

    #[test]
    #[cfg(feature = "std")]
    fn vectored_chunks_are_the_same_octets() {
        let mut output = SendBuf::new();
        output.protocol_header();
        publish(&mut output, "small", 4096);
        publish(&mut output, sample(9_000), 4096);
        output.heartbeat();
        publish(&mut output, sample(5_000), 8192);
        output.advance(3);
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let count = output.chunks_vectored(&mut slices);
        let vectored: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        assert_eq!(vectored.len(), output.remaining());
        assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
        assert_eq!(output.chunks_vectored(&mut slices[..2]), 2);
        let step = vectored.len();
        assert_eq!(drain(&mut output, step), vectored);
    }

    #[test]
    fn advancing_over_everything_at_once_or_too_far_empties_it() {
        for excess in [0, 1] {
            let mut output = SendBuf::new();
            publish(&mut output, sample(9_000), 4096);
            output.advance(output.remaining() + excess);
            assert_eq!((output.remaining(), output.chunk().len()), (0, 0));
            publish(&mut output, sample(5_000), 8192);
            assert_eq!(bodies(&drain(&mut output, 10)), [(sample(5_000), 1)]);
        }
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_behind() {
        let key = "k".repeat(255);
        let large = BasicPublish {
            routing_key: key.as_str().try_into().unwrap(),
            ..BasicPublish::default()
        };
        let properties = Properties {
            message_id: Some(key.as_str().try_into().unwrap()),
            ..Properties::default()
        };
        let mut output = SendBuf::new();
        output.method(7, &ChannelOpen::default(), 4096).unwrap();
        let before = output.remaining();
        let error = output
            .content(1, &large, &Properties::default(), "x", 200)
            .unwrap_err();
        assert_eq!(
            error,
            EncodeError::FrameTooLarge {
                name: "basic.publish",
                size: 272,
                limit: 200
            }
        );
        let error = output
            .content(1, &BasicPublish::default(), &properties, "x", 200)
            .unwrap_err();
        assert_eq!(
            error,
            EncodeError::FrameTooLarge {
                name: "content header",
                size: 278,
                limit: 200
            }
        );
        assert_eq!(output.remaining(), before);
    }

    #[test]
    fn a_frame_may_be_as_large_as_the_limit_and_no_larger() {
        let mut output = SendBuf::new();
        assert_eq!(output.method(7, &ChannelOpen::default(), 13), Ok(()));
        assert_eq!(output.remaining(), 13);
        assert!(output.method(7, &ChannelOpen::default(), 12).is_err());
        assert_eq!(output.remaining(), 13);
    }

    #[test]
    fn a_table_that_is_refused_takes_no_memory_for_itself() {
        let mut headers = crate::wire::FieldTable::new();
        headers.insert("long", "x".repeat(1_000_000).as_str()).unwrap();
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Properties::default()
        };
        let declare = crate::wire::QueueDeclare {
            arguments: headers.as_ref(),
            ..Default::default()
        };
        let mut output = SendBuf::new();
        let refused = |result| {
            matches!(
                result,
                Err(EncodeError::FrameTooLarge {
                    size: 4097..,
                    limit: 4096,
                    ..
                })
            )
        };
        assert!(refused(output.method(1, &declare, 4096)));
        assert!(refused(output.content(
            1,
            &BasicPublish::default(),
            &properties,
            "x",
            4096
        )));
        assert!(refused(output.content(
            1,
            &BasicPublish::default(),
            &properties,
            sample(5000),
            4096
        )));
        assert_eq!(output.remaining(), 0);
        assert!(output.flat.capacity() < 20_000);
    }

    #[test]
    fn room_is_made_for_tables_of_methods_and_of_messages() {
        let mut headers = crate::wire::FieldTable::new();
        headers.insert("long", "x".repeat(100_000).as_str()).unwrap();
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Properties::default()
        };
        let declare = crate::wire::QueueDeclare {
            arguments: headers.as_ref(),
            ..Default::default()
        };
        let mut octets = Vec::new();
        assert_eq!(
            Frame::Method {
                channel: 1,
                method: declare.into()
            }
            .encode(&mut octets, 1 << 20),
            Ok(())
        );
        let mut output = SendBuf::new();
        assert_eq!(output.method(1, &declare, 1 << 20), Ok(()));
        assert_eq!(drain(&mut output, usize::MAX), octets);
        for body in [vec![7; 10], vec![7; 5000]] {
            let mut output = SendBuf::new();
            let publish = BasicPublish::default();
            assert_eq!(
                output.content(1, &publish, &properties, body.clone(), 1 << 20),
                Ok(())
            );
            assert_eq!(bodies(&drain(&mut output, usize::MAX)), [(body, 1)]);
        }
    }

    #[test]
    fn an_absurd_frame_max_still_ends() {
        let mut output = SendBuf::new();
        assert!(
            output
                .content(
                    1,
                    &BasicPublish::default(),
                    &Properties::default(),
                    vec![0; 10],
                    0
                )
                .is_err()
        );
    }

    /// Fills it with so many messages of some 3000 octets, and empties it.
    fn fill_and_drain(output: &mut SendBuf, messages: usize) {
        for _ in 0..messages {
            publish(output, [7; 3000].to_vec(), 1 << 20);
        }
        output.advance(usize::MAX);
        assert_eq!(output.remaining(), 0);
    }

    #[test]
    fn memory_is_kept_for_the_usual_and_given_back_when_little_is_sent() {
        let mut output = SendBuf::new();
        fill_and_drain(&mut output, 100);
        let usual = output.flat.capacity();
        assert!((300_000..=BUSY).contains(&usual));
        for _ in 1..QUIET {
            fill_and_drain(&mut output, 1);
        }
        assert_eq!(output.flat.capacity(), usual);
        fill_and_drain(&mut output, 100);
        for _ in 1..QUIET {
            fill_and_drain(&mut output, 1);
        }
        assert_eq!(output.flat.capacity(), usual);
        fill_and_drain(&mut output, 1);
        assert_eq!(output.flat.capacity(), IDLE);
    }

    #[test]
    fn memory_for_the_largest_is_given_back_at_once() {
        let mut output = SendBuf::new();
        fill_and_drain(&mut output, 1000);
        assert_eq!(output.flat.capacity(), BUSY);
        output.shrink();
        assert_eq!(output.flat.capacity(), 0);
    }

    #[test]
    fn a_buffer_that_never_runs_empty_does_not_grow_for_ever() {
        let mut output = SendBuf::new();
        let (mut written, mut read) = (Vec::new(), Vec::new());
        for round in 0..2000 {
            let body = sample(if round % 50 == 0 { 5000 } else { 100 + round % 7 });
            publish(&mut output, body.clone(), 4096);
            written.push((body.clone(), body.len().div_ceil(4088)));
            while output.remaining() > 50 {
                let count = output.chunk().len().min(output.remaining() - 50).min(333);
                read.extend_from_slice(&output.chunk()[..count]);
                output.advance(count);
            }
        }
        assert!(output.flat.capacity() < 64 * 1024, "{}", output.flat.capacity());
        output.shrink();
        assert!(output.flat.capacity() <= 50);
        read.extend(drain(&mut output, usize::MAX));
        assert!(bodies(&read) == written);
    }

    #[test]
    fn shrinking_keeps_what_is_to_be_written() {
        let mut output = SendBuf::new();
        publish(&mut output, sample(5000), 4096);
        publish(&mut output, sample(100), 4096);
        let mut first = output.chunk()[..10].to_vec();
        output.advance(10);
        output.shrink();
        first.extend(drain(&mut output, usize::MAX));
        assert_eq!(bodies(&first), [(sample(5000), 2), (sample(100), 1)]);
    }

    #[test]
    fn payloads_are_equal_if_their_octets_are() {
        assert_eq!(Payload::from("abc"), Payload::from(b"abc".to_vec()));
        assert_ne!(Payload::from("abc"), Payload::from(b"abd".to_vec()));
    }

    #[test]
    fn a_large_borrowed_body_does_not_grow_the_memory_for_small_things() {
        let mut output = SendBuf::new();
        publish(&mut output, &*sample(200_000).leak(), 1 << 20);
        assert!(output.flat.capacity() < 10_000);
        assert_eq!(bodies(&drain(&mut output, usize::MAX)), [(sample(200_000), 1)]);
    }
}
