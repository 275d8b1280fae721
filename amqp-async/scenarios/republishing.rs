//! Publishes that were not confirmed when their channel was lost, and are published again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amqp_async::proto::wire::ReplyCode;
use amqp_async::proto::{ConfirmLimits, ConnectionParameters};
use amqp_async::{
    Batch, ChannelOptions, ConnectionEvent, ConsumeOptions, Events, Message, PublishError, Queue, Reopen,
    Republish,
};

use super::{World, close};

/// How many are published at least.
const BURST: usize = 5000;

/// Takes everything from the queue. Gives the bodies with their ids, and how many messages there were.
async fn drain(queue: &Queue) -> (BTreeMap<String, String>, usize) {
    let queue = queue.declare().passive(true).await.unwrap();
    let count = queue.message_count().unwrap();
    let no_ack = ConsumeOptions::default().no_ack(true);
    let mut consumer = queue.consume_with(no_ack).await.unwrap();
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let delivery = consumer.next().await.unwrap().unwrap();
        let headers = delivery.properties().headers.unwrap();
        let id = headers.get("x-deduplication-header").unwrap().unwrap();
        let id = id.as_str().unwrap().to_owned();
        let body = String::from_utf8(delivery.body().to_vec()).unwrap();
        let before = found.insert(body, id.clone());
        assert!(before.is_none_or(|before| before == id), "another id");
    }
    (found, usize::try_from(count).unwrap())
}

async fn until_recovered(events: &mut Events) {
    loop {
        match events.next().await.unwrap() {
            ConnectionEvent::Recovered(report) => break assert!(report.is_complete(), "{report:?}"),
            ConnectionEvent::GaveUp(reason) => panic!("{reason}"),
            _ => {}
        }
    }
}

pub(crate) async fn of_a_burst_that_an_operator_interrupts_everything_arrives_with_its_id(world: World) {
    let parameters = ConnectionParameters::from_uri(&world.url).unwrap();
    let connection = crate::runtime::connect_recovering(parameters).await.unwrap();
    let limits = ConfirmLimits::default().count(1000);
    let options = ChannelOptions::default().republish(Republish::default().limits(limits));
    let channel = connection.channel_with(options).await.unwrap();
    let name = world.name("burst");
    let queue = channel.declare_queue(&*name).durable(true).await.unwrap();
    let exchange = channel.default_exchange();
    let is_recovered = Arc::new(AtomicBool::new(false));
    let mut closing = None;
    let mut batch = Batch::new();
    while batch.len() < BURST || !is_recovered.load(Ordering::SeqCst) {
        let message = Message::new(batch.len().to_string()).persistent();
        batch.push(exchange.publish_deferred(message, &name).await.unwrap());
        if batch.len() == BURST / 2 {
            let (operator, is_recovered) = (world.operator.clone(), Arc::clone(&is_recovered));
            let mut events = connection.events();
            closing = Some(crate::runtime::thread(async move {
                operator.close_all_connections("come again");
                until_recovered(&mut events).await;
                is_recovered.store(true, Ordering::SeqCst);
            }));
        }
    }
    closing.unwrap().await;
    let published = batch.len();
    let report = batch.wait().await;
    assert_eq!(
        (report.confirmed, report.is_complete()),
        (published, true),
        "{report:?}"
    );
    let all = channel.wait_for_confirms().await;
    assert_eq!((all.confirmed, channel.unconfirmed()), (published, 0));

    let (found, arrived) = drain(&queue).await;
    assert!(arrived >= published);
    assert_eq!(found.len(), published);
    assert!((0..published).all(|number| found.contains_key(&number.to_string())));
    let mut ids: Vec<&String> = found.values().collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), published);
    queue.delete().await.unwrap();
    close(&connection).await;
}

pub(crate) async fn a_publish_that_closes_its_channel_is_lost_and_those_behind_it_are_not(world: World) {
    let connection = world.connect().await;
    let options = ChannelOptions::default().republish(Republish::default());
    let options = options.reopen(Reopen::on([ReplyCode::NOT_FOUND]));
    let channel = connection.channel_with(options).await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let exchange = channel.default_exchange();
    let before = exchange.publish_deferred("0", queue.name()).await.unwrap();
    let nowhere = channel.exchange(world.name("none"));
    let refused = nowhere.publish_deferred("refused", "").await.unwrap();
    let mut behind = Batch::new();
    for number in 1..100 {
        let confirm = exchange.publish_deferred(number.to_string(), queue.name()).await;
        behind.push(confirm.unwrap());
    }
    before.await.unwrap();
    let error = refused.await.unwrap_err();
    assert!(matches!(error, PublishError::Lost(_)), "{error:?}");
    assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
    assert!(behind.wait().await.is_complete());
    let (found, _) = drain(&queue).await;
    assert_eq!(found.len(), 100);
    close(&connection).await;
}
