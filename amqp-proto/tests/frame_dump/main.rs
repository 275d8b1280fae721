//! The example `frame_dump`, run as a program: over golden bytes, and over captures that are made here.
//!
//! `cargo test` builds the example; with `--test frame_dump` it does not, so that the tests run the one that is there.
#![expect(clippy::disallowed_methods, reason = "a test writes a file")]

mod captures;
mod golden;
mod traces;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use amqp_proto::wire::{
    BasicConsume, BasicPublish, ConnectionStartOk, ContentHeader, Decimal, FieldArray, FieldTable,
    FieldTableRef, FieldValue, Frame, HEARTBEAT, Method, PROTOCOL_HEADER, Properties, QueueDeclare,
    SecretStr,
};
use serde_json::{Value, json};

/// What the program did.
#[derive(Debug)]
struct Dump {
    stdout: String,
    stderr: String,
    is_success: bool,
}

impl Dump {
    fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    fn json(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// Fails unless all went well.
    #[track_caller]
    fn clean(self) -> Self {
        assert!(self.is_success && self.stderr.is_empty(), "{self:?}");
        self
    }
}

fn program() -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(format!("frame_dump{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is not there: `cargo build -p amqp-proto --example frame_dump` first (`cargo test` without --test does)",
        path.display()
    );
    Command::new(path)
}

fn start(arguments: &[&str]) -> Child {
    program()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn dump(arguments: &[&str], input: &[u8]) -> Dump {
    let mut child = start(arguments);
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It may end before it has read everything.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    Dump {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        is_success: output.status.success(),
    }
}

fn method<'a>(channel: u16, method: impl Into<Method<'a>>) -> Vec<u8> {
    let method = method.into();
    encoded(&Frame::Method { channel, method })
}

fn header(channel: u16, body_size: u64, properties: Properties<'_>) -> Vec<u8> {
    let header = ContentHeader {
        body_size,
        properties,
    };
    encoded(&Frame::Header { channel, header })
}

fn body(channel: u16, payload: &[u8]) -> Vec<u8> {
    encoded(&Frame::Body { channel, payload })
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut octets = Vec::new();
    frame.encode(&mut octets, u32::MAX).unwrap();
    octets
}

fn declare(queue: &str) -> Vec<u8> {
    let queue = queue.try_into().unwrap();
    method(
        1,
        QueueDeclare {
            queue,
            ..Default::default()
        },
    )
}

fn publish(routing_key: &str, payload: &[u8]) -> Vec<u8> {
    let routing_key = routing_key.try_into().unwrap();
    let publish = BasicPublish {
        routing_key,
        ..Default::default()
    };
    [
        method(1, publish),
        header(1, payload.len() as u64, Properties::default()),
        body(1, payload),
    ]
    .concat()
}

#[test]
fn each_frame_is_a_line() {
    let input = [
        &PROTOCOL_HEADER[..],
        &declare("hello\n"),
        &publish("hello", b"Hello World!"),
        &body(2, &[b'x'; 40]),
        &HEARTBEAT,
    ]
    .concat();
    let expected = [
        "protocol header",
        r#"ch 1 queue.declare queue="hello\n""#,
        r#"ch 1 basic.publish exchange="" routing_key="hello""#,
        "ch 1 header body_size=12",
        r#"ch 1 body 12 octets "Hello World!""#,
        r#"ch 2 body 40 octets "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"…"#,
        "ch 0 heartbeat",
    ];
    assert_eq!(dump(&[], &input).clean().lines(), expected);
    assert_eq!(dump(&["-"], &input).clean().lines(), expected);

    let file = std::env::temp_dir().join(format!("frame_dump-{}.bin", std::process::id()));
    fs::write(&file, &input).unwrap();
    let result = dump(&[file.to_str().unwrap()], b"");
    fs::remove_file(&file).unwrap();
    assert_eq!(result.clean().lines(), expected);
}

#[test]
fn json_has_every_argument_in_the_order_of_the_wire() {
    let input = [
        &PROTOCOL_HEADER[..],
        &declare("hello"),
        &header(1, 3, Properties::default()),
        &body(1, b"a\"b"),
        &body(1, b"\xff\x00"),
        &HEARTBEAT,
    ]
    .concat();
    assert_eq!(
        dump(&["--json"], &input).clean().lines(),
        [
            r#"{"type":"protocol-header"}"#,
            concat!(
                r#"{"channel":1,"type":"method","method":"queue.declare","arguments":{"queue":"hello","#,
                r#""passive":false,"durable":false,"exclusive":false,"auto_delete":false,"no_wait":false,"#,
                r#""arguments":{}}}"#
            ),
            r#"{"channel":1,"type":"header","body_size":3,"properties":{}}"#,
            r#"{"channel":1,"type":"body","body":{"size":3,"text":"a\"b"}}"#,
            r#"{"channel":1,"type":"body","body":{"size":2,"hex":"ff00"}}"#,
            r#"{"channel":0,"type":"heartbeat"}"#,
        ]
    );
}

#[test]
fn json_shows_what_json_does_not_have() {
    let mut array = FieldArray::new();
    array.push(1).unwrap();
    array.push("two").unwrap();
    array.push(FieldValue::Void).unwrap();
    let inner = FieldTable::new().with("deep", true).unwrap();
    let table = FieldTable::new()
        .with("octets", FieldValue::ByteArray(b"abc"))
        .and_then(|table| table.with("not text", FieldValue::LongStr(b"\xfe")))
        .and_then(|table| {
            table.with(
                "decimal",
                Decimal {
                    scale: 2,
                    raw: u32::MAX,
                },
            )
        })
        .and_then(|table| table.with("time", FieldValue::Timestamp(u64::MAX)))
        .and_then(|table| table.with("least", i64::MIN))
        .and_then(|table| table.with("single", 0.1f32))
        .and_then(|table| table.with("double", 1e300))
        .and_then(|table| table.with("array", &array))
        .and_then(|table| table.with("table", &inner))
        .unwrap();
    // What the library does not write: numbers that are not finite, a key that is not UTF-8, a key that is there twice.
    let mut octets = table.as_ref().as_encoded().to_vec();
    octets.extend_from_slice(b"\x01nf\x7f\xc0\0\0\x01id\xff\xf0\0\0\0\0\0\0\x02\xffkb\x01\x02\xffkb\x02");
    let consume = BasicConsume {
        arguments: FieldTableRef::from_encoded(&octets),
        ..Default::default()
    };
    let line = dump(&["--json"], &method(1, consume)).clean().stdout;
    let (_, arguments) = line.trim_end().split_once(r#""arguments":{"queue""#).unwrap();
    let (_, arguments) = arguments.split_once(r#""arguments":"#).unwrap();
    assert_eq!(
        arguments,
        concat!(
            r#"{"octets":{"@hex":"616263"},"not text":{"@hex":"fe"},"decimal":{"@decimal":{"scale":2,"raw":4294967295}},"#,
            r#""time":{"@timestamp":18446744073709551615},"least":-9223372036854775808,"single":0.1,"double":1e+300,"#,
            r#""array":[1,"two",null],"table":{"deep":true},"n":{"@float":"NaN"},"i":{"@float":"-inf"},"#,
            "\"\u{fffd}k\":1,\"\u{fffd}k\":2}}}"
        )
    );
}

#[test]
fn headers_that_cannot_be_read_are_shown_as_far_as_they_can() {
    let properties = |headers| Properties {
        headers: Some(FieldTableRef::from_encoded(headers)),
        ..Default::default()
    };
    let unknown = header(1, 0, properties(b"\x01at\x01\x01bZ"));
    assert_eq!(
        dump(&["--json"], &unknown).clean().json()[0]["properties"]["headers"],
        json!({"a": true, "@error": "unknown field type 0x5a (octet 6 of the table)"})
    );
    let mut nested = Vec::new();
    for _ in 0..1000 {
        let size = u32::try_from(nested.len()).unwrap().to_be_bytes();
        nested = [b"\x01tF", &size[..], &nested].concat();
    }
    let line = dump(&["--json"], &header(1, 0, properties(&nested)))
        .clean()
        .stdout;
    assert_eq!(line.matches(r#"{"t":"#).count(), 64);
    assert!(
        line.contains(r#"{"@error":"tables nested deeper than 64"}"#),
        "{line}"
    );
}

#[test]
fn secrets_are_lengths() {
    let start_ok = ConnectionStartOk {
        response: SecretStr::new(b"\0ann\0s3cret"),
        ..Default::default()
    };
    let input = method(0, start_ok);
    let json = dump(&["--json"], &input).clean();
    assert_eq!(json.json()[0]["arguments"]["response"], json!({"@secret": 11}));
    let text = dump(&[], &input).clean();
    assert!(text.stdout.contains("response=<11 secret octets>"), "{text:?}");
    assert!(!json.stdout.contains("s3cret") && !text.stdout.contains("s3cret"));
}

#[test]
fn an_error_is_told_with_its_octet_after_the_frames_before_it() {
    let good = [&PROTOCOL_HEADER[..], &declare("a")].concat();
    let mut bad_end = declare("b");
    *bad_end.last_mut().unwrap() = 0;
    for (bad, expected) in [
        (
            bad_end.clone(),
            format!(
                "octet {}: frame ends in 0x00 instead of 0xce (in frame end, octet {} of the frame)\n",
                good.len() + bad_end.len() - 1,
                bad_end.len() - 1
            ),
        ),
        (
            b"HTTP/1.1 400".to_vec(),
            format!(
                "octet {}: the peer does not speak AMQP, it began with \"HTTP/1.1\" (in frame header, octet 0 of the frame)\n",
                good.len()
            ),
        ),
        (
            b"\x01\0\0\xff\xff\xff\xff".to_vec(),
            format!(
                "octet {}: frame of 4294967303 octets is over the limit of 134217728 (in frame header, octet 3 of the frame)\n",
                good.len() + 3
            ),
        ),
        (
            declare("b")[..9].to_vec(),
            format!(
                "octet {}: the input ends within a frame, of which 9 octets are there\n",
                good.len()
            ),
        ),
    ] {
        let result = dump(&[], &[&good[..], &bad].concat());
        assert_eq!(
            result.lines(),
            ["protocol header", r#"ch 1 queue.declare queue="a""#]
        );
        assert_eq!(result.stderr, expected);
        assert!(!result.is_success);
    }
    let version = dump(&[], b"AMQP\x03\x01\0\0");
    assert!(
        version
            .stderr
            .starts_with("octet 0: the peer wants another protocol version"),
        "{version:?}"
    );
    let missing = dump(&["/no/such/file"], b"");
    assert!(
        missing.stderr.starts_with("frame_dump: /no/such/file: ") && !missing.is_success,
        "{missing:?}"
    );
}

#[test]
fn frames_are_shown_while_the_input_goes_on() {
    let mut child = start(&[]);
    let stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || stdout.lines().try_for_each(|line| sender.send(line.unwrap())));
        // Dropped here whatever happens, which ends the program.
        let mut stdin = stdin;
        let next = || lines.recv_timeout(Duration::from_secs(30)).unwrap();
        let frame = declare("a");
        // Octet by octet: the program gets them as slowly as a terminal gives them.
        for octet in [&PROTOCOL_HEADER[..], &frame, &frame[..3]].concat() {
            stdin.write_all(&[octet]).unwrap();
        }
        assert_eq!(next(), "protocol header");
        assert_eq!(next(), r#"ch 1 queue.declare queue="a""#);
        stdin.write_all(&frame[3..]).unwrap();
        assert_eq!(next(), r#"ch 1 queue.declare queue="a""#);
    });
    assert!(child.wait().unwrap().success());
}

#[test]
fn it_ends_quietly_when_nobody_reads_any_more() {
    let mut child = start(&["--json"]);
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let frames = declare("a").repeat(1000);
    while stdin.write_all(&frames).is_ok() {}
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_large_frame_comes_through_whole() {
    let payload = vec![b'x'; 3_000_000];
    let line = dump(&["--json"], &body(1, &payload)).clean().stdout;
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["body"]["size"], 3_000_000);
    assert_eq!(value["body"]["text"].as_str().unwrap().len(), 3_000_000);
}

#[test]
fn nothing_in_is_nothing_out() {
    assert_eq!(dump(&[], b"").clean().stdout, "");
    assert_eq!(dump(&["--json"], &PROTOCOL_HEADER[..3]).stderr.lines().count(), 1);
}
