//! Channels, and how they and the connection end.

use amqp_proto::wire::*;
use amqp_testbroker::BrokerConfig;

use crate::stage::{Stage, close, name};

fn missing_queue(stage: &mut Stage, who: usize, channel: u16) {
    let queue = name("missing");
    stage.send(
        who,
        channel,
        QueuePurge {
            queue,
            no_wait: false,
        },
    );
    let text = "NOT_FOUND - no queue 'missing' in vhost '/'";
    assert_eq!(stage.received(who), [close(channel, 404, text, 50, 30)]);
}

#[test]
fn channels_open_close_and_open_again() {
    let mut stage = Stage::new();
    let who = stage.open();
    for _ in 0..2 {
        stage.channel(who, 7);
        assert_eq!(stage.broker.connections()[0].channels, 1);
        stage.call(who, 7, ChannelClose::default(), "channel.close-ok");
        assert_eq!(stage.broker.connections()[0].channels, 0);
    }
}

#[test]
fn flow_is_always_on_and_access_is_always_granted() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    stage.call(who, 1, ChannelFlow { active: true }, "channel.flow-ok active");
    stage.call(who, 1, AccessRequest::default(), "access.request-ok ticket=1");
}

/// Sends it on channel 1, which is open, and expects the connection to be closed so.
#[track_caller]
fn ends_connection<'m>(method: impl Into<Method<'m>>, code: u16, text: &str) {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    let method = method.into();
    let MethodId {
        class,
        method: number,
    } = method.spec().id;
    stage.send(who, 1, method);
    assert_eq!(stage.received(who), [close(0, code, text, class, number)]);
    assert!(!stage.is_over(who));
    stage.send(who, 0, ConnectionCloseOk {});
    stage.run();
    assert!(stage.is_over(who));
}

#[test]
fn methods_that_have_no_place_on_a_channel_end_the_connection() {
    ends_connection(
        ChannelOpen::default(),
        504,
        "CHANNEL_ERROR - second 'channel.open' seen",
    );
    ends_connection(
        ChannelFlow { active: false },
        540,
        "NOT_IMPLEMENTED - active=false",
    );
    let text = "COMMAND_INVALID - unimplemented method";
    ends_connection(QueueDeclareOk::default(), 503, text);
    ends_connection(ConnectionOpen::default(), 503, text);
    ends_connection(ChannelCloseOk {}, 503, text);
    ends_connection(BasicCancelOk::default(), 503, text);
}

#[test]
fn a_method_on_a_channel_that_is_not_open_ends_the_connection() {
    let mut stage = Stage::new();
    let who = stage.open();
    stage.send(who, 3, BasicQos::default());
    let text = "CHANNEL_ERROR - expected 'channel.open'";
    assert_eq!(stage.received(who), [close(0, 504, text, 60, 10)]);
}

#[test]
fn a_method_of_a_channel_on_channel_0_ends_the_connection() {
    let mut stage = Stage::new();
    let who = stage.open();
    stage.send(who, 0, ChannelOpen::default());
    let text = "CHANNEL_ERROR - unexpected method in connection state running";
    assert_eq!(stage.received(who), [close(0, 504, text, 20, 10)]);
}

#[test]
fn channel_max_limits_how_many_not_which() {
    let mut config = BrokerConfig::default();
    config.channel_max = 1;
    let mut stage = Stage::with(config);
    let who = stage.start("guest", "guest", &FieldTable::new());
    stage.received(who);
    stage.tune_ok(who, 1, 131_072, 0);
    stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
    stage.channel(who, 9);
    stage.send(who, 1, ChannelOpen::default());
    let text = "NOT_ALLOWED - number of channels opened (1) has reached the negotiated channel_max (1)";
    assert_eq!(stage.received(who), [close(0, 530, text, 0, 0)]);
}

#[test]
fn after_a_channel_error_all_is_ignored_until_close_ok_and_others_live() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    stage.channel(who, 2);
    missing_queue(&mut stage, who, 1);
    stage.send(who, 1, BasicQos::default());
    stage.publish(who, 1, "q", b"lost");
    stage.send(who, 1, ChannelOpen::default());
    assert!(stage.received(who).is_empty());
    stage.call(who, 2, BasicQos::default(), "basic.qos-ok");
    stage.call(who, 1, ChannelClose::default(), "channel.close-ok");
    stage.send(who, 1, ChannelCloseOk {});
    stage.channel(who, 1);
}

#[test]
fn a_client_closes_its_connection() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    stage.call(who, 0, ConnectionClose::default(), "connection.close-ok");
    assert!(stage.is_over(who));
    stage.disconnect(who);
    assert!(stage.broker.connections().is_empty());
}

#[test]
fn behind_the_brokers_close_nothing_counts_but_close_and_its_answer() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    stage.send(who, 1, ChannelOpen::default());
    stage.received(who);
    stage.send(who, 1, BasicQos::default());
    stage.publish(who, 4, "q", b"lost");
    stage.send(who, 0, ConnectionUpdateSecret::default());
    assert!(stage.received(who).is_empty());
    stage.call(who, 0, ConnectionClose::default(), "connection.close-ok");
    stage.advance(std::time::Duration::from_secs(30));
    assert!(stage.is_over(who));
}

#[test]
fn a_new_secret_is_taken() {
    let mut stage = Stage::new();
    let who = stage.open();
    stage.call(
        who,
        0,
        ConnectionUpdateSecret::default(),
        "connection.update-secret-ok",
    );
}

#[test]
fn exclusive_queues_go_with_their_connection_and_are_locked_before() {
    let mut stage = Stage::new();
    let (owner, other) = (stage.open_channel(), stage.open_channel());
    let exclusive = QueueDeclare {
        queue: name("mine"),
        exclusive: true,
        ..Default::default()
    };
    let declared = r#"queue.declare-ok queue="mine" message_count=0 consumer_count=0"#;
    stage.call(owner, 1, exclusive, declared);
    let passive = QueueDeclare {
        queue: name("mine"),
        passive: true,
        ..Default::default()
    };
    stage.send(other, 1, passive);
    let locked = stage.received(other);
    assert!(
        locked[0].starts_with("ch 1 channel.close reply_code=405 RESOURCE_LOCKED"),
        "{locked:?}"
    );
    stage.disconnect(owner);
    assert_eq!(stage.broker.queue_len("/", "mine"), None);
}
