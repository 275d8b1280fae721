//! Streams take nothing back: whatever becomes of what came from one, the broker sees it acknowledged, once. The broker is a script,
//! which expects every frame.

use amqp_async::{
    Channel, ChannelOptions, ConsumeOptions, Consumer, Delivery, Error, FieldTable, PoisonPolicy,
    ProcessOptions, Queue, Reopen, StreamOffset,
};
use amqp_proto::wire::*;
use amqp_proto::{Backoff, ChannelCloseReason, CloseReason, SendError};
use amqp_testbroker::{CraftedFrame, Script, ScriptedPeer};

use crate::world::{World, everywhere};

const REFUSED: Error = Error::Refused(SendError::StreamDelivery);

fn name(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

fn delivery(script: Script, delivery_tag: u64) -> Script {
    let deliver = BasicDeliver {
        consumer_tag: name("c"),
        delivery_tag,
        redelivered: false,
        exchange: name(""),
        routing_key: name("s"),
    };
    script.send_all(CraftedFrame::content(1, deliver, Properties::default(), b"x"))
}

/// A broker with a stream, from which so many deliveries come.
fn stream(offset: &str, deliveries: u64) -> Script {
    let consume = format!(
        r#"ch 1 basic.consume queue="s" consumer_tag="c" arguments={{"x-stream-offset": "{offset}"}}"#
    );
    let script = Script::new()
        .handshake()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect("confirm.select")
        .reply(ConfirmSelectOk {})
        .expect("queue.declare")
        .reply(QueueDeclareOk {
            queue: name("s"),
            message_count: 0,
            consumer_count: 0,
        })
        .expect(&consume)
        .reply(BasicConsumeOk {
            consumer_tag: name("c"),
        });
    (1..=deliveries).fold(script, delivery)
}

fn acks(script: Script, tags: impl IntoIterator<Item = u64>) -> Script {
    let expect = |script: Script, tag| script.expect(&format!("ch 1 basic.ack delivery_tag={tag}"));
    tags.into_iter().fold(script, expect)
}

fn cancel_ok() -> BasicCancelOk<'static> {
    BasicCancelOk {
        consumer_tag: name("c"),
    }
}

fn of_type(queue_type: &str) -> FieldTable {
    FieldTable::new().with("x-queue-type", queue_type).unwrap()
}

fn options() -> ConsumeOptions {
    ConsumeOptions::default().tag("c")
}

/// Runs a client on that broker until the connection is closed in an orderly way.
fn on(script: Script, client: impl AsyncFn(&World<ScriptedPeer>, &Channel, Queue)) {
    let script = script
        .skip_to("connection.close")
        .reply(ConnectionCloseOk {})
        .hang_up();
    let world = World::scripted(script);
    world.run(async {
        let (connection, channel) = world.channel().await;
        let declaration = channel.declare_queue("s").durable(true);
        let queue = declaration.arguments(of_type("stream")).await.unwrap();
        client(&world, &channel, queue).await;
        let report = connection.close().await;
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
    });
    world.wind_up();
    world.finish_script();
}

async fn next(consumer: &mut Consumer) -> Delivery {
    consumer.next().await.unwrap().unwrap()
}

#[test]
fn what_is_not_dealt_with_is_acknowledged() {
    let script = acks(stream("next", 8), 1..=8);
    on(script, async |world, _, queue| {
        let mut consumer = queue.consume_with(options()).await.unwrap();
        drop(next(&mut consumer).await);
        assert_eq!(next(&mut consumer).await.nack(true).await, Err(REFUSED));
        assert_eq!(next(&mut consumer).await.nack_multiple(false).await, Err(REFUSED));
        assert_eq!(next(&mut consumer).await.reject(false).await, Err(REFUSED));
        let options = ProcessOptions::default();
        let fail = async |_| Err::<(), _>(Error::Timeout);
        for options in [options.clone(), options.requeue(true)] {
            let failed = next(&mut consumer).await.process(options, fail).await;
            assert_eq!(failed, Err(Error::Timeout));
        }
        let policy = PoisonPolicy::after(1);
        policy.put_away(next(&mut consumer).await).await.unwrap();
        next(&mut consumer).await.ack().await.unwrap();
        world.idle().await;
    });
}

#[test]
fn a_tag_is_refused_before_anything_is_written() {
    let script = acks(stream("next", 1), [1]);
    on(script, async |world, channel, queue| {
        let mut consumer = queue.consume_with(options()).await.unwrap();
        let (tag, _) = next(&mut consumer).await.into_message();
        for flag in [true, false] {
            assert_eq!(channel.basic_nack(tag, flag, true), Err(REFUSED));
            assert_eq!(channel.basic_reject(tag, flag), Err(REFUSED));
        }
        channel.basic_ack(tag, false).unwrap();
        world.idle().await;
    });
}

#[test]
fn a_handler_that_fails_is_asked_for_the_next() {
    let script = acks(stream("next", 3), 1..=3)
        .expect("ch 1 basic.cancel")
        .reply(cancel_ok());
    on(script, async |world, _, queue| {
        let consumer = queue.consume_with(options()).await.unwrap();
        let options = ProcessOptions::default().requeue(true);
        let handling = consumer.handle(1, options, |_| async { Err("it always fails".into()) });
        world.idle().await;
        handling.stop().await.unwrap();
        world.idle().await;
    });
}

#[test]
fn what_a_cancelled_consumer_has_not_taken_is_acknowledged() {
    let script = stream("next", 3).expect("ch 1 basic.cancel");
    // What came behind the cancel is the first that is known to be of no use.
    let script = acks(delivery(script, 4).reply(cancel_ok()), [4, 2, 3, 1]);
    on(script, async |world, _, queue| {
        let mut consumer = queue.consume_with(options()).await.unwrap();
        let first = next(&mut consumer).await;
        world.idle().await;
        consumer.cancel().await.unwrap();
        drop(first);
        world.idle().await;
    });
}

#[test]
fn what_a_dropped_consumer_has_not_taken_is_acknowledged_behind_its_cancel() {
    let script = acks(stream("first", 3).expect("ch 1 basic.cancel"), 1..=3);
    let script = acks(delivery(script, 4), [4]).reply(cancel_ok());
    on(script, async |world, _, queue| {
        let from_the_first = FieldTable::new().with("x-stream-offset", "first").unwrap();
        let consumer = queue.consume_with(options().arguments(from_the_first)).await;
        world.idle().await;
        drop(consumer.unwrap());
        world.idle().await;
    });
}

#[test]
fn what_is_known_to_take_no_condition_is_deleted_without() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let declaration = channel.declare_queue("q").durable(true);
        let queue = declaration.arguments(of_type("quorum")).await.unwrap();
        channel.default_exchange().publish("x", "q").await.unwrap();
        for (if_unused, if_empty) in [(true, false), (false, true), (true, true)] {
            let refused = queue.delete_if(if_unused, if_empty).await;
            assert_eq!(refused, Err(Error::DeleteCondition));
        }
        assert_eq!(world.queue_len("q"), 1);
        assert_eq!(queue.delete_if(false, false).await, Ok(1));
        let queue = channel.declare_queue("classic").await.unwrap();
        assert_eq!(queue.delete_if(true, true).await, Ok(0));
    });
}

/// A message that stands there in its stream.
fn delivery_at(script: Script, delivery_tag: u64, offset: i64) -> Script {
    let deliver = BasicDeliver {
        consumer_tag: name("c"),
        delivery_tag,
        redelivered: false,
        exchange: name(""),
        routing_key: name("s"),
    };
    let headers = FieldTable::new().with("x-stream-offset", offset).unwrap();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Properties::default()
    };
    script.send_all(CraftedFrame::content(1, deliver, properties, b"x"))
}

/// The client opens its channel and consumes from there.
fn consuming_from(script: Script, offset: &str) -> Script {
    let consume =
        format!(r#"ch 1 basic.consume queue="s" consumer_tag="c" arguments={{"x-stream-offset": {offset}}}"#);
    script.expect(&consume).reply(BasicConsumeOk {
        consumer_tag: name("c"),
    })
}

fn opening(script: Script) -> Script {
    script
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect("confirm.select")
        .reply(ConfirmSelectOk {})
}

/// What RabbitMQ 3.10 says when a delivery is not settled in time.
fn ack_timeout(script: Script) -> Script {
    let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms. \
                This timeout value can be configured, see consumers doc guide to learn more";
    let close = ChannelClose {
        reply_code: ReplyCode::PRECONDITION_FAILED,
        reply_text: name(text),
        class_id: 0,
        method_id: 0,
    };
    script
        .send(CraftedFrame::method(1, close))
        .expect("channel.close-ok")
}

#[test]
fn after_its_channel_was_closed_or_it_was_cancelled_it_goes_on_where_it_was() {
    let script = consuming_from(opening(Script::new().handshake()), r#""first""#);
    // The first two are settled, the third is not.
    let script = (1..=3).fold(script, |script, tag| delivery_at(script, tag, 9 + tag as i64));
    let script = ack_timeout(acks(script, [1, 2]));
    let script = consuming_from(opening(script), "12");
    let script = acks(delivery_at(delivery_at(script, 1, 12), 2, 13), [2, 1]);
    let cancel = BasicCancel {
        consumer_tag: name("c"),
        no_wait: true,
    };
    let script = script
        .send(CraftedFrame::method(1, cancel))
        .expect(r#"ch 1 basic.cancel consumer_tag="c" no_wait"#)
        .expect("ch 2 channel.open")
        .reply(ChannelOpenOk {})
        .expect(r#"ch 2 queue.declare queue="s" passive"#)
        .reply(QueueDeclareOk {
            queue: name("s"),
            message_count: 0,
            consumer_count: 0,
        })
        .expect("ch 2 channel.close")
        .reply(ChannelCloseOk {});
    let script = delivery_at(consuming_from(script, "14"), 3, 14);
    let script = script
        .skip_to("connection.close")
        .reply(ConnectionCloseOk {})
        .hang_up();
    let world = World::scripted(script);
    world.run(async {
        let connection = world.connect().await;
        let channel = ChannelOptions::default().number(1);
        let channel = channel.reopen(Reopen::on_ack_timeout().with_consumers());
        let channel = connection.channel_with(channel).await.unwrap();
        let options = options().stream_offset(StreamOffset::First);
        let options = options.resubscribe(Backoff::new(1).attempts(1));
        let mut consumer = channel.queue("s").consume_with(options).await.unwrap();
        next(&mut consumer).await.ack().await.unwrap();
        next(&mut consumer).await.ack().await.unwrap();
        let late = next(&mut consumer).await;
        let third = next(&mut consumer).await;
        assert!(late.is_stale() && late.ack().await.is_err());
        next(&mut consumer).await.ack().await.unwrap();
        third.ack().await.unwrap();
        let last = next(&mut consumer).await;
        let headers = last.properties().headers.unwrap();
        assert_eq!(
            headers.get("x-stream-offset").unwrap().unwrap().as_i64(),
            Some(14)
        );
        last.into_message();
        connection.close().await;
    });
    world.wind_up();
    world.finish_script();
}

#[test]
fn another_406_is_no_timeout() {
    let script = opening(Script::new().handshake()).expect("queue.declare");
    let close = ChannelClose {
        reply_code: ReplyCode::PRECONDITION_FAILED,
        reply_text: name("PRECONDITION_FAILED - inequivalent arg 'ack timed out' for queue 's'"),
        class_id: 50,
        method_id: 10,
    };
    let script = script
        .send(CraftedFrame::method(1, close))
        .expect("channel.close-ok");
    let world = World::scripted(
        script
            .skip_to("connection.close")
            .reply(ConnectionCloseOk {})
            .hang_up(),
    );
    world.run(async {
        let connection = world.connect().await;
        let options = ChannelOptions::default().reopen(Reopen::on_ack_timeout());
        let channel = connection.channel_with(options).await.unwrap();
        channel.declare_queue("s").await.unwrap_err();
        assert!(matches!(channel.closed().await, ChannelCloseReason::Peer(_)));
        connection.close().await;
    });
    world.wind_up();
    world.finish_script();
}
