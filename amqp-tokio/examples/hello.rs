//! The main job: declare a queue, publish a message and wait until the broker has it, consume it, acknowledge it.

use std::error::Error;
use std::sync::Arc;

use amqp_testbroker::TestBroker;
use amqp_tokio::Message;
use amqp_tokio::proto::Config;
use tokio::net::TcpStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let broker = TestBroker::start()?;
    let uri: amqp_tokio::proto::AmqpUri = broker.uri().parse()?;
    let parameters = amqp_tokio::proto::ConnectionParameters::from(uri);
    let address = parameters.addresses().next().ok_or("no address")?;
    let stream = TcpStream::connect(address).await?;
    let connection = amqp_tokio::connect_over(stream, Arc::new(Config::default())).await?;
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("hello").durable(true).await?;
    channel
        .default_exchange()
        .publish(Message::new("Hello, world!").persistent(), "hello")
        .await?;
    println!("published and confirmed");
    let mut consumer = queue.consume().await?;
    let delivery = consumer.next().await.ok_or("the consumer ended")??;
    println!("received: {}", String::from_utf8_lossy(&delivery.body()));
    delivery.ack().await?;
    drop(consumer);
    println!("{:?}", connection.close().await);
    Ok(())
}
