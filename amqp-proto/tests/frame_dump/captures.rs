//! Captures made here, of connections that never were.

use amqp_proto::wire::{
    ChannelOpen, ChannelOpenOk, ConnectionOpenOk, HEARTBEAT, PROTOCOL_HEADER, QueueDeclareOk,
};
use etherparse::PacketBuilder;
use serde_json::json;

use crate::{Dump, declare, dump, method, publish};

type End = ([u8; 4], u16);

/// A TCP connection whose packets are written in whatever order a test wants. Positions are octets of one direction.
struct Tcp {
    client: End,
    server: End,
    /// The sequence numbers of the SYNs.
    client_start: u32,
    server_start: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Flag {
    None,
    Syn,
    Fin,
    Rst,
}

impl Tcp {
    const fn new(port: u16) -> Self {
        Self {
            client: ([10, 0, 0, 1], port),
            server: ([10, 0, 0, 2], 5672),
            client_start: 1000,
            server_start: 7_000_000,
        }
    }

    fn open(&self) -> Vec<Vec<u8>> {
        vec![
            segment(self.client, self.server, self.client_start, None, Flag::Syn, b""),
            segment(
                self.server,
                self.client,
                self.server_start,
                Some(0),
                Flag::Syn,
                b"",
            ),
        ]
    }

    fn client(&self, position: u32, payload: &[u8]) -> Vec<u8> {
        self.client_with(position, Flag::None, payload)
    }

    fn server(&self, position: u32, payload: &[u8]) -> Vec<u8> {
        self.server_with(position, Flag::None, payload)
    }

    fn client_with(&self, position: u32, flag: Flag, payload: &[u8]) -> Vec<u8> {
        let sequence = self.client_start.wrapping_add(1).wrapping_add(position);
        segment(self.client, self.server, sequence, Some(0), flag, payload)
    }

    fn server_with(&self, position: u32, flag: Flag, payload: &[u8]) -> Vec<u8> {
        let sequence = self.server_start.wrapping_add(1).wrapping_add(position);
        segment(self.server, self.client, sequence, Some(0), flag, payload)
    }
}

/// An IP packet.
fn segment(from: End, to: End, sequence: u32, ack: Option<u32>, flag: Flag, payload: &[u8]) -> Vec<u8> {
    let mut builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, sequence, 65_000);
    if let Some(ack) = ack {
        builder = builder.ack(ack);
    }
    let builder = match flag {
        Flag::None => builder,
        Flag::Syn => builder.syn(),
        Flag::Fin => builder.fin(),
        Flag::Rst => builder.rst(),
    };
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

/// The byte order of a capture.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn short(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn long(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }
}

const RAW: u16 = 101;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

fn length(octets: &[u8]) -> u32 {
    u32::try_from(octets.len()).unwrap()
}

fn pcap_with(order: Order, magic: u32, link: u16, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(order.long(magic));
    file.extend(order.short(2));
    file.extend(order.short(4));
    for value in [0, 0, 262_144, link.into()] {
        file.extend(order.long(value));
    }
    for packet in packets {
        for value in [1_700_000_000, 5, length(packet), length(packet)] {
            file.extend(order.long(value));
        }
        file.extend(packet);
    }
    file
}

fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    pcap_with(Order::Little, MICROSECONDS, RAW, packets)
}

fn pcapng(order: Order, link: u16, packets: &[Vec<u8>]) -> Vec<u8> {
    let block = |kind: u32, content: &[u8]| {
        let content = [content, &[0; 3][..(4 - content.len() % 4) % 4]].concat();
        let size = order.long(length(&content) + 12);
        [&order.long(kind)[..], &size, &content, &size].concat()
    };
    let version = [order.short(1), order.short(0)].concat();
    let mut file = block(
        0x0a0d_0d0a,
        &[&order.long(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat(),
    );
    // An interface that nothing came from, then the one that everything came from.
    for link in [147, link] {
        let interface = [order.short(link), order.short(0)].concat();
        file.extend(block(1, &[&interface[..], &order.long(0)].concat()));
    }
    for packet in packets {
        let numbers = [1, 0, 5, length(packet), length(packet)].map(|number| order.long(number));
        file.extend(block(6, &[&numbers.concat()[..], packet].concat()));
        // A block that is none of the reader's business.
        file.extend(block(0x0bad, b"abc"));
    }
    file
}

/// Two connections, interleaved, with segments that come late, twice, in part twice, and frames that are split.
fn two_connections() -> Vec<Vec<u8>> {
    let (a, b) = (Tcp::new(40_001), Tcp::new(40_002));
    let open = method(1, ChannelOpen {});
    let opened = method(0, ConnectionOpenOk {});
    let a_sends = [&PROTOCOL_HEADER[..], &declare("a"), &publish("a", b"one")].concat();
    let b_sends = [&PROTOCOL_HEADER[..], &open, &HEARTBEAT].concat();
    let at = |position: usize| u32::try_from(position).unwrap();
    [
        a.open(),
        vec![a.client(0, b""), a.client(0, &a_sends[..8])],
        b.open(),
        vec![
            // Half a frame, the end of it too early, the middle.
            a.client(8, &a_sends[8..13]),
            b.client(0, &b_sends[..10]),
            a.client(20, &a_sends[20..45]),
            b.client(at(b_sends.len() - 4), &b_sends[b_sends.len() - 4..]),
            a.client(13, &a_sends[13..20]),
            // All again, and a piece that overlaps both what is there and what is not.
            a.client(0, &a_sends[..30]),
            a.server(0, &opened),
            // Early: a piece that will be superfluous, and one twice, the second time longer.
            a.client(50, &a_sends[50..55]),
            a.client(60, &a_sends[60..62]),
            a.client(60, &a_sends[60..]),
            a.client(40, &a_sends[40..61]),
            b.server(0, &method(1, ChannelOpenOk {})[..5]),
            b.client(10, &b_sends[10..b_sends.len() - 4]),
            b.server(5, &method(1, ChannelOpenOk {})[5..]),
            // A keep-alive: an octet from before.
            a.client(at(a_sends.len() - 1), b"\0"),
            a.client_with(at(a_sends.len()), Flag::Fin, b""),
            a.server_with(at(opened.len()), Flag::Fin, b""),
            a.client(at(a_sends.len() + 1), b""),
        ],
    ]
    .concat()
}

const TWO_CONNECTIONS: [&str; 10] = [
    "1 -> protocol header from 10.0.0.1:40001 to 10.0.0.2:5672",
    "2 -> protocol header from 10.0.0.1:40002 to 10.0.0.2:5672",
    r#"1 -> ch 1 queue.declare queue="a""#,
    "1 <- ch 0 connection.open-ok",
    r#"1 -> ch 1 basic.publish exchange="" routing_key="a""#,
    "1 -> ch 1 header body_size=3",
    r#"1 -> ch 1 body 3 octets "one""#,
    "2 -> ch 1 channel.open",
    "2 -> ch 0 heartbeat",
    "2 <- ch 1 channel.open-ok",
];

#[test]
fn frames_come_out_in_the_order_in_which_they_were_complete() {
    let result = dump(&[], &pcap(&two_connections())).clean();
    assert_eq!(result.lines(), TWO_CONNECTIONS);
}

#[test]
fn every_format_and_link_type_gives_the_same() {
    // What stands before an IP packet.
    let ethernet = [&[2; 12][..], &[8, 0]].concat();
    let vlan = [&[2; 12][..], &[0x81, 0, 0, 7, 8, 0]].concat();
    let cooked = [&[0, 0, 0, 1, 0, 6][..], &[2; 8], &[8, 0]].concat();
    let cooked_v2 = [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6][..], &[2; 8]].concat();
    let links: [(u16, &[u8]); 8] = [
        (1, &ethernet),
        (1, &vlan),
        (113, &cooked),
        (276, &cooked_v2),
        (RAW, &[]),
        (228, &[]),
        (0, &[2, 0, 0, 0]),
        (108, &[0, 0, 0, 2]),
    ];
    for (link, start) in links {
        let packets: Vec<_> = two_connections()
            .iter()
            .map(|packet| [start, packet].concat())
            .collect();
        for order in [Order::Little, Order::Big] {
            for file in [
                pcap_with(order, MICROSECONDS, link, &packets),
                pcap_with(order, NANOSECONDS, link, &packets),
                pcapng(order, link, &packets),
            ] {
                assert_eq!(
                    dump(&[], &file).clean().lines(),
                    TWO_CONNECTIONS,
                    "link type {link}"
                );
            }
        }
    }
}

#[test]
fn sections_of_a_pcapng_each_have_their_byte_order_and_interfaces() {
    let packets = two_connections();
    let (first, second) = packets.split_at(7);
    let second: Vec<_> = second
        .iter()
        .map(|packet| [&[2, 0, 0, 0], &packet[..]].concat())
        .collect();
    let file = [pcapng(Order::Little, RAW, first), pcapng(Order::Big, 0, &second)].concat();
    assert_eq!(dump(&[], &file).clean().lines(), TWO_CONNECTIONS);
}

#[test]
fn json_names_the_connection_and_the_sender() {
    let tcp = Tcp::new(40_001);
    let mut packets = tcp.open();
    packets.push(tcp.client(0, &[&PROTOCOL_HEADER[..], &declare("a")].concat()));
    let declared = QueueDeclareOk {
        queue: "a".try_into().unwrap(),
        ..Default::default()
    };
    packets.push(tcp.server(0, &method(1, declared)));
    let result = dump(&["--json"], &pcap(&packets)).clean();
    assert_eq!(
        result.json(),
        [
            json!({
                "stream": 1, "from": "client", "type": "protocol-header",
                "client": "10.0.0.1:40001", "server": "10.0.0.2:5672",
            }),
            json!({
                "stream": 1, "from": "client", "channel": 1, "type": "method", "method": "queue.declare",
                "arguments": {
                    "queue": "a", "passive": false, "durable": false, "exclusive": false,
                    "auto_delete": false, "no_wait": false, "arguments": {},
                },
            }),
            json!({
                "stream": 1, "from": "server", "channel": 1, "type": "method", "method": "queue.declare-ok",
                "arguments": {"queue": "a", "message_count": 0, "consumer_count": 0},
            }),
        ]
    );
    assert!(
        result.lines()[2].starts_with(r#"{"stream":1,"from":"server","channel":1,"type":"method","method":"#)
    );
}

#[test]
fn ipv6_goes_the_same_way() {
    let mut packet = Vec::new();
    PacketBuilder::ipv6([1; 16], [2; 16], 64)
        .tcp(40_001, 5672, 0, 65_000)
        .write(&mut packet, &PROTOCOL_HEADER)
        .unwrap();
    assert_eq!(
        dump(&[], &pcap(&[packet])).clean().stdout,
        "1 -> protocol header from [101:101:101:101:101:101:101:101]:40001 to \
         [202:202:202:202:202:202:202:202]:5672\n"
    );
}

#[test]
fn sequence_numbers_wrap_around_and_ports_are_used_again() {
    let mut tcp = Tcp::new(40_001);
    tcp.client_start = u32::MAX - 20;
    let sent = [&PROTOCOL_HEADER[..], &declare("a"), &HEARTBEAT].concat();
    let first = [
        tcp.open(),
        vec![
            tcp.client(0, &sent[..8]),
            tcp.client(30, &sent[30..]),
            tcp.client(8, &sent[8..30]),
            tcp.client_with(u32::try_from(sent.len()).unwrap(), Flag::Rst, b""),
            // Too late.
            tcp.client(u32::try_from(sent.len()).unwrap(), &HEARTBEAT),
        ],
    ]
    .concat();
    tcp.client_start = 500;
    let second = [tcp.open(), vec![tcp.client(0, &PROTOCOL_HEADER)]].concat();
    let result = dump(&[], &pcap(&[first, second].concat())).clean();
    assert_eq!(
        result.lines(),
        [
            "1 -> protocol header from 10.0.0.1:40001 to 10.0.0.2:5672",
            r#"1 -> ch 1 queue.declare queue="a""#,
            "1 -> ch 0 heartbeat",
            "2 -> protocol header from 10.0.0.1:40001 to 10.0.0.2:5672",
        ]
    );
}

#[test]
fn the_client_is_who_sends_the_protocol_header() {
    // Neither SYN is there, and the server is seen first.
    let tcp = Tcp::new(40_001);
    let packets = [
        tcp.server(0, &method(0, ConnectionOpenOk {})),
        tcp.client(0, &PROTOCOL_HEADER),
    ];
    assert_eq!(
        dump(&[], &pcap(&packets)).clean().lines(),
        [
            "1 -> protocol header from 10.0.0.1:40001 to 10.0.0.2:5672",
            "1 <- ch 0 connection.open-ok",
        ]
    );
}

/// One stream in trouble, one that goes on.
fn beside(trouble: &[Vec<u8>]) -> Dump {
    let good = Tcp::new(50_000);
    let packets = [
        &good.open()[..],
        trouble,
        &[good.client(0, &[&PROTOCOL_HEADER[..], &HEARTBEAT].concat())],
    ]
    .concat();
    let result = dump(&[], &pcap(&packets));
    let lines = result.lines();
    assert_eq!(
        lines[lines.len() - 2..],
        [
            "1 -> protocol header from 10.0.0.1:50000 to 10.0.0.2:5672",
            "1 -> ch 0 heartbeat"
        ]
    );
    result
}

#[test]
fn what_is_not_amqp_is_named_and_skipped() {
    let tcp = Tcp::new(40_001);
    let http = [tcp.open(), vec![tcp.client(0, b"GET / HTTP/1.1\r\n")]].concat();
    let ssh = [
        tcp.open(),
        vec![tcp.server(0, b"SSH-2.0-X\r\n"), tcp.client(0, b"SSH-2.0-Y\r\n")],
    ]
    .concat();
    // The server answers what it wants to hear: it is no client for all that.
    let newer = [
        tcp.open(),
        vec![tcp.client(0, b"AMQP\0\x01\0\0"), tcp.server(0, &PROTOCOL_HEADER)],
    ]
    .concat();
    let middle = vec![tcp.client(0, &HEARTBEAT), tcp.server(0, &HEARTBEAT)];
    for (packets, start) in [
        (http, "GET / HT"),
        (ssh, "SSH-2.0-"),
        (newer, r"AMQP\x00\x01\x00\x00"),
        (middle, r"\x08\x00\x00\x00\x00\x00\x00\xce"),
    ] {
        let result = beside(&packets);
        assert_eq!(
            result.stderr,
            format!(
                "stream 2, 10.0.0.1:40001 to 10.0.0.2:5672: does not begin with the protocol header of AMQP 0-9-1 \
                 but with \"{start}\"; skipped\n"
            )
        );
        assert!(result.is_success);
        assert_eq!(result.lines().len(), 2);
    }
    // Nobody said anything: a port that was refused.
    let refused = [tcp.open(), vec![tcp.server_with(0, Flag::Rst, b"")]].concat();
    assert_eq!(beside(&refused).clean().lines().len(), 2);
}

#[test]
fn a_stream_that_breaks_is_named_and_the_others_go_on() {
    let tcp = Tcp::new(40_001);
    let with = |packets: Vec<Vec<u8>>| [tcp.open(), vec![tcp.client(0, &PROTOCOL_HEADER)], packets].concat();
    let mut frame = declare("a");
    *frame.last_mut().unwrap() = 0;
    let last = frame.len() - 1;
    for (packets, expected) in [
        (
            with(vec![
                tcp.client(8, &frame),
                tcp.client(8 + length(&frame), &HEARTBEAT),
            ]),
            format!(
                "stream 2, from the client, octet {}: frame ends in 0x00 instead of 0xce (in frame end, octet {last} \
                 of the frame)\n",
                8 + last
            ),
        ),
        (
            with(vec![tcp.client(20, &HEARTBEAT)]),
            "stream 2, from the client, octet 8: 12 octets are not in the capture\n".to_owned(),
        ),
        (
            with(vec![tcp.server_with(3, Flag::Fin, b"")]),
            "stream 2, from the server, octet 0: 3 octets are not in the capture\n".to_owned(),
        ),
        (
            with(vec![tcp.server(0, &HEARTBEAT), tcp.server(8, &HEARTBEAT[..3])]),
            "stream 2, from the server, octet 8: ends within a frame, of which 3 octets are there\n"
                .to_owned(),
        ),
    ] {
        let result = beside(&packets);
        assert_eq!(result.stderr, expected);
        assert!(!result.is_success);
    }
}

#[test]
fn what_is_held_behind_a_gap_is_bounded() {
    let tcp = Tcp::new(40_001);
    let mut packets = tcp.open();
    packets.push(tcp.client(0, &PROTOCOL_HEADER));
    let piece = [0; 50_000];
    for position in (100..5_000_000).step_by(piece.len()) {
        packets.push(tcp.client(position, &piece));
    }
    // What was missing comes after all, and finds nobody.
    packets.push(tcp.client(8, &HEARTBEAT.repeat(12)));
    let result = beside(&packets);
    assert_eq!(
        result.stderr,
        "stream 2, from the client, octet 8: 92 octets are not in the capture\n"
    );
    assert_eq!(result.lines().len(), 3);
    assert!(!result.is_success);
}

#[test]
fn a_capture_that_is_not_whole_gives_what_it_has() {
    let whole = pcap(&two_connections());
    let cut = dump(&[], &whole[..whole.len() - 10]);
    assert_eq!(cut.lines(), TWO_CONNECTIONS);
    assert!(
        cut.stderr
            .contains(": the capture ends within a record, of which 46 octets are there\n"),
        "{}",
        cut.stderr
    );
    assert!(!cut.is_success);

    let mut damaged = pcapng(Order::Little, RAW, &two_connections());
    let at = damaged.len() - 4;
    damaged[at] ^= 1;
    let damaged = dump(&[], &damaged);
    assert_eq!(damaged.lines(), TWO_CONNECTIONS);
    assert_eq!(
        damaged.stderr,
        format!("octet {}: the capture cannot be read from here on\n", at - 12)
    );

    let unknown = dump(
        &[],
        &pcap_with(Order::Little, MICROSECONDS, 147, &two_connections()),
    );
    assert_eq!(
        unknown.stderr,
        "octet 24: packets of link type 147 cannot be read; skipped\n"
    );
    assert!(unknown.stdout.is_empty() && !unknown.is_success);
}
