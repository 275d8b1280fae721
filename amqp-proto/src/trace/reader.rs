//! Records become frames again.

use core::fmt;
use core::iter::FusedIterator;
use core::time::Duration;

use super::{ANY_SIZE, Direction, MAGIC, RECORD_HEADER, START, VERSION, kind};
use crate::Instant;
use crate::wire::{PROTOCOL_HEADER, RawFrame};

/// Reads a trace, record by record; nothing is copied, and nothing is believed that a size declares.
///
/// It ends with the octets, or with the first error. [`TraceProblem::Gap`] alone is followed by more: frames were left out
/// while the trace was written, and who needs all of them, as `collect` into a `Result` does, stops there of its own.
#[derive(Debug, Clone)]
pub struct TraceReader<'a> {
    rest: &'a [u8],
    offset: u64,
    has_failed: bool,
}

/// A frame that was received or sent. `Display` gives it on one line, or what is wrong with it:
/// `1.000020000 <- ch 1 queue.declare-ok queue="hello" message_count=0 consumer_count=0`, with the time in seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceRecord<'a> {
    /// When, by the clock of who wrote the trace.
    pub now: Instant,
    /// Which way.
    pub direction: Direction,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// The whole frame, from its type to its end octet, or the protocol header. Secrets are zeros, unless the writer was told
    /// to keep them.
    pub octets: &'a [u8],
}

/// Only what was received; made by [`TraceReader::received`].
#[derive(Debug, Clone)]
pub struct Received<'a>(TraceReader<'a>);

/// Why a trace cannot be read, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("octet {offset} of the trace: {problem}")]
#[non_exhaustive]
pub struct TraceError {
    /// What is wrong.
    pub problem: TraceProblem,
    /// Where, in octets from the trace's first: the beginning of the record, if it is about one.
    pub offset: u64,
}

/// The kinds of [`TraceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceProblem {
    /// It does not begin as a trace does.
    #[error("not a trace of AMQP frames")]
    NotATrace,
    /// A version that this reader does not know.
    #[error("version {0} of the format is unknown")]
    Version(u8),
    /// It ends within its first eight octets or within a record: whoever wrote it was stopped, or is not done yet. All whole
    /// records came before.
    #[error("the trace ends too soon: of what begins here, {present} octets are there")]
    Truncated {
        /// How many octets there are.
        present: usize,
    },
    /// No kind of record.
    #[error("unknown kind of record {0}")]
    Kind(u8),
    /// Frames are missing here, in either direction: the writer had no room. More records may follow.
    #[error("{frames} frames were left out")]
    Gap {
        /// How many; `u32::MAX` stands for more, too.
        frames: u32,
        /// When the first of them came.
        since: Instant,
    },
}

impl<'a> TraceReader<'a> {
    /// Reads a trace from its beginning.
    ///
    /// # Errors
    /// Octets that are no trace, fewer than eight of them, an unknown version.
    pub fn new(trace: &'a [u8]) -> Result<Self, TraceError> {
        let fail = |problem, offset| Err(TraceError { problem, offset });
        match trace.split_first_chunk::<START>() {
            Some(([magic @ .., version], rest)) if *magic == MAGIC => match *version {
                VERSION => Ok(Self::resume(rest, START as u64)),
                version => fail(TraceProblem::Version(version), MAGIC.len() as u64),
            },
            None if MAGIC.starts_with(trace) => {
                let present = trace.len();
                fail(TraceProblem::Truncated { present }, 0)
            }
            _ => fail(TraceProblem::NotATrace, 0),
        }
    }

    /// Reads on from a record that begins `offset` octets into the trace, where [`offset`](Self::offset) of an earlier reader
    /// was: for traces that are read piece by piece, or while they are written.
    #[must_use]
    pub const fn resume(rest: &'a [u8], offset: u64) -> Self {
        Self {
            rest,
            offset,
            has_failed: false,
        }
    }

    /// Where the next record begins, in octets from the trace's first; after an error that ends it, the record that cannot be
    /// read.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Only what was received, with its time and in order: what another connection is to be fed with to do the same again.
    #[must_use]
    pub const fn received(self) -> Received<'a> {
        Received(self)
    }

    /// Takes off the first record.
    fn read(&mut self) -> Result<TraceRecord<'a>, TraceProblem> {
        let present = self.rest.len();
        let Some((&[kind, ref numbers @ ..], rest)) = self.rest.split_first_chunk::<RECORD_HEADER>() else {
            return Err(TraceProblem::Truncated { present });
        };
        let &[n0, n1, n2, n3, n4, n5, n6, n7, c0, c1, s0, s1, s2, s3] = numbers;
        let now = Instant::from_nanos(u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]));
        let channel = u16::from_be_bytes([c0, c1]);
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        let direction = match kind {
            kind::RECEIVED => Direction::Received,
            kind::SENT => Direction::Sent,
            kind::GAP => {
                self.advance(rest);
                let (frames, since) = (size, now);
                return Err(TraceProblem::Gap { frames, since });
            }
            unknown => return Err(TraceProblem::Kind(unknown)),
        };
        let Some((octets, rest)) = rest.split_at_checked(size as usize) else {
            return Err(TraceProblem::Truncated { present });
        };
        self.advance(rest);
        Ok(TraceRecord {
            now,
            direction,
            channel,
            octets,
        })
    }

    const fn advance(&mut self, rest: &'a [u8]) {
        let size = self.rest.len().saturating_sub(rest.len());
        self.offset = self.offset.saturating_add(size as u64);
        self.rest = rest;
    }
}

impl<'a> Iterator for TraceReader<'a> {
    type Item = Result<TraceRecord<'a>, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed || self.rest.is_empty() {
            return None;
        }
        let offset = self.offset;
        let result = self.read().map_err(|problem| {
            self.has_failed = !matches!(problem, TraceProblem::Gap { .. });
            TraceError { problem, offset }
        });
        Some(result)
    }
}

impl FusedIterator for TraceReader<'_> {}

impl<'a> Iterator for Received<'a> {
    type Item = Result<(Instant, &'a [u8]), TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|record| match record {
            Ok(record) if record.direction == Direction::Sent => None,
            Ok(record) => Some(Ok((record.now, record.octets))),
            Err(error) => Some(Err(error)),
        })
    }
}

impl FusedIterator for Received<'_> {}

impl fmt::Display for TraceRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            direction, octets, ..
        } = self;
        let time = Duration::from_nanos(self.now.as_nanos());
        write!(f, "{}.{:09} {direction} ", time.as_secs(), time.subsec_nanos())?;
        if *octets == PROTOCOL_HEADER {
            return f.write_str("protocol header");
        }
        match RawFrame::parse(octets, &ANY_SIZE) {
            Ok(Some(raw)) if raw.size() == octets.len() => match raw.decode() {
                Ok(frame) => write!(f, "{frame}"),
                Err(error) => write!(f, "ch {} {error}", raw.channel),
            },
            Ok(_) => write!(
                f,
                "ch {} {} octets that are not one frame",
                self.channel,
                octets.len()
            ),
            Err(error) => write!(f, "ch {} {error}", self.channel),
        }
    }
}

/// As `Display`, which does not show secrets even where they were kept.
impl fmt::Debug for TraceRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceRecord({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{FrameTap, TraceWriter};
    use crate::wire::{ChannelFlow, HEARTBEAT, Method};
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    const BEGINNING: &[u8] = b"\x89AMQTRC\x01";

    fn flow(channel: u16) -> Vec<u8> {
        let mut octets = Vec::new();
        Method::from(ChannelFlow { active: true })
            .encode(&mut octets, channel, 4096)
            .unwrap();
        octets
    }

    /// Two records received and one sent between them, of 23, 28 and 28 octets.
    fn sample() -> Vec<u8> {
        let mut writer = TraceWriter::new(0);
        writer.frame(Instant::from_nanos(1), Direction::Received, 0, &HEARTBEAT);
        writer.frame(Instant::from_nanos(2), Direction::Sent, 7, &flow(7));
        writer.frame(Instant::from_nanos(3), Direction::Received, 9, &flow(9));
        writer.take()
    }

    fn error(problem: TraceProblem, offset: u64) -> TraceError {
        TraceError { problem, offset }
    }

    fn shown(octets: &[u8]) -> String {
        let record = TraceRecord {
            now: Instant::from_nanos(3_000_000_004),
            direction: Direction::Sent,
            channel: 5,
            octets,
        };
        assert_eq!(format!("{record:?}"), format!("TraceRecord({record})"));
        record.to_string()
    }

    #[test]
    fn records_are_what_was_written() {
        let trace = sample();
        let record = |nanos, direction, channel, octets| TraceRecord {
            now: Instant::from_nanos(nanos),
            direction,
            channel,
            octets,
        };
        let mut reader = TraceReader::new(&trace).unwrap();
        assert_eq!(reader.offset(), 8);
        let (seven, nine) = (flow(7), flow(9));
        let records: Result<Vec<_>, _> = reader.by_ref().collect();
        assert_eq!(
            records.unwrap(),
            [
                record(1, Direction::Received, 0, &HEARTBEAT[..]),
                record(2, Direction::Sent, 7, &seven),
                record(3, Direction::Received, 9, &nine),
            ]
        );
        assert_eq!(reader.offset(), trace.len() as u64);
        assert_eq!(reader.next(), None);
    }

    #[test]
    fn what_was_received_comes_alone() {
        let trace = sample();
        let received: Result<Vec<_>, _> = TraceReader::new(&trace).unwrap().received().collect();
        assert_eq!(
            received.unwrap(),
            [
                (Instant::from_nanos(1), &HEARTBEAT[..]),
                (Instant::from_nanos(3), &flow(9))
            ]
        );
        let mut cut = TraceReader::new(&trace[..40]).unwrap().received();
        assert!(cut.next().unwrap().is_ok());
        let truncated = error(TraceProblem::Truncated { present: 9 }, 31);
        assert_eq!(cut.next(), Some(Err(truncated)));
        assert_eq!(cut.next(), None);
    }

    #[test]
    fn a_trace_cut_anywhere_gives_its_whole_records_and_then_says_so() {
        let trace = sample();
        let ends = [8, 31, 59, 87];
        for cut in 8..trace.len() {
            let mut reader = TraceReader::new(&trace[..cut]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            for _ in 0..whole {
                assert!(reader.next().unwrap().is_ok());
            }
            let offset = ends[whole];
            if offset < cut {
                let present = cut - offset;
                let truncated = error(TraceProblem::Truncated { present }, offset as u64);
                assert_eq!(reader.next(), Some(Err(truncated)));
            }
            assert_eq!((reader.next(), reader.offset()), (None, offset as u64));
            // With the rest it goes on.
            let rest: Vec<_> = TraceReader::resume(&trace[offset..], offset as u64).collect();
            let all: Vec<_> = TraceReader::new(&trace).unwrap().collect();
            assert_eq!(rest, all[whole..]);
        }
    }

    #[test]
    fn what_is_no_trace_is_told_from_one_that_is_not_all_there() {
        for cut in 0..8 {
            assert_eq!(
                TraceReader::new(&BEGINNING[..cut]).unwrap_err(),
                error(TraceProblem::Truncated { present: cut }, 0)
            );
        }
        assert!(TraceReader::new(BEGINNING).unwrap().next().is_none());
        for other in [&b"AMQP\0\0\x09\x01"[..], b"\x89AMQTRX\x01", b"x", b"\x89AMQP"] {
            assert_eq!(
                TraceReader::new(other).unwrap_err(),
                error(TraceProblem::NotATrace, 0)
            );
        }
        assert_eq!(
            TraceReader::new(b"\x89AMQTRC\x02").unwrap_err(),
            error(TraceProblem::Version(2), 7)
        );
    }

    #[test]
    fn an_unknown_kind_ends_it_and_a_gap_does_not() {
        let gap = b"\x03\0\0\0\0\0\0\0\x05\0\0\0\0\0\x02";
        let mut trace = sample();
        trace.extend_from_slice(gap);
        trace.extend_from_slice(&sample()[8..31]);
        trace.extend_from_slice(&[9; 40]);
        let mut reader = TraceReader::new(&trace).unwrap();
        assert_eq!(reader.by_ref().take(3).filter(Result::is_ok).count(), 3);
        let gap = TraceProblem::Gap {
            frames: 2,
            since: Instant::from_nanos(5),
        };
        assert_eq!(reader.next(), Some(Err(error(gap, 87))));
        assert_eq!(reader.offset(), 102);
        assert!(reader.next().unwrap().is_ok());
        assert_eq!(reader.next(), Some(Err(error(TraceProblem::Kind(9), 125))));
        assert_eq!((reader.next(), reader.offset()), (None, 125));
        assert!(
            TraceReader::new(&trace)
                .unwrap()
                .received()
                .any(|item| item == Err(error(gap, 87)))
        );
    }

    #[test]
    fn a_size_beyond_the_end_is_not_believed() {
        let mut trace = BEGINNING.to_vec();
        trace.extend_from_slice(b"\x01\0\0\0\0\0\0\0\x05\0\0\xff\xff\xff\xffabc");
        let mut reader = TraceReader::new(&trace).unwrap();
        let truncated = error(TraceProblem::Truncated { present: 18 }, 8);
        assert_eq!(reader.next(), Some(Err(truncated)));
    }

    #[test]
    fn a_record_is_one_line_with_time_direction_and_frame() {
        assert_eq!(shown(&flow(7)), "3.000000004 -> ch 7 channel.flow active");
        assert_eq!(shown(&PROTOCOL_HEADER), "3.000000004 -> protocol header");
        let trace = sample();
        let first = TraceReader::new(&trace).unwrap().next().unwrap().unwrap();
        assert_eq!(first.to_string(), "0.000000001 <- ch 0 heartbeat");
    }

    #[test]
    fn a_record_that_is_no_frame_says_what_is_wrong() {
        let frame = flow(7);
        assert_eq!(shown(b""), "3.000000004 -> ch 5 0 octets that are not one frame");
        assert_eq!(
            shown(&frame[..9]),
            "3.000000004 -> ch 5 9 octets that are not one frame"
        );
        assert_eq!(
            shown(&[&frame[..], &frame].concat()),
            "3.000000004 -> ch 5 26 octets that are not one frame"
        );
        assert_eq!(
            shown(&[9; 20]),
            "3.000000004 -> ch 5 unknown frame type 9 (in frame header, octet 0 of the frame)"
        );
        assert_eq!(
            shown(b"\x01\0\x07\0\0\0\x04\0\x14\0\x63\xce"),
            "3.000000004 -> ch 7 unknown method 99 of class 20 (in method id, octet 7 of the frame)"
        );
    }

    #[test]
    fn errors_name_the_octet() {
        let shown: Vec<String> = [
            TraceProblem::NotATrace,
            TraceProblem::Version(9),
            TraceProblem::Truncated { present: 3 },
            TraceProblem::Kind(9),
            TraceProblem::Gap {
                frames: 2,
                since: Instant::EPOCH,
            },
        ]
        .map(|problem| error(problem, 5).to_string())
        .to_vec();
        assert_eq!(
            shown,
            [
                "octet 5 of the trace: not a trace of AMQP frames",
                "octet 5 of the trace: version 9 of the format is unknown",
                "octet 5 of the trace: the trace ends too soon: of what begins here, 3 octets are there",
                "octet 5 of the trace: unknown kind of record 9",
                "octet 5 of the trace: 2 frames were left out",
            ]
        );
    }
}
