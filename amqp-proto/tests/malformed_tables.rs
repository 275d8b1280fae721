//! Tables that no honest peer sends: in a method they end the connection (502), in a message's headers they concern whoever
//! reads them. And what frames, tables and bodies look like when they are printed.

use amqp_proto::wire::{
    Argument, BasicDeliver, BasicReturn, ConnectionClose, ConnectionSecure, ConnectionSecureOk,
    ConnectionStart, ConnectionStartOk, ConnectionTune, ConnectionUpdateSecret, ContentHeader, Decimal,
    FieldArray, FieldArrayRef, FieldTable, FieldTableRef, FieldValue, Frame, FrameLimits, LongStr,
    MAX_TABLE_DEPTH, Method, MethodId, Problem, Properties, ProtocolError, QueueDeclare, RawFrame, ReplyCode,
    SecretStr, ShortStr, TableError, TableProblem,
};

const TRUNCATED: TableProblem = TableProblem::Truncated;

const fn unknown(tag: u8) -> TableProblem {
    TableProblem::UnknownType(tag)
}

/// A table's octets, what is wrong, and at which octet of it.
const UNREADABLE: &[(&[u8], TableProblem, usize)] = &[
    (b"\x01", TRUNCATED, 1),
    (b"\x05abcd", TRUNCATED, 1),
    (b"\xff", TRUNCATED, 1),
    (b"\x01k", TRUNCATED, 2),
    (b"\x00", TRUNCATED, 1),
    (b"\x01kt", TRUNCATED, 3),
    (b"\x01kb", TRUNCATED, 3),
    (b"\x01kB", TRUNCATED, 3),
    (b"\x01kU\0", TRUNCATED, 3),
    (b"\x01ks\0", TRUNCATED, 3),
    (b"\x01ku\0", TRUNCATED, 3),
    (b"\x01kI\0\0\0", TRUNCATED, 3),
    (b"\x01ki\0\0\0", TRUNCATED, 3),
    (b"\x01kl\0\0\0\0\0\0\0", TRUNCATED, 3),
    (b"\x01kL\0\0\0\0\0\0\0", TRUNCATED, 3),
    (b"\x01kf\0\0\0", TRUNCATED, 3),
    (b"\x01kd\0\0\0\0\0\0\0", TRUNCATED, 3),
    (b"\x01kD", TRUNCATED, 3),
    (b"\x01kD\0\0\0\0", TRUNCATED, 4),
    (b"\x01kT\0\0\0\0\0\0\0", TRUNCATED, 3),
    (b"\x01kS\0\0\0", TRUNCATED, 3),
    (b"\x01kS\0\0\0\x01", TRUNCATED, 7),
    (b"\x01kS\xff\xff\xff\xffabc", TRUNCATED, 7),
    (b"\x01kx\0\0\0\x02a", TRUNCATED, 7),
    (b"\x01kA\0\0\0\x02V", TRUNCATED, 7),
    (b"\x01kF\x80\0\0\0\x01kV", TRUNCATED, 7),
    // After entries that can be read.
    (b"\x01kV\x02ab", TRUNCATED, 6),
    (b"\x01kt\x01\x01kt", TRUNCATED, 7),
    (b"\x01kV\x01k\xff", unknown(0xff), 5),
    (b"\x01k\0", unknown(0), 2),
    (b"\x01kc\0", unknown(b'c'), 2),
    (b"\x01kE\0", unknown(b'E'), 2),
    (b"\x01kX\0\0\0\0", unknown(b'X'), 2),
];

/// The same inside a table or array inside.
const UNREADABLE_INSIDE: &[(&[u8], TableProblem, usize)] = &[
    (b"\x01kF\0\0\0\x01\x01", TRUNCATED, 8),
    (b"\x01kF\0\0\0\x03\x01at\x01bV", TRUNCATED, 10),
    (b"\x01kA\0\0\0\x03V?V\x01bV", unknown(b'?'), 8),
    (b"\x01aA\0\0\0\x05S\0\0\0\x01", TRUNCATED, 12),
    (b"\x01aF\0\0\0\x0b\x01bA\0\0\0\x04VVV?\x01cV", unknown(b'?'), 17),
];

fn queue_declare(table: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 50, 0, 10, 0, 0, 0, 0];
    payload.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(table);
    payload
}

/// Where a table of `queue_declare` begins in the frame.
const IN_METHOD: usize = 19;

fn header_with(table: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x08];
    payload.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(table);
    payload.extend_from_slice(b"\x03app");
    payload
}

#[test]
fn an_unreadable_table_in_a_method_is_502_at_its_octet() {
    for (table, problem, offset) in UNREADABLE.iter().chain(UNREADABLE_INSIDE) {
        let payload = queue_declare(table);
        let error = Method::decode(&payload).unwrap_err();
        let expected = ProtocolError::new(
            Problem::Table(*problem),
            "queue.declare arguments",
            IN_METHOD + offset,
        );
        assert_eq!(error, expected, "{table:?}");
        assert_eq!(error.reply_code(), ReplyCode::SYNTAX_ERROR);
    }
}

#[test]
fn arguments_after_the_table_do_not_shift_its_octets() {
    // connection.start has the table between two octets and two long strings.
    let mut payload = vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 3];
    payload.extend_from_slice(b"\x01k?\0\0\0\x05PLAIN\0\0\0\x05en_US");
    let error = Method::decode(&payload).unwrap_err();
    let problem = Problem::Table(unknown(b'?'));
    assert_eq!(
        error,
        ProtocolError::new(problem, "connection.start server_properties", 19)
    );
}

#[test]
fn a_table_longer_than_the_frame_is_501() {
    let mut payload = queue_declare(b"\x01kV");
    payload[11] = 4;
    let error = Method::decode(&payload).unwrap_err();
    assert_eq!(
        error,
        ProtocolError::new(Problem::Truncated, "queue.declare arguments", IN_METHOD)
    );
    let mut payload = header_with(b"\x01kV");
    payload[14..18].fill(0xff);
    let error = ContentHeader::decode(&payload).unwrap_err();
    assert_eq!(
        error,
        ProtocolError::new(Problem::Truncated, "content header headers", 25)
    );
}

#[test]
fn an_unreadable_header_table_is_its_readers_affair() {
    for (table, problem, offset) in UNREADABLE {
        let payload = header_with(table);
        let properties = ContentHeader::decode(&payload).unwrap().properties;
        assert_eq!(properties.app_id.unwrap(), "app");
        let headers = properties.headers.unwrap();
        let expected: TableError = headers.validate().unwrap_err();
        assert_eq!(
            (expected.problem, expected.offset),
            (*problem, *offset),
            "{table:?}"
        );

        // What stands before it is read, then it is told once, then there is nothing more.
        let entries: Vec<_> = headers.iter().collect();
        let (last, before) = entries.split_last().unwrap();
        assert!(before.iter().all(Result::is_ok));
        assert_eq!(*last, Err(expected));
        assert_eq!(headers.get("not there"), Err(expected));
        assert_eq!(headers.to_owned(), Err(expected));
        let mut entries = headers.iter();
        assert!(entries.any(|entry| entry.is_err()));
        assert_eq!((entries.next(), entries.next()), (None, None));
        assert!(format!("{headers:?}").contains(&format!("<{expected}>")));

        // It goes out as it came in.
        let mut out = Vec::new();
        let frame = Frame::Header {
            channel: 1,
            header: ContentHeader::decode(&payload).unwrap(),
        };
        frame.encode(&mut out, 4096).unwrap();
        assert_eq!(out[7..out.len() - 1], payload);
    }
}

#[test]
fn the_walk_of_a_table_does_not_enter_the_tables_inside() {
    for (table, problem, offset) in UNREADABLE_INSIDE {
        let headers = FieldTableRef::from_encoded(table);
        assert!(headers.iter().all(|entry| entry.is_ok()), "{table:?}");
        let error = headers.validate().unwrap_err();
        assert_eq!((error.problem, error.offset), (*problem, *offset), "{table:?}");
    }
}

#[test]
fn errors_of_tables_say_what_and_where() {
    for (table, text) in [
        (
            &b"\x05abcd"[..],
            "table entry runs past the end of its table (octet 1 of the table)",
        ),
        (b"\x01k?", "unknown field type 0x3f (octet 2 of the table)"),
        (
            &bomb(65, Kind::Table),
            "tables nested deeper than 64 (octet 448 of the table)",
        ),
    ] {
        let error = FieldTableRef::from_encoded(table).validate().unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn tags_only_others_write_are_read_and_never_written() {
    let octets = b"\x01uU\x80\0\x01lL\xff\0\0\0\0\0\0\0\x01tt\x07";
    let method = queue_declare(octets);
    let Method::QueueDeclare(QueueDeclare { arguments, .. }) = Method::decode(&method).unwrap() else {
        panic!("not a declare")
    };
    assert_eq!(arguments.get("u"), Ok(Some(FieldValue::I16(i16::MIN))));
    assert_eq!(
        arguments.get("l"),
        Ok(Some(FieldValue::I64(-0x0100_0000_0000_0000)))
    );
    let mut copy = FieldTable::new();
    for entry in arguments {
        let (key, value) = entry.unwrap();
        copy.insert(key.to_str().unwrap(), value).unwrap();
    }
    assert_eq!(
        copy.as_ref().as_encoded(),
        b"\x01us\x80\0\x01ll\xff\0\0\0\0\0\0\0\x01tt\x01"
    );
}

#[derive(Clone, Copy)]
enum Kind {
    Table,
    Array,
}

/// The contents of a table with one entry, a table or array with one item, and so on: `depth` levels, this table counted.
fn bomb(depth: usize, kind: Kind) -> Vec<u8> {
    let (start, size): (&[u8], usize) = match kind {
        Kind::Table => (b"\x01kF", 7),
        Kind::Array => (b"A", 5),
    };
    let mut octets = Vec::new();
    if let (Kind::Array, 2..) = (kind, depth) {
        octets.extend_from_slice(b"\x01k");
    }
    for inside in (0..depth - 1).rev() {
        octets.extend_from_slice(start);
        octets.extend_from_slice(&u32::try_from(inside * size).unwrap().to_be_bytes());
    }
    octets
}

#[test]
fn sixty_four_levels_are_taken_and_sixty_five_are_not() {
    assert_eq!(MAX_TABLE_DEPTH, 64);
    for (kind, offset) in [(Kind::Table, 64 * 7), (Kind::Array, 2 + 64 * 5)] {
        for depth in [1, 2, 63, 64] {
            let octets = bomb(depth, kind);
            let table = FieldTableRef::from_encoded(&octets);
            assert_eq!(table.validate(), Ok(()));
            assert_eq!(table.to_owned().unwrap().as_ref(), table);
            Method::decode(&queue_declare(&octets)).unwrap();
        }
        for depth in [65, 66, 1000] {
            let octets = bomb(depth, kind);
            let error = FieldTableRef::from_encoded(&octets).validate().unwrap_err();
            assert_eq!((error.problem, error.offset), (TableProblem::TooDeep, offset));
            let error = Method::decode(&queue_declare(&octets)).unwrap_err();
            assert_eq!(error.problem, Problem::Table(TableProblem::TooDeep));
            assert_eq!(error.offset, IN_METHOD + offset);
        }
    }
}

#[test]
fn a_bomb_of_100_000_levels_costs_nothing_until_it_is_read_and_no_stack_then() {
    for kind in [Kind::Table, Kind::Array] {
        let table = bomb(100_000, kind);
        let payload = header_with(&table);
        let mut octets = vec![2, 0, 1];
        octets.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        octets.extend_from_slice(&payload);
        octets.push(0xCE);
        let limits = FrameLimits {
            body: 4096,
            other: 1 << 20,
        };
        let frame = RawFrame::parse(&octets, &limits)
            .unwrap()
            .unwrap()
            .decode()
            .unwrap();
        let Frame::Header { header, .. } = frame else {
            panic!("not a header")
        };
        let headers = header.properties.headers.unwrap();
        assert_eq!(headers.as_encoded(), table);
        assert_eq!(headers.iter().count(), 1);
        let hidden = match kind {
            Kind::Table => "{…}",
            Kind::Array => "[…]",
        };
        for text in [format!("{frame}"), format!("{frame:?}"), format!("{headers:?}")] {
            assert!(text.contains(hidden) && text.len() < 2000, "{text}");
        }
        assert!(headers.validate().is_err());
        assert_eq!(
            Method::decode(&queue_declare(&table)).unwrap_err().problem,
            Problem::Table(TableProblem::TooDeep)
        );
        assert!(
            FieldTable::new()
                .with("bomb", FieldValue::Table(headers))
                .is_err()
        );
        assert!(
            FieldArray::new()
                .push(FieldValue::Array(FieldArrayRef::from_encoded(&bomb(
                    100_000, kind
                ))))
                .is_err()
        );
    }
}

fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

/// Every kind of argument at least once.
#[test]
fn methods_print_as_name_and_arguments() {
    let table = FieldTable::new()
        .with("x-max-length", 5)
        .and_then(|table| table.with("raw", FieldValue::ByteArray(b"\0\xff")))
        .unwrap();
    let cases: Vec<(Method<'_>, &str)> = vec![
        (
            QueueDeclare {
                queue: short("a \"b\"\n"),
                durable: true,
                no_wait: true,
                arguments: table.as_ref(),
                ..Default::default()
            }
            .into(),
            r#"queue.declare queue="a \"b\"\n" durable no_wait arguments={"x-max-length": 5, "raw": 0x00ff}"#,
        ),
        (QueueDeclare::default().into(), r#"queue.declare queue="""#),
        (
            ConnectionStart {
                mechanisms: LongStr::new(b"PLAIN \xff"),
                ..Default::default()
            }
            .into(),
            r#"connection.start version_major=0 version_minor=9 mechanisms="PLAIN \xff" locales="en_US""#,
        ),
        (
            ConnectionStartOk {
                response: SecretStr::new(b"\0guest\0guest"),
                ..Default::default()
            }
            .into(),
            r#"connection.start-ok mechanism="PLAIN" response=<12 secret octets> locale="en_US""#,
        ),
        (
            ConnectionSecure {
                challenge: "which?".into(),
            }
            .into(),
            r#"connection.secure challenge="which?""#,
        ),
        (
            ConnectionTune {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 60,
            }
            .into(),
            "connection.tune channel_max=2047 frame_max=131072 heartbeat=60",
        ),
        (
            ConnectionClose {
                reply_code: ReplyCode::CONNECTION_FORCED,
                reply_text: short("CONNECTION_FORCED - bye"),
                class_id: 0,
                method_id: 0,
            }
            .into(),
            concat!(
                "connection.close reply_code=320 CONNECTION_FORCED reply_text=\"CONNECTION_FORCED - bye\" ",
                "class_id=0 method_id=0"
            ),
        ),
        (
            BasicDeliver {
                consumer_tag: short("ctag"),
                delivery_tag: u64::MAX,
                redelivered: true,
                exchange: ShortStr::EMPTY,
                routing_key: short("key"),
            }
            .into(),
            concat!(
                "basic.deliver consumer_tag=\"ctag\" delivery_tag=18446744073709551615 redelivered ",
                "exchange=\"\" routing_key=\"key\""
            ),
        ),
        (
            BasicReturn {
                reply_code: ReplyCode(999),
                ..Default::default()
            }
            .into(),
            r#"basic.return reply_code=999 reply_text="" exchange="" routing_key="""#,
        ),
    ];
    for (method, text) in cases {
        assert_eq!(method.to_string(), text);
        let frame = Frame::Method { channel: 9, method };
        assert_eq!(frame.to_string(), format!("ch 9 {text}"));
    }
}

#[test]
fn nothing_prints_a_secret() {
    let methods: [Method<'_>; 3] = [
        ConnectionStartOk {
            response: SecretStr::new(b"hunter2"),
            ..Default::default()
        }
        .into(),
        ConnectionSecureOk {
            response: SecretStr::new(b"hunter2"),
        }
        .into(),
        ConnectionUpdateSecret {
            new_secret: SecretStr::new(b"hunter2"),
            ..Default::default()
        }
        .into(),
    ];
    for method in methods {
        let mut octets = Vec::new();
        method.encode(&mut octets, 0, 4096).unwrap();
        assert!(octets.windows(7).any(|window| window == b"hunter2"));
        let raw = RawFrame::parse(&octets, &FrameLimits::default())
            .unwrap()
            .unwrap();
        let frame = raw.decode().unwrap();
        let mut texts = vec![format!("{frame} {frame:?} {method} {method:?} {raw:?}")];
        method.for_each_argument(&mut |_, argument| {
            texts.push(format!("{argument:?}"));
            if let Argument::Secret(secret) = argument {
                assert_eq!(secret.to_str(), Ok("hunter2"));
                assert_eq!((secret.len(), secret.is_empty()), (7, false));
            }
        });
        for text in texts {
            assert!(!text.contains("hunter2"), "{text}");
            assert!(!text.contains("104, 117"), "{text}");
        }
    }
}

#[test]
fn headers_print_the_properties_that_are_there() {
    let mut array = FieldArray::new();
    array.push(1.5_f64).unwrap();
    array
        .push(FieldValue::Decimal(Decimal { scale: 2, raw: 314 }))
        .unwrap();
    array.push(FieldValue::Void).unwrap();
    let table = FieldTable::new()
        .with("a", &array)
        .and_then(|table| table.with("t", FieldValue::Timestamp(17)))
        .unwrap();
    let header = ContentHeader {
        body_size: 1 << 40,
        properties: Properties {
            content_type: Some(short("text/plain")),
            headers: Some(table.as_ref()),
            delivery_mode: Some(Properties::PERSISTENT),
            timestamp: Some(1_700_000_000),
            ..Default::default()
        },
    };
    assert_eq!(
        Frame::Header { channel: 2, header }.to_string(),
        concat!(
            "ch 2 header body_size=1099511627776 content_type=\"text/plain\" ",
            "headers={\"a\": [1.5, 314e-2, void], \"t\": @17} delivery_mode=2 timestamp=1700000000"
        )
    );
    assert_eq!(ContentHeader::default().to_string(), "header body_size=0");
}

#[test]
fn of_a_body_32_octets_are_printed() {
    for (payload, text) in [
        (&b""[..], r#"ch 5 body 0 octets """#),
        (b"\x00hi\xff", r#"ch 5 body 4 octets "\0hi\xff""#),
        (
            &[b'x'; 32],
            &format!("ch 5 body 32 octets \"{}\"", "x".repeat(32)),
        ),
        (
            &[b'x'; 33],
            &format!("ch 5 body 33 octets \"{}\"…", "x".repeat(32)),
        ),
        (
            &[b'x'; 9000],
            &format!("ch 5 body 9000 octets \"{}\"…", "x".repeat(32)),
        ),
    ] {
        assert_eq!(Frame::Body { channel: 5, payload }.to_string(), text);
    }
    assert_eq!(Frame::Heartbeat.to_string(), "ch 0 heartbeat");
}

#[test]
fn a_method_id_prints_its_name_if_it_has_one() {
    let id = |class, method| MethodId { class, method };
    assert_eq!(id(40, 51).to_string(), "exchange.unbind-ok");
    assert_eq!(id(40, 41).to_string(), "40.41");
    assert_eq!(id(0, 0).to_string(), "0.0");
}
