//! Messages that fail again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amqp_async::{
    Channel, Consumer, Delivery, Error, Message, PoisonPolicy, ProcessOptions, PublishError, Queue,
};

use super::{World, close, table};

/// How often a message may be tried here.
const MOST: u64 = 3;

/// A queue that counts, and that dead-letters into the other one.
async fn quorum_queue(channel: &Channel, name: &str, dead: &str) -> Queue {
    let arguments = table(&[
        ("x-queue-type", "quorum".into()),
        ("x-delivery-limit", 10_i64.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.into()),
    ]);
    let declare = channel.declare_queue(name).durable(true);
    declare.arguments(arguments).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    consumer.next().await.unwrap().unwrap()
}

/// A handler that always fails, how often it was called, and what becomes of its deliveries.
async fn fail(queue: &Queue, options: ProcessOptions) -> (amqp_async::Handling, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let consumer = queue.consume().await.unwrap();
    let handling = consumer.handle(1, options, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err("it never works".into()) }
    });
    (handling, calls)
}

pub(crate) async fn what_fails_too_often_is_dead_lettered(world: World) {
    let dead = world.queue().await;
    let channel = dead.channel();
    let queue = quorum_queue(channel, &world.name("work"), &dead.name()).await;
    let options = ProcessOptions::default().requeue(true);
    let (handling, calls) = fail(&queue, options.poison(PoisonPolicy::after(MOST))).await;
    let exchange = channel.default_exchange();
    exchange.publish("poison", queue.name()).await.unwrap();

    let mut consumer = dead.consume().await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(delivery.death_count(), 1);
    assert_eq!(delivery.death_count_in(&queue.name()), 1);
    assert_eq!(delivery.death_count_in(&dead.name()), 0);
    delivery.ack().await.unwrap();
    handling.stop().await.unwrap();
    queue.delete().await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn what_fails_too_often_is_parked_and_then_acknowledged(world: World) {
    let parked = world.queue().await;
    let channel = parked.channel();
    let queue = quorum_queue(channel, &world.name("work"), &world.name("nowhere")).await;
    let policy = PoisonPolicy::after(MOST).parked_in(parked.name());
    let options = ProcessOptions::default().requeue(true).poison(policy);
    let (handling, calls) = fail(&queue, options).await;
    let message = Message::new("poison")
        .header("mine", 7_i64)
        .content_type("text/plain");
    let exchange = channel.default_exchange();
    exchange.publish(message, queue.name()).await.unwrap();

    let mut consumer = parked.consume().await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(&*delivery.body(), b"poison");
    assert_eq!((delivery.delivery_count(), delivery.death_count()), (None, 0));
    let properties = delivery.properties();
    assert_eq!(properties.content_type.unwrap().to_str(), Ok("text/plain"));
    let headers = properties.headers.unwrap();
    assert_eq!(headers.get("mine").unwrap().unwrap().as_i64(), Some(7));
    let key = headers.get("x-original-routing-key").unwrap().unwrap();
    assert_eq!(key.as_str(), Some(&*queue.name()));
    delivery.ack().await.unwrap();
    handling.stop().await.unwrap();
    // The closed channel has given back all that was not settled.
    let other = channel.connection().channel().await.unwrap();
    assert!(other.queue(queue.name()).get().await.unwrap().is_none());
    assert_eq!(queue.delete().await, Ok(0));
    close(channel.connection()).await;
}

pub(crate) async fn a_cycle_of_dead_letters_ends_after_so_many_rounds(world: World) {
    let parked = world.queue().await;
    let channel = parked.channel();
    let (work, retry) = (world.name("work"), world.name("retry"));
    let to_work = [
        ("x-message-ttl", 1_i64.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", work.as_str().into()),
    ];
    let declare = channel.declare_queue(&*retry).exclusive(true);
    declare.arguments(table(&to_work)).await.unwrap();
    let to_retry = [
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", retry.as_str().into()),
    ];
    let declare = channel.declare_queue(&*work).exclusive(true);
    let queue = declare.arguments(table(&to_retry)).await.unwrap();

    let policy = PoisonPolicy::after(MOST).counting_in(&*work);
    let options = ProcessOptions::default().poison(policy.parked_in(parked.name()));
    let (handling, calls) = fail(&queue, options).await;
    channel.default_exchange().publish("poison", &work).await.unwrap();

    let mut consumer = parked.consume().await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    // It was parked instead of being rejected for the third time.
    assert_eq!(delivery.death_count_in(&work), 2);
    delivery.ack().await.unwrap();
    handling.stop().await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn what_a_queue_gave_up_says_so(world: World) {
    let dead = world.queue().await;
    let channel = dead.channel();
    let arguments = table(&[
        ("x-queue-type", "quorum".into()),
        ("x-delivery-limit", 2_i64.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", (&dead.name()).into()),
    ]);
    let declare = channel.declare_queue(world.name("work")).durable(true);
    let queue = declare.arguments(arguments).await.unwrap();
    channel
        .default_exchange()
        .publish("poison", queue.name())
        .await
        .unwrap();

    let mut consumer = queue.consume().await.unwrap();
    let policy = PoisonPolicy::after(MOST);
    for earlier in 0..=2_u64 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.delivery_count().unwrap_or(0), earlier);
        assert!(!policy.is_poison(&delivery));
        delivery.reject(true).await.unwrap();
    }
    let mut consumer = dead.consume().await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.death_count_in(&queue.name()), 1);
    assert!(PoisonPolicy::after(1).is_poison(&delivery));
    assert!(!PoisonPolicy::after(2).is_poison(&delivery));
    delivery.ack().await.unwrap();
    queue.delete().await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn what_cannot_be_parked_goes_back(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    exchange.publish("poison", queue.name()).await.unwrap();
    queue.get().await.unwrap().unwrap().reject(true).await.unwrap();

    let policy = PoisonPolicy::after(1).parked_in(world.name("nowhere"));
    let mut consumer = queue.consume().await.unwrap();
    let delivery = next(&mut consumer).await;
    let error = policy.sift(delivery).await.unwrap_err();
    assert!(matches!(error, PublishError::Returned(_)), "{error:?}");

    let delivery = next(&mut consumer).await;
    let options = ProcessOptions::default().poison(policy);
    let result = delivery
        .process(options, async |_| panic!("it is not to be called"))
        .await;
    let result: Result<(), Error> = result;
    assert!(matches!(result, Err(Error::NotPutAway(_))), "{result:?}");

    let delivery = next(&mut consumer).await;
    let options = ProcessOptions::default().poison(PoisonPolicy::after(1));
    let result = delivery
        .process(options, async |_| panic!("it is not to be called"))
        .await;
    let result: Result<(), Error> = result;
    assert_eq!(result, Err(Error::Poison));
    assert_eq!(queue.purge().await, Ok(0));
    close(queue.channel().connection()).await;
}
