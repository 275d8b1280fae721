//! How a connection begins and ends.

use amqp_proto::wire::*;

use crate::session::{CAPABILITIES, Login, exclusive, short};
use crate::world::World;

pub(crate) fn what_the_server_says_of_itself(world: &World) {
    let mut session = world.dial();
    session.send_octets(&PROTOCOL_HEADER);
    let received = session.expect_start();
    let Method::ConnectionStart(start) = received.method() else {
        unreachable!("that is what it is")
    };
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!(start.locales, "en_US");
    let properties = start.server_properties;
    let text = |name| properties.get(name).unwrap().unwrap().as_str().unwrap();
    // A product says its own name.
    assert!(!text("product").is_empty());
    assert!(!text("version").is_empty());
    let capabilities = properties.get("capabilities").unwrap().unwrap().as_table().unwrap();
    for name in [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "consumer_priorities",
        "direct_reply_to",
        "exchange_exchange_bindings",
        "per_consumer_qos",
        "publisher_confirms",
    ] {
        assert_eq!(capabilities.get(name).unwrap(), Some(true.into()), "{name}");
    }
    let mechanisms = std::str::from_utf8(start.mechanisms.as_bytes()).unwrap();
    let mechanisms: Vec<_> = mechanisms.split(' ').collect();
    assert!(mechanisms.contains(&"PLAIN"), "{mechanisms:?}");
    assert!(mechanisms.contains(&"AMQPLAIN"), "{mechanisms:?}");
}

pub(crate) fn what_the_server_proposes(world: &World) {
    let mut session = world.dial();
    let tune = session.authenticate(&Login::default());
    assert_eq!(
        tune.to_string(),
        "ch 0 connection.tune channel_max=2047 frame_max=131072 heartbeat=60"
    );
}

pub(crate) fn open_ok_and_close_ok(world: &World) {
    let mut session = world.dial();
    session.log_in(&Login::default());
    let answer = session.call_on(0, &ConnectionOpen::default());
    assert_eq!(answer.to_string(), "ch 0 connection.open-ok");
    let close = ConnectionClose {
        reply_code: ReplyCode::REPLY_SUCCESS,
        ..Default::default()
    };
    let answer = session.call_on(0, &close);
    assert_eq!(answer.to_string(), "ch 0 connection.close-ok");
}

pub(crate) fn another_virtual_host_has_its_own_things(world: &World) {
    let mut session = world.connect();
    let mut other = world.connect_with(&Login {
        virtual_host: "a|b",
        ..Default::default()
    });
    let queue = world.name("q");
    session.queue(&queue);
    other.refused(
        &BasicGet {
            queue: short(&queue),
            no_ack: true,
        },
        404,
        &format!("NOT_FOUND - no queue '{queue}' in vhost 'a|b'"),
    );
    other.queue(&queue);
    other.put(&queue, "m");
    assert_eq!(session.take(&queue), None);
    assert_eq!(other.drain(&queue), ["m"]);
    other.close();
    session.close();
}

pub(crate) fn no_such_virtual_host(world: &World) {
    let mut session = world.dial();
    session.log_in(&Login::default());
    let virtual_host = short("nowhere");
    session.send_on(0, &ConnectionOpen { virtual_host });
    session.expect_connection_close(
        530,
        "NOT_ALLOWED - vhost nowhere not found",
        ConnectionOpen::SPEC.id,
    );
}

/// Says that to a fresh `connection.start`; a 403 is the answer.
fn refused_at_the_door(world: &World, mechanism: &str, response: &str, text: &str) {
    let mut session = world.dial();
    session.send_octets(&PROTOCOL_HEADER);
    session.expect_start();
    session.start_ok(&CAPABILITIES, mechanism, response);
    let received = session.next();
    assert_eq!(
        received.to_string(),
        format!(
            "ch 0 connection.close reply_code=403 ACCESS_REFUSED reply_text={:?} class_id=0 method_id=0",
            format!("ACCESS_REFUSED - {text}")
        )
    );
}

const REFUSED: &str =
    "Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";

pub(crate) fn a_wrong_password(world: &World) {
    refused_at_the_door(world, "PLAIN", "\0guest\0wrong", REFUSED);
}

pub(crate) fn an_unknown_user(world: &World) {
    refused_at_the_door(world, "PLAIN", "\0stranger\0guest", REFUSED);
}

pub(crate) fn an_empty_password(world: &World) {
    refused_at_the_door(world, "PLAIN", "\0guest\0", REFUSED);
}

pub(crate) fn a_wrong_password_without_the_capability(world: &World) {
    let mut session = world.dial();
    session.send_octets(&PROTOCOL_HEADER);
    session.expect_start();
    session.start_ok(&[], "PLAIN", "\0guest\0wrong");
    session.expect_end();
}

pub(crate) fn a_mechanism_that_was_not_offered(world: &World) {
    let mut session = world.dial();
    session.send_octets(&PROTOCOL_HEADER);
    session.expect_start();
    session.start_ok(&CAPABILITIES, "FANCY", "");
    session.expect_end();
}

pub(crate) fn amqplain(world: &World) {
    let mut session = world.dial();
    session.send_octets(&PROTOCOL_HEADER);
    session.expect_start();
    let table = crate::session::args([("LOGIN", "guest".into()), ("PASSWORD", "guest".into())]);
    let response = String::from_utf8(table.as_ref().as_encoded().to_vec()).unwrap();
    session.start_ok(&CAPABILITIES, "AMQPLAIN", &response);
    let tune = session.next();
    assert!(tune.is::<ConnectionTune>(), "{tune}");
    session.send_on(0, &Login::default().tune);
    session.enter("/");
    session.close();
}

/// Answers `connection.tune` so; RabbitMQ hangs up without a word.
fn tuned_out(world: &World, tune: ConnectionTuneOk) {
    let mut session = world.dial();
    session.log_in(&Login {
        tune,
        ..Default::default()
    });
    session.send_on(0, &ConnectionOpen::default());
    session.expect_end();
}

pub(crate) fn more_channels_than_offered(world: &World) {
    tuned_out(
        world,
        ConnectionTuneOk {
            channel_max: 2048,
            ..Login::default().tune
        },
    );
}

pub(crate) fn unlimited_channels(world: &World) {
    tuned_out(
        world,
        ConnectionTuneOk {
            channel_max: 0,
            ..Login::default().tune
        },
    );
}

pub(crate) fn larger_frames_than_offered(world: &World) {
    tuned_out(
        world,
        ConnectionTuneOk {
            frame_max: 131_073,
            ..Login::default().tune
        },
    );
}

pub(crate) fn unlimited_frames(world: &World) {
    tuned_out(
        world,
        ConnectionTuneOk {
            frame_max: 0,
            ..Login::default().tune
        },
    );
}

pub(crate) fn frames_that_are_too_small(world: &World) {
    tuned_out(
        world,
        ConnectionTuneOk {
            frame_max: 4095,
            ..Login::default().tune
        },
    );
}

pub(crate) fn the_smallest_frames(world: &World) {
    let mut probe = world.connect();
    probe.expect_nothing();
    probe.close();
    let frame_max = world.by_release(4096, 8192);
    let tune = ConnectionTuneOk {
        frame_max,
        ..Login::default().tune
    };
    let mut session = world.connect_with(&Login {
        tune,
        ..Default::default()
    });
    let queue = world.name("q");
    session.queue(&queue);
    session.expect_count(&queue, (0, 0));
    session.close();
}

pub(crate) fn frames_of_4096_octets_on_rabbitmq_4(world: &World) {
    world.connect().close();
    if world.by_release(false, true) {
        tuned_out(
            world,
            ConnectionTuneOk {
                frame_max: 4096,
                ..Login::default().tune
            },
        );
    }
}

pub(crate) fn renewing_a_password(world: &World) {
    let mut session = world.connect();
    let answer = session.call_on(
        0,
        &ConnectionUpdateSecret {
            new_secret: SecretStr::new(b"anything"),
            reason: short("because"),
        },
    );
    assert_eq!(answer.to_string(), "ch 0 connection.update-secret-ok");
    session.call(&exclusive(""));
    session.close();
}

pub(crate) fn what_follows_the_close_is_not_answered(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.send_on(
        0,
        &ConnectionClose {
            reply_code: ReplyCode::REPLY_SUCCESS,
            ..Default::default()
        },
    );
    session.send(&exclusive(&world.name("unanswered")));
    session.expect("ch 0 connection.close-ok");
}

pub(crate) fn heartbeats_come_when_asked_for(world: &World) {
    let tune = ConnectionTuneOk {
        heartbeat: 1,
        ..Login::default().tune
    };
    let mut session = world.connect_with(&Login {
        tune,
        ..Default::default()
    });
    // Nothing is sent meanwhile, so the broker gives up in the end.
    session.expect_end();
    assert!(session.heartbeats() >= 2, "{}", session.heartbeats());
}
