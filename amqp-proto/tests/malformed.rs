//! What no honest peer sends: each kind of it gives its own problem, at its octet, with its reply code, and nothing else
//! happens. Tables and their contents are in `malformed_tables.rs`.

use amqp_proto::RecvBuf;
use amqp_proto::wire::{
    ArgumentSpec, BasicPublish, ContentHeader, Domain, EncodeError, FRAME_OVERHEAD, FieldTable, Frame,
    FrameLimits, FrameType, HEADER_SIZE, HEARTBEAT, METHODS, Method, PROTOCOL_HEADER, Problem, Properties,
    ProtocolError, QueueDeclare, RawFrame, ReplyCode, ShortStr, TableProblem, parse_protocol_header,
};

/// A frame of any type, channel and payload, correct or not.
fn frame(frame_type: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![frame_type];
    octets.extend_from_slice(&channel.to_be_bytes());
    octets.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    octets.extend_from_slice(payload);
    octets.push(0xCE);
    octets
}

fn parse(octets: &[u8]) -> Result<Option<RawFrame<'_>>, ProtocolError> {
    RawFrame::parse(octets, &FrameLimits::default())
}

/// Delimits and decodes.
fn decode(octets: &[u8]) -> Result<Frame<'_>, ProtocolError> {
    parse(octets)?.expect("a whole frame").decode()
}

/// Input, problem, place, offset, reply code, text.
type Case<'a> = (&'a [u8], Problem, &'static str, usize, u16, &'static str);

/// One input for each kind of problem.
#[test]
fn every_problem_has_its_place_code_and_text() {
    let table_in_method = [
        &[0, 50, 0, 10, 0, 0, 0, 0, 0, 0, 0, 3][..],
        b"\x01k?", // unknown type
    ]
    .concat();
    let header = |class: u16, weight: u16, flags: u16| {
        let [c0, c1] = class.to_be_bytes();
        let [w0, w1] = weight.to_be_bytes();
        let [f0, f1] = flags.to_be_bytes();
        frame(2, 1, &[c0, c1, w0, w1, 0, 0, 0, 0, 0, 0, 0, 0, f0, f1])
    };
    let mut wrong_end = HEARTBEAT;
    wrong_end[7] = 0xCD;
    let cases: &[Case<'_>] = &[
        (
            b"AMQP\x03\x01\x00\x00",
            Problem::ProtocolHeader([3, 1, 0, 0]),
            "frame header",
            0,
            501,
            "the peer wants another protocol version: AMQP 3 1 0 0",
        ),
        (
            b"HTTP/1.1 400 Bad Request",
            Problem::NotAmqp(*b"HTTP/1.1"),
            "frame header",
            0,
            501,
            "the peer does not speak AMQP, it began with \"HTTP/1.1\"",
        ),
        (
            &[7, 0, 0],
            Problem::FrameType(7),
            "frame header",
            0,
            501,
            "unknown frame type 7",
        ),
        (
            &wrong_end,
            Problem::FrameEnd(0xCD),
            "frame end",
            7,
            501,
            "frame ends in 0xcd instead of 0xce",
        ),
        (
            &[3, 0, 1, 0x7f, 0xff, 0xff, 0xff],
            Problem::FrameTooLarge {
                size: 0x8000_0007,
                limit: 131_072,
            },
            "frame header",
            3,
            501,
            "frame of 2147483655 octets is over the limit of 131072",
        ),
        (
            &frame(1, 1, &[0, 60, 0]),
            Problem::Truncated,
            "method id",
            10,
            501,
            "value runs past the end of the frame",
        ),
        (
            &frame(1, 1, &[0, 20, 0, 41, 1, 2, 3]),
            Problem::Trailing(3),
            "channel.close-ok",
            11,
            501,
            "3 octets too many after the last value",
        ),
        (
            &[8, 0, 0, 0, 0, 0, 2],
            Problem::HeartbeatPayload(2),
            "frame header",
            3,
            501,
            "heartbeat with a payload of 2 octets",
        ),
        (
            &[8, 1, 2, 0, 0, 0, 0],
            Problem::HeartbeatChannel(258),
            "frame header",
            1,
            505,
            "heartbeat on channel 258",
        ),
        (
            &frame(1, 1, &[0, 60, 0, 61]),
            Problem::UnknownMethod {
                class: 60,
                method: 61,
            },
            "method id",
            7,
            503,
            "unknown method 61 of class 60",
        ),
        (
            &header(50, 0, 0),
            Problem::ContentClass(50),
            "content header",
            7,
            505,
            "content of class 50",
        ),
        (
            &header(60, 1, 0),
            Problem::ContentWeight(1),
            "content header",
            9,
            505,
            "content of weight 1",
        ),
        (
            &header(60, 0, 0x0003),
            Problem::PropertyFlags(3),
            "content header",
            19,
            502,
            "unknown property flags 0x0003",
        ),
        (
            &frame(1, 1, &table_in_method),
            Problem::Table(TableProblem::UnknownType(b'?')),
            "queue.declare arguments",
            21,
            502,
            "unknown field type 0x3f",
        ),
    ];
    let kinds: std::collections::HashSet<_> = cases
        .iter()
        .map(|(_, problem, ..)| std::mem::discriminant(problem))
        .collect();
    assert_eq!(kinds.len(), 14);
    for (octets, problem, place, offset, code, text) in cases {
        let error = match parse(octets) {
            Ok(raw) => raw.expect("a whole frame").decode().unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(
            error,
            ProtocolError::new(problem.clone(), place, *offset),
            "{octets:?}"
        );
        assert_eq!(error.reply_code(), ReplyCode(*code), "{problem}");
        assert_eq!(
            error.to_string(),
            format!("{text} (in {place}, octet {offset} of the frame)")
        );
        assert_eq!(problem.to_string(), *text);
    }
}

#[test]
fn a_frame_that_is_not_all_there_is_waited_for() {
    for octets in [
        &HEARTBEAT[..],
        &frame(1, 3, &[0, 20, 0, 41]),
        &frame(2, 3, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0]),
        &frame(3, 3, b""),
        &frame(3, 3, &[0xCE; 300]),
    ] {
        for end in 0..octets.len() {
            assert_eq!(parse(&octets[..end]), Ok(None), "{end} of {octets:?}");
        }
        let followed = [octets, b"\x01\x00"].concat();
        for input in [octets, &followed] {
            let raw = parse(input).unwrap().unwrap();
            assert_eq!(raw.size(), octets.len());
            raw.decode().unwrap();
        }
    }
}

#[test]
fn limits_hold_to_the_octet_as_soon_as_the_header_is_there() {
    let limits = FrameLimits {
        body: 5000,
        other: 6000,
    };
    for (frame_type, limit) in [(1, 6000), (2, 6000), (3, 5000)] {
        let largest = vec![0; limit as usize - 8];
        let octets = frame(frame_type, 1, &largest);
        let raw = RawFrame::parse(&octets, &limits).unwrap().unwrap();
        assert_eq!((raw.size(), raw.payload), (limit as usize, &largest[..]));
        assert_eq!(RawFrame::parse(&octets[..HEADER_SIZE], &limits), Ok(None));

        let over = frame(frame_type, 1, &vec![0; limit as usize - 7]);
        let error = ProtocolError::new(
            Problem::FrameTooLarge {
                size: u64::from(limit) + 1,
                limit,
            },
            "frame header",
            3,
        );
        for end in 0..HEADER_SIZE {
            assert_eq!(RawFrame::parse(&over[..end], &limits), Ok(None));
        }
        for end in [HEADER_SIZE, HEADER_SIZE + 1, over.len()] {
            assert_eq!(RawFrame::parse(&over[..end], &limits), Err(error.clone()));
        }
    }
    let nothing = FrameLimits { body: 0, other: 7 };
    assert!(RawFrame::parse(&frame(3, 1, b"a"), &nothing).is_err());
    let all = FrameLimits {
        body: u32::MAX,
        other: u32::MAX,
    };
    let largest = [3, 0, 1, 0xff, 0xff, 0xff, 0xf7];
    assert_eq!(RawFrame::parse(&largest, &all), Ok(None));
    let over = [3, 0, 1, 0xff, 0xff, 0xff, 0xf8];
    let error = RawFrame::parse(&over, &all).unwrap_err();
    assert_eq!(
        error.problem,
        Problem::FrameTooLarge {
            size: 1 << 32,
            limit: u32::MAX
        }
    );
}

#[test]
fn the_default_limits_are_what_rabbitmq_proposes() {
    assert_eq!(
        FrameLimits::default(),
        FrameLimits {
            body: 131_072,
            other: 131_072
        }
    );
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut input = RecvBuf::new();
    input.extend(&[3, 0, 1, 0, 1, 0xff, 0xf8]);
    assert_eq!(parse(input.unread()), Ok(None));
    assert_eq!(input.spare_mut().len(), 4096 - HEADER_SIZE);
    assert_eq!(input.capacity(), 4096);
}

#[test]
fn the_end_octet_is_looked_at_where_the_header_says() {
    let mut octets = frame(3, 9, b"four");
    for end in (0..=255).filter(|end| *end != 0xCE) {
        *octets.last_mut().unwrap() = end;
        let error = ProtocolError::new(Problem::FrameEnd(end), "frame end", 11);
        assert_eq!(parse(&octets), Err(error));
    }
}

#[test]
fn other_frame_types_are_refused_at_the_first_octet() {
    for first in (0..=255).filter(|first| !matches!(first, 1 | 2 | 3 | 8 | 0x14..=0x17 | b' '..=b'~')) {
        for input in [&[first][..], &[first, 0, 0, 0, 0, 0, 0, 0xCE]] {
            let error = ProtocolError::new(Problem::FrameType(first), "frame header", 0);
            assert_eq!(parse(input), Err(error));
        }
    }
    // Letters and TLS's numbers are waited for while they can be text, or a record, and no longer.
    for (input, expected) in [
        (&b"G"[..], Ok(None)),
        (b"GE\0", Err(Problem::FrameType(b'G'))),
        (b"\x15", Ok(None)),
        (b"\x15\x02", Err(Problem::FrameType(0x15))),
        (b"\x14\x04\x01", Err(Problem::FrameType(0x14))),
        (b"\x17\x03\x01", Ok(None)),
        (b"\x18\x03\x01", Err(Problem::FrameType(0x18))),
        (b"\x13\x03\x01", Err(Problem::FrameType(0x13))),
        (b"AMX\0\0\0\0\0", Err(Problem::FrameType(b'A'))),
    ] {
        assert_eq!(parse(input).map_err(|error| error.problem), expected, "{input:?}");
    }
}

/// What answers instead of a broker, and how many octets it takes to know.
#[test]
fn another_protocol_is_named_and_its_beginning_is_waited_for() {
    for (input, enough, expected) in [
        (
            &b"AMQP\x00\x00\x09\x01"[..],
            8,
            Problem::ProtocolHeader([0, 0, 9, 1]),
        ),
        (
            b"AMQP\x00\x03\x01\x00\x00",
            8,
            Problem::ProtocolHeader([0, 3, 1, 0]),
        ),
        (b"HTTP/1.1 400 Bad Request\r\n", 8, Problem::NotAmqp(*b"HTTP/1.1")),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 8, Problem::NotAmqp(*b"SSH-2.0-")),
        (b"220 mail.example ESMTP\r\n", 8, Problem::NotAmqp(*b"220 mail")),
        (b"AMQX/1.0", 8, Problem::NotAmqp(*b"AMQX/1.0")),
        (
            b"\x15\x03\x03\x00\x02\x02\x46",
            7,
            Problem::NotAmqp(*b"\x15\x03\x03\x00\x02\x02\x46\x00"),
        ),
        (
            b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76",
            7,
            Problem::NotAmqp(*b"\x16\x03\x03\x00\x7a\x02\x00\x00"),
        ),
    ] {
        for end in 0..enough {
            assert_eq!(parse(&input[..end]), Ok(None), "{end} of {input:?}");
        }
        let error = ProtocolError::new(expected, "frame header", 0);
        assert_eq!(parse(input), Err(error.clone()));
        if enough == 8 {
            assert_eq!(parse(&input[..8]), Err(error));
        }
    }
}

#[test]
fn a_server_takes_this_protocol_only() {
    for end in 0..8 {
        assert_eq!(parse_protocol_header(&PROTOCOL_HEADER[..end]), Ok(None));
    }
    for (input, expected) in [
        (&b"B"[..], *b"B\0\0\0\0\0\0\0"),
        (b"AMQ\0", *b"AMQ\0\0\0\0\0"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
            *b"\x16\x03\x01\x02\x00\x01\x00\x01",
        ),
    ] {
        assert_eq!(parse_protocol_header(input), Err(Problem::NotAmqp(expected)));
    }
    for version in [
        [0, 0, 9, 0],
        [0, 0, 8, 1],
        [1, 1, 0, 8],
        [1, 0, 0, 9],
        [0, 1, 0, 0],
    ] {
        let input = [&b"AMQP"[..], &version].concat();
        assert_eq!(
            parse_protocol_header(&input),
            Err(Problem::ProtocolHeader(version))
        );
    }
}

/// Where an argument stands in its method's payload: octets before its value, of these the length's, end of the value.
struct Place {
    name: &'static str,
    start: usize,
    length: usize,
    end: usize,
}

/// A payload with something in every argument of a method, and where each begins and ends. Bits get the octet they share.
fn filled(id: [u8; 4], arguments: &'static [ArgumentSpec]) -> (Vec<u8>, Vec<Place>) {
    let mut payload = id.to_vec();
    let mut places: Vec<Place> = Vec::new();
    let mut bits = 0;
    for argument in arguments {
        let start = payload.len();
        let (value, length): (&[u8], usize) = match argument.domain {
            Domain::bit if bits % 8 != 0 => (b"", 0),
            Domain::bit => (b"\xff", 0),
            Domain::octet => (b"\x01", 0),
            Domain::short | Domain::reply_code => (b"\x01\x02", 0),
            Domain::long => (b"\x01\x02\x03\x04", 0),
            Domain::longlong => (b"\x01\x02\x03\x04\x05\x06\x07\x08", 0),
            Domain::shortstr => (b"\x05short", 1),
            Domain::longstr | Domain::secret => (b"\0\0\0\x04long", 4),
            Domain::table => (b"\0\0\0\x08\x01kS\0\0\0\x01v", 4),
        };
        bits = if argument.domain == Domain::bit {
            bits + 1
        } else {
            0
        };
        payload.extend_from_slice(value);
        if !value.is_empty() {
            places.push(Place {
                name: argument.name,
                start,
                length,
                end: payload.len(),
            });
        }
    }
    (payload, places)
}

fn method_payload(spec: &'static amqp_proto::wire::MethodSpec) -> (Vec<u8>, Vec<Place>) {
    let [c0, c1] = spec.id.class.to_be_bytes();
    let [m0, m1] = spec.id.method.to_be_bytes();
    filled([c0, c1, m0, m1], spec.arguments)
}

#[test]
fn a_method_that_ends_too_soon_is_refused_where_the_octets_are_missing() {
    for spec in METHODS {
        let (payload, places) = method_payload(spec);
        decode(&frame(1, 1, &payload)).unwrap();
        for end in 0..payload.len() {
            let (place, offset) = match places.iter().find(|place| place.end > end) {
                _ if end < 4 => ("method id".to_owned(), end),
                Some(place) if end < place.start + place.length => {
                    (format!("{} {}", spec.name, place.name), place.start)
                }
                Some(place) => (
                    format!("{} {}", spec.name, place.name),
                    place.start + place.length,
                ),
                None => unreachable!("the last place ends with the payload"),
            };
            let error = decode(&frame(1, 1, &payload[..end])).unwrap_err();
            assert_eq!(error.problem, Problem::Truncated);
            assert_eq!(
                (error.place, error.offset),
                (place.as_str(), HEADER_SIZE + offset),
                "{end} octets of {payload:?}"
            );
        }
    }
}

#[test]
fn a_method_that_ends_too_late_is_refused_where_it_should_have_ended() {
    for spec in METHODS {
        let (mut payload, _) = method_payload(spec);
        let end = HEADER_SIZE + payload.len();
        for count in [1, 2, 100] {
            payload.resize(end - HEADER_SIZE + count, 0);
            let error = ProtocolError::new(Problem::Trailing(count), spec.name, end);
            assert_eq!(decode(&frame(1, 1, &payload)), Err(error));
        }
    }
}

#[test]
fn reserved_arguments_are_not_looked_at_and_written_empty() {
    for spec in METHODS
        .iter()
        .filter(|spec| spec.arguments.iter().any(|argument| argument.name == "reserved"))
    {
        let (payload, _) = method_payload(spec);
        let octets = frame(1, 7, &payload);
        let decoded = decode(&octets).unwrap();
        let mut written = Vec::new();
        decoded.encode(&mut written, 4096).unwrap();
        assert_ne!(written, octets, "{}", spec.name);
        assert_eq!(decode(&written).unwrap(), decoded, "{}", spec.name);
    }
}

/// All 65 536 numbers of the classes that exist, and the neighbours of those.
#[test]
fn only_the_methods_of_the_table_are_known() {
    let mut known = 0;
    for class in 0..=100_u16 {
        for method in 0..=200_u16 {
            let [c0, c1] = class.to_be_bytes();
            let [m0, m1] = method.to_be_bytes();
            let octets = frame(1, 0, &[c0, c1, m0, m1]);
            let row = METHODS
                .iter()
                .find(|spec| (spec.id.class, spec.id.method) == (class, method));
            match (decode(&octets), row) {
                (Err(error), None) => {
                    let problem = Problem::UnknownMethod { class, method };
                    assert_eq!(error, ProtocolError::new(problem, "method id", HEADER_SIZE));
                }
                (Err(error), Some(_)) => assert_eq!(error.problem, Problem::Truncated),
                (Ok(Frame::Method { method, .. }), Some(row)) => assert_eq!(method.spec(), *row),
                other => panic!("{class} {method}: {other:?}"),
            }
            known += usize::from(row.is_some());
        }
    }
    assert_eq!(known, 66);
}

/// Properties in wire order with their flags and a value each: the octets, of these the length's.
const PROPERTIES: [(&str, u16, &[u8], usize); 14] = [
    ("content_type", 0x8000, b"\x02ct", 1),
    ("content_encoding", 0x4000, b"\x02ce", 1),
    ("headers", 0x2000, b"\0\0\0\x04\x01kt\x01", 4),
    ("delivery_mode", 0x1000, b"\x02", 0),
    ("priority", 0x0800, b"\x09", 0),
    ("correlation_id", 0x0400, b"\x02ci", 1),
    ("reply_to", 0x0200, b"\x02rt", 1),
    ("expiration", 0x0100, b"\x0260", 1),
    ("message_id", 0x0080, b"\x02mi", 1),
    ("timestamp", 0x0040, b"\0\0\0\0\x01\x02\x03\x04", 0),
    ("message_type", 0x0020, b"\x02ty", 1),
    ("user_id", 0x0010, b"\x02ui", 1),
    ("app_id", 0x0008, b"\x02ai", 1),
    ("cluster_id", 0x0004, b"\x02cl", 1),
];

#[test]
fn a_content_header_that_ends_too_soon_or_too_late_is_refused() {
    let start = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xfc];
    let mut payload = start.to_vec();
    let mut places = Vec::new();
    for (name, _, value, length) in PROPERTIES {
        let start = payload.len();
        payload.extend_from_slice(value);
        places.push((format!("content header {name}"), start, length, payload.len()));
    }
    let whole = frame(2, 1, &payload);
    let Frame::Header { header, .. } = decode(&whole).unwrap() else {
        panic!("not a header")
    };
    assert_eq!(header.body_size, 256);
    for end in 0..payload.len() {
        let (place, offset) = match places.iter().find(|(.., place_end)| *place_end > end) {
            // Class, weight, size and flags.
            _ if end < 2 => ("content header", 0),
            _ if end < 4 => ("content header", 2),
            _ if end < 12 => ("content header", 4),
            _ if end < 14 => ("content header", 12),
            Some((place, start, length, _)) if end < start + length => (place.as_str(), *start),
            Some((place, start, length, _)) => (place.as_str(), start + length),
            None => unreachable!("the last place ends with the payload"),
        };
        let error = decode(&frame(2, 1, &payload[..end])).unwrap_err();
        assert_eq!(error.problem, Problem::Truncated);
        assert_eq!(
            (error.place, error.offset),
            (place, HEADER_SIZE + offset),
            "{end}"
        );
    }
    for count in [1, 500] {
        let longer = [&payload[..], &vec![0; count]].concat();
        let error = ProtocolError::new(
            Problem::Trailing(count),
            "content header",
            HEADER_SIZE + payload.len(),
        );
        assert_eq!(decode(&frame(2, 1, &longer)), Err(error));
    }
}

/// The flag word of each property alone is in `official.rs`; here each alone comes back as itself.
#[test]
fn each_property_alone_is_read_as_itself() {
    for (name, flag, value, _) in PROPERTIES {
        let [f0, f1] = flag.to_be_bytes();
        let octets = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, f0, f1][..], value].concat();
        let header = ContentHeader::decode(&octets).unwrap();
        let mut names = Vec::new();
        header.properties.for_each(&mut |name, _| names.push(name));
        assert_eq!(names, [name]);
    }
}

#[test]
fn property_flags_that_nothing_has_are_refused_alone_and_among_others() {
    for (flags, unknown) in [(0x0001, 1), (0x0002, 2), (0xffff, 3), (0x8001, 1), (0x0802, 2)] {
        let [f0, f1] = u16::to_be_bytes(flags);
        let payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, f0, f1];
        let error = ProtocolError::new(Problem::PropertyFlags(unknown), "content header", 19);
        assert_eq!(decode(&frame(2, 1, &payload)), Err(error));
    }
}

#[test]
fn what_is_over_the_peers_limit_is_not_written() {
    let name = "q".repeat(255);
    let method = Method::from(QueueDeclare {
        queue: ShortStr::new(&name).unwrap(),
        ..Default::default()
    });
    let mut whole = Vec::new();
    method.encode(&mut whole, 1, 4096).unwrap();
    let table = FieldTable::new().with("key", "value").unwrap();
    let header = ContentHeader {
        body_size: 1,
        properties: Properties {
            headers: Some(table.as_ref()),
            ..Default::default()
        },
    };
    let frames = [
        (Frame::Method { channel: 1, method }, "queue.declare"),
        (Frame::Header { channel: 1, header }, "content header"),
        (
            Frame::Body {
                channel: 1,
                payload: &[7; 5000],
            },
            "body",
        ),
    ];
    for (frame, name) in frames {
        let mut whole = Vec::new();
        frame.encode(&mut whole, u32::MAX).unwrap();
        let size = u32::try_from(whole.len()).unwrap();

        let mut out = b"before".to_vec();
        frame.encode(&mut out, size).unwrap();
        assert_eq!(out[6..], whole);

        out.truncate(6);
        let error = frame.encode(&mut out, size - 1).unwrap_err();
        assert_eq!(out, b"before");
        assert_eq!(
            error,
            EncodeError::FrameTooLarge {
                name,
                size: whole.len(),
                limit: size - 1
            }
        );
        assert_eq!(
            error.to_string(),
            format!(
                "{name} makes a frame of {size} octets, and the peer accepts {}",
                size - 1
            )
        );
    }
    assert_eq!(whole[..7], [1, 0, 1, 0, 0, 1, 11]);
    assert_eq!(whole.len(), 267 + FRAME_OVERHEAD as usize);
}

#[test]
fn a_raw_frame_tells_its_size_and_not_its_payload() {
    let octets = frame(3, 300, b"secret");
    let raw = parse(&octets).unwrap().unwrap();
    assert_eq!(format!("{raw:?}"), "ch 300 Body frame, payload of 6 octets");
    assert_eq!((raw.frame_type, raw.size()), (FrameType::Body, 14));
}

#[test]
fn names_that_are_not_utf8_fail_only_where_text_is_asked_for() {
    let publish = BasicPublish {
        exchange: ShortStr::from_bytes(b"\xc3\x28").unwrap(),
        routing_key: ShortStr::from_bytes(b"ok").unwrap(),
        ..Default::default()
    };
    let mut octets = Vec::new();
    Method::from(publish).encode(&mut octets, 1, 4096).unwrap();
    let Frame::Method {
        method: Method::BasicPublish(decoded),
        ..
    } = decode(&octets).unwrap()
    else {
        panic!("not a publish")
    };
    assert_eq!(decoded, publish);
    assert!(decoded.exchange.to_str().is_err());
    assert_eq!(decoded.exchange.as_bytes(), b"\xc3\x28");
    assert_eq!(decoded.routing_key.to_str(), Ok("ok"));
    assert_eq!(
        Method::from(decoded).to_string(),
        r#"basic.publish exchange="\xc3(" routing_key="ok""#
    );
}
