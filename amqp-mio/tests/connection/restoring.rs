//! What was on a lost connection, in a poll of somebody else's, who drives the core's own parts.

use amqp_mio::proto::topology::{ChannelKey, Plan, Recorder, Restorer, Sent};
use amqp_mio::proto::wire::{BasicConsume, BasicPublish, QueueDeclare, ReplyCode, ShortStr};
use amqp_mio::proto::{CloseReason, Event};
use amqp_mio::{Connector, RecoveryReport};
use amqp_testbroker::TestBroker;
use std::time::Duration;

use crate::round::Round;

#[test]
fn a_consumer_goes_on_with_a_queue_of_another_name() {
    const KEY: ChannelKey = ChannelKey::new(7);
    let broker = TestBroker::start().unwrap();
    let connector = Connector::from_uri(&broker.uri()).unwrap();
    let mut round = Round::new(connector.connect().unwrap());
    round.until_event(|event| *event == Event::Connected);
    let mut recorder = Recorder::default();
    let id = round.connection.open_channel().unwrap();
    recorder.topology_mut().channel_opened(KEY);
    let mut channel = round.connection.channel(id).unwrap();
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let request = channel.request(&declare).unwrap();
    recorder.asked(KEY, request.untyped(), &declare.into());
    let consume = BasicConsume::default();
    let (_, request) = channel.consume(&consume).unwrap();
    recorder.asked(KEY, request.untyped(), &consume.into());
    while recorder.topology().consumers(KEY).count() == 0 {
        let event = round.until_event(|event| matches!(event, Event::Reply(_)));
        let Event::Reply(reply) = event else {
            unreachable!()
        };
        assert!(recorder.answered(&reply));
    }
    let old = recorder.topology().queues().next().unwrap().name().clone();

    let (now, key) = (broker.now(), broker.connections()[0].key);
    broker.with(|broker| broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "again"));
    round.until_event(|event| matches!(event, Event::Closed(CloseReason::Peer(_))));
    recorder.disconnected();
    let first = round.connection.core().unwrap().next_incarnation();
    let connector = connector.first_incarnation(first);
    let mut round = Round::new(connector.connect_after(Duration::from_millis(1)).unwrap());
    let mut restorer = Restorer::new(Plan::new(recorder.topology()));
    let (mut is_open, mut channels) = (false, Vec::new());
    let report = round
        .until(|connection, event| {
            is_open |= event == Event::Connected;
            restorer.on_event(&event, recorder.topology_mut());
            if is_open {
                let mut note = |sent: Sent<'_>| {
                    if let Sent::Channel(key, channel) = sent {
                        channels.push((key, channel));
                    }
                };
                connection.restore(&mut restorer, &mut note).unwrap();
            }
            restorer
                .is_finished()
                .then(|| RecoveryReport::new(restorer.plan()))
        })
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    let [(KEY, channel)] = channels[..] else {
        panic!("{channels:?}");
    };
    assert_ne!(channel, id);
    let new = recorder.topology().current_queue_name(&old).unwrap();
    assert_ne!(*new, old);
    let publish = BasicPublish {
        exchange: ShortStr::EMPTY,
        routing_key: new.as_short_str(),
        ..Default::default()
    };
    let mut channel = round.connection.channel(channel).unwrap();
    channel
        .publish(&publish, &Default::default(), &b"hello"[..])
        .unwrap();
    round.until_event(|event| matches!(event, Event::Delivery(_)));
}
