//! The main job: declare a queue, publish a message and wait until the broker has it, consume it, acknowledge it.
//!
//! On the broker of `AMQP_URL`, or else on the embedded one, which lives in this process.

use std::env;
use std::error::Error;

use amqp_async_std::Message;
use amqp_testbroker::TestBroker;

fn main() -> Result<(), Box<dyn Error>> {
    async_std::task::block_on(hello())
}

async fn hello() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").ok();
    let embedded = match url {
        Some(_) => None,
        None => Some(TestBroker::start()?),
    };
    let (url, whose) = match (url, &embedded) {
        (None, Some(broker)) => (broker.uri(), "the embedded broker"),
        (url, _) => (url.unwrap_or_default(), "the broker of AMQP_URL"),
    };
    let connection = amqp_async_std::connect(&url).await?;
    println!("connected to {whose}");

    let channel = connection.channel().await?;
    let queue = channel.declare_queue("").exclusive(true).await?;
    println!("declared the queue {}", queue.name());

    let message = Message::new("Hello, world!").content_type("text/plain");
    channel.default_exchange().publish(message, queue.name()).await?;
    println!("published, and the broker has confirmed it");

    let mut consumer = queue.consume().await?;
    let delivery = consumer.next().await.ok_or("the consumer ended")??;
    println!("received: {}", String::from_utf8_lossy(&delivery.body()));
    delivery.ack().await?;
    consumer.cancel().await?;
    println!("acknowledged");

    println!("{}", connection.close().await.reason);
    Ok(())
}
