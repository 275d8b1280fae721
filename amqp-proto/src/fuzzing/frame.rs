//! Any octets, as if they came from the socket.

use super::check::{encoded, one_line, one_line_debug, protocol_error};
use crate::wire::{FrameLimits, FrameType, Problem, RawFrame, parse_protocol_header};

const LIMITS: [FrameLimits; 6] = [
    limits(131_072, 131_072),
    limits(4096, 131_072),
    limits(64, 24),
    limits(8, 8),
    limits(0, 0),
    limits(u32::MAX, u32::MAX),
];

const fn limits(body: u32, other: u32) -> FrameLimits {
    FrameLimits { body, other }
}

/// Any octets as a stream of frames: [`RawFrame::parse`] under several limits, `decode`, `Display`, and back; the protocol
/// header as a server reads it.
///
/// No frame is over its limit; however the octets are cut, parsing waits, and then decides once and for all; errors have a
/// code and point into what was read; what was decoded is written so that it reads the same.
pub fn frame(data: &[u8]) {
    protocol_header(data);
    for limits in &LIMITS {
        let mut rest = data;
        while let Some(size) = first_frame(rest, limits) {
            rest = &rest[size..];
        }
    }
}

/// Checks what `input` begins with, and gives its size if that is a frame.
fn first_frame(input: &[u8], limits: &FrameLimits) -> Option<usize> {
    let whole = RawFrame::parse(input, limits);
    assert_eq!(matches!(whole, Ok(Some(_))), is_frame(input, limits), "{whole:?}");
    let parse = |size: usize| RawFrame::parse(&input[..size], limits);
    let decided = (0..=input.len())
        .find(|&size| parse(size) != Ok(None))
        .unwrap_or(input.len());
    for size in decided..input.len().min(decided + 10) {
        assert_eq!(
            parse(size),
            whole,
            "decided after {decided} octets, changed after {size}"
        );
    }
    match whole {
        Ok(Some(raw)) => {
            assert_eq!(raw.size(), decided);
            decode(&raw);
            Some(raw.size())
        }
        Ok(None) => {
            assert_eq!(wrong_start(input), None);
            assert!(
                input.len() < 8 || (input.len() as u64) < declared_size(input),
                "it is all there"
            );
            None
        }
        Err(error) => {
            protocol_error(&error, decided);
            if let Some(expected) = wrong_start(input) {
                assert_eq!(error.problem, expected);
            }
            None
        }
    }
}

/// Whether `input` begins with a whole frame under its limit; the smallest of all, 8 octets, is under any limit.
fn is_frame(input: &[u8], limits: &FrameLimits) -> bool {
    let limit = match input.first() {
        Some(1 | 2) => limits.other,
        Some(3) => limits.body,
        Some(8) if input.len() >= 7 && input[1..7] == [0; 6] => 8,
        _ => return false,
    };
    input.len() >= 8
        && declared_size(input) <= limit.max(8).into()
        && usize::try_from(declared_size(input) - 1).is_ok_and(|end| input.get(end) == Some(&0xCE))
}

/// What is wrong with eight octets and more that begin no frame: who says such a thing.
fn wrong_start(input: &[u8]) -> Option<Problem> {
    let start = *input.first_chunk::<8>()?;
    match start {
        [1..=3 | 8, ..] => None,
        [b'A', b'M', b'Q', b'P', a, b, c, d] => Some(Problem::ProtocolHeader([a, b, c, d])),
        // A TLS alert is seven octets, whatever follows it.
        [first @ 0x14..=0x17, 3, c, d, e, f, g, _] => Some(Problem::NotAmqp([first, 3, c, d, e, f, g, 0])),
        [b' '..=b'~', b' '..=b'~', b' '..=b'~', b' '..=b'~', ..] => Some(Problem::NotAmqp(start)),
        [other, ..] => Some(Problem::FrameType(other)),
    }
}

/// The size of the whole frame, as its header has it.
fn declared_size(input: &[u8]) -> u64 {
    u64::from(u32::from_be_bytes([input[3], input[4], input[5], input[6]])) + 8
}

fn decode(raw: &RawFrame<'_>) {
    one_line_debug(raw);
    let frame = match raw.decode() {
        Ok(frame) => frame,
        Err(error) => {
            assert!(matches!(raw.frame_type, FrameType::Method | FrameType::Header));
            return protocol_error(&error, raw.size());
        }
    };
    one_line(&frame);
    let octets = encoded(&frame);
    let limits = limits(u32::MAX, u32::MAX);
    let again = RawFrame::parse(&octets, &limits)
        .expect("written by us")
        .expect("all of it");
    assert_eq!(
        (again.frame_type, again.channel, again.size()),
        (raw.frame_type, raw.channel, octets.len())
    );
    assert_eq!(again.decode().as_ref(), Ok(&frame));
}

/// It is taken as it is in two spellings, waited for while it may become one, refused for good otherwise.
fn protocol_header(data: &[u8]) {
    let whole = parse_protocol_header(data);
    let is_it = data.starts_with(b"AMQP\0\0\x09\x01") || data.starts_with(b"AMQP\x01\x01\0\x09");
    assert_eq!(whole == Ok(Some(())), is_it);
    for size in 0..data.len().min(10) {
        match parse_protocol_header(&data[..size]) {
            Ok(None) => {}
            Ok(Some(())) => assert!(is_it),
            Err(problem) => {
                one_line(&problem);
                assert!(whole.is_err());
            }
        }
    }
}
