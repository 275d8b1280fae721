//! Connections that are lost and made again, with everything that was on them.

use std::time::Duration;

use amqp_mio::proto::wire::{BasicPublish, ExchangeDeclare, Properties, QueueBind};
use amqp_mio::proto::{CloseReason, ConfirmOutcome, Heartbeat, SendError};
use amqp_mio::{ChannelRef, Connector, Recovery, RecoveryReport};

use super::World;
use super::client::{Client, Consumer, Told, durable, from, own_queue, prefetch, short, to};
use super::operator::Operator;
use super::restoring::assert_works;

/// A connection that is made again, and what it says of that.
pub(super) struct Survivor {
    pub(super) client: Client,
    lost: Told<CloseReason>,
    renamed: Told<(String, String)>,
    pub(super) recovered: Told<RecoveryReport>,
}

impl Survivor {
    fn new(world: &World) -> Self {
        Self::connect(&Connector::from_uri(&world.url).unwrap(), Recovery::default())
    }

    pub(super) fn connect(connector: &Connector, recovery: Recovery) -> Self {
        let mut client = Client::connect_recovering(connector, recovery).unwrap();
        let (lost, renamed, recovered) = (Told::new(), Told::new(), Told::new());
        let (loss, name, report) = (lost.clone(), renamed.clone(), recovered.clone());
        client.connection(|view| {
            view.on_lost(move |ctx, _, reason| loss.tell(ctx, reason.clone()));
            view.on_queue_renamed(move |ctx, _, old, new| name.tell(ctx, (old.to_string(), new.to_string())));
            view.on_recovered(move |ctx, _, told| report.tell(ctx, told.clone()));
        });
        Self {
            client,
            lost,
            renamed,
            recovered,
        }
    }

    /// What the operator does, and why it was lost then, until all is there again.
    pub(super) fn suffer<T: Send + 'static>(
        &mut self,
        world: &World,
        deed: impl FnOnce(Operator) -> T + Send + 'static,
    ) -> (T, CloseReason) {
        let (done, reason) = self.lose(world, deed);
        self.recover();
        (done, reason)
    }

    /// What the operator does, and why it was lost then.
    fn lose<T: Send + 'static>(
        &mut self,
        world: &World,
        deed: impl FnOnce(Operator) -> T + Send + 'static,
    ) -> (T, CloseReason) {
        let operator = world.operator.clone();
        let done = self.client.meanwhile(move || deed(operator));
        (done, self.client.wait(&self.lost))
    }

    /// Until all is there again.
    fn recover(&mut self) {
        let report = self.client.wait(&self.recovered);
        assert!(report.is_complete(), "{report:?}");
        assert_eq!((self.lost.len(), self.recovered.len()), (0, 0));
    }
}

/// A consumer of a queue of that name, which outlives the broker.
fn consume_durable(client: &mut Client, channel: ChannelRef, name: &str) -> Consumer {
    client.declare(channel, &durable(name)).unwrap();
    client.consume(channel, &from(name)).unwrap()
}

pub(crate) fn after_an_operator_closed_it_messages_flow_to_a_queue_of_another_name(world: World) {
    let mut survivor = Survivor::new(&world);
    let client = &mut survivor.client;
    let channel = client.channel();
    client.ask(channel, &prefetch(10)).unwrap();
    let exchange = world.name("news");
    let declare = ExchangeDeclare {
        exchange: short(&exchange),
        exchange_type: short("topic"),
        auto_delete: true,
        ..Default::default()
    };
    client.ask(channel, &declare).unwrap();
    let old_name = client.declare(channel, &own_queue()).unwrap().name;
    let bind = QueueBind {
        queue: short(&old_name),
        exchange: short(&exchange),
        routing_key: short("a.#"),
        ..Default::default()
    };
    client.ask(channel, &bind).unwrap();
    let consumer = client.consume(channel, &from(&old_name)).unwrap();
    let news = BasicPublish {
        exchange: short(&exchange),
        routing_key: short("a.b"),
        ..Default::default()
    };
    let none = Properties::default();
    assert_eq!(
        client.publish(channel, &news, &none, "before"),
        ConfirmOutcome::Acked
    );
    let unsettled = client.wait(&consumer.deliveries);
    assert_eq!(unsettled.message.body().to_vec(), b"before");

    let ((), reason) = survivor.suffer(&world, |operator| operator.close_all_connections("come again"));
    assert_eq!(&*reason.peer().unwrap().text, "CONNECTION_FORCED - come again");
    let (old, new_name) = survivor.renamed.pop().unwrap();
    assert_eq!((&old, survivor.renamed.len()), (&old_name, 0));
    assert_ne!(new_name, old_name);
    let client = &mut survivor.client;
    let settled = client.on(channel, |view| view.ack(unsettled.tag));
    assert_eq!(settled, Err(SendError::Stale));
    assert_eq!(
        client.publish(channel, &news, &none, "after"),
        ConfirmOutcome::Acked
    );
    client.send(channel, &new_name, "by name");
    for body in ["after", "by name"] {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.body().to_vec(), body.as_bytes());
        assert_eq!(delivery.consumer, consumer.id);
        client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    }
    client.cancel(channel, consumer.id);
    client.close();
}

pub(crate) fn after_the_broker_was_killed_it_is_there_again_with_what_it_had_confirmed(world: World) {
    let mut survivor = Survivor::new(&world);
    let client = &mut survivor.client;
    let channel = client.channel();
    let name = world.name("recovered");
    let consumer = consume_durable(client, channel, &name);
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        ..Default::default()
    };
    assert_eq!(
        client.publish(channel, &to(&name), &persistent, "kept"),
        ConfirmOutcome::Acked
    );
    let unsettled = client.wait(&consumer.deliveries);

    let (restart, reason) = survivor.suffer(&world, |operator| operator.kill());
    assert!(matches!(reason, CloseReason::Transport { .. }), "{reason:?}");
    restart.end();
    let client = &mut survivor.client;
    let settled = client.on(channel, |view| view.ack(unsettled.tag));
    assert_eq!(settled, Err(SendError::Stale));
    let again = client.wait(&consumer.deliveries);
    assert_eq!(again.message.body().to_vec(), b"kept");
    client.on(channel, |view| view.ack(again.tag)).unwrap();
    client.send(channel, &name, "new");
    let new = client.wait(&consumer.deliveries);
    assert_eq!(new.message.body().to_vec(), b"new");
    client.on(channel, |view| view.ack(new.tag)).unwrap();
    client.delete(channel, &name);
    client.close();
}

pub(crate) fn after_the_broker_was_shut_down_and_started_it_is_there_again(world: World) {
    let mut survivor = Survivor::new(&world);
    let (channel, queue) = survivor.client.queue();
    let consumer = survivor.client.consume(channel, &from(&queue)).unwrap();
    let url = world.url.clone();
    let (pause, reason) = survivor.lose(&world, move |operator| {
        let pause = operator.shut_down();
        // Nobody gets in meanwhile.
        assert!(Client::connect_uri(&url).is_err());
        pause
    });
    assert_eq!(
        &*reason.peer().unwrap().text,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    survivor.client.meanwhile(|| pause.end());
    survivor.recover();
    let (_, queue) = survivor.renamed.pop().unwrap();
    let client = &mut survivor.client;
    assert_works(client, channel, &queue, &consumer);
    client.close();
}

pub(crate) fn after_the_broker_fell_silent_what_was_not_settled_comes_again(world: World) {
    let parameters = world.parameters(|config| config.heartbeat(Heartbeat::Seconds(1)));
    // A silent broker does not answer attempts either.
    let parameters = parameters.stack_timeout(Duration::from_secs(1));
    let mut survivor = Survivor::connect(&Connector::new(parameters), Recovery::default());
    let client = &mut survivor.client;
    let channel = client.channel();
    let name = world.name("silent");
    let consumer = consume_durable(client, channel, &name);
    client.send(channel, &name, "kept");
    let unsettled = client.wait(&consumer.deliveries);

    let (pause, reason) = survivor.lose(&world, |operator| operator.freeze());
    assert!(
        matches!(reason, CloseReason::HeartbeatMissed { .. }),
        "{reason:?}"
    );
    pause.end();
    survivor.recover();
    let client = &mut survivor.client;
    let settled = client.on(channel, |view| view.ack(unsettled.tag));
    assert_eq!(settled, Err(SendError::Stale));
    let again = client.wait(&consumer.deliveries);
    assert_eq!(
        (again.message.body().to_vec(), again.redelivered),
        (b"kept".to_vec(), true)
    );
    client.on(channel, |view| view.ack(again.tag)).unwrap();
    client.delete(channel, &name);
    client.close();
}
