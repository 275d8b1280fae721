//! Consumers of streams, whose connection is lost and made again.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use amqp_mio::proto::wire::{
    BasicConsume, BasicConsumeOk, BasicDeliver, ChannelOpenOk, FieldTable, Properties,
};
use amqp_mio::proto::{Instant, RecvBuf};
use amqp_mio::{ChannelOptions, Connector};
use amqp_testbroker::{CraftedFrame, Script, ScriptedPeer, Server};
use bytes::Buf;

use crate::recovering::{Life, soon};
use crate::world::short;

/// A broker with one script for each connection, one after the other.
pub(crate) fn serve(scripts: Vec<Script>) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        for script in scripts {
            let (mut stream, _) = listener.accept().unwrap();
            let mut peer = ScriptedPeer::new(script);
            let (mut input, mut output) = (RecvBuf::new(), <ScriptedPeer as Server>::Output::default());
            let key = peer.accept(Instant::EPOCH);
            while peer.stream_end(key).is_none() {
                peer.poll_transmit(key, Instant::EPOCH, &mut output);
                stream.write_all(output.chunk()).unwrap();
                output.advance(output.remaining());
                if peer.stream_end(key).is_none() {
                    let count = stream.read(input.spare_mut()).unwrap();
                    assert_ne!(count, 0, "{:?}", peer.finish());
                    input.advance(count);
                    peer.handle_input(key, Instant::EPOCH, &mut input);
                }
            }
            peer.finish().unwrap();
        }
    });
    (port, serving)
}

/// The client consumes from there, and these messages come, which it settles.
fn life(begin: &str, offsets: &[i64]) -> Script {
    let consume =
        format!(r#"ch 1 basic.consume queue="s" consumer_tag="c" arguments={{"x-stream-offset": {begin}}}"#);
    let mut script = Script::new()
        .handshake()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect(&consume)
        .reply(BasicConsumeOk {
            consumer_tag: short("c"),
        });
    for (offset, delivery_tag) in offsets.iter().zip(1..) {
        let deliver = BasicDeliver {
            consumer_tag: short("c"),
            delivery_tag,
            redelivered: false,
            exchange: short(""),
            routing_key: short("s"),
        };
        let headers = FieldTable::new().with("x-stream-offset", *offset).unwrap();
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        let body = offset.to_string();
        script = script
            .send_all(CraftedFrame::content(1, deliver, properties, body.as_bytes()))
            .expect(&format!("ch 1 basic.ack delivery_tag={delivery_tag}"));
    }
    script.hang_up()
}

#[test]
fn they_go_on_behind_what_was_settled_in_each_life() {
    let (port, serving) = serve(vec![
        life(r#""first""#, &[40, 41]),
        life("42", &[42, 43, 44]),
        // Nothing comes.
        life("45", &[]),
        life("45", &[45]),
    ]);
    let uri = format!("amqp://guest:guest@127.0.0.1:{port}");
    let mut life = Life::new(&Connector::from_uri(&uri).unwrap(), soon());
    let channel = life.open(&ChannelOptions::default());
    let arguments = FieldTable::new().with("x-stream-offset", "first").unwrap();
    let consume = BasicConsume {
        queue: short("s"),
        consumer_tag: short("c"),
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    life.consume(channel, &consume);
    for number in 40..46 {
        life.until(&number.to_string());
    }
    life.until("lost");
    drop(life);
    serving.join().unwrap();
}
