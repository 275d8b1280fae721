//! Who waits for confirms, and for room to publish.

use std::future::IntoFuture;

use amqp_async::{Channel, ChannelOptions, Confirm, Error, PublishError};
use amqp_proto::ConfirmLimits;

use crate::world::{World, block_on, join, model, now, poll_once, spawn};

/// With a queue that takes what is published.
fn channel(world: &mut World) -> Channel {
    let channel = world.channel();
    world
        .run(channel.declare_queue("q").into_future())
        .expect("it is declared");
    channel
}

fn publish(channel: &Channel, body: &'static str) -> Result<Confirm, Error> {
    now(channel.default_exchange().publish_deferred(body, "q"))
}

#[test]
fn a_confirm_wakes_who_waits_for_it() {
    model(3, |mut world| {
        let channel = channel(&mut world);
        let driver = world.drive();
        let confirm = publish(&channel, "x").expect("there is room");
        drop(channel);
        block_on(confirm).expect("it is confirmed");
        join(driver);
    });
}

#[test]
fn a_confirm_that_nobody_waits_for_any_more_does_not_keep_others_from_theirs() {
    model(2, |mut world| {
        let channel = channel(&mut world);
        let driver = world.drive();
        let [first, second] = ["a", "b"].map(|body| publish(&channel, body).expect("there is room"));
        drop(channel);
        let leaver = spawn(|| drop(poll_once(first)));
        block_on(second).expect("it is confirmed");
        join(leaver);
        join(driver);
    });
}

#[test]
fn the_end_of_a_stream_wakes_who_waits_for_a_confirm() {
    model(3, |mut world| {
        let channel = channel(&mut world);
        world.peer.end_at_next_write();
        let driver = world.drive();
        let confirm = publish(&channel, "x").expect("there is room");
        drop(channel);
        let outcome = block_on(confirm);
        assert!(matches!(outcome, Err(PublishError::Lost(_))), "{outcome:?}");
        join(driver);
    });
}

#[test]
fn a_confirm_comes_or_is_lost_when_the_driver_is_dropped() {
    model(3, |mut world| {
        let channel = channel(&mut world);
        let driver = world.drive_once();
        if let Ok(confirm) = publish(&channel, "x") {
            let outcome = block_on(confirm);
            assert!(
                matches!(outcome, Ok(()) | Err(PublishError::Lost(_))),
                "{outcome:?}"
            );
        }
        drop(channel);
        join(driver);
    });
}

#[test]
fn a_confirm_comes_or_is_lost_when_the_broker_ends_the_connection() {
    model(2, |mut world| {
        let channel = channel(&mut world);
        let peer = world.peer.clone();
        let driver = world.drive();
        let ender = spawn(move || peer.close());
        if let Ok(confirm) = publish(&channel, "x") {
            let outcome = block_on(confirm);
            assert!(
                matches!(outcome, Ok(()) | Err(PublishError::Lost(_))),
                "{outcome:?}"
            );
        }
        drop(channel);
        join(ender);
        join(driver);
    });
}

#[test]
fn a_confirm_comes_or_is_lost_when_the_channel_is_closed_elsewhere() {
    model(2, |mut world| {
        let channel = channel(&mut world);
        let driver = world.drive();
        let closer = spawn({
            let channel = channel.clone();
            move || block_on(channel.close())
        });
        if let Ok(confirm) = publish(&channel, "x") {
            let outcome = block_on(confirm);
            assert!(
                matches!(outcome, Ok(()) | Err(PublishError::Lost(_))),
                "{outcome:?}"
            );
        }
        drop(channel);
        join(closer).expect("it is closed");
        join(driver);
    });
}

#[test]
fn who_waits_for_all_confirms_is_woken_by_the_last() {
    model(3, |mut world| {
        let channel = channel(&mut world);
        let driver = world.drive();
        now(channel.default_exchange().publish_unconfirmed("x", "q")).expect("there is room");
        assert!(block_on(channel.wait_for_confirms()).is_complete());
        drop(channel);
        join(driver);
    });
}

/// With room for one publish.
fn narrow_channel(world: &mut World) -> Channel {
    let mut options = ChannelOptions::default();
    options.limits = ConfirmLimits::default().count(1);
    let channel = world.channel_with(options);
    world
        .run(channel.declare_queue("q").into_future())
        .expect("it is declared");
    channel
}

async fn fill(channel: &Channel) -> Result<(), Error> {
    let exchange = channel.default_exchange();
    exchange.publish_unconfirmed("x", "q").await
}

#[test]
fn a_confirm_makes_room_for_each_publisher() {
    model(2, |mut world| {
        let channel = narrow_channel(&mut world);
        let driver = world.drive();
        let other = spawn({
            let channel = channel.clone();
            move || block_on(fill(&channel))
        });
        block_on(fill(&channel)).expect("there is room");
        drop(channel);
        join(other).expect("there is room");
        join(driver);
    });
}

#[test]
fn a_publisher_who_leaves_does_not_take_the_room_with_it() {
    model(2, |mut world| {
        let channel = narrow_channel(&mut world);
        now(fill(&channel)).expect("there is room");
        let driver = world.drive();
        let leaver = spawn({
            let channel = channel.clone();
            move || drop(poll_once(fill(&channel)))
        });
        block_on(fill(&channel)).expect("there is room");
        join(leaver);
        drop(channel);
        join(driver);
    });
}
