//! What goes on in the background, each task in a thread of its own.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amqp_async::rpc::RpcClient;
use amqp_async::{Message, ProcessOptions};
use amqp_proto::wire::ShortStr;

use crate::world::{block_on, join, model, now, spawn};

#[test]
fn a_handler_is_waited_for_when_it_is_stopped() {
    model(1, |mut world| {
        let channel = world.channel();
        let queue = world
            .run(channel.declare_queue("q").into_future())
            .expect("it is declared");
        let consumer = world.run(queue.consume()).expect("it consumes");
        drop((queue, channel.clone()));
        let peer = world.peer.clone();
        let driver = world.drive();
        now(channel.default_exchange().publish_unconfirmed("x", "q")).expect("there is room");
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let handling = consumer.handle(1, ProcessOptions::default(), move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        block_on(handling.stop()).expect("it has not ended before");
        // What was handled is acknowledged, and what was not goes back.
        block_on(peer.filled("q", 1 - begun.load(Ordering::Relaxed)));
        drop(channel);
        join(driver);
    });
}

#[test]
fn an_answer_wakes_the_call_that_waits_for_it() {
    model(1, |mut world| {
        let channel = world.channel();
        let queue = world
            .run(channel.declare_queue("q").into_future())
            .expect("it is declared");
        let mut consumer = world.run(queue.consume()).expect("it consumes");
        let client = world.run(RpcClient::new(&channel)).expect("it consumes");
        drop((queue, channel));
        let driver = world.drive();
        let server = spawn(move || {
            let request = block_on(consumer.next()).expect("it goes on").expect("it comes");
            let properties = request.properties();
            let text = |text: Option<ShortStr<'_>>| {
                let text = text.and_then(|text| text.to_str().ok().map(ToOwned::to_owned));
                text.expect("it is a call")
            };
            let answer = Message::new("y").correlation_id(text(properties.correlation_id));
            let exchange = request.channel().default_exchange();
            now(exchange.publish_unconfirmed(answer, &text(properties.reply_to))).expect("there is room");
            now(request.ack()).expect("it is open");
        });
        let answer = block_on(client.call("q", "x")).expect("it is answered");
        assert_eq!(*answer.body(), *b"y");
        drop(client);
        join(server);
        join(driver);
    });
}
