//! Pools of connections and channels.
#![cfg(feature = "deadpool")]
#![allow(missing_docs, reason = "tests")]

use amqp_testbroker::TestBroker;
use amqp_tokio::pool::deadpool::managed::{PoolError, QueueMode};
use amqp_tokio::pool::{ChannelError, ChannelManager, ChannelPool, ConnectionManager, ConnectionPool};
use amqp_tokio::{ChannelOptions, Connector, Error};

fn connections(uri: &str, most: usize) -> ConnectionPool {
    let manager = ConnectionManager::new(Connector::from_uri(uri).unwrap());
    let builder = ConnectionPool::builder(manager).max_size(most);
    builder.queue_mode(QueueMode::Fifo).build().unwrap()
}

fn channels(connections: &ConnectionPool, most: usize) -> ChannelPool {
    let manager = ChannelManager::new(connections.clone());
    ChannelPool::builder(manager).max_size(most).build().unwrap()
}

#[tokio::test]
async fn channels_are_used_again_and_share_connections() {
    let broker = TestBroker::start().unwrap();
    let connections = connections(&broker.uri(), 1);
    let pool = channels(&connections, 2);
    let (one, other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_eq!((one.number(), other.number()), (1, 2));
    assert_eq!(connections.status().size, 1);
    drop(other);
    let again = pool.get().await.unwrap();
    assert_eq!(again.number(), 2);
    assert_eq!(pool.status().size, 2);
}

#[tokio::test]
async fn a_channel_that_has_ended_is_not_given_out_again() {
    let broker = TestBroker::start().unwrap();
    let pool = channels(&connections(&broker.uri(), 1), 1);
    let channel = pool.get().await.unwrap();
    let error = channel.queue("nowhere").purge().await.unwrap_err();
    assert!(matches!(error, Error::ChannelClosed(_)), "{error:?}");
    drop(channel);
    let channel = pool.get().await.unwrap();
    assert!(channel.is_open());
    channel.declare_queue("").exclusive(true).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_has_ended_is_made_anew_and_so_are_its_channels() {
    let broker = TestBroker::start().unwrap();
    let connections = connections(&broker.uri(), 1);
    let pool = channels(&connections, 1);
    let channel = pool.get().await.unwrap();
    channel.connection().close().await;
    drop(channel);
    let channel = pool.get().await.unwrap();
    channel.declare_queue("").exclusive(true).await.unwrap();
    assert_eq!(connections.status().size, 1);
}

#[tokio::test]
async fn options_count_but_for_the_number() {
    let broker = TestBroker::start().unwrap();
    let options = ChannelOptions::default().number(9).without_confirms();
    let manager = ChannelManager::with_options(connections(&broker.uri(), 1), options);
    let pool = ChannelPool::builder(manager).max_size(2).build().unwrap();
    let (one, other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_eq!((one.number(), other.number()), (1, 2));
    one.tx_select().await.unwrap(); // Which a channel that confirms refuses.
}

#[tokio::test]
async fn why_there_is_none_is_told() {
    let broker = TestBroker::start().unwrap();
    let uri = broker.uri().replace("guest:guest", "guest:wrong");
    let pool = channels(&connections(&uri, 1), 1);
    let error = pool.get().await.unwrap_err();
    let PoolError::Backend(ChannelError::Connection(PoolError::Backend(cause))) = &error else {
        panic!("{error:?}");
    };
    assert!(cause.to_string().contains("403"), "{cause}");
    assert!(error.to_string().contains("403"), "{error}");
}
