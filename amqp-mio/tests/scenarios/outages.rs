//! The broker, or whoever runs it, ends connections.

use std::time::{Duration, Instant};

use amqp_mio::ChannelRef;
use amqp_mio::proto::wire::{BasicPublish, Properties, QueueDeclare, QueueDelete, ReplyCode};
use amqp_mio::proto::{ChannelCloseReason, CloseReason, ConfirmOutcome, Heartbeat, SendError};

use super::World;
use super::client::{Client, Consumer, Told, from, short, to};
use super::connecting::with_virtual_host;
use super::operator::{Operator, Resource, TEMPORARY_USER, TEMPORARY_VIRTUAL_HOST};

/// A client that consumes from a queue of its own.
struct Victim {
    client: Client,
    channel: ChannelRef,
    queue: String,
    consumer: Consumer,
    ended: Told<ChannelCloseReason>,
}

impl Victim {
    fn new(mut client: Client) -> Self {
        let (channel, queue) = client.queue();
        let consumer = client.consume(channel, &from(&queue)).unwrap();
        let ended = client.on_channel_close(channel);
        Self {
            client,
            channel,
            queue,
            consumer,
            ended,
        }
    }

    /// What the operator does, and what the connection says of it.
    fn suffer<T: Send + 'static>(
        &mut self,
        world: &World,
        deed: impl FnOnce(Operator) -> T + Send + 'static,
    ) -> (T, CloseReason) {
        let operator = world.operator.clone();
        let done = self.client.meanwhile(move || deed(operator));
        (done, self.client.closed())
    }

    /// The connection ended for that reason, and so did all that was on it.
    fn assert_ended(&mut self, reason: &CloseReason) {
        let of_channel = ChannelCloseReason::Connection(reason.clone());
        assert_eq!(self.ended.pop(), Some(of_channel));
        assert_eq!((self.ended.len(), self.consumer.deliveries.len()), (0, 0));
        let id = self.client.id();
        let mut ctx = self.client.event_loop().context();
        assert_eq!(ctx.connection(id).map(drop), Err(SendError::Closed));
        assert_eq!(ctx.channel(self.channel).map(drop), Err(SendError::Closed));
    }
}

/// The broker's words, which are behind a code that says that it was not our fault.
fn forced(reason: &CloseReason) -> &str {
    let CloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::CONNECTION_FORCED);
    assert!(!reason.is_permanent());
    &peer.text
}

pub(crate) fn an_operator_who_closes_all_connections_is_quoted(world: World) {
    let mut victim = Victim::new(world.connect());
    let channel = victim.client.channel();
    let blocked = victim.client.on_blocked();
    // It is read no more, so that nothing is answered.
    let operator = world.operator.clone();
    let alarm = victim.client.meanwhile(move || operator.alarm(Resource::Memory));
    let publish = to(&victim.queue);
    let in_flight = victim.client.publish_deferred(channel, &publish, b"in flight");
    assert_eq!(victim.client.wait(&blocked), Resource::Memory.words());

    let words = "back in a minute";
    let ((), reason) = victim.suffer(&world, |operator| operator.close_all_connections(words));
    assert_eq!(forced(&reason), "CONNECTION_FORCED - back in a minute");
    let outcome = victim.client.wait(&in_flight);
    assert!(matches!(outcome, ConfirmOutcome::Lost(_)), "{outcome:?}");
    victim.assert_ended(&reason);
    alarm.end();
    world.connect().close();
}

pub(crate) fn a_broker_that_shuts_down_says_so(world: World) {
    let mut victim = Victim::new(world.connect());
    let (pause, reason) = victim.suffer(&world, |operator| operator.shut_down());
    assert_eq!(
        forced(&reason),
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    victim.assert_ended(&reason);
    assert!(Client::connect_uri(&world.url).is_err());
    pause.end();
    world.connect().close();
}

pub(crate) fn a_broker_that_is_killed_loses_nothing_that_it_had_confirmed(world: World) {
    let mut victim = Victim::new(world.connect());
    let channel = victim.client.channel();
    let queue = world.name("kept");
    let declare = QueueDeclare {
        queue: short(&queue),
        durable: true,
        ..Default::default()
    };
    victim.client.declare(channel, &declare).unwrap();
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        ..Default::default()
    };
    let publish: BasicPublish<'_> = to(&queue);
    let outcome = victim.client.publish(channel, &publish, &persistent, "kept");
    assert_eq!(outcome, ConfirmOutcome::Acked);
    let consumer = victim.client.consume(channel, &from(&queue)).unwrap();
    let delivery = victim.client.wait(&consumer.deliveries);
    assert_eq!(delivery.message.body().to_vec(), b"kept");
    // It is read no more, so that nothing is confirmed.
    let operator = world.operator.clone();
    let alarm = victim.client.meanwhile(move || operator.alarm(Resource::Memory));
    let in_flight = victim.client.publish_deferred(channel, &publish, b"in flight");

    let (restart, reason) = victim.suffer(&world, |operator| operator.kill());
    assert!(matches!(reason, CloseReason::Transport { .. }), "{reason:?}");
    assert!(!reason.is_permanent());
    let outcome = victim.client.wait(&in_flight);
    assert!(matches!(outcome, ConfirmOutcome::Lost(_)), "{outcome:?}");
    victim.assert_ended(&reason);
    restart.end();
    alarm.end();

    let mut client = world.connect();
    let channel = client.channel();
    let left = client.declare(channel, &declare).unwrap();
    assert_eq!(left.message_count, 1);
    let again = client.get(channel, &queue).unwrap();
    assert_eq!(again.message.body().to_vec(), b"kept");
    client.on(channel, |view| view.ack(again.tag)).unwrap();
    let delete = QueueDelete {
        queue: short(&queue),
        if_empty: true,
        ..Default::default()
    };
    client.ask(channel, &delete).unwrap();
    client.close();
}

pub(crate) fn a_broker_that_falls_silent_is_noticed_after_two_intervals(world: World) {
    let heartbeat = Heartbeat::Seconds(1);
    let mut victim = Victim::new(world.connect_with(|config| config.heartbeat(heartbeat)));
    let begin = Instant::now();
    let (pause, reason) = victim.suffer(&world, |operator| operator.freeze());
    let CloseReason::HeartbeatMissed { interval, silence } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(interval, Duration::from_secs(1));
    // The rest is for a machine that is busy.
    assert!((2.0..4.0).contains(&silence.as_secs_f64()), "{silence:?}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    victim.assert_ended(&reason);
    pause.end();
    world.connect().close();
}

pub(crate) fn a_user_who_is_deleted_is_told(world: World) {
    let user = world.operator.add_user();
    let mut victim = Victim::new(Client::connect_uri(&world.as_user(TEMPORARY_USER)).unwrap());
    let mut bystander = world.connect();
    let ((), reason) = victim.suffer(&world, |operator| operator.delete_user());
    assert_eq!(
        forced(&reason),
        format!("CONNECTION_FORCED - user '{TEMPORARY_USER}' is deleted")
    );
    victim.assert_ended(&reason);
    bystander.close();
    user.end();
}

pub(crate) fn a_virtual_host_that_is_deleted_takes_its_connections(world: World) {
    let host = world.operator.add_virtual_host();
    let url = with_virtual_host(&world.url, TEMPORARY_VIRTUAL_HOST);
    let mut victim = Victim::new(Client::connect_uri(&url).unwrap());
    let mut bystander = world.connect();
    let ((), reason) = victim.suffer(&world, |operator| operator.delete_virtual_host());
    // RabbitMQ 3 says that it is down.
    let words = format!("CONNECTION_FORCED - vhost '{TEMPORARY_VIRTUAL_HOST}' is ");
    assert!(forced(&reason).starts_with(&words), "{reason}");
    victim.assert_ended(&reason);
    bystander.close();
    host.end();
}
