//! What an honest broker does not do.

use std::time::Duration;

use amqp_async::{ConsumeOptions, Error, PublishError};
use amqp_proto::CloseReason;
use amqp_proto::wire::*;
use amqp_testbroker::{CraftedFrame, Script};

use crate::world::{World, config, in_time};

const SECOND: Duration = Duration::from_secs(1);

/// A handshake and a channel that confirms.
fn channel() -> Script {
    Script::new()
        .handshake()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect("confirm.select")
        .reply(ConfirmSelectOk {})
}

/// Another product, whose properties mean nothing to us, that has no capabilities and no limits.
#[test]
fn a_broker_that_is_not_rabbitmq_does_the_main_job() {
    let nested = FieldTable::new().with("edition", 7).unwrap();
    let said_of_itself = FieldTable::new()
        .with("product", &nested)
        .and_then(|table| table.with("version", FieldValue::Void))
        .and_then(|table| table.with("capabilities", "none"))
        .unwrap();
    let start = ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties: said_of_itself.as_ref(),
        mechanisms: LongStr::new(b"AMQPLAIN  PLAIN"),
        locales: LongStr::new(b""),
    };
    let tune = ConnectionTune {
        channel_max: 0,
        frame_max: 0,
        heartbeat: 0,
    };
    let name = |text| ShortStr::new(text).unwrap();
    let deliver = BasicDeliver {
        consumer_tag: name("c"),
        delivery_tag: 1,
        redelivered: false,
        exchange: name(""),
        routing_key: name("q"),
    };
    let script = Script::new()
        .expect("protocol header")
        .reply(start)
        .expect("connection.start-ok")
        .reply(tune)
        .expect("connection.tune-ok")
        .expect("connection.open")
        .reply(ConnectionOpenOk {})
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect("confirm.select")
        .reply(ConfirmSelectOk {})
        .expect("queue.declare")
        .reply(QueueDeclareOk {
            queue: name("q"),
            message_count: 0,
            consumer_count: 0,
        })
        .expect("basic.consume")
        .reply(BasicConsumeOk {
            consumer_tag: name("c"),
        })
        .expect_content("basic.publish", b"x")
        .reply(BasicAck {
            delivery_tag: 1,
            multiple: false,
        })
        .send_all(CraftedFrame::content(1, deliver, Properties::default(), b"x"))
        .expect("basic.ack")
        .skip_to("connection.close")
        .reply(ConnectionCloseOk {})
        .hang_up();
    let world = World::scripted(script);
    world.run(async {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let options = ConsumeOptions::default().tag("c");
        let mut consumer = queue.consume_with(options).await.unwrap();
        channel.default_exchange().publish("x", "q").await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(delivery.body(), &b"x"[..]);
        delivery.ack().await.unwrap();
        let report = connection.close().await;
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
    });
    world.wind_up();
    world.finish_script();
}

#[test]
fn publishes_wait_while_the_broker_stops_the_flow() {
    let script = channel()
        .send(CraftedFrame::method(1, ChannelFlow { active: false }))
        .expect("channel.flow-ok")
        .wait(5 * SECOND)
        .send(CraftedFrame::method(1, ChannelFlow { active: true }))
        .expect("channel.flow-ok")
        .expect_content("ch 1 basic.publish", b"x")
        .reply(BasicAck {
            delivery_tag: 1,
            multiple: false,
        });
    let world = World::scripted(script);
    world.run(async {
        let (_connection, channel) = world.channel().await;
        world.idle().await;
        let hasty = channel.with_timeout(SECOND).default_exchange();
        let error = hasty.publish("late", "q").await.unwrap_err();
        assert_eq!(
            (error, world.elapsed()),
            (PublishError::NotSent(Error::Timeout), SECOND)
        );
        channel.default_exchange().publish("x", "q").await.unwrap();
        assert_eq!(world.elapsed(), 5 * SECOND);
    });
    world.wind_up();
    world.finish_script();
}

#[test]
fn an_answer_to_nothing_ends_the_connection_for_all_who_wait() {
    let script = channel()
        .expect("queue.declare")
        .reply(QueueBindOk {})
        .skip_to("connection.close")
        .reply(ConnectionCloseOk {})
        .hang_up();
    let world = World::scripted(script);
    world.run(async {
        let (connection, channel) = world.channel().await;
        let error = channel.declare_queue("q").await.unwrap_err();
        let Error::ConnectionClosed(reason @ CloseReason::Protocol(_)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(connection.closed().await, reason);
        assert_eq!(
            channel.declare_queue("q").await.unwrap_err(),
            Error::ConnectionClosed(reason)
        );
    });
    world.wind_up();
    world.finish_script();
    assert_eq!(world.elapsed(), Duration::ZERO);
}

/// Whose last word was ours, and whose the peer's.
#[test]
fn the_end_of_the_peers_stream_is_waited_for_only_if_our_answer_may_be_lost_without() {
    let asked = channel()
        .expect("channel.close")
        .reply(ChannelCloseOk {})
        .expect("connection.close")
        .reply(ConnectionCloseOk {})
        .expect_end();
    let told = ConnectionClose {
        reply_code: ReplyCode::CONNECTION_FORCED,
        reply_text: ShortStr::new("shutdown").unwrap(),
        class_id: 0,
        method_id: 0,
    };
    let told = channel()
        .wait(SECOND)
        .send(CraftedFrame::method(0, told))
        .expect("connection.close-ok")
        .expect_end();
    for (script, is_asked, time) in [(asked, true, Duration::ZERO), (told, false, 3 * SECOND)] {
        let world = World::scripted(script);
        world.run(async {
            let (connection, _channel) = world.channel().await;
            match is_asked {
                true => drop(connection.close().await),
                false => drop(connection.closed().await),
            }
            while world.driver_end(0).is_none() {
                match world.next_deadline() {
                    Some(at) => world.sleep(at.saturating_sub(world.elapsed())).await,
                    None => world.idle().await,
                }
            }
        });
        assert_eq!(world.elapsed(), time);
        world.wind_up();
        world.finish_script();
    }
}

#[test]
fn a_confirm_that_comes_twice_is_told_once() {
    let ack = |delivery_tag, multiple| BasicAck {
        delivery_tag,
        multiple,
    };
    let script = channel()
        .expect_content("basic.publish", b"a")
        .reply(ack(1, false))
        .expect_content("basic.publish", b"b")
        .reply(ack(2, true))
        .expect("channel.close")
        .reply(ChannelCloseOk {});
    let world = World::scripted(script);
    world.run(async {
        let (_connection, channel) = world.channel().await;
        let exchange = channel.default_exchange();
        let first = exchange.publish_deferred("a", "q").await.unwrap();
        world.idle().await;
        exchange.publish("b", "q").await.unwrap();
        first.await.unwrap();
        channel.close().await.unwrap();
    });
    world.wind_up();
    world.finish_script();
}

#[test]
fn a_stream_that_takes_nothing_more_and_says_nothing_is_given_up() {
    let elapsed = in_time(async |world| {
        let (connection, channel) = world.channel().await;
        world.break_writing();
        let error = channel.declare_queue("q").await.unwrap_err();
        assert!(
            matches!(error, Error::ConnectionClosed(CloseReason::Transport { .. })),
            "{error:?}"
        );
        assert!(connection.is_closed());
        assert_eq!(world.elapsed(), 2 * SECOND);
    });
    assert_eq!(elapsed, 2 * SECOND);
}

#[test]
fn a_reset_in_the_middle_of_a_message_is_told() {
    let script = channel().expect("basic.publish").reset();
    let world = World::scripted(script);
    let connection = world.start(config());
    world.run(async {
        connection.ready().await.unwrap();
        let channel = connection.channel().await.unwrap();
        let error = channel.default_exchange().publish("x", "q").await.unwrap_err();
        assert!(
            matches!(
                &error,
                PublishError::Lost(Error::ConnectionClosed(CloseReason::Transport { .. }))
            ),
            "{error:?}"
        );
    });
    drop(connection);
    world.wind_up();
    assert_eq!(world.elapsed(), Duration::ZERO);
}
