//! Publisher confirms: every publish has one outcome.

use amqp_proto::wire::{ConfirmSelect, FieldTable, Properties, QueuePurge, ReplyCode, TxSelect};
use amqp_proto::{ConfirmLimits, ConfirmOutcome, Event, RequestError, SendError};

use super::{Session, short, to};

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn each_of_20_000_pipelined_publishes_is_confirmed_once_and_the_mark_holds() {
    const COUNT: usize = 20_000;
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.call(channel, &ConfirmSelect::default());
    let limit = session.core.config().outbound_high_water;
    let (mut full, body) = (0, [b'x'; 200]);
    for expected in 1..=COUNT as u64 {
        let tag = loop {
            match session
                .channel(channel)
                .publish(&to(&queue), &Properties::default(), &body[..])
            {
                Ok(tag) => break tag.unwrap(),
                Err(SendError::Full { .. }) => full += 1,
                Err(other) => panic!("{other}"),
            }
            session.wait("room", |event| matches!(event, Event::Writable).then_some(()));
        };
        assert_eq!(tag.value(), expected);
        let queued = session.core.queued_bytes();
        assert!(queued < limit + 1000, "{queued} octets are queued");
    }
    assert!(full > 0, "the mark was never reached");
    let outcomes = session.outcomes(channel, COUNT);
    assert!(outcomes.keys().copied().eq(1..=COUNT as u64));
    assert!(outcomes.values().all(|outcome| *outcome == ConfirmOutcome::Acked));
    assert_eq!(session.channel(channel).unconfirmed(), 0);
    let purge = QueuePurge {
        queue: short(&queue),
        ..Default::default()
    };
    assert_eq!(session.call(channel, &purge).get().message_count as usize, COUNT);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_a_full_queue_rejects_is_nacked_and_the_rest_is_there() {
    let (mut session, channel) = Session::guest();
    let arguments = FieldTable::new().with("x-max-length", 5).unwrap();
    let arguments = arguments.with("x-overflow", "reject-publish").unwrap();
    let queue = session.queue_with(channel, &arguments);
    session.call(channel, &ConfirmSelect::default());
    for _ in 0..100 {
        session.publish(channel, &queue, b"x");
    }
    let outcomes = session.outcomes(channel, 100);
    let acked = outcomes
        .values()
        .filter(|outcome| **outcome == ConfirmOutcome::Acked)
        .count();
    let nacked = outcomes
        .values()
        .filter(|outcome| **outcome == ConfirmOutcome::Nacked)
        .count();
    assert_eq!(acked + nacked, 100);
    assert!(nacked >= 50, "only {nacked} nacked");
    assert_eq!(session.count(channel, &queue).0 as usize, acked);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn no_more_than_the_limit_is_in_flight_and_confirms_make_room() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.call(channel, &ConfirmSelect::default());
    session
        .channel(channel)
        .set_confirm_limits(ConfirmLimits::default().count(10));
    let (mut sent, mut refused) = (0, 0);
    while sent < 100 {
        match session
            .channel(channel)
            .publish(&to(&queue), &Properties::default(), "x")
        {
            Ok(_) => sent += 1,
            Err(SendError::InFlight) => {
                refused += 1;
                assert_eq!(session.channel(channel).unconfirmed(), 10);
                let oldest = session.channel(channel).oldest_unconfirmed().unwrap();
                while session.channel(channel).is_unconfirmed(oldest) {
                    session.wait("a confirm", |event| {
                        matches!(event, Event::Confirmed { .. }).then_some(())
                    });
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused >= 9, "refused only {refused} times");
    let octets = ConfirmLimits::default().octets(1000);
    while session.channel(channel).unconfirmed() > 0 {
        session.wait("a confirm", |event| {
            matches!(event, Event::Confirmed { .. }).then_some(())
        });
    }
    session.channel(channel).set_confirm_limits(octets);
    session.publish(channel, &queue, &[0; 900]);
    let too_much = session
        .channel(channel)
        .publish(&to(&queue), &Properties::default(), &[0; 101][..]);
    assert_eq!(too_much, Err(SendError::InFlight));
    session.publish(channel, &queue, &[0; 100]);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_transaction_on_a_channel_that_confirms_is_a_406() {
    let (mut session, channel) = Session::guest();
    session.call(channel, &ConfirmSelect::default());
    let error = session.try_call(channel, &TxSelect {}).map(drop).unwrap_err();
    let RequestError::ChannelClosed(reason) = error else {
        panic!("{error}")
    };
    let peer = reason.peer().unwrap();
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    assert!(
        peer.text.contains("cannot switch from confirm to tx mode"),
        "{peer}"
    );
    session.close();
}
