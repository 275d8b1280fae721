//! The method table: every method of AMQP 0-9-1 and of RabbitMQ's extensions, one row each, as the specification (and
//! RabbitMQ's pages "AMQP 0-9-1 Reference" and "Protocol Extensions") has them.
//!
//! A row reads: struct = class number, method number, name, who sends it, what answers it, whether content follows; then its
//! arguments in wire order. `reserved` is zero when written, not looked at when read. A value after `=` is the default
//! where that is not zero, empty or false.

use super::*;
use crate::wire::encode::{Encoder, Room};

methods! {
    /// `connection.start`: opens the negotiation.
    ConnectionStart<'a> = 10, 10, "connection.start", Server, replies [ConnectionStartOk] {
        /// 0 for AMQP 0-9-1.
        version_major: octet,
        /// 9 for AMQP 0-9-1.
        version_minor: octet = 9,
        /// Product, version, and the table `capabilities` of what the server can do.
        server_properties: table,
        /// SASL mechanisms, separated by spaces.
        mechanisms: longstr = LongStr::new(b"PLAIN"),
        /// Locales, separated by spaces.
        locales: longstr = LongStr::new(b"en_US"),
    }

    /// `connection.start-ok`: chooses mechanism and locale, and answers the mechanism's first round.
    ConnectionStartOk<'a> = 10, 11, "connection.start-ok", Client {
        /// Product, version, and the table `capabilities` of what the client can do.
        client_properties: table,
        /// One of the mechanisms offered.
        mechanism: shortstr = ShortStr::delimited(b"PLAIN"),
        /// What the mechanism says first.
        response: secret,
        /// One of the locales offered.
        locale: shortstr = ShortStr::delimited(b"en_US"),
    }

    /// `connection.secure`: a further round of the mechanism.
    ConnectionSecure<'a> = 10, 20, "connection.secure", Server, replies [ConnectionSecureOk] {
        /// What the mechanism asks.
        challenge: longstr,
    }

    /// `connection.secure-ok`: answers a round of the mechanism.
    ConnectionSecureOk<'a> = 10, 21, "connection.secure-ok", Client {
        /// What the mechanism answers.
        response: secret,
    }

    /// `connection.tune`: proposes the connection's limits.
    ConnectionTune = 10, 30, "connection.tune", Server, replies [ConnectionTuneOk] {
        /// The highest channel number; 0 is no limit.
        channel_max: short,
        /// The largest frame in octets, framing included; 0 is no limit.
        frame_max: long,
        /// The heartbeat timeout in seconds; 0 is none.
        heartbeat: short,
    }

    /// `connection.tune-ok`: settles the connection's limits, none above what was proposed.
    ConnectionTuneOk = 10, 31, "connection.tune-ok", Client {
        /// The highest channel number. RabbitMQ drops a client that answers 0 to a limit.
        channel_max: short,
        /// The largest frame in octets, framing included. RabbitMQ drops a client that answers 0 to a limit.
        frame_max: long,
        /// The heartbeat timeout in seconds; 0 is none.
        heartbeat: short,
    }

    /// `connection.open`: enters a virtual host.
    ConnectionOpen<'a> = 10, 40, "connection.open", Client, replies [ConnectionOpenOk] {
        /// Its name.
        virtual_host: shortstr = ShortStr::delimited(b"/"),
        reserved: shortstr,
        reserved: bit,
    }

    /// `connection.open-ok`: the connection can be used.
    ConnectionOpenOk = 10, 41, "connection.open-ok", Server {
        reserved: shortstr,
    }

    /// `connection.close`: ends the connection, and says why.
    ConnectionClose<'a> = 10, 50, "connection.close", Both, replies [ConnectionCloseOk] {
        /// Why, as a number.
        reply_code: reply_code,
        /// Why, in words.
        reply_text: shortstr,
        /// The class of the method that caused it, or 0.
        class_id: short,
        /// The method that caused it, or 0.
        method_id: short,
    }

    /// `connection.close-ok`: the last frame of a connection.
    ConnectionCloseOk = 10, 51, "connection.close-ok", Both {}

    /// `connection.blocked`: the server reads no more from a publisher (RabbitMQ, "Blocked Connection Notifications").
    ConnectionBlocked<'a> = 10, 60, "connection.blocked", Server {
        /// Which resource is low.
        reason: shortstr,
    }

    /// `connection.unblocked`: the server reads again.
    ConnectionUnblocked = 10, 61, "connection.unblocked", Server {}

    /// `connection.update-secret`: renews a token before it expires (RabbitMQ).
    ConnectionUpdateSecret<'a> = 10, 70, "connection.update-secret", Client, replies [ConnectionUpdateSecretOk] {
        /// The new token.
        new_secret: secret,
        /// Why, for the server's log.
        reason: shortstr,
    }

    /// `connection.update-secret-ok`: the new token is in force.
    ConnectionUpdateSecretOk = 10, 71, "connection.update-secret-ok", Server {}

    /// `channel.open`: opens the channel it is sent on.
    ChannelOpen = 20, 10, "channel.open", Client, replies [ChannelOpenOk] {
        reserved: shortstr,
    }

    /// `channel.open-ok`: the channel can be used.
    ChannelOpenOk = 20, 11, "channel.open-ok", Server {
        reserved: longstr,
    }

    /// `channel.flow`: asks the peer to pause or resume content. RabbitMQ refuses `active = false` from a client (540).
    ChannelFlow = 20, 20, "channel.flow", Both, replies [ChannelFlowOk] {
        /// Whether content may flow.
        active: bit,
    }

    /// `channel.flow-ok`: answers a flow.
    ChannelFlowOk = 20, 21, "channel.flow-ok", Both {
        /// Whether content flows now.
        active: bit,
    }

    /// `channel.close`: ends the channel, and says why.
    ChannelClose<'a> = 20, 40, "channel.close", Both, replies [ChannelCloseOk] {
        /// Why, as a number.
        reply_code: reply_code,
        /// Why, in words.
        reply_text: shortstr,
        /// The class of the method that caused it, or 0.
        class_id: short,
        /// The method that caused it, or 0.
        method_id: short,
    }

    /// `channel.close-ok`: the last frame of a channel.
    ChannelCloseOk = 20, 41, "channel.close-ok", Both {}

    /// `access.request`: a remnant of AMQP 0-8 that RabbitMQ answers and ignores.
    AccessRequest<'a> = 30, 10, "access.request", Client, replies [AccessRequestOk] {
        /// What access is asked for.
        realm: shortstr = ShortStr::delimited(b"/data"),
        /// Whether for this client only.
        exclusive: bit,
        /// Whether to declare passively.
        passive: bit = true,
        /// Whether to consume.
        active: bit = true,
        /// Whether to publish.
        write: bit = true,
        /// Whether to get.
        read: bit = true,
    }

    /// `access.request-ok`: gives a ticket that nothing needs.
    AccessRequestOk = 30, 11, "access.request-ok", Server {
        /// The ticket.
        ticket: short = 1,
    }

    /// `exchange.declare`: makes an exchange, or checks that it is there.
    ExchangeDeclare<'a> = 40, 10, "exchange.declare", Client, replies [ExchangeDeclareOk] {
        reserved: short,
        /// Its name.
        exchange: shortstr,
        /// Its type: direct, fanout, topic, headers, or what a plug-in adds.
        exchange_type: shortstr = ShortStr::delimited(b"direct"),
        /// Only check that it exists (404 if not).
        passive: bit,
        /// Survives a restart of the server.
        durable: bit,
        /// Goes with its last binding.
        auto_delete: bit,
        /// Only other exchanges may publish to it.
        internal: bit,
        /// Nothing answers.
        no_wait: bit,
        /// For its type, and `alternate-exchange`.
        arguments: table,
    }

    /// `exchange.declare-ok`: the exchange is there.
    ExchangeDeclareOk = 40, 11, "exchange.declare-ok", Server {}

    /// `exchange.delete`: deletes an exchange.
    ExchangeDelete<'a> = 40, 20, "exchange.delete", Client, replies [ExchangeDeleteOk] {
        reserved: short,
        /// Its name.
        exchange: shortstr,
        /// Only without bindings (406 if there are).
        if_unused: bit,
        /// Nothing answers.
        no_wait: bit,
    }

    /// `exchange.delete-ok`: the exchange is not there.
    ExchangeDeleteOk = 40, 21, "exchange.delete-ok", Server {}

    /// `exchange.bind`: binds an exchange to an exchange (RabbitMQ, "Exchange to Exchange Bindings").
    ExchangeBind<'a> = 40, 30, "exchange.bind", Client, replies [ExchangeBindOk] {
        reserved: short,
        /// Where messages go to.
        destination: shortstr,
        /// Where messages come from.
        source: shortstr,
        /// What the source matches.
        routing_key: shortstr,
        /// Nothing answers.
        no_wait: bit,
        /// For the source's type.
        arguments: table,
    }

    /// `exchange.bind-ok`: the binding is there.
    ExchangeBindOk = 40, 31, "exchange.bind-ok", Server {}

    /// `exchange.unbind`: removes a binding between exchanges.
    ExchangeUnbind<'a> = 40, 40, "exchange.unbind", Client, replies [ExchangeUnbindOk] {
        reserved: short,
        /// Where messages went to.
        destination: shortstr,
        /// Where messages came from.
        source: shortstr,
        /// The binding's own.
        routing_key: shortstr,
        /// Nothing answers.
        no_wait: bit,
        /// The binding's own.
        arguments: table,
    }

    /// `exchange.unbind-ok`: the binding is not there.
    ExchangeUnbindOk = 40, 51, "exchange.unbind-ok", Server {}

    /// `queue.declare`: makes a queue, or checks that it is there.
    QueueDeclare<'a> = 50, 10, "queue.declare", Client, replies [QueueDeclareOk] {
        reserved: short,
        /// Its name; the server makes one if it is empty.
        queue: shortstr,
        /// Only check that it exists (404 if not).
        passive: bit,
        /// Survives a restart of the server.
        durable: bit,
        /// Only for this connection, and gone with it.
        exclusive: bit,
        /// Goes with its last consumer.
        auto_delete: bit,
        /// Nothing answers.
        no_wait: bit,
        /// `x-queue-type`, `x-message-ttl` and others (RabbitMQ, "Queues").
        arguments: table,
    }

    /// `queue.declare-ok`: the queue is there.
    QueueDeclareOk<'a> = 50, 11, "queue.declare-ok", Server {
        /// Its name.
        queue: shortstr,
        /// How many messages are ready.
        message_count: long,
        /// How many consumers it has.
        consumer_count: long,
    }

    /// `queue.bind`: binds a queue to an exchange.
    QueueBind<'a> = 50, 20, "queue.bind", Client, replies [QueueBindOk] {
        reserved: short,
        /// The queue; the channel's last declared one if it is empty.
        queue: shortstr,
        /// The exchange.
        exchange: shortstr,
        /// What the exchange matches.
        routing_key: shortstr,
        /// Nothing answers.
        no_wait: bit,
        /// For the exchange's type.
        arguments: table,
    }

    /// `queue.bind-ok`: the binding is there.
    QueueBindOk = 50, 21, "queue.bind-ok", Server {}

    /// `queue.purge`: drops the messages that are ready.
    QueuePurge<'a> = 50, 30, "queue.purge", Client, replies [QueuePurgeOk] {
        reserved: short,
        /// The queue; the channel's last declared one if it is empty.
        queue: shortstr,
        /// Nothing answers.
        no_wait: bit,
    }

    /// `queue.purge-ok`: the queue is empty.
    QueuePurgeOk = 50, 31, "queue.purge-ok", Server {
        /// How many messages were dropped.
        message_count: long,
    }

    /// `queue.delete`: deletes a queue.
    QueueDelete<'a> = 50, 40, "queue.delete", Client, replies [QueueDeleteOk] {
        reserved: short,
        /// The queue; the channel's last declared one if it is empty.
        queue: shortstr,
        /// Only without consumers (406 if there are).
        if_unused: bit,
        /// Only without messages (406 if there are).
        if_empty: bit,
        /// Nothing answers.
        no_wait: bit,
    }

    /// `queue.delete-ok`: the queue is not there.
    QueueDeleteOk = 50, 41, "queue.delete-ok", Server {
        /// How many messages went with it.
        message_count: long,
    }

    /// `queue.unbind`: removes a binding.
    QueueUnbind<'a> = 50, 50, "queue.unbind", Client, replies [QueueUnbindOk] {
        reserved: short,
        /// The queue; the channel's last declared one if it is empty.
        queue: shortstr,
        /// The exchange.
        exchange: shortstr,
        /// The binding's own.
        routing_key: shortstr,
        /// The binding's own.
        arguments: table,
    }

    /// `queue.unbind-ok`: the binding is not there.
    QueueUnbindOk = 50, 51, "queue.unbind-ok", Server {}

    /// `basic.qos`: limits what is sent ahead of acknowledgements (RabbitMQ, "Consumer Prefetch").
    BasicQos = 60, 10, "basic.qos", Client, replies [BasicQosOk] {
        /// In octets; RabbitMQ refuses anything but 0 (540).
        prefetch_size: long,
        /// In messages; 0 is no limit.
        prefetch_count: short,
        /// For the channel together instead of each new consumer.
        global: bit,
    }

    /// `basic.qos-ok`: the limits are in force.
    BasicQosOk = 60, 11, "basic.qos-ok", Server {}

    /// `basic.consume`: starts a consumer.
    BasicConsume<'a> = 60, 20, "basic.consume", Client, replies [BasicConsumeOk] {
        reserved: short,
        /// The queue; the channel's last declared one if it is empty.
        queue: shortstr,
        /// The consumer's name; the server makes one if it is empty.
        consumer_tag: shortstr,
        /// Not the messages of this connection; RabbitMQ ignores it.
        no_local: bit,
        /// Messages count as acknowledged when they are sent.
        no_ack: bit,
        /// No other consumer on this queue (403 if there is one).
        exclusive: bit,
        /// Nothing answers.
        no_wait: bit,
        /// `x-priority`, `x-stream-offset` and others.
        arguments: table,
    }

    /// `basic.consume-ok`: the consumer is there.
    BasicConsumeOk<'a> = 60, 21, "basic.consume-ok", Server {
        /// Its name.
        consumer_tag: shortstr,
    }

    /// `basic.cancel`: ends a consumer; from the server (RabbitMQ, "Consumer Cancellation") it says that one has ended.
    BasicCancel<'a> = 60, 30, "basic.cancel", Both, replies [BasicCancelOk] {
        /// Its name.
        consumer_tag: shortstr,
        /// Nothing answers.
        no_wait: bit,
    }

    /// `basic.cancel-ok`: the consumer is not there.
    BasicCancelOk<'a> = 60, 31, "basic.cancel-ok", Both {
        /// Its name.
        consumer_tag: shortstr,
    }

    /// `basic.publish`: a message to an exchange.
    BasicPublish<'a> = 60, 40, "basic.publish", Client, carries content {
        reserved: short,
        /// The exchange; the default one if it is empty.
        exchange: shortstr,
        /// What the exchange matches.
        routing_key: shortstr,
        /// Return it if no queue gets it.
        mandatory: bit,
        /// Return it if no consumer is ready; RabbitMQ refuses it (540).
        immediate: bit,
    }

    /// `basic.return`: a mandatory message that no queue got.
    BasicReturn<'a> = 60, 50, "basic.return", Server, carries content {
        /// Why, as a number.
        reply_code: reply_code,
        /// Why, in words.
        reply_text: shortstr,
        /// The exchange it was published to.
        exchange: shortstr,
        /// The key it was published with.
        routing_key: shortstr,
    }

    /// `basic.deliver`: a message to a consumer.
    BasicDeliver<'a> = 60, 60, "basic.deliver", Server, carries content {
        /// The consumer's name.
        consumer_tag: shortstr,
        /// What to acknowledge it with, on this channel.
        delivery_tag: longlong,
        /// It may have been delivered before.
        redelivered: bit,
        /// The exchange it was published to.
        exchange: shortstr,
        /// The key it was published with.
        routing_key: shortstr,
    }

    /// `basic.get`: asks for one message.
    BasicGet<'a> = 60, 70, "basic.get", Client, replies [BasicGetOk, BasicGetEmpty] {
        reserved: short,
        /// The queue; the channel's last declared one if it is empty.
        queue: shortstr,
        /// The message counts as acknowledged when it is sent.
        no_ack: bit,
    }

    /// `basic.get-ok`: the message.
    BasicGetOk<'a> = 60, 71, "basic.get-ok", Server, carries content {
        /// What to acknowledge it with, on this channel.
        delivery_tag: longlong,
        /// It may have been delivered before.
        redelivered: bit,
        /// The exchange it was published to.
        exchange: shortstr,
        /// The key it was published with.
        routing_key: shortstr,
        /// How many messages are left.
        message_count: long,
    }

    /// `basic.get-empty`: there is none.
    BasicGetEmpty = 60, 72, "basic.get-empty", Server {
        reserved: shortstr,
    }

    /// `basic.ack`: acknowledges deliveries; from the server, publishes (RabbitMQ, "Publisher Confirms").
    BasicAck = 60, 80, "basic.ack", Both {
        /// Which one.
        delivery_tag: longlong,
        /// And all before it.
        multiple: bit,
    }

    /// `basic.reject`: refuses one delivery.
    BasicReject = 60, 90, "basic.reject", Client {
        /// Which one.
        delivery_tag: longlong,
        /// Back to the queue instead of dropped or dead-lettered.
        requeue: bit = true,
    }

    /// `basic.recover-async`: `basic.recover` without an answer; deprecated.
    BasicRecoverAsync = 60, 100, "basic.recover-async", Client {
        /// Back to the queue; RabbitMQ refuses anything else (540).
        requeue: bit,
    }

    /// `basic.recover`: requeues what this channel has not acknowledged.
    BasicRecover = 60, 110, "basic.recover", Client, replies [BasicRecoverOk] {
        /// Back to the queue; RabbitMQ refuses anything else (540).
        requeue: bit,
    }

    /// `basic.recover-ok`: they are requeued.
    BasicRecoverOk = 60, 111, "basic.recover-ok", Server {}

    /// `basic.nack`: refuses deliveries; from the server, publishes (RabbitMQ, "Negative Acknowledgements").
    BasicNack = 60, 120, "basic.nack", Both {
        /// Which one.
        delivery_tag: longlong,
        /// And all before it.
        multiple: bit,
        /// Back to the queue instead of dropped or dead-lettered. Means nothing from the server.
        requeue: bit = true,
    }

    /// `confirm.select`: asks for an ack of each publish (RabbitMQ, "Publisher Confirms").
    ConfirmSelect = 85, 10, "confirm.select", Client, replies [ConfirmSelectOk] {
        /// Nothing answers.
        no_wait: bit,
    }

    /// `confirm.select-ok`: publishes are numbered from 1.
    ConfirmSelectOk = 85, 11, "confirm.select-ok", Server {}

    /// `tx.select`: makes the channel transactional.
    TxSelect = 90, 10, "tx.select", Client, replies [TxSelectOk] {}

    /// `tx.select-ok`: a transaction is open.
    TxSelectOk = 90, 11, "tx.select-ok", Server {}

    /// `tx.commit`: publishes and acknowledges all since the last one.
    TxCommit = 90, 20, "tx.commit", Client, replies [TxCommitOk] {}

    /// `tx.commit-ok`: it is done, and a new transaction is open.
    TxCommitOk = 90, 21, "tx.commit-ok", Server {}

    /// `tx.rollback`: forgets all since the last one.
    TxRollback = 90, 30, "tx.rollback", Client, replies [TxRollbackOk] {}

    /// `tx.rollback-ok`: it is done, and a new transaction is open.
    TxRollbackOk = 90, 31, "tx.rollback-ok", Server {}
}
