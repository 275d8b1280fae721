//! The broker is short of something, and takes nothing from publishers.

use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{QueueDeclare, ReplyCode};
use amqp_mio::proto::{CloseReason, ConfirmOutcome};

use super::World;
use super::client::{Client, Told, to};
use super::operator::{Disturbance, Resource};

/// Far more than anything takes that need not wait, far less than the defaults of what has a limit.
const SOON: Duration = Duration::from_secs(3);

/// RabbitMQ tells who publishes, and reads nothing more of them, that publish included.
fn last_straw(world: &World, client: &mut Client, resource: Resource) -> (Disturbance, Told<ConfirmOutcome>) {
    let channel = client.channel();
    let blocked = client.on_blocked();
    let operator = world.operator.clone();
    let alarm = client.meanwhile(move || operator.alarm(resource));
    let outcome = client.publish_deferred(channel, &to("nowhere"), b"the last straw");
    assert_eq!(client.wait(&blocked), resource.words());
    (alarm, outcome)
}

pub(crate) fn a_close_takes_no_longer_than_it_may_although_nothing_is_read(world: World) {
    let timeout = Duration::from_secs(1);
    let mut client = world.connect_with(|config| config.close_timeout(timeout));
    let channel = client.channel();
    let (alarm, held_back) = last_straw(&world, &mut client, Resource::Disk);
    let answers = Told::new();
    let answer = answers.clone();
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    client.on(channel, |view| {
        view.request(&declare, move |ctx, _, result| answer.tell(ctx, result.map(drop)))
            .unwrap();
    });

    let begin = Instant::now();
    client.connection(|view| view.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown"));
    assert_eq!(client.closed(), CloseReason::Requested { acknowledged: false });
    assert!(begin.elapsed() < timeout + SOON);
    let outcome = client.wait(&held_back);
    assert!(matches!(outcome, ConfirmOutcome::Lost(_)), "{outcome:?}");
    client.wait(&answers).unwrap_err();
    alarm.end();
    world.connect().close();
}

pub(crate) fn a_connection_that_stays_blocked_is_given_up(world: World) {
    let timeout = Duration::from_millis(500);
    let mut client = world.connect_with(|config| config.blocked_connection_timeout(Some(timeout)));
    let (alarm, held_back) = last_straw(&world, &mut client, Resource::Memory);
    let reason = CloseReason::BlockedTimeout {
        reason: Resource::Memory.words().into(),
    };
    assert_eq!(client.closed(), reason);
    let outcome = client.wait(&held_back);
    assert!(matches!(outcome, ConfirmOutcome::Lost(_)), "{outcome:?}");
    alarm.end();
}
