//! Requests, those who wait for one change together, and the driver, who waits for commands.

use std::future::IntoFuture;

use crate::world::{block_on, block_on_looking, join, model, now, poll_once, spawn};

#[test]
fn an_answer_wakes_who_waits_for_it() {
    model(3, |mut world| {
        let channel = world.channel();
        let driver = world.drive();
        block_on(async move { channel.declare_queue("q").await }).expect("it is declared");
        join(driver);
    });
}

#[test]
fn a_request_that_is_given_up_keeps_no_other_from_its_answer() {
    model(2, |mut world| {
        let channel = world.channel();
        let queue = world
            .run(channel.declare_queue("q").into_future())
            .expect("it is declared");
        world
            .run(channel.default_exchange().publish("x", "q"))
            .expect("it is confirmed");
        let peer = world.peer.clone();
        let driver = world.drive();
        let other = spawn({
            let queue = queue.clone();
            move || drop(poll_once(queue.get()))
        });
        let purged = block_on(queue.purge()).expect("it is answered");
        join(other);
        // Whatever was got went back, before or after the purge.
        assert_eq!(block_on(queue.purge()).expect("it is answered") + purged, 1);
        assert_eq!(peer.queue_len("q"), 0);
        drop((queue, channel));
        join(driver);
    });
}

#[test]
fn the_end_of_a_connection_wakes_all_who_wait_for_it_but_who_has_left() {
    model(2, |world| {
        let connection = world.connection.clone();
        world.peer.close();
        let driver = world.drive();
        let waiter = spawn({
            let connection = connection.clone();
            move || block_on(connection.closed())
        });
        let _ = poll_once(connection.closed());
        drop(connection);
        assert_eq!(join(waiter), join(driver));
    });
}

#[test]
fn a_close_is_waited_for() {
    model(3, |world| {
        let connection = world.connection.clone();
        let driver = world.drive();
        let report = block_on(connection.close());
        assert_eq!(join(driver), report.reason);
    });
}

#[test]
fn a_command_wakes_a_driver_that_is_about_to_sleep() {
    model(3, |mut world| {
        let channel = world.channel();
        world
            .run(channel.declare_queue("q").into_future())
            .expect("it is declared");
        let peer = world.peer.clone();
        let driver = world.drive();
        // Nobody waits for the confirm, which would be another reason to wake the driver.
        let confirm = now(channel.default_exchange().publish_deferred("x", "q"));
        block_on(peer.filled("q", 1));
        drop((confirm, channel));
        join(driver);
    });
}

#[test]
fn the_last_handle_wakes_the_driver_when_it_is_dropped() {
    model(3, |world| {
        let connection = world.connection.clone();
        let driver = world.drive();
        drop(connection);
        join(driver);
    });
}

#[test]
fn nobody_is_woken_under_the_lock() {
    model(2, |mut world| {
        let channel = world.channel();
        let connection = world.connection.clone();
        let driver = world.drive_looking();
        block_on_looking(
            async {
                channel.declare_queue("q").await.expect("it is declared");
                channel
                    .default_exchange()
                    .publish("x", "q")
                    .await
                    .expect("it is confirmed");
                channel.close().await.expect("it is closed");
                connection.close().await;
            },
            &connection,
        );
        join(driver);
    });
}
