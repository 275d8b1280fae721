//! What disturbs everybody: no other test runs meanwhile.

mod with_ctl {
    use std::process::Command;
    use std::time::Duration;

    use amqp_proto::wire::{ConfirmSelect, FieldTable, Properties, QueueDeclare, QueueDelete, ReplyCode};
    use amqp_proto::{
        ChannelCloseReason, CloseReason, ConfirmOutcome, ConnectionState, Event, Heartbeat, RequestError,
        SendError,
    };

    use super::super::content::version;
    use super::super::{Session, short, to, unique};
    use crate::connect::{ctl, parameters};

    /// Puts things back, even after a failure.
    struct AtEnd<F: FnMut()>(F);

    impl<F: FnMut()> Drop for AtEnd<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_blocked_connection_says_so_and_is_answered_when_the_alarm_is_over() {
        let clear = AtEnd(|| drop(ctl("set_vm_memory_high_watermark 0.4")));
        let mut session = Session::connect(parameters().config.heartbeat(Heartbeat::Seconds(1)));
        let channel = session.open();
        let queue = session.queue(channel);
        session.call(channel, &ConfirmSelect::default());
        ctl("set_vm_memory_high_watermark 0");
        assert_eq!(
            session.core.state(),
            ConnectionState::Open,
            "it has not published yet"
        );
        session.publish(channel, &queue, b"held back");
        let reason = session.wait("connection.blocked", |event| match event {
            Event::Blocked { reason } => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(&*reason, "low on memory");
        assert_eq!(session.core.state(), ConnectionState::Blocked);
        let declare = QueueDeclare {
            queue: short(&queue),
            passive: true,
            ..Default::default()
        };
        let request = session.channel(channel).request(&declare).unwrap();
        // Longer than either side would wait without heartbeats.
        session.idle(Duration::from_millis(3500));
        let is_answer =
            |event: &Event| matches!(event, Event::Reply(_) | Event::Unblocked | Event::Closed(_));
        assert!(
            !session.unclaimed().any(is_answer),
            "a broker that is blocked answers nothing"
        );
        drop(clear);
        session.wait("connection.unblocked", |event| {
            matches!(event, Event::Unblocked).then_some(())
        });
        assert_eq!(session.core.state(), ConnectionState::Open);
        session.answer(request).unwrap();
        assert_eq!(session.outcomes(channel, 1)[&1], ConfirmOutcome::Acked);
        assert_eq!(session.count(channel, &queue).0, 1);
        session.close();
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_blocked_connection_is_given_up_in_time_and_so_is_its_close() {
        let _clear = AtEnd(|| drop(ctl("set_vm_memory_high_watermark 0.4")));
        let config = parameters().config;
        let impatient = config
            .clone()
            .blocked_connection_timeout(Some(Duration::from_millis(300)));
        let mut sessions =
            [impatient, config.close_timeout(Duration::from_millis(300))].map(Session::connect);
        ctl("set_vm_memory_high_watermark 0");
        for session in &mut sessions {
            let channel = session.open();
            session.publish(channel, "nowhere", b"x");
            session.wait("connection.blocked", |event| {
                matches!(event, Event::Blocked { .. }).then_some(())
            });
        }
        let [mut impatient, mut closing] = sessions;
        let reason = "low on memory".into();
        assert_eq!(impatient.end(), CloseReason::BlockedTimeout { reason });
        closing.core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
        assert_eq!(closing.end(), CloseReason::Requested { acknowledged: false });
    }

    /// The broker reads nothing, so what the socket does not hold stays with us, up to the mark.
    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_blocked_publisher_holds_no_more_than_the_mark_and_goes_on_when_there_is_room() {
        const SIZE: usize = 64 * 1024;
        let clear = AtEnd(|| drop(ctl("set_vm_memory_high_watermark 0.4")));
        let (mut session, channel) = Session::guest();
        let queue = session.queue(channel);
        session.call(channel, &ConfirmSelect::default());
        let consumer = session.consume(channel, &queue);
        session.publish(channel, &queue, b"first");
        let first = session.delivery(consumer);
        ctl("set_vm_memory_high_watermark 0");
        session.publish(channel, &queue, &[0; SIZE]);
        session.wait("connection.blocked", |event| {
            matches!(event, Event::Blocked { .. }).then_some(())
        });
        let limit = session.core.config().outbound_high_water;
        let mut published = 2;
        let full = loop {
            match session
                .channel(channel)
                .publish(&to(&queue), &Properties::default(), vec![0; SIZE])
            {
                Ok(_) => published += 1,
                Err(error) => break error,
            }
            session.idle(Duration::ZERO);
            assert!(session.core.queued_bytes() <= limit + SIZE + 100);
        };
        assert!(matches!(full, SendError::Full { .. }), "{full}");
        session.wait("back-pressure", |event| {
            matches!(event, Event::BackpressureOn { .. }).then_some(())
        });
        assert_eq!(session.core.state(), ConnectionState::Blocked);
        assert!(matches!(
            session.channel(channel).request(&QueueDeclare::default()),
            Err(SendError::Full { .. })
        ));
        session.channel(channel).ack(first.tag).unwrap();
        drop(clear);
        session.wait("room", |event| matches!(event, Event::Writable).then_some(()));
        session.wait("its end", |event| {
            matches!(event, Event::BackpressureOff { .. }).then_some(())
        });
        let outcomes = session.outcomes(channel, published);
        assert!(outcomes.values().all(|outcome| *outcome == ConfirmOutcome::Acked));
        for _ in 1..published {
            assert_eq!(session.delivery(consumer).message.body_len(), SIZE);
        }
        session.close();
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn an_operator_who_closes_all_connections_is_quoted() {
        let (mut session, channel) = Session::guest();
        ctl("close_all_connections 'back in a minute'");
        let request = session
            .channel(channel)
            .request(&QueueDeclare::default())
            .unwrap();
        let failed = session.answer(request).map(drop).unwrap_err();
        let reason = session.end();
        let peer = reason.peer().unwrap();
        assert_eq!(peer.code, ReplyCode::CONNECTION_FORCED);
        assert_eq!(&*peer.text, "CONNECTION_FORCED - back in a minute");
        assert!(!reason.is_permanent());
        let reason = ChannelCloseReason::Connection(reason);
        assert_eq!(failed, RequestError::ChannelClosed(reason));
    }

    fn signal(signal: &str, process: &str) {
        let status = Command::new("kill").args([signal, process]).status().unwrap();
        assert!(status.success(), "kill {signal} {process}");
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_broker_that_falls_silent_is_noticed_after_two_intervals() {
        let process = ctl("eval 'io:format(\"~s~n\", [os:getpid()]).'");
        let process = process.lines().next().unwrap().to_owned();
        let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        assert!(
            name.contains("beam"),
            "process {process} is {name:?}: is the broker on this machine?"
        );
        let mut session = Session::connect(parameters().config.heartbeat(Heartbeat::Seconds(1)));
        signal("-STOP", &process);
        let _go_on = AtEnd(|| signal("-CONT", &process));
        let reason = session.end();
        let CloseReason::HeartbeatMissed { interval, silence } = reason else {
            panic!("{reason:?}")
        };
        assert_eq!(interval, Duration::from_secs(1));
        assert!((2.0..3.0).contains(&silence.as_secs_f64()), "{silence:?}");
    }

    /// RabbitMQ 3 closes the channel; RabbitMQ 4.3 cancels the consumer, of quorum queues only, and may deliver to it after.
    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_consumer_that_never_acknowledges_is_ended_and_the_connection_lives() {
        const SET: &str = "eval '[application:set_env(rabbit, K, V) || {K, V} <- [";
        ctl(&format!(
            "{SET}{{consumer_timeout, 1000}}, {{channel_tick_interval, 500}}, {{quorum_tick_interval, 500}}]].'"
        ));
        let _reset = AtEnd(|| {
            ctl(&format!(
                "{SET}{{consumer_timeout, 1800000}}, {{channel_tick_interval, 60000}}, {{quorum_tick_interval, 5000}}]].'"
            ));
        });
        let (mut session, channel) = Session::guest();
        let other = session.open();
        let queue = unique("never acknowledged");
        let arguments = FieldTable::new().with("x-queue-type", "quorum").unwrap();
        let declare = QueueDeclare {
            queue: short(&queue),
            durable: true,
            arguments: arguments.as_ref(),
            ..Default::default()
        };
        session.call(other, &declare);
        session.publish(other, &queue, b"x");
        let consumer = session.consume(channel, &queue);
        let delivery = session.delivery(consumer);
        if version(&session) < 4 {
            let reason = session.channel_end(channel);
            let peer = reason.peer().unwrap();
            assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
            assert!(
                peer.text
                    .contains("delivery acknowledgement on channel 1 timed out"),
                "{peer}"
            );
        } else {
            session.wait("basic.cancel", |event| {
                matches!(event, Event::ConsumerCancelled { consumer: ended } if *ended == consumer)
                    .then_some(())
            });
            session.channel(channel).ack(delivery.tag).unwrap();
            session.queue(channel);
        }
        let delete = QueueDelete {
            queue: short(&queue),
            ..Default::default()
        };
        session.call(other, &delete);
        session.close();
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_limit_on_connections_is_a_refusal_that_passes() {
        let vhost = r#"set_vhost_limits -p 'a|b' '{"max-connections": 0}'"#;
        let user = r#"set_user_limits guest '{"max-connections": 0}'"#;
        let limits = [
            (vhost, "clear_vhost_limits -p 'a|b'", "refused for user 'guest'"),
            (user, "clear_user_limits guest all", "user connection limit"),
        ];
        for (set, clear, words) in limits {
            ctl(set);
            let clear = AtEnd(|| drop(ctl(clear)));
            let config = parameters().config.virtual_host("a|b");
            let reason = Session::new(config.clone()).end();
            assert!(!reason.is_permanent(), "{reason:?}");
            let peer = reason.peer().unwrap();
            assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
            assert!(peer.text.contains(words), "{peer}");
            assert!(peer.text.contains("connection limit (0) is reached"), "{peer}");
            drop(clear);
            Session::connect(config).close();
        }
    }
}
