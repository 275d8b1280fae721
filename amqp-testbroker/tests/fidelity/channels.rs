//! The life of a channel.

use amqp_proto::wire::*;

use crate::session::{Login, exclusive, publish, short};
use crate::world::World;

pub(crate) fn opening_and_closing(world: &World) {
    let mut session = world.connect();
    let answer = session.call_on(2, &ChannelOpen {});
    assert_eq!(answer.to_string(), "ch 2 channel.open-ok");
    let close = ChannelClose {
        reply_code: ReplyCode::REPLY_SUCCESS,
        ..Default::default()
    };
    let answer = session.call_on(2, &close);
    assert_eq!(answer.to_string(), "ch 2 channel.close-ok");
    session.open(2);
    session.close();
}

pub(crate) fn opening_twice(world: &World) {
    let mut session = world.connect();
    session.fatal(
        &ChannelOpen {},
        504,
        "CHANNEL_ERROR - second 'channel.open' seen",
    );
}

pub(crate) fn a_method_on_a_channel_that_is_not_open(world: &World) {
    let mut session = world.connect();
    session.send_on(2, &exclusive(""));
    session.expect_connection_close(504, "CHANNEL_ERROR - expected 'channel.open'", QueueDeclare::SPEC.id);
}

pub(crate) fn closing_a_channel_that_is_not_open(world: &World) {
    let mut session = world.connect();
    let close = ChannelClose {
        reply_code: ReplyCode::REPLY_SUCCESS,
        ..Default::default()
    };
    session.send_on(2, &close);
    session.expect_connection_close(504, "CHANNEL_ERROR - expected 'channel.open'", ChannelClose::SPEC.id);
}

pub(crate) fn what_is_sent_behind_a_refusal_is_ignored(world: &World) {
    let mut session = world.connect();
    let (missing, queue) = (world.name("x"), world.name("q"));
    session.queue(&queue);
    session.publish(&missing, "", "refused");
    session.put(&queue, "ignored");
    session.send(&exclusive(&world.name("ignored")));
    let text = format!("NOT_FOUND - no exchange '{missing}' in vhost '/'");
    session.expect_close(404, &text, BasicPublish::SPEC);
    assert_eq!(session.take(&queue), None);
    session.close();
}

pub(crate) fn other_channels_live_on(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.open(2);
    session.send_on(
        2,
        &BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    session.put(&queue, "m");
    session.expect(
        "ch 2 channel.close reply_code=406 PRECONDITION_FAILED reply_text=\"PRECONDITION_FAILED - unknown delivery tag \
         1\" class_id=60 method_id=80",
    );
    assert_eq!(session.drain(&queue), ["m"]);
    session.close();
}

pub(crate) fn a_channel_above_the_limit(world: &World) {
    let tune = ConnectionTuneOk {
        channel_max: 2,
        ..Login::default().tune
    };
    let mut session = world.connect_with(&Login {
        tune,
        ..Default::default()
    });
    session.open(2);
    session.send_on(3, &ChannelOpen {});
    session.expect_connection_close(
        530,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
        MethodId::default(),
    );
}

pub(crate) fn a_channel_number_above_the_limit(world: &World) {
    let tune = ConnectionTuneOk {
        channel_max: 2,
        ..Login::default().tune
    };
    let mut session = world.connect_with(&Login {
        tune,
        ..Default::default()
    });
    session.send_on(3, &ChannelOpen {});
    session.expect("ch 3 channel.open-ok");
    session.close();
}

pub(crate) fn flow(world: &World) {
    let mut session = world.connect();
    let answer = session.call(&ChannelFlow { active: true });
    assert_eq!(answer.to_string(), "ch 1 channel.flow-ok active");
    session.fatal(&ChannelFlow { active: false }, 540, "NOT_IMPLEMENTED - active=false");
}

pub(crate) fn methods_that_only_a_server_sends(world: &World) {
    let mut session = world.connect();
    session.fatal(
        &QueueDeclareOk::default(),
        503,
        "COMMAND_INVALID - unimplemented method",
    );
}

pub(crate) fn a_message_that_is_too_large(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    let limit = 16 * 1024 * 1024;
    let body = vec![0; limit + 1];
    session.publish_with(&publish("", &queue), &Properties::default(), &body[..limit]);
    session.expect_count(&queue, (1, 0));
    session.publish_with(&publish("", &queue), &Properties::default(), &body);
    match world.by_release(true, false) {
        // Its limit is eight times as large.
        true => session.expect_count(&queue, (2, 0)),
        false => session.expect_close(
            406,
            "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216",
            BasicPublish::SPEC,
        ),
    }
    session.close();
}

pub(crate) fn the_reply_text_of_a_name_that_is_long(world: &World) {
    let mut session = world.connect();
    let mut missing = world.name("q");
    while missing.len() < 255 {
        missing.push('x');
    }
    session.send(&BasicGet {
        queue: short(&missing),
        no_ack: true,
    });
    let received = session.next();
    let Method::ChannelClose(close) = received.method() else {
        panic!("no channel.close: {received}");
    };
    let whole = format!("NOT_FOUND - no queue '{missing}' in vhost '/'");
    let text = close.reply_text.to_str().unwrap();
    assert_eq!(text.len(), 255);
    assert_eq!(text, format!("{}...", &whole[..252]));
    session.send(&ChannelCloseOk {});
    session.open(1);
    session.close();
}

/// A remnant of AMQP 0-8.
pub(crate) fn asking_for_access(world: &World) {
    let mut session = world.connect();
    let answer = session.call(&AccessRequest::default());
    assert_eq!(answer.to_string(), "ch 1 access.request-ok ticket=1");
    session.close();
}
