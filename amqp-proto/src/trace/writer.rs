//! Frames become records, in memory.

use alloc::vec::Vec;
use core::{fmt, mem};

use super::{ANY_SIZE, Direction, FrameTap, MAGIC, RECORD_HEADER, VERSION, kind};
use crate::Instant;
use crate::wire::{Argument, Domain, FrameType, HEADER_SIZE, METHODS, Method, MethodId, RawFrame};

/// The smallest limit: some frames always find room.
const LEAST: usize = 4096;

/// Where a method's arguments begin: behind the frame's header and the method's numbers.
const ARGUMENTS: usize = HEADER_SIZE.saturating_add(4);

/// A [`FrameTap`] that writes a trace to memory; [the module](super) describes the format, and who empties it.
///
/// It never holds more than its limit. A frame for which there is no room is left out, and so is every frame after it until
/// [`take`](Self::take) makes room, which also writes down how many they were: a trace has gaps, but never silent ones.
pub struct TraceWriter {
    octets: Vec<u8>,
    limit: usize,
    keeps_secrets: bool,
    gap: Option<Gap>,
}

/// Frames that were left out.
struct Gap {
    since: Instant,
    count: u32,
}

impl TraceWriter {
    /// An empty trace of at most `limit` octets between one [`take`](Self::take) and the next; fewer than 4096 are taken for
    /// 4096. A frame needs 15 octets more than its own, and one that does not fit into the limit is never recorded: it should
    /// be several times frame-max.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let mut octets = MAGIC.to_vec();
        octets.push(VERSION);
        Self {
            octets,
            limit: limit.max(LEAST),
            keeps_secrets: false,
            gap: None,
        }
    }

    /// The same, but with the passwords and tokens that clients send. Whoever reads the trace can log in with them.
    #[must_use]
    pub fn with_secrets(mut self) -> Self {
        self.keeps_secrets = true;
        self
    }

    /// Takes out what was written since the last time, memory and all; the pieces one after the other are the trace. Copies
    /// nothing and allocates nothing, unless frames were left out.
    #[must_use = "what is taken is in the trace no more"]
    pub fn take(&mut self) -> Vec<u8> {
        if let Some(Gap { since, count }) = self.gap.take() {
            self.record(kind::GAP, since, 0, count, &[]);
        }
        mem::take(&mut self.octets)
    }

    /// How many octets wait to be taken; a little less than the limit when it is full. Right after [`new`](Self::new) it is
    /// the eight that a trace begins with.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether nothing waits to be taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.octets.is_empty() && self.gap.is_none()
    }

    /// The size of a frame as a record has it, if there is room. That of a gap's record is never used up.
    fn fitting(&self, octets: &[u8]) -> Option<u32> {
        let needed = octets.len().saturating_add(RECORD_HEADER.saturating_mul(2));
        let is_room = needed <= self.limit.saturating_sub(self.octets.len());
        is_room.then(|| u32::try_from(octets.len()).ok()).flatten()
    }

    fn record(&mut self, kind: u8, now: Instant, channel: u16, size: u32, octets: &[u8]) {
        self.reserve(octets.len().saturating_add(RECORD_HEADER));
        self.octets.push(kind);
        self.octets.extend_from_slice(&now.as_nanos().to_be_bytes());
        self.octets.extend_from_slice(&channel.to_be_bytes());
        self.octets.extend_from_slice(&size.to_be_bytes());
        self.octets.extend_from_slice(octets);
    }

    /// Doubles the memory as a vector does, but not beyond the limit.
    fn reserve(&mut self, count: usize) {
        let needed = self.octets.len().saturating_add(count);
        if needed > self.octets.capacity() {
            let doubled = self.octets.capacity().saturating_mul(2).min(self.limit);
            let size = needed.max(doubled);
            self.octets.reserve_exact(size.saturating_sub(self.octets.len()));
        }
    }
}

impl FrameTap for TraceWriter {
    fn frame(&mut self, now: Instant, direction: Direction, channel: u16, octets: &[u8]) {
        if let Some(gap) = &mut self.gap {
            gap.count = gap.count.saturating_add(1);
            return;
        }
        let Some(size) = self.fitting(octets) else {
            self.gap = Some(Gap { since: now, count: 1 });
            return;
        };
        let kind = match direction {
            Direction::Received => kind::RECEIVED,
            Direction::Sent => kind::SENT,
        };
        self.record(kind, now, channel, size, octets);
        if !self.keeps_secrets {
            let start = self.octets.len().saturating_sub(octets.len());
            blank_secrets(octets, self.octets.get_mut(start..).unwrap_or_default());
        }
    }
}

/// Writes zeros over the secrets in `copy`, which has the same octets as `frame`.
fn blank_secrets(frame: &[u8], copy: &mut [u8]) {
    if !may_have_secret(frame) {
        return;
    }
    // The arguments borrow from the frame, so their addresses tell where they stand in it.
    let place = |secret: &[u8]| {
        let start = secret.as_ptr().addr().checked_sub(frame.as_ptr().addr())?;
        Some(start..start.checked_add(secret.len())?)
    };
    match decode(frame) {
        Some(method) => method.for_each_argument(&mut |_, argument| {
            if let Argument::Secret(secret) = argument {
                let secret = place(secret.as_bytes()).and_then(|place| copy.get_mut(place));
                secret.unwrap_or_default().fill(0);
            }
        }),
        // Nobody knows where it is.
        None => copy.get_mut(ARGUMENTS..).unwrap_or_default().fill(0),
    }
}

/// Whether it is a method with an argument that must not be printed.
fn may_have_secret(frame: &[u8]) -> bool {
    let Some((&[frame_type, ..], payload)) = frame.split_first_chunk::<HEADER_SIZE>() else {
        return false;
    };
    frame_type == FrameType::Method as u8 && Method::split_id(payload).is_ok_and(|(id, _)| has_secret(id))
}

fn has_secret(id: MethodId) -> bool {
    let spec = METHODS.iter().find(|spec| spec.id == id);
    spec.is_some_and(|spec| {
        spec.arguments
            .iter()
            .any(|argument| argument.domain == Domain::secret)
    })
}

/// The method, if the frame is whole, and nothing else.
fn decode(frame: &[u8]) -> Option<Method<'_>> {
    let raw = RawFrame::parse(frame, &ANY_SIZE).ok().flatten()?;
    if raw.size() != frame.len() {
        return None;
    }
    Method::decode(raw.payload).ok()
}

/// Tells nothing of what was written: it may be secret.
impl fmt::Debug for TraceWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceWriter")
            .field("len", &self.len())
            .field("limit", &self.limit)
            .field("keeps_secrets", &self.keeps_secrets)
            .field("left_out", &self.gap.as_ref().map_or(0, |gap| gap.count))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{TraceProblem, TraceReader, TraceRecord};
    use crate::wire::{
        ConnectionSecure, ConnectionSecureOk, ConnectionStartOk, ConnectionUpdateSecret, FieldTable,
        HEARTBEAT, LongStr, PROTOCOL_HEADER, SecretStr,
    };
    use alloc::format;
    use alloc::vec;

    const SECRET: &[u8] = b"\0ann\0s3cret";

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn encoded<'a>(method: impl Into<Method<'a>>) -> Vec<u8> {
        let mut octets = Vec::new();
        method.into().encode(&mut octets, 0, u32::MAX).unwrap();
        octets
    }

    /// The three methods that carry one, made with the secret given.
    fn methods_with(secret: &[u8]) -> [Vec<u8>; 3] {
        let properties = FieldTable::new()
            .with("product", "s3cre, but not secret")
            .unwrap();
        let secret = SecretStr::new(secret);
        [
            encoded(ConnectionStartOk {
                client_properties: properties.as_ref(),
                response: secret,
                ..Default::default()
            }),
            encoded(ConnectionSecureOk { response: secret }),
            encoded(ConnectionUpdateSecret {
                new_secret: secret,
                reason: "expires".try_into().unwrap(),
            }),
        ]
    }

    /// What a trace has of a frame.
    fn traced(mut writer: TraceWriter, octets: &[u8]) -> Vec<u8> {
        writer.frame(at(1), Direction::Sent, 0, octets);
        let trace = writer.take();
        let record = TraceReader::new(&trace).unwrap().next().unwrap().unwrap();
        record.octets.to_vec()
    }

    #[test]
    fn the_format_to_the_octet() {
        let mut writer = TraceWriter::new(0);
        assert_eq!((writer.len(), writer.is_empty()), (8, false));
        writer.frame(at(0x0102_0304_0506_0708), Direction::Sent, 0, &PROTOCOL_HEADER);
        writer.frame(at(9), Direction::Received, 0x0a0b, &HEARTBEAT);
        let expected = [
            &b"\x89AMQTRC\x01"[..],
            b"\x02\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\x08AMQP\0\0\x09\x01",
            b"\x01\0\0\0\0\0\0\0\x09\x0a\x0b\0\0\0\x08\x08\0\0\0\0\0\0\xce",
        ]
        .concat();
        assert_eq!(writer.len(), expected.len());
        assert_eq!(writer.take(), expected);
        assert!(writer.is_empty());
        assert_eq!(writer.take(), []);
        writer.frame(at(9), Direction::Received, 0x0a0b, &HEARTBEAT);
        assert_eq!(writer.take(), expected[31..]);
    }

    #[test]
    fn what_finds_no_room_is_counted_until_there_is_some() {
        let frame = [7; 985];
        let mut writer = TraceWriter::new(4096);
        for number in 1..=6 {
            writer.frame(at(number), Direction::Sent, 1, &frame);
        }
        // It would fit, but not in order.
        writer.frame(at(7), Direction::Received, 0, &HEARTBEAT);
        assert_eq!(writer.len(), 8 + 4 * 1000);
        let mut trace = writer.take();
        assert_eq!(trace.len(), 8 + 4 * 1000 + 15);
        writer.frame(at(8), Direction::Sent, 1, &frame);
        trace.extend(writer.take());

        let all: Vec<_> = TraceReader::new(&trace).unwrap().collect();
        let times = |records: &[Result<TraceRecord<'_>, _>]| -> Vec<u64> {
            records
                .iter()
                .map(|record| record.as_ref().unwrap().now.as_nanos())
                .collect()
        };
        assert_eq!(times(&all[..4]), [1, 2, 3, 4]);
        let error = all[4].unwrap_err();
        let gap = TraceProblem::Gap {
            frames: 3,
            since: at(5),
        };
        assert_eq!((error.problem, error.offset), (gap, 4008));
        assert_eq!(times(&all[5..]), [8]);
    }

    #[test]
    fn room_is_used_to_the_last_octet_but_those_of_a_gap() {
        let largest = 5000 - 8 - 15 - 15;
        for (size, is_recorded) in [(largest, true), (largest + 1, false), (100_000, false)] {
            let mut writer = TraceWriter::new(5000);
            writer.frame(at(1), Direction::Sent, 1, &vec![7; size]);
            assert_eq!(writer.gap.is_none(), is_recorded);
            assert!(!writer.is_empty());
            writer.frame(at(2), Direction::Sent, 1, &HEARTBEAT);
            let taken = writer.take();
            let expected = if is_recorded { 5000 } else { 8 + 15 };
            assert_eq!(taken.len(), expected);
            assert!(writer.is_empty());
        }
    }

    #[test]
    fn a_gap_alone_is_something_to_take() {
        let mut writer = TraceWriter::new(0);
        let _ = writer.take();
        writer.frame(at(1), Direction::Sent, 1, &[0; 5000]);
        assert_eq!((writer.len(), writer.is_empty()), (0, false));
        assert_eq!(writer.take().len(), 15);
    }

    #[test]
    fn memory_grows_by_doubling_and_never_beyond_the_limit() {
        let mut writer = TraceWriter::new(100_000);
        let mut sizes = vec![writer.octets.capacity()];
        for number in 0..200 {
            writer.frame(at(number), Direction::Sent, 1, &[7; 1000]);
            assert!(writer.octets.capacity() <= 2 * writer.len());
            if sizes.last() != Some(&writer.octets.capacity()) {
                sizes.push(writer.octets.capacity());
            }
        }
        assert!(sizes.len() < 12, "{sizes:?}");
        assert_eq!(sizes.last(), Some(&100_000));
        assert!(writer.take().capacity() <= 100_000);
        // Not before it is needed: one record, two, twice two, which the fourth fills.
        (0..4).for_each(|number| writer.frame(at(number), Direction::Sent, 1, &[7; 1000]));
        assert_eq!((writer.len(), writer.octets.capacity()), (4060, 4060));
    }

    #[test]
    fn secrets_become_zeros_and_the_frames_stay_frames() {
        for (frame, blank) in methods_with(SECRET).iter().zip(methods_with(&[0; 11])) {
            assert_eq!(traced(TraceWriter::new(0), frame), blank);
            assert_eq!(traced(TraceWriter::new(0).with_secrets(), frame), *frame);
        }
        for frame in methods_with(b"") {
            assert_eq!(traced(TraceWriter::new(0), &frame), frame);
        }
    }

    #[test]
    fn only_the_frame_that_is_written_is_changed() {
        let [start_ok, ..] = methods_with(SECRET);
        let challenge = encoded(ConnectionSecure {
            challenge: LongStr::new(SECRET),
        });
        let mut writer = TraceWriter::new(0);
        for frame in [&challenge, &start_ok, &challenge] {
            writer.frame(at(1), Direction::Received, 0, frame);
        }
        let trace = writer.take();
        let octets: Vec<&[u8]> = TraceReader::new(&trace)
            .unwrap()
            .map(|record| record.unwrap().octets)
            .collect();
        let [blank, ..] = methods_with(&[0; 11]);
        assert_eq!(octets, [&challenge[..], &blank, &challenge]);
    }

    #[test]
    fn a_method_that_cannot_be_read_is_blanked_altogether() {
        for frame in methods_with(SECRET) {
            let mut damaged = vec![
                frame[..frame.len() - 1].to_vec(),
                [&frame[..], b"s3cret"].concat(),
            ];
            // The secret's last octet is the payload's last, or what follows it is too long.
            let mut end = frame.clone();
            *end.last_mut().unwrap() = 0;
            damaged.push(end);
            let mut size = frame.clone();
            size[6] -= 1;
            damaged.push(size);
            let mut arguments = frame.clone();
            arguments[11..15].fill(0xFF);
            damaged.push(arguments);
            for octets in damaged {
                let blank = traced(TraceWriter::new(0), &octets);
                assert_eq!(blank[..11], octets[..11]);
                assert!(blank[11..].iter().all(|&octet| octet == 0), "{blank:?}");
                assert_eq!(blank.len(), octets.len());
                assert_eq!(traced(TraceWriter::new(0).with_secrets(), &octets), octets);
            }
        }
    }

    #[test]
    fn what_is_no_method_is_left_as_it_is() {
        let [start_ok, ..] = methods_with(SECRET);
        let mut body = start_ok;
        body[0] = 3;
        let unknown = b"\x01\0\0\0\0\0\x06\0\x0a\0\x63s3\xce".to_vec();
        for octets in [body, unknown, b"\x01\0\0\0\0\0\0\xce".to_vec(), vec![1], vec![]] {
            assert_eq!(traced(TraceWriter::new(0), &octets), octets);
        }
    }

    #[test]
    fn debug_shows_no_octets() {
        let mut writer = TraceWriter::new(5000).with_secrets();
        writer.frame(at(1), Direction::Sent, 0, &HEARTBEAT);
        writer.frame(at(1), Direction::Sent, 0, &[0; 5000]);
        assert_eq!(
            format!("{writer:?}"),
            "TraceWriter { len: 31, limit: 5000, keeps_secrets: true, left_out: 1 }"
        );
    }
}
