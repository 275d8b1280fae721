//! Traces: any octets as one, and any frames into one and out again.

use arbitrary::{Arbitrary, Unstructured};

use super::check::{one_line, one_line_debug, operations};
use crate::Instant;
use crate::trace::{
    Direction, FrameTap, MAGIC, TraceError, TraceProblem, TraceReader, TraceRecord, TraceWriter, VERSION,
};
use crate::wire::{FrameLimits, Method, RawFrame, SecretStr};

const ANY_SIZE: FrameLimits = FrameLimits {
    body: u32::MAX,
    other: u32::MAX,
};

/// Any octets as a trace, as they are and behind a proper beginning; then operations on a [`TraceWriter`].
///
/// Records lie one behind the other in the octets, and reading them anew from any of them gives the same; what is wrong is
/// told with its place. What was written is read back, with zeros for secrets unless they are kept; the limit holds and is
/// used, and what found no room is counted.
pub fn trace(data: &[u8]) {
    if let Ok(reader) = TraceReader::new(data) {
        records(reader, data);
    }
    let begun = [&MAGIC[..], &[VERSION], data].concat();
    records(TraceReader::new(&begun).expect("it begins well"), &begun);
    write_and_read(&mut Unstructured::new(data));
}

fn records(mut reader: TraceReader<'_>, trace: &[u8]) {
    loop {
        let start = at(&reader);
        let again = TraceReader::resume(&trace[start..], start as u64).next();
        let record = reader.next();
        assert_eq!(record, again);
        let end = at(&reader);
        match record {
            Some(Ok(record)) => {
                assert!(trace[start..end].ends_with(record.octets));
                assert_eq!(end, start + 15 + record.octets.len());
                one_line(&record);
            }
            Some(Err(error)) => {
                one_line(&error);
                assert_eq!(error.offset, start as u64);
                let is_gap = matches!(error.problem, TraceProblem::Gap { .. });
                assert_eq!(end, if is_gap { start + 15 } else { start });
                if !is_gap {
                    assert_eq!(reader.next(), None);
                    break;
                }
            }
            None => {
                assert_eq!(end, trace.len());
                break;
            }
        }
    }
}

/// Where a reader is.
fn at(reader: &TraceReader<'_>) -> usize {
    reader.offset().try_into().expect("no trace here is so long")
}

#[derive(Debug, Arbitrary)]
enum Op<'a> {
    /// A method frame, most often one with a secret.
    Method(Moment, Carrier<'a>),
    /// What need not be a frame.
    Octets(Moment, &'a [u8]),
    /// Octets behind the header and the number of a method with a secret, as many as its header says.
    Arguments(Moment, u8, &'a [u8]),
    /// A body of that many octets.
    Body(Moment, u16),
    Take,
}

#[derive(Debug, Arbitrary)]
struct Moment {
    nanos: u64,
    is_sent: bool,
    channel: u16,
}

#[derive(Debug, Arbitrary)]
enum Carrier<'a> {
    StartOk(crate::wire::ConnectionStartOk<'a>),
    SecureOk(crate::wire::ConnectionSecureOk<'a>),
    UpdateSecret(crate::wire::ConnectionUpdateSecret<'a>),
    Any(Method<'a>),
}

fn write_and_read(u: &mut Unstructured<'_>) {
    let (Ok(limit), Ok(keeps_secrets)) = (u.int_in_range(0..=100_000), bool::arbitrary(u)) else {
        return;
    };
    let mut pair = Pair::new(limit, keeps_secrets);
    for op in operations(u) {
        match op {
            Op::Method(moment, carrier) => {
                let method = match carrier {
                    Carrier::StartOk(method) => method.into(),
                    Carrier::SecureOk(method) => method.into(),
                    Carrier::UpdateSecret(method) => method.into(),
                    Carrier::Any(method) => method,
                };
                pair.frame(&moment, &encoded(&method, moment.channel));
            }
            Op::Octets(moment, octets) => pair.frame(&moment, octets),
            Op::Arguments(moment, which, arguments) => {
                let number = [11, 21, 70][usize::from(which % 3)];
                let size = u32::try_from(arguments.len() + 4)
                    .expect("it is short")
                    .to_be_bytes();
                let frame = [&[1, 0, 0], &size[..], &[0, 10, 0, number], arguments, &[0xCE]].concat();
                pair.frame(&moment, &frame);
            }
            Op::Body(moment, size) => pair.frame(&moment, &vec![3; size.into()]),
            Op::Take => pair.take(),
        }
    }
    one_line_debug(&pair.writer);
    pair.finish();
}

fn encoded(method: &Method<'_>, channel: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    method
        .encode(&mut octets, channel, u32::MAX)
        .expect("no frame is larger");
    octets
}

/// A writer, and what it should have written.
struct Pair {
    writer: TraceWriter,
    limit: usize,
    keeps_secrets: bool,
    /// What the writer should hold, in octets.
    waiting: usize,
    gap: Option<(Instant, u32)>,
    expected: Vec<Expected>,
    trace: Vec<u8>,
}

enum Expected {
    Frame(Instant, Direction, u16, Vec<u8>),
    Gap(Instant, u32),
}

impl Pair {
    fn new(limit: usize, keeps_secrets: bool) -> Self {
        let writer = TraceWriter::new(limit);
        Self {
            writer: if keeps_secrets {
                writer.with_secrets()
            } else {
                writer
            },
            limit: limit.max(4096),
            keeps_secrets,
            waiting: 8,
            gap: None,
            expected: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn frame(&mut self, moment: &Moment, octets: &[u8]) {
        let now = Instant::from_nanos(moment.nanos);
        let direction = if moment.is_sent {
            Direction::Sent
        } else {
            Direction::Received
        };
        self.writer.frame(now, direction, moment.channel, octets);
        if let Some((_, count)) = &mut self.gap {
            *count += 1;
        } else if self.waiting + 15 + octets.len() + 15 > self.limit {
            self.gap = Some((now, 1));
        } else {
            self.waiting += 15 + octets.len();
            let octets = if self.keeps_secrets {
                octets.to_vec()
            } else {
                blanked(octets)
            };
            self.expected
                .push(Expected::Frame(now, direction, moment.channel, octets));
        }
        assert_eq!(self.writer.len(), self.waiting);
    }

    fn take(&mut self) {
        assert_eq!(self.writer.is_empty(), self.waiting == 0 && self.gap.is_none());
        let taken = self.writer.take();
        assert!(taken.len() <= self.limit && taken.capacity() <= self.limit);
        self.trace.extend(taken);
        if let Some((since, count)) = self.gap.take() {
            self.expected.push(Expected::Gap(since, count));
        }
        self.waiting = 0;
        assert!(self.writer.is_empty());
    }

    fn finish(mut self) {
        self.take();
        let reader = TraceReader::new(&self.trace).expect("it was written so");
        let found: Vec<_> = reader.clone().collect();
        assert_eq!(found.len(), self.expected.len());
        for (found, expected) in found.iter().zip(&self.expected) {
            assert!(is_same(found, expected), "{found:?}");
        }
        let received = found
            .iter()
            .filter(|record| !record.is_ok_and(|record| record.direction == Direction::Sent))
            .map(|record| record.map(|record| (record.now, record.octets)));
        assert!(reader.received().eq(received));
        records(
            TraceReader::new(&self.trace).expect("it was written so"),
            &self.trace,
        );
    }
}

fn is_same(found: &Result<TraceRecord<'_>, TraceError>, expected: &Expected) -> bool {
    match (found, expected) {
        (Ok(record), Expected::Frame(now, direction, channel, octets)) => {
            (record.now, record.direction, record.channel) == (*now, *direction, *channel)
                && record.octets == octets
        }
        (Err(error), Expected::Gap(since, frames)) => {
            error.problem
                == TraceProblem::Gap {
                    frames: *frames,
                    since: *since,
                }
        }
        _ => false,
    }
}

/// What a trace may have of a frame: methods with a secret are written anew, with zeros for it.
fn blanked(frame: &[u8]) -> Vec<u8> {
    let numbers = [[0, 10, 0, 11], [0, 10, 0, 21], [0, 10, 0, 70]];
    let has_secret =
        frame.first() == Some(&1) && numbers.iter().any(|numbers| frame.get(7..11) == Some(numbers));
    if !has_secret {
        return frame.to_vec();
    }
    let raw = RawFrame::parse(frame, &ANY_SIZE).ok().flatten();
    let raw = raw.filter(|raw| raw.size() == frame.len());
    let zeros = vec![0; frame.len()];
    let zeros = |secret: SecretStr<'_>| SecretStr::new(&zeros[..secret.len()]);
    let method = match raw.map(|raw| Method::decode(raw.payload)) {
        Some(Ok(Method::ConnectionStartOk(mut method))) => {
            method.response = zeros(method.response);
            method.into()
        }
        Some(Ok(Method::ConnectionSecureOk(mut method))) => {
            method.response = zeros(method.response);
            method.into()
        }
        Some(Ok(Method::ConnectionUpdateSecret(mut method))) => {
            method.new_secret = zeros(method.new_secret);
            method.into()
        }
        _ => return [&frame[..11], &vec![0; frame.len() - 11]].concat(),
    };
    encoded(&method, raw.map_or(0, |raw| raw.channel))
}
