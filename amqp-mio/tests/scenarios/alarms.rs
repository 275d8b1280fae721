//! The broker is short of something, and takes nothing from publishers.

use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{Properties, QueueDeclare, ReplyCode};
use amqp_mio::proto::{CloseReason, ConfirmOutcome, Counters, Heartbeat};
use amqp_mio::{ChannelRef, Ctx};

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

/// What became of a publish; of one that was not sent, the broker's words for it.
type Outcome = Result<ConfirmOutcome, String>;

fn blocked(client: &mut Client) -> Option<String> {
    client.connection(|view| view.core().unwrap().blocked().map(str::to_owned))
}

fn counters(client: &mut Client) -> Counters {
    client.connection(|view| view.core().unwrap().counters())
}

/// Publishes if the broker reads.
fn publish_or_fail(client: &mut Client, channel: ChannelRef, queue: &str, body: &[u8]) -> Outcome {
    match blocked(client) {
        Some(words) => Err(words),
        None => Ok(client.publish(channel, &to(queue), &Properties::default(), body)),
    }
}

/// Publishes when the broker reads again, if that is within the limit.
fn publish_later(
    client: &mut Client,
    channel: ChannelRef,
    queue: &str,
    body: &'static [u8],
    limit: Option<Duration>,
) -> Told<Outcome> {
    let (outcomes, queue) = (Told::new(), queue.to_owned());
    let (outcome, late) = (outcomes.clone(), outcomes.clone());
    let mut waiting = Some(outcome);
    let waits = client.connection(|view| {
        view.on_unblocked(move |ctx, _| {
            let Some(outcome) = waiting.take() else {
                return;
            };
            let mut view = ctx.channel(channel).unwrap();
            view.publish_confirmed(&to(&queue), &Properties::default(), body, move |ctx, _, told| {
                outcome.tell(ctx, Ok(told));
            })
            .unwrap();
        })
    });
    if let Some(limit) = limit {
        let give_up = move |ctx: &mut Ctx<'_, ()>| {
            let mut view = ctx.connection(channel.connection()).unwrap();
            let words = view.core().unwrap().blocked().map(str::to_owned);
            if let (Some(words), true) = (words, view.remove_callback(waits)) {
                late.tell(ctx, Err(words));
            }
        };
        client.event_loop().context().call_later(limit, give_up).unwrap();
    }
    outcomes
}

pub(crate) fn a_blocked_publish_fails_gives_up_or_waits_as_it_was_told(world: World) {
    const LIMIT: Duration = Duration::from_millis(3500);
    let mut consumer = world.connect();
    let (consuming, empty) = consumer.queue();
    let mut client = world.connect_with(|config| config.heartbeat(Heartbeat::Seconds(1)));
    let (fails, queue) = client.queue();
    let (gives_up, waits) = (client.channel(), client.channel());
    let unblocked = Told::new();
    let unblock = unblocked.clone();
    client.connection(|view| {
        view.on_unblocked(move |ctx, _| unblock.tell(ctx, ()));
    });
    let is_blocked = Err(Resource::Memory.words().to_owned());

    let (alarm, held_back) = last_straw(&world, &mut client, Resource::Memory);
    assert_eq!(publish_or_fail(&mut client, fails, &queue, b"x"), is_blocked);
    let waiting = publish_later(&mut client, waits, &queue, b"it waited", None);
    let (begin, before) = (Instant::now(), counters(&mut client));
    let given_up = publish_later(&mut client, gives_up, &queue, b"x", Some(LIMIT));
    assert_eq!(client.wait(&given_up), is_blocked);
    assert!(begin.elapsed() >= LIMIT);
    // Longer than either side would wait without heartbeats.
    let after = counters(&mut client);
    assert!(after.heartbeats_sent >= before.heartbeats_sent + 3);
    assert!(after.heartbeats_received >= before.heartbeats_received + 3);
    assert_eq!(after.published, before.published);
    assert_eq!((waiting.len(), held_back.len(), unblocked.len()), (0, 0, 0));
    // Who does not publish is not held up.
    assert_eq!(consumer.purge(consuming, &empty), 0);

    client.meanwhile(|| alarm.end());
    client.wait(&unblocked);
    assert_eq!(client.wait(&held_back), ConfirmOutcome::Acked);
    assert_eq!(client.wait(&waiting), Ok(ConfirmOutcome::Acked));
    assert_eq!(blocked(&mut client), None);
    let tried_again = publish_or_fail(&mut client, fails, &queue, b"it tried again");
    assert_eq!(tried_again, Ok(ConfirmOutcome::Acked));
    // And nothing came of those that failed.
    assert_eq!(client.purge(fails, &queue), 2);
    assert_eq!((given_up.len(), unblocked.len()), (0, 0));
    client.close();
    consumer.close();
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
