//! What publisher and consumer have in common.

use std::env;
use std::error::Error;

use amqp_blocking::proto::wire::ReplyCode;
use amqp_blocking::{
    BlockingChannel, BlockingConnection, Connector, Error as AmqpError, QueueOptions, TlsConfig,
};

pub(crate) const QUEUE: &str = "hello world queue";

/// Connects to the broker of `AMQP_URL`, with the versions and cipher suites of TLS that Amazon MQ asks for.
///
/// Without a path the virtual host is `/`. Characters of a password that mean something in a URI are written as `%40` and the like.
pub(crate) fn connect() -> Result<BlockingConnection, Box<dyn Error>> {
    let url =
        env::var("AMQP_URL").map_err(|_| "AMQP_URL is not set, as in amqps://user:password@host:5671")?;
    let connector = Connector::from_uri(&url)?.tls(TlsConfig::amazon_mq());
    Ok(connector.connect()?)
}

/// Declares the queue, and gives the channel that did. Who may not configure queues, but write and read (permissions `""`, `".*"`,
/// `".*"`), needs one that is there.
pub(crate) fn declare_queue(connection: &BlockingConnection) -> Result<BlockingChannel, AmqpError> {
    let channel = connection.channel()?;
    match channel.queue_declare(QUEUE, QueueOptions::default().durable(true)) {
        Err(error)
            if error
                .peer()
                .is_some_and(|peer| peer.code == ReplyCode::ACCESS_REFUSED) =>
        {
            println!("{error}");
            // The refusal has closed the channel. A passive declaration only looks whether the queue is there.
            let channel = connection.channel()?;
            channel.queue_declare(QUEUE, QueueOptions::default().passive(true))?;
            Ok(channel)
        }
        declared => declared.map(|_| channel),
    }
}
