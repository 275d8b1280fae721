//! Writes the seeds of the corpora, from the golden files, and the dictionaries, from the method table. The same to the
//! byte every time: `cargo run --manifest-path fuzz/Cargo.toml --bin seeds`, then `git diff`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use amqp_proto::Instant;
use amqp_proto::trace::{Direction, FrameTap, TraceWriter};
use amqp_proto::wire::*;

/// Longer ones slow the fuzzer down, which makes its own.
const LONGEST: usize = 400;

/// What others than a broker of 0-9-1 say first.
const STARTS: &[(&str, &[u8])] = &[
    ("start-amqp-1-0", b"AMQP\x03\x01\0\0"),
    ("start-http", b"HTTP/1.1 400 Bad Request\r\n"),
    ("start-tls-alert", &[0x15, 3, 3, 0, 2, 2, 70, 0]),
];

fn main() -> io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = Seeds::default();
    for file in ["methods", "properties", "fields", "frames"] {
        let path = fuzz
            .join("../amqp-proto/tests/golden")
            .join(file)
            .with_extension("txt");
        for line in fs::read_to_string(path)?.lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            // Each case has a line from each encoder that can say it; they agree.
            if let [_, kind, case, .., octets] = columns[..] {
                seeds.take_case(file, kind, case, &unhex(octets));
            }
        }
    }
    for (name, octets) in STARTS {
        seeds.keep("frame", (*name).into(), octets);
    }
    // 64 tables may stand in each other.
    for depth in [63, 64] {
        seeds.keep("field_table", format!("deep-{depth}-inside"), &nested(depth));
    }
    seeds.take_sessions();
    seeds.take_clients();
    seeds.write(&fuzz.join("corpus"))?;
    dictionaries(&fuzz.join("dictionaries"))
}

/// Octets by target and name.
#[derive(Default)]
struct Seeds(BTreeMap<(&'static str, String), Vec<u8>>);

impl Seeds {
    /// Keeps the cases of most variety: whole frames for `frame`, payloads for the others.
    fn take_case(&mut self, file: &str, kind: &str, case: &str, octets: &[u8]) {
        let name =
            |case: &str| format!("golden-{kind}-{case}").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        match file {
            "methods" if case == "full" || (case == "default" && octets.len() == 12) => {
                self.keep("method", name(case), payload(octets));
                if kind.starts_with("connection.") {
                    self.keep("trace", name(case), &traced(octets));
                }
                if kind.starts_with("basic.") {
                    self.keep("frame", name(case), octets);
                }
            }
            "properties" => {
                if case.starts_with("all") || case.starts_with("alone:") || case == "none:2^63" {
                    self.keep("content_header", name(case), payload(octets));
                }
                if case.starts_with("all") || case == "none:0" {
                    self.keep("frame", name(case), octets);
                }
            }
            "fields" => self.keep("field_table", name(case), octets),
            "frames" => {
                self.keep("frame", name(case), octets);
                self.keep("trace", name(case), &traced(octets));
            }
            _ => {}
        }
    }

    /// What a server says in the states that `session` begins in: whole, octet by octet, to a client that cannot write, and
    /// with silence at the end.
    fn take_sessions(&mut self) {
        let busy = busy();
        for state in 0..7 {
            let octets = if state < 4 { handshake(state) } else { busy.clone() };
            for (how, silence, cut) in [("whole", 0, 0), ("octets", 0, 1), ("stalled", 0x80, 0x87)] {
                let octets = [&[silence | state, cut], &octets[..]].concat();
                for target in ["session", "session_chunks"] {
                    self.0
                        .insert((target, format!("talk-{state}-{how}")), octets.clone());
                }
            }
        }
    }

    /// What a client says in the states that `server` begins in, from every release's broker: whole, octet by octet, without
    /// reading, and with silence at the end.
    fn take_clients(&mut self) {
        for state in 0..4 {
            let octets = if state & 1 == 0 { greeting() } else { requests() };
            for (how, silence, cut, pause) in [
                ("whole", 0, 0, 0),
                ("octets", 0, 1, 1),
                ("stalled", 0x40, 0x87, 255),
            ] {
                let octets = [&[silence | state, cut, pause], &octets[..]].concat();
                self.0.insert(("server", format!("talk-{state}-{how}")), octets);
            }
        }
    }

    fn keep(&mut self, target: &'static str, name: String, octets: &[u8]) {
        if octets.len() <= LONGEST {
            self.0.insert((target, name), octets.to_vec());
        }
    }

    /// Replaces what an earlier run of this wrote.
    fn write(&self, corpus: &Path) -> io::Result<()> {
        for ((target, name), octets) in &self.0 {
            fs::create_dir_all(corpus.join(target))?;
            fs::write(corpus.join(target).join(name), octets)?;
        }
        for stale in self.stale(corpus)? {
            fs::remove_file(stale)?;
        }
        println!("{} seeds", self.0.len());
        Ok(())
    }

    fn stale(&self, corpus: &Path) -> io::Result<Vec<PathBuf>> {
        let mut stale = Vec::new();
        for target in [
            "frame",
            "method",
            "content_header",
            "field_table",
            "trace",
            "session",
            "session_chunks",
            "server",
        ] {
            for entry in fs::read_dir(corpus.join(target))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let is_ours = ["golden-", "start-", "deep-", "talk-"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix));
                if is_ours && !self.0.contains_key(&(target, name.clone())) {
                    stale.push(corpus.join(target).join(name));
                }
            }
        }
        Ok(stale)
    }
}

/// From that step of the handshake on, until the server closes.
fn handshake(step: u8) -> Vec<u8> {
    let tune = ConnectionTune {
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat: 60,
    };
    let steps: [Method<'_>; 5] = [
        ConnectionStart::default().into(),
        tune.into(),
        ConnectionOpenOk {}.into(),
        ConnectionBlocked::default().into(),
        ConnectionClose::default().into(),
    ];
    let mut octets = Vec::new();
    for method in &steps[step.into()..] {
        send(&mut octets, 0, *method);
    }
    octets
}

/// A client's part of the handshake, a channel, and the end.
fn greeting() -> Vec<u8> {
    let start_ok = ConnectionStartOk {
        response: SecretStr::new(b"\0guest\0guest"),
        ..Default::default()
    };
    let tune_ok = ConnectionTuneOk {
        channel_max: 7,
        frame_max: 8192,
        heartbeat: 10,
    };
    let open = ConnectionOpen {
        virtual_host: ShortStr::from_bytes(b"/").expect("it is short"),
    };
    let mut octets = PROTOCOL_HEADER.to_vec();
    send(&mut octets, 0, start_ok);
    send(&mut octets, 0, tune_ok);
    send(&mut octets, 0, open);
    send(&mut octets, 1, ChannelOpen::default());
    octets.extend(HEARTBEAT);
    send(&mut octets, 1, ChannelClose::default());
    send(&mut octets, 0, ConnectionClose::default());
    octets
}

/// What a client asks on channel 1, which is open, with a queue `q` that it consumes, and on others.
fn requests() -> Vec<u8> {
    let mut octets = Vec::new();
    let text = |text| ShortStr::from_bytes(text).expect("it is short");
    let publish = |exchange, key| BasicPublish {
        exchange: text(exchange),
        routing_key: text(key),
        mandatory: true,
        ..Default::default()
    };
    content(&mut octets, 1, publish(b"", b"q"), b"to a consumer");
    content(&mut octets, 1, publish(b"", b"nowhere"), b"");
    let (delivery_tag, multiple) = (1, false);
    send(
        &mut octets,
        1,
        BasicAck {
            delivery_tag,
            multiple,
        },
    );
    let declare = QueueDeclare {
        queue: text(b"r"),
        ..Default::default()
    };
    let bind = QueueBind {
        queue: text(b"r"),
        exchange: text(b"e"),
        routing_key: text(b"a.*"),
        ..Default::default()
    };
    let exchange = ExchangeDeclare {
        exchange: text(b"e"),
        exchange_type: text(b"topic"),
        ..Default::default()
    };
    let get = BasicGet {
        queue: text(b"r"),
        ..Default::default()
    };
    let delete = QueueDelete {
        queue: text(b"r"),
        ..Default::default()
    };
    send(&mut octets, 2, ChannelOpen::default());
    send(&mut octets, 2, exchange);
    send(&mut octets, 2, declare);
    send(&mut octets, 2, bind);
    send(&mut octets, 2, TxSelect {});
    content(&mut octets, 2, publish(b"e", b"a.b"), b"in a transaction");
    send(&mut octets, 2, TxCommit {});
    send(&mut octets, 2, get);
    send(&mut octets, 2, BasicRecover { requeue: true });
    send(&mut octets, 2, TxRollback {});
    send(&mut octets, 2, BasicQos::default());
    send(&mut octets, 2, delete);
    send(&mut octets, 2, ChannelClose::default());
    send(
        &mut octets,
        1,
        BasicCancel {
            consumer_tag: text(b"c"),
            no_wait: false,
        },
    );
    send(&mut octets, 0, ConnectionClose::default());
    octets
}

/// To channels 1 to 5, on which publishes, consumers, requests, a close and an open wait.
fn busy() -> Vec<u8> {
    let mut octets = Vec::new();
    let text = |text| ShortStr::from_bytes(text).expect("it is short");
    let returned = BasicReturn {
        routing_key: text(b"q"),
        ..Default::default()
    };
    content(&mut octets, 1, returned, b"body");
    send(
        &mut octets,
        1,
        BasicAck {
            delivery_tag: 2,
            multiple: true,
        },
    );
    send(
        &mut octets,
        1,
        BasicNack {
            delivery_tag: 4,
            multiple: false,
            requeue: false,
        },
    );
    for tag in [b"a", b"b", b"c", b"d", b"e"] {
        let consumer_tag = text(tag);
        send(&mut octets, 2, BasicConsumeOk { consumer_tag });
    }
    for (delivery_tag, tag) in (1..).zip([b"a", b"b", b"c", b"d", b"e", b"f"]) {
        let deliver = BasicDeliver {
            consumer_tag: text(tag),
            delivery_tag,
            ..Default::default()
        };
        content(&mut octets, 2, deliver, b"to a consumer");
    }
    let consumer_tag = text(b"e");
    send(&mut octets, 2, BasicCancelOk { consumer_tag });
    let cancel = BasicCancel {
        consumer_tag: text(b"a"),
        no_wait: true,
    };
    send(&mut octets, 2, cancel);
    send(&mut octets, 3, QueueDeclareOk::default());
    content(&mut octets, 3, BasicGetOk::default(), b"");
    send(&mut octets, 3, BasicGetEmpty {});
    send(&mut octets, 3, ChannelFlow { active: false });
    send(&mut octets, 4, ChannelCloseOk {});
    send(&mut octets, 5, ChannelOpenOk {});
    send(&mut octets, 0, ConnectionBlocked::default());
    send(&mut octets, 0, ConnectionUpdateSecretOk {});
    send(&mut octets, 0, ConnectionUnblocked {});
    send(&mut octets, 1, ChannelClose::default());
    send(&mut octets, 0, ConnectionClose::default());
    octets
}

fn send<'m>(octets: &mut Vec<u8>, channel: u16, method: impl Into<Method<'m>>) {
    let encoded = method.into().encode(octets, channel, u32::MAX);
    encoded.expect("no frame is larger");
}

/// A message in frames of eight octets.
fn content<'m>(octets: &mut Vec<u8>, channel: u16, method: impl Into<Method<'m>>, body: &[u8]) {
    send(octets, channel, method);
    let header = ContentHeader {
        body_size: body.len() as u64,
        ..Default::default()
    };
    let bodies = body.chunks(8).map(|payload| Frame::Body { channel, payload });
    for frame in [Frame::Header { channel, header }].into_iter().chain(bodies) {
        frame.encode(octets, u32::MAX).expect("no frame is larger");
    }
}

/// Arrays and tables by turns, with as many inside of the outermost.
fn nested(inside: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    for level in (0..inside).rev() {
        // In a table, an empty key stands in front.
        let start: &[u8] = if level % 2 == 0 { b"\0A" } else { b"F" };
        octets = [start, &(octets.len() as u32).to_be_bytes(), &octets].concat();
    }
    octets
}

/// A trace of a frame that came, went, and found no room.
fn traced(frame: &[u8]) -> Vec<u8> {
    let mut writer = TraceWriter::new(0).with_secrets();
    let now = Instant::from_nanos(1_000_000_000);
    writer.frame(now, Direction::Received, 1, frame);
    writer.frame(now, Direction::Sent, 1, frame);
    writer.frame(now, Direction::Sent, 1, &[0; 5000]);
    writer.take()
}

/// What is between the header and the end octet.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[7..frame.len() - 1]
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("hex") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn dictionaries(folder: &Path) -> io::Result<()> {
    let mut methods = String::from("# Class and method numbers.\n");
    for spec in METHODS {
        let octets = [spec.id.class.to_be_bytes(), spec.id.method.to_be_bytes()].concat();
        let name = spec.name.replace(['.', '-'], "_");
        writeln!(methods, "{name}={}", quoted(&octets)).expect("a string takes everything");
    }
    let mut fields = String::from("# Field types, each with an empty key in front, and lengths.\n");
    for tag in *b"tbBsuUIilLfdDSxTAFV" {
        writeln!(fields, "{}", quoted(&[0, tag])).expect("a string takes everything");
    }
    for length in [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 7],
        [0xFF; 4],
        [0x80, 0, 0, 0],
    ] {
        writeln!(fields, "{}", quoted(&length)).expect("a string takes everything");
    }
    let mut frames =
        String::from("# Frame types on a channel, what the frame's end looks like, the protocol header.\n");
    for start in [[1, 0, 1], [2, 0, 1], [3, 0, 1], [8, 0, 0], [1, 0, 0]] {
        writeln!(frames, "{}", quoted(&start)).expect("a string takes everything");
    }
    for octets in [
        &[0xCE][..],
        &[8, 0, 0, 0, 0, 0, 0, 0xCE],
        b"AMQP\0\0\x09\x01",
        b"AMQP",
        &[0x15, 3, 3],
    ] {
        writeln!(frames, "{}", quoted(octets)).expect("a string takes everything");
    }
    let header = "# Class and weight; sets of property flags.\n\"\\x00\\x3c\\x00\\x00\"\n\"\\xff\\xfc\"\n\"\\x20\\x00\"\n\"\\x90\\x00\"\n";
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join("frame.dict"),
        [&frames, &methods[..], header, &fields].concat(),
    )?;
    fs::write(folder.join("method.dict"), [&methods[..], &fields].concat())?;
    fs::write(folder.join("content_header.dict"), [header, &fields].concat())?;
    fs::write(folder.join("field_table.dict"), &fields)
}

fn quoted(octets: &[u8]) -> String {
    let escaped: String = octets.iter().map(|octet| format!("\\x{octet:02x}")).collect();
    format!("\"{escaped}\"")
}
