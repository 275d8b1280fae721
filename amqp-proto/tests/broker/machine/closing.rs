//! Ends in good order.

use amqp_proto::wire::{BasicPublish, Properties, QueueDeclare, ReplyCode};
use amqp_proto::{ChannelCloseReason, Event};

use super::trace::{Tap, lines};
use super::{Session, consume, short, unique};
use crate::connect::parameters;

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_close_ends_consumers_then_channels_then_the_connection() {
    let mut session = Session::new(parameters().config);
    let tap = Tap::on(&mut session);
    let mut session = session.connected();
    let (first, second) = (session.open(), session.open());
    let queue = session.queue(first);
    session.consume(first, &queue);
    session.consume(second, &queue);
    session.close();
    let is_end = |line: &&String| {
        ["basic.cancel", "channel.close", "connection.close"]
            .iter()
            .any(|method| line.contains(method))
    };
    let lines = lines(&tap);
    let names = |arrow| {
        let ends = lines
            .iter()
            .filter(is_end)
            .filter(move |line| line.contains(arrow));
        ends.map(|line| line.split(' ').skip(2).take(3).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names("->"),
        [
            "ch 1 basic.cancel",
            "ch 1 channel.close",
            "ch 2 basic.cancel",
            "ch 2 channel.close",
            "ch 0 connection.close"
        ]
    );
    // RabbitMQ does not answer each cancel when a close is behind it.
    let mut answers = names("<-");
    answers.retain(|answer| !answer.ends_with("basic.cancel-ok"));
    answers[..2].sort();
    assert_eq!(
        answers,
        [
            "ch 1 channel.close-ok",
            "ch 2 channel.close-ok",
            "ch 0 connection.close-ok"
        ]
    );
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_was_asked_before_a_close_is_answered_before_its_end() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let declare = QueueDeclare {
        queue: short(&queue),
        passive: true,
        ..Default::default()
    };
    let request = session.channel(channel).request(&declare).unwrap();
    session
        .channel(channel)
        .close(ReplyCode::REPLY_SUCCESS, "")
        .unwrap();
    assert_eq!(session.answer(request).unwrap().get().queue, short(&queue));
    assert_eq!(session.channel_end(channel), ChannelCloseReason::Requested);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_channel_s_number_serves_a_thousand_channels() {
    let mut session = Session::connect(parameters().config);
    for incarnation in 0..1000 {
        let channel = session.core.open_channel_with_number(5).unwrap();
        assert_eq!((channel.number(), channel.incarnation()), (5, incarnation));
        session
            .channel(channel)
            .close(ReplyCode::REPLY_SUCCESS, "")
            .unwrap();
        assert_eq!(session.channel_end(channel), ChannelCloseReason::Requested);
    }
    assert_eq!(session.core.channel_count(), 0);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_channel_s_number_serves_again_each_time_the_broker_closes_it() {
    let mut session = Session::connect(parameters().config);
    let nowhere = unique("no exchange");
    let publish = BasicPublish {
        exchange: short(&nowhere),
        ..Default::default()
    };
    for _ in 0..300 {
        let channel = session.core.open_channel_with_number(5).unwrap();
        for _ in 0..3 {
            session
                .channel(channel)
                .publish(&publish, &Properties::default(), "x")
                .unwrap();
        }
        let reason = session.channel_end(channel);
        assert_eq!(reason.peer().unwrap().code, ReplyCode::NOT_FOUND);
    }
    let channel = session.core.open_channel_with_number(5).unwrap();
    session.queue(channel);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_channel_that_both_close_at_once_ends_once_with_the_broker_s_words() {
    let mut session = Session::connect(parameters().config);
    let nowhere = unique("no exchange");
    let publish = BasicPublish {
        exchange: short(&nowhere),
        ..Default::default()
    };
    for _ in 0..100 {
        let channel = session.core.open_channel_with_number(5).unwrap();
        let mut view = session.channel(channel);
        view.publish(&publish, &Properties::default(), "x").unwrap();
        view.close(ReplyCode::REPLY_SUCCESS, "").unwrap();
        let reason = session.channel_end(channel);
        assert_eq!(reason.peer().unwrap().code, ReplyCode::NOT_FOUND);
    }
    assert_eq!(session.core.channel_count(), 0);
    let ends = |event: &&Event| matches!(event, Event::ChannelClosed { .. });
    assert_eq!(session.unclaimed().find(ends), None);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_a_closed_channel_had_not_acknowledged_comes_again() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.publish(channel, &queue, b"again");
    let other = session.open();
    let consumer = session.consume_with(other, &consume(&queue));
    assert!(!session.delivery(consumer).redelivered);
    session
        .channel(other)
        .close(ReplyCode::REPLY_SUCCESS, "")
        .unwrap();
    session.channel_end(other);
    let consumer = session.consume(channel, &queue);
    assert!(session.delivery(consumer).redelivered);
    session.close();
}

mod with_ctl {
    use super::*;
    use crate::connect::ctl;
    use amqp_proto::wire::ConfirmSelect;
    use amqp_proto::{ConfirmOutcome, RequestError};

    /// A virtual host of the test's own, until it is dropped.
    struct VirtualHost(String);

    impl VirtualHost {
        fn new() -> Self {
            let name = unique("short-lived").replace(' ', "-");
            ctl(&format!("add_vhost {name}"));
            ctl(&format!("set_permissions -p {name} guest '.*' '.*' '.*'"));
            Self(name)
        }

        #[track_caller]
        fn connect(&self) -> Session {
            Session::connect(parameters().config.virtual_host(self.0.as_str()))
        }
    }

    impl Drop for VirtualHost {
        fn drop(&mut self) {
            ctl(&format!("delete_vhost {}", self.0));
        }
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn an_operator_who_deletes_the_virtual_host_ends_the_session() {
        let host = VirtualHost::new();
        let mut session = host.connect();
        let channel = session.open();
        let name = host.0.clone();
        drop(host);
        let reason = session.end();
        let peer = reason.peer().unwrap();
        assert_eq!(peer.code, ReplyCode::CONNECTION_FORCED);
        assert!(
            peer.text
                .starts_with(&format!("CONNECTION_FORCED - vhost '{name}' is")),
            "{peer}"
        );
        assert_eq!(
            session.channel_end(channel),
            ChannelCloseReason::Connection(reason.clone())
        );
        assert!(!reason.is_permanent());
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn an_operator_who_closes_the_connection_resolves_all_that_waits() {
        let host = VirtualHost::new();
        let mut session = host.connect();
        let channel = session.open();
        let queue = session.queue(channel);
        session.call(channel, &ConfirmSelect::default());
        ctl(&format!("close_all_connections --vhost {} 'by hand'", host.0));
        // The close lies unread; these go out behind it.
        let request = session
            .channel(channel)
            .request(&QueueDeclare::default())
            .unwrap();
        session.publish(channel, &queue, b"lost");
        let failed = session.answer(request).map(drop).unwrap_err();
        let outcomes = session.outcomes(channel, 1);
        let reason = session.end();
        let peer = reason.peer().unwrap();
        assert_eq!(peer.code, ReplyCode::CONNECTION_FORCED);
        assert_eq!(&*peer.text, "CONNECTION_FORCED - by hand");
        let reason = ChannelCloseReason::Connection(reason);
        assert_eq!(outcomes[&1], ConfirmOutcome::Lost(reason.clone()));
        assert_eq!(failed, RequestError::ChannelClosed(reason.clone()));
        assert_eq!(session.channel_end(channel), reason);
        assert_eq!(session.unclaimed().next(), None);
    }
}
