//! Traces of connections that never were.

use std::io::Write;

use amqp_proto::Instant;
use amqp_proto::trace::{Direction, FrameTap, TraceWriter};
use amqp_proto::wire::{ConnectionStartOk, HEARTBEAT, PROTOCOL_HEADER, SecretStr};

use crate::{declare, dump, method, publish, start};

fn writer() -> TraceWriter {
    let mut writer = TraceWriter::new(10_000);
    let mut frame = |nanos, direction, channel, octets: &[u8]| {
        writer.frame(Instant::from_nanos(nanos), direction, channel, octets);
    };
    let start_ok = ConnectionStartOk {
        response: SecretStr::new(b"\0ann\0s3cret"),
        ..Default::default()
    };
    frame(1_000_000, Direction::Sent, 0, &PROTOCOL_HEADER);
    frame(1_500_000, Direction::Sent, 0, &method(0, start_ok));
    frame(2_000_000, Direction::Sent, 1, &declare("hello"));
    frame(1_234_567_890_123, Direction::Received, 0, &HEARTBEAT);
    writer
}

const LINES: [&str; 4] = [
    "0.001000000 -> protocol header",
    r#"0.001500000 -> ch 0 connection.start-ok mechanism="PLAIN" response=<11 secret octets> locale="en_US""#,
    r#"0.002000000 -> ch 1 queue.declare queue="hello""#,
    "1234.567890123 <- ch 0 heartbeat",
];

#[test]
fn each_frame_has_its_time_and_direction() {
    let trace = writer().take();
    assert_eq!(dump(&[], &trace).clean().lines(), LINES);
    let json = dump(&["--json"], &trace).clean();
    assert_eq!(
        json.lines()[0],
        r#"{"nanoseconds":1000000,"direction":"sent","type":"protocol-header"}"#
    );
    assert_eq!(
        json.lines()[3],
        r#"{"nanoseconds":1234567890123,"direction":"received","channel":0,"type":"heartbeat"}"#
    );
    assert_eq!(json.json()[2]["arguments"]["queue"], "hello");
}

#[test]
fn a_trace_is_read_in_any_pieces() {
    let trace = writer().take();
    let mut child = start(&[]);
    let mut stdin = child.stdin.take().unwrap();
    for octet in trace {
        stdin.write_all(&[octet]).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .collect::<Vec<_>>(),
        LINES
    );
    assert!(output.status.success());
}

#[test]
fn a_trace_with_troubles_tells_them_and_goes_on_where_it_can() {
    let mut writer = writer();
    let start = writer.len();
    let now = Instant::from_nanos(5);
    writer.frame(now, Direction::Sent, 3, &publish("a", b"b"));
    writer.frame(now, Direction::Sent, 3, &[1, 0, 3]);
    writer.frame(now, Direction::Sent, 3, &[9; 12]);
    writer.frame(now, Direction::Sent, 3, &vec![0; 10_000]);
    let mut trace = writer.take();
    writer.frame(now, Direction::Received, 0, &HEARTBEAT);
    let rest = writer.take();
    trace.extend(&rest);
    trace.extend(&rest[..20]);

    let result = dump(&[], &trace);
    assert!(!result.is_success);
    assert_eq!(result.lines()[..4], LINES);
    assert_eq!(result.lines().last(), Some(&"0.000000005 <- ch 0 heartbeat"));
    let size = publish("a", b"b").len();
    let second = start + 15 + size;
    let third = second + 15 + 3;
    let gap = third + 15 + 12;
    assert_eq!(
        result.stderr.lines().collect::<Vec<_>>(),
        [
            format!("octet {start} of the trace: 0.000000005 -> ch 3 {size} octets that are not one frame"),
            format!("octet {second} of the trace: 0.000000005 -> ch 3 3 octets that are not one frame"),
            format!(
                "octet {third} of the trace: 0.000000005 -> ch 3 unknown frame type 9 (in frame header, octet 0 of the frame)"
            ),
            format!("octet {gap} of the trace: 1 frames were left out"),
            format!(
                "octet {} of the trace: the trace ends too soon: of what begins here, 20 octets are there",
                gap + 15 + 23
            ),
        ]
    );
}

#[test]
fn what_begins_like_a_trace_and_is_none_is_an_error() {
    let trace = writer().take();
    let newer = [&trace[..7], &[2], &trace[8..]].concat();
    assert_eq!(
        dump(&[], &newer).stderr,
        "octet 7 of the trace: version 2 of the format is unknown\n"
    );
    let unknown = [&trace[..], &[9; 15]].concat();
    let result = dump(&[], &unknown);
    assert_eq!(result.lines(), LINES);
    assert_eq!(
        result.stderr,
        format!("octet {} of the trace: unknown kind of record 9\n", trace.len())
    );
    let short = dump(&[], &trace[..7]);
    assert!(
        !short.is_success && short.stderr.contains("ends too soon"),
        "{short:?}"
    );
    let empty = dump(&[], &trace[..8]).clean();
    assert_eq!(empty.stdout, "");
}
