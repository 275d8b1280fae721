//! The examples, as programs: they are run as a reader would, given what they need, and asked for what they printed.
//!
//! A receiver prints that it is waiting when it is ready, and is ended with SIGINT, which is Ctrl-C.

#![cfg(unix)]

#[macro_use]
#[path = "../../amqp-tokio/tests/tutorials/expected.rs"]
mod expected;
#[path = "../../amqp-tokio/tests/tutorials/program.rs"]
mod program;
#[path = "../../amqp-tokio/tests/tutorials/vendors.rs"]
mod vendors;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use amqp_mio::proto::wire::ReplyCode;
use amqp_mio::{ChannelView, Connector, SelectConnection};
use amqp_testbroker::TestBroker;
use expected::{hello_world, publish_subscribe, remote_procedure_call, routing, topics, work_queues};
use program::{Program, run};

/// Does something on a channel, and closes the connection.
fn with_channel(url: &str, act: impl FnOnce(&mut ChannelView<'_, ()>) + 'static) {
    let connector = Connector::from_uri(url).unwrap();
    let on_open = |ctx: &mut amqp_mio::Ctx<'_, ()>, _| ctx.stop();
    let mut connection = SelectConnection::new(&connector, (), on_open).unwrap();
    connection.ioloop().run().unwrap();
    connection
        .channel(None, move |ctx, channel| {
            act(&mut ctx.channel(channel).unwrap());
            let mut connection = ctx.connection(channel.connection()).unwrap();
            connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
        })
        .unwrap();
    connection.ioloop().run().unwrap();
}

mod adapter {
    pub(crate) use amqp_mio::proto::ConnectionParameters;
    use amqp_mio::proto::wire::{BasicPublish, Properties, QueueDelete, ShortStr};

    use super::with_channel;

    pub(crate) const PREFIX: &str = "mio_";

    pub(crate) const UNROUTED_CALL: &str = "no queue takes the call";

    pub(crate) fn delete_if(url: &str, queue: &'static str, is_settled: bool) {
        with_channel(url, move |channel| {
            let delete = QueueDelete {
                queue: ShortStr::new(queue).unwrap(),
                if_empty: is_settled,
                if_unused: is_settled,
                ..Default::default()
            };
            channel
                .request(&delete, |_, _, answer| {
                    answer.unwrap();
                })
                .unwrap();
        });
    }

    pub(crate) fn publish(url: &str, queue: &'static str, body: &'static str) {
        with_channel(url, move |channel| {
            let to_queue = BasicPublish {
                routing_key: ShortStr::new(queue).unwrap(),
                ..Default::default()
            };
            channel.publish(&to_queue, &Properties::default(), body).unwrap();
        });
    }
}

fn hello(url: &str) {
    let printed = run(url, "mio_hello", &[]);
    let [connected, declared, rest @ ..] = &printed[..] else {
        panic!("{printed:?}");
    };
    assert_eq!(connected, "connected");
    assert!(declared.starts_with("declared the queue amq.gen-"), "{declared}");
    let expected = [
        "published, and the broker has confirmed it",
        "received: Hello, world!",
        "acknowledged",
        "closed on request",
    ];
    assert_eq!(rest, expected);
}

/// Two servers, three guests, one chat.
fn chat(url: &str) {
    let mut guests = Vec::new();
    let servers = [(); 2].map(|()| {
        let server = Program::start(url, "mio_chat", &["127.0.0.1:0"]);
        let first = server.line().unwrap();
        let address = first.strip_prefix("listening on ").unwrap().to_owned();
        server.expect("joined the chat");
        (server, address)
    });
    let [(first, one), (second, other)] = servers;
    for address in [&one, &one, &other] {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        guests.push(BufReader::new(stream));
    }
    for speaker in [2, 0, 1] {
        let line = format!("{speaker} says hello\n");
        // Whoever has heard something before is known to have been welcomed: the first to speak is alone with the second server.
        guests[speaker].get_mut().write_all(line.as_bytes()).unwrap();
        let listeners = if speaker == 2 { 2..3 } else { 0..3 };
        for guest in &mut guests[listeners] {
            let mut heard = String::new();
            while heard != line {
                heard.clear();
                assert!(guest.read_line(&mut heard).unwrap() > 0, "the server hung up");
            }
        }
    }
    first.interrupt();
    second.interrupt();
}

programs! {
    hello hello_world work_queues publish_subscribe routing topics remote_procedure_call chat
}
