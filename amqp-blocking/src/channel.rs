//! The handle of a channel: pika's verbs.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use amqp_async::{ChannelOptions, ConsumerEnd, Error, ExchangeKind, FieldTable, Qos};
use amqp_proto::wire::ConfirmSelect;
use amqp_proto::{DeliveryTag, Returned};

use crate::connection::BlockingConnection;
use crate::delivery::GetMessage;
use crate::dispatch::{CallbackId, Dispatch, Listening, Removable, ReturnCallback};
use crate::options::{DeclaredQueue, ExchangeOptions, QueueOptions};
use crate::wait::ask;

/// A channel. Clones are handles of the same one; when the last of them is dropped, and none of its consumers has a handler any more,
/// it is closed.
///
/// What the broker refuses closes the channel: the call that did it gets [`Error::ChannelClosed`] with the broker's words, and so does
/// every later one.
#[derive(Debug, Clone)]
pub struct BlockingChannel {
    pub(crate) inner: Arc<Inner>,
    connection: BlockingConnection,
    timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) channel: amqp_async::Channel,
    pub(crate) default_exchange: amqp_async::Exchange,
    /// Tells it from the others of its connection, as numbers are used again.
    pub(crate) key: u64,
    pub(crate) is_stopped: Arc<AtomicBool>,
    dispatch: Weak<Dispatch>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Who listens keeps no channel open.
        if let Some(dispatch) = self.dispatch.upgrade() {
            drop(dispatch.take_listening(self.key));
            drop(dispatch.take_cancel_callbacks(self.key));
        }
    }
}

impl BlockingChannel {
    pub(crate) fn open(connection: &BlockingConnection, options: ChannelOptions) -> Result<Self, Error> {
        let opening = connection.asynchronous().channel_with(options);
        let channel = ask(connection.timeout(), opening).unwrap_or(Err(Error::Timeout))?;
        let inner = Arc::new(Inner {
            default_exchange: channel.default_exchange(),
            channel,
            key: connection.dispatch().next_key(),
            is_stopped: Arc::default(),
            dispatch: Arc::downgrade(connection.dispatch()),
        });
        Ok(Self::of(inner, connection))
    }

    /// The same channel for its consumers' handlers.
    pub(crate) fn of(inner: Arc<Inner>, connection: &BlockingConnection) -> Self {
        Self {
            inner,
            connection: connection.clone(),
            timeout: connection.timeout(),
        }
    }

    /// Waits for an answer.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        ask(self.timeout, call).unwrap_or(Err(Error::Timeout))
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The connection that it is on.
    #[must_use]
    pub const fn connection(&self) -> &BlockingConnection {
        &self.connection
    }

    /// The handle of the asynchronous client, which has all that is not here.
    #[must_use]
    pub fn asynchronous(&self) -> &amqp_async::Channel {
        &self.inner.channel
    }

    /// Its number on the wire.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.inner.channel.number()
    }

    /// The same channel, with calls that wait for so long. Answers to requests are waited for no longer than
    /// [`Config::request_timeout`](amqp_proto::Config::request_timeout) all the same, which is how long a call waits without this.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout,
            ..self.clone()
        }
    }

    /// Whether it can be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.channel.is_open()
    }

    /// Ends its consumers and closes it.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] or [`Error::ConnectionClosed`] if it ended in another way, [`Error::Timeout`].
    pub fn close(&self) -> Result<(), Error> {
        let closed = self.wait(self.inner.channel.close());
        // Their handlers are of no more use.
        drop(self.connection.dispatch().take_consumers(self.inner.key));
        closed
    }

    /// Runs a callback for each consumer with a handler that ends without having been cancelled or closed from here, with its tag and the
    /// reason: mostly its queue was deleted (RabbitMQ page "Consumer Cancel Notification"). It runs where deliveries are handled, not
    /// again while it runs already on another thread, and does not keep the channel open.
    pub fn add_on_cancel_callback(
        &self,
        callback: impl FnMut(&Self, &str, &ConsumerEnd) + Send + 'static,
    ) -> CallbackId {
        let dispatch = self.connection.dispatch();
        dispatch.add_cancel_callback(self.inner.key, Box::new(callback))
    }

    /// Runs a callback for each message that comes back from now on because no queue got it and whose confirm nobody waits for: from a
    /// channel that does not confirm, from [`basic_publish_unconfirmed`](Self::basic_publish_unconfirmed), or if the
    /// [`Confirm`](crate::Confirm) was dropped. It runs where the connection's callbacks run; if nobody waits there and more than 256
    /// messages or 1 MiB come back, the oldest ones are missed. It does not keep the channel open.
    pub fn add_on_return_callback(
        &self,
        callback: impl FnMut(&Self, Returned) + Send + 'static,
    ) -> CallbackId {
        let (id, callback) = Removable::new(Box::new(callback) as ReturnCallback);
        self.connection.dispatch().add_listening(Listening {
            channel: Arc::downgrade(&self.inner),
            key: self.inner.key,
            returns: self.inner.channel.returns(),
            callback,
        });
        id
    }
}

/// Queues.
impl BlockingChannel {
    /// Declares a queue. Without a name the broker gives it one.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] with the broker's words if it refuses, [`Error::ConnectionClosed`], [`Error::Timeout`],
    /// [`Error::Refused`].
    pub fn queue_declare(&self, queue: &str, options: QueueOptions) -> Result<DeclaredQueue, Error> {
        let declaring = self
            .inner
            .channel
            .declare_queue(queue)
            .passive(options.passive)
            .durable(options.durable)
            .exclusive(options.exclusive)
            .auto_delete(options.auto_delete)
            .arguments(options.arguments);
        let queue = self.wait(declaring.into_future())?;
        Ok(DeclaredQueue {
            message_count: queue.message_count().unwrap_or_default(),
            consumer_count: queue.consumer_count().unwrap_or_default(),
            name: queue.name().into(),
        })
    }

    /// Has it get what `exchange` routes by that key.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn queue_bind(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<(), Error> {
        self.queue_bind_with(queue, exchange, routing_key, &FieldTable::new())
    }

    /// The same with arguments, such as those of a headers exchange.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn queue_bind_with(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Error> {
        let queue = self.inner.channel.queue(queue);
        self.wait(queue.bind_with(exchange, routing_key, arguments))
    }

    /// Takes a binding back: the one with the same key and arguments.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn queue_unbind(
        &self,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Error> {
        let queue = self.inner.channel.queue(queue);
        self.wait(queue.unbind_with(exchange, routing_key, arguments))
    }

    /// Drops all messages that are ready, and says how many.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn queue_purge(&self, queue: &str) -> Result<u32, Error> {
        self.wait(self.inner.channel.queue(queue).purge())
    }

    /// Deletes it, with the conditions that are asked for, and says how many messages went.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare); 406 if it is in use or not empty.
    pub fn queue_delete(&self, queue: &str, if_unused: bool, if_empty: bool) -> Result<u32, Error> {
        let queue = self.inner.channel.queue(queue);
        self.wait(queue.delete_if(if_unused, if_empty))
    }
}

/// Exchanges.
impl BlockingChannel {
    /// Declares an exchange.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn exchange_declare(
        &self,
        exchange: &str,
        kind: impl Into<ExchangeKind>,
        options: ExchangeOptions,
    ) -> Result<(), Error> {
        let declaring = self
            .inner
            .channel
            .declare_exchange(exchange, kind)
            .passive(options.passive)
            .durable(options.durable)
            .auto_delete(options.auto_delete)
            .internal(options.internal)
            .arguments(options.arguments);
        self.wait(declaring.into_future()).map(drop)
    }

    /// Deletes it; with `if_unused` only if nothing is bound to it.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare); 406 if it is in use.
    pub fn exchange_delete(&self, exchange: &str, if_unused: bool) -> Result<(), Error> {
        let exchange = self.inner.channel.exchange(exchange);
        self.wait(exchange.delete_if(if_unused))
    }

    /// Has `destination` get what `source` routes to it (RabbitMQ page "Exchange to Exchange Bindings").
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn exchange_bind(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Error> {
        let destination = self.inner.channel.exchange(destination);
        self.wait(destination.bind_with(source, routing_key, arguments))
    }

    /// Takes such a binding back.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn exchange_unbind(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Error> {
        let destination = self.inner.channel.exchange(destination);
        self.wait(destination.unbind_with(source, routing_key, arguments))
    }
}

/// Deliveries, one at a time, and their settlement.
impl BlockingChannel {
    /// Limits how many deliveries may be unsettled.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn basic_qos(&self, qos: Qos) -> Result<(), Error> {
        self.wait(self.inner.channel.set_qos(qos))
    }

    /// Takes one message, which with `no_ack` needs no acknowledgement, and says how many are left; `None` if there is none.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn basic_get(&self, queue: &str, no_ack: bool) -> Result<Option<GetMessage>, Error> {
        let queue = self.inner.channel.queue(queue);
        let got = self.wait(queue.get_with(no_ack))?;
        Ok(got.map(|delivery| GetMessage::new(delivery, self.timeout)))
    }

    /// Settles a [`Delivery`](crate::Delivery), or one by its tag, and with `multiple` all before it.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`SendError::Stale`](amqp_proto::SendError::Stale) for a tag of another channel or of an earlier life
    /// of this one.
    pub fn basic_ack(&self, delivery: impl Into<DeliveryTag>, multiple: bool) -> Result<(), Error> {
        self.inner.channel.basic_ack(delivery.into(), multiple)
    }

    /// Refuses a [`Delivery`](crate::Delivery), or one by its tag, and with `multiple` all before it.
    ///
    /// # Errors
    /// As [`basic_ack`](Self::basic_ack).
    pub fn basic_nack(
        &self,
        delivery: impl Into<DeliveryTag>,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), Error> {
        let tag = delivery.into();
        self.inner.channel.basic_nack(tag, multiple, requeue)
    }

    /// Refuses a [`Delivery`](crate::Delivery), or one by its tag.
    ///
    /// # Errors
    /// As [`basic_ack`](Self::basic_ack).
    pub fn basic_reject(&self, delivery: impl Into<DeliveryTag>, requeue: bool) -> Result<(), Error> {
        self.inner.channel.basic_reject(delivery.into(), requeue)
    }

    /// Gives back what this channel has not settled, to any consumer.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn basic_recover(&self) -> Result<(), Error> {
        self.wait(self.inner.channel.recover())
    }
}

/// What a channel can do besides.
impl BlockingChannel {
    /// Publishes are confirmed from now on, if the channel was opened
    /// [without that](amqp_async::ChannelOptions::without_confirms).
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn confirm_delivery(&self) -> Result<(), Error> {
        let method = ConfirmSelect::default();
        self.wait(self.inner.channel.request(&method)).map(drop)
    }

    /// Asks for a flow, or for none, of deliveries. RabbitMQ refuses to stop it (540).
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn flow(&self, active: bool) -> Result<bool, Error> {
        self.wait(self.inner.channel.flow(active))
    }

    /// Begins a transaction: what is published and settled from now on counts with its commit. Not on a channel that confirms.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn tx_select(&self) -> Result<(), Error> {
        self.wait(self.inner.channel.tx_select())
    }

    /// Makes what was done since the last commit count, and begins the next transaction.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn tx_commit(&self) -> Result<(), Error> {
        self.wait(self.inner.channel.tx_commit())
    }

    /// Forgets what was done since the last commit, and begins the next transaction.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn tx_rollback(&self) -> Result<(), Error> {
        self.wait(self.inner.channel.tx_rollback())
    }
}
