//! Exchanges, bindings and queues.

use std::collections::BTreeSet;
use std::time::Duration;

use amqp_async::proto::wire::ReplyCode;
use amqp_async::{
    ConsumeOptions, DeliverySource, Exchange, ExchangeKind, FieldTable, Message, Overflow, PublishError,
    Queue, QueueArguments,
};

use super::{World, close};

async fn exchange(queue: &Queue, kind: ExchangeKind, name: &str) -> Exchange {
    let channel = queue.channel();
    channel
        .declare_exchange(name, kind)
        .auto_delete(true)
        .await
        .unwrap()
}

/// What is in the queue.
async fn taken(queue: &Queue) -> BTreeSet<String> {
    let mut bodies = BTreeSet::new();
    while let Some(delivery) = queue.get_with(true).await.unwrap() {
        bodies.insert(String::from_utf8(delivery.body().into_owned()).unwrap());
    }
    bodies
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) async fn direct_topic_and_fanout_route_by_key(world: World) {
    let queue = world.queue().await;
    let direct = exchange(&queue, ExchangeKind::Direct, &world.name("direct")).await;
    let topic = exchange(&queue, ExchangeKind::Topic, &world.name("topic")).await;
    let fanout = exchange(&queue, ExchangeKind::Fanout, &world.name("fanout")).await;
    for severity in ["warning", "error"] {
        queue.bind(&direct, severity).await.unwrap();
    }
    queue.bind(&topic, "kern.*").await.unwrap();
    queue.bind(fanout.name(), "").await.unwrap();
    for severity in ["info", "warning", "error"] {
        direct.publish_optional(severity, severity).await.unwrap();
    }
    for key in ["kern.critical", "cron.info", "kern.a.b"] {
        topic.publish_optional(key, key).await.unwrap();
    }
    fanout.publish("to all", "whatever").await.unwrap();
    assert_eq!(
        taken(&queue).await,
        set(&["warning", "error", "kern.critical", "to all"])
    );
    queue.unbind(&direct, "error").await.unwrap();
    direct.publish_optional("error", "error").await.unwrap();
    assert_eq!(taken(&queue).await, set(&[]));
    close(queue.channel().connection()).await;
}

pub(crate) async fn headers_route_by_headers(world: World) {
    let queue = world.queue().await;
    let headers = exchange(&queue, ExchangeKind::Headers, &world.name("headers")).await;
    let arguments = FieldTable::new()
        .with("x-match", "any")
        .and_then(|table| table.with("format", "pdf"))
        .and_then(|table| table.with("pages", 3_i64))
        .unwrap();
    queue.bind_with(&headers, "", &arguments).await.unwrap();
    let publish = async |text: &str, message: Message| {
        headers
            .publish_optional(message.header("name", text), "")
            .await
            .unwrap();
    };
    publish("pdf", Message::new("pdf").header("format", "pdf")).await;
    publish("three pages", Message::new("three pages").header("pages", 3_i64)).await;
    publish("zip", Message::new("zip").header("format", "zip")).await;
    assert_eq!(taken(&queue).await, set(&["pdf", "three pages"]));
    close(queue.channel().connection()).await;
}

pub(crate) async fn an_exchange_can_be_bound_to_another(world: World) {
    let queue = world.queue().await;
    let first = exchange(&queue, ExchangeKind::Topic, &world.name("first")).await;
    let second = exchange(&queue, ExchangeKind::Fanout, &world.name("second")).await;
    queue.bind(&second, "").await.unwrap();
    second.bind(&first, "passed.#").await.unwrap();
    first.publish("one", "passed.on").await.unwrap();
    first.publish_optional("two", "kept").await.unwrap();
    assert_eq!(taken(&queue).await, set(&["one"]));
    second.unbind(&first, "passed.#").await.unwrap();
    let channel = queue.channel().connection().channel().await.unwrap();
    // It went with its last binding.
    let error = channel
        .declare_exchange(first.name(), ExchangeKind::Topic)
        .passive(true)
        .await
        .unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
    close(queue.channel().connection()).await;
}

pub(crate) async fn queues_are_purged_and_deleted_as_asked(world: World) {
    let channel = world.channel().await;
    let name = world.name("durable queue");
    let queue = channel.declare_queue(&name).durable(true).await.unwrap();
    assert_eq!(queue.name(), name);
    assert_eq!(
        (queue.message_count(), queue.consumer_count()),
        (Some(0), Some(0))
    );
    for _ in 0..3 {
        channel.default_exchange().publish("", &name).await.unwrap();
    }
    let again = channel.declare_queue(&name).durable(true).await.unwrap();
    assert_eq!(again.message_count(), Some(3));
    let other = channel.connection().channel().await.unwrap();
    let error = other.queue(&name).delete_if(true, true).await.unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::PRECONDITION_FAILED);
    assert_eq!(queue.purge().await.unwrap(), 3);
    channel.default_exchange().publish("", &name).await.unwrap();
    assert_eq!(queue.delete_if(true, false).await.unwrap(), 1);
    close(channel.connection()).await;
}

pub(crate) async fn exchanges_are_deleted_as_asked(world: World) {
    let queue = world.queue().await;
    let channel = queue.channel();
    let name = world.name("exchange");
    let exchange = channel
        .declare_exchange(&name, "direct")
        .durable(true)
        .await
        .unwrap();
    queue.bind(&exchange, "key").await.unwrap();
    let other = channel.connection().channel().await.unwrap();
    let error = other.exchange(&name).delete_if(true).await.unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::PRECONDITION_FAILED);
    exchange.delete().await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn a_queue_is_declared_again_as_it_was(world: World) {
    let channel = world.channel().await;
    let arguments = FieldTable::new().with("x-max-length", 5_i64).unwrap();
    let declare = channel.declare_queue(world.name("queue")).exclusive(true);
    let queue = declare.auto_delete(true).arguments(arguments).await.unwrap();
    let exchange = channel.default_exchange();
    exchange.publish("x", queue.name()).await.unwrap();
    assert_eq!(queue.declare().await.unwrap().message_count(), Some(1));
    assert_eq!(queue.delete_if(true, false).await.unwrap(), 1);
    let again = queue.declare().await.unwrap();
    assert_eq!(
        (again.message_count(), again.consumer_count()),
        (Some(0), Some(0))
    );
    assert!(again.is_exclusive() && again.is_auto_delete() && !again.is_durable());
    let length = again.arguments().get("x-max-length").unwrap().unwrap();
    assert_eq!(length.as_i64(), Some(5));
    close(channel.connection()).await;
}

/// The long example of aio-pika's documentation.
pub(crate) async fn a_message_goes_all_the_way(world: World) {
    let channel = world.channel().await;
    let exchange = channel
        .declare_exchange(world.name("direct"), ExchangeKind::Direct)
        .auto_delete(true)
        .await
        .unwrap();
    let queue = channel
        .declare_queue(world.name("queue"))
        .durable(true)
        .auto_delete(true)
        .await
        .unwrap();
    let routing_key = world.name("key");
    queue.bind(&exchange, &routing_key).await.unwrap();
    let message = Message::new("Hello").content_type("text/plain");
    exchange
        .publish(message.header("foo", "bar"), &routing_key)
        .await
        .unwrap();
    let patient = channel.with_timeout(Duration::from_secs(5));
    let delivery = patient.queue(queue.name()).get().await.unwrap().unwrap();
    assert_eq!(delivery.source(), DeliverySource::Get { message_count: 0 });
    let headers = delivery.properties().headers.unwrap();
    assert_eq!(headers.get("foo").unwrap().unwrap().as_str(), Some("bar"));
    delivery.ack().await.unwrap();
    queue.unbind(&exchange, &routing_key).await.unwrap();
    assert_eq!(queue.delete().await.unwrap(), 0);
    close(channel.connection()).await;
}

pub(crate) async fn arguments_have_names(world: World) {
    let channel = world.channel().await;
    let arguments = QueueArguments::classic()
        .max_length(1)
        .overflow(Overflow::RejectPublish)
        .max_priority(3)
        .message_ttl(Duration::from_secs(3600));
    let classic = channel
        .declare_queue("")
        .exclusive(true)
        .arguments(arguments)
        .await
        .unwrap();
    let exchange = channel.default_exchange();
    exchange.publish("fits", classic.name()).await.unwrap();
    let error = exchange.publish("does not", classic.name()).await.unwrap_err();
    assert_eq!(error, PublishError::Nacked);

    let parked = channel.declare_queue("").exclusive(true).await.unwrap();
    let arguments = QueueArguments::quorum()
        .delivery_limit(1)
        .dead_letter_exchange("")
        .dead_letter_routing_key(&parked.name());
    let quorum = channel
        .declare_queue(world.name("quorum"))
        .durable(true)
        .arguments(arguments)
        .await
        .unwrap();
    exchange.publish("poison", quorum.name()).await.unwrap();
    let mut consumer = quorum
        .consume_with(ConsumeOptions::default().priority(5))
        .await
        .unwrap();
    for _ in 0..2 {
        // Against its limit RabbitMQ 4 counts a reject, and not a nack.
        let delivery = consumer.next().await.unwrap().unwrap();
        delivery.reject(true).await.unwrap();
    }
    let mut rest = parked.consume().await.unwrap();
    let delivery = rest.next().await.unwrap().unwrap();
    assert_eq!(*delivery.body(), *b"poison");
    delivery.ack().await.unwrap();
    quorum.delete_if(false, false).await.unwrap();
    close(channel.connection()).await;
}
