//! What publisher and consumer have in common.

use std::env;
use std::error::Error;

use amqp_tokio::proto::wire::ReplyCode;
use amqp_tokio::{Connection, Connector, Error as AmqpError, Queue, TlsConfig};

/// Connects to the broker of `AMQP_URL`, with the versions and cipher suites of TLS that Amazon MQ asks for.
///
/// Without a path the virtual host is `/`. Characters of a password that mean something in a URI are written as `%40` and the like.
pub(crate) async fn connect() -> Result<Connection, Box<dyn Error>> {
    let url =
        env::var("AMQP_URL").map_err(|_| "AMQP_URL is not set, as in amqps://user:password@host:5671")?;
    let connector = Connector::from_uri(&url)?.tls(TlsConfig::amazon_mq());
    Ok(connector.connect().await?)
}

/// Declares a queue. Who may not configure queues, but write and read (permissions `""`, `".*"`, `".*"`), needs one that is there.
pub(crate) async fn declare_queue(connection: &Connection, name: &str) -> Result<Queue, AmqpError> {
    let channel = connection.channel().await?;
    match channel.declare_queue(name).durable(true).await {
        Err(error)
            if error
                .peer()
                .is_some_and(|peer| peer.code == ReplyCode::ACCESS_REFUSED) =>
        {
            println!("{error}");
            // The refusal has closed the channel. A passive declaration only looks whether the queue is there.
            let channel = connection.channel().await?;
            channel.declare_queue(name).passive(true).await
        }
        declared => declared,
    }
}
