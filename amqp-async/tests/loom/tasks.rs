//! What goes on in the background, each task in a thread of its own. All that the driver has to do for it is done before, or after.

use std::future::IntoFuture;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use amqp_async::rpc::RpcClient;
use amqp_async::{Channel, Consumer, Message, ProcessOptions};
use amqp_proto::wire::ShortStr;

use crate::world::{World, block_on, model, now};

fn consumer(world: &mut World) -> (Channel, Consumer) {
    let channel = world.channel();
    let queue = world
        .run(channel.declare_queue("q").into_future())
        .expect("it is declared");
    let consumer = world.run(queue.consume()).expect("it consumes");
    (channel, consumer)
}

/// All that was published is with its consumers.
fn settle(world: &mut World, channel: &Channel) {
    world.run(channel.wait_for_confirms());
    world
        .run(channel.declare_queue("q").into_future())
        .expect("it is declared");
}

#[test]
fn a_stop_wakes_a_consumer_for_which_nothing_comes() {
    model(3, |mut world| {
        let (_channel, consumer) = consumer(&mut world);
        let handling = consumer.handle(1, ProcessOptions::default(), async |_| unreachable!());
        block_on(handling.stop()).expect("it has not ended before");
        world.join_tasks();
    });
}

#[test]
fn a_handler_is_waited_for_when_it_is_stopped() {
    model(3, |mut world| {
        let (channel, consumer) = consumer(&mut world);
        now(channel.default_exchange().publish_unconfirmed("x", "q")).expect("there is room");
        settle(&mut world, &channel);
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let handling = consumer.handle(1, ProcessOptions::default(), move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        block_on(handling.stop()).expect("it has not ended before");
        // What was handled is acknowledged, and what was not goes back.
        let peer = world.peer.clone();
        world.run(peer.filled("q", 1 - begun.load(Ordering::Relaxed)));
        world.join_tasks();
    });
}

#[test]
fn an_answer_wakes_the_call_that_waits_for_it() {
    model(3, |mut world| {
        let (channel, mut consumer) = consumer(&mut world);
        let client = world.run(RpcClient::new(&channel)).expect("it consumes");
        {
            let mut call = pin!(client.call("q", "x"));
            assert!(
                call.as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
            answer(&mut world, &mut consumer);
            settle(&mut world, &channel);
            assert_eq!(*block_on(call).expect("it is answered").body(), *b"y");
        }
        drop(client);
        world.join_tasks();
    });
}

#[test]
fn the_last_client_ends_the_task_that_takes_answers() {
    model(3, |mut world| {
        let channel = world.channel();
        let client = world.run(RpcClient::new(&channel)).expect("it consumes");
        drop(client);
        world.join_tasks();
    });
}

/// Takes a call, and answers it.
fn answer(world: &mut World, consumer: &mut Consumer) {
    let request = world.run(consumer.next()).expect("it goes on").expect("it comes");
    let text = |text: Option<ShortStr<'_>>| {
        let text = text.and_then(|text| text.to_str().ok().map(ToOwned::to_owned));
        text.expect("it is a call")
    };
    let properties = request.properties();
    let (reply_to, number) = (text(properties.reply_to), text(properties.correlation_id));
    let answer = Message::new("y").correlation_id(number);
    let exchange = request.channel().default_exchange();
    now(exchange.publish_unconfirmed(answer, &reply_to)).expect("there is room");
    now(request.ack()).expect("it is open");
}
