//! A blocking AMQP 0-9-1 (RabbitMQ) client, like pika's `BlockingConnection`.
//!
//! ```no_run
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use amqp_blocking::{BlockingConnection, ConsumeOptions, QueueOptions};
//!
//! let connection = BlockingConnection::connect("amqp://guest:guest@localhost/")?;
//! let channel = connection.channel()?;
//! channel.queue_declare("tasks", QueueOptions::default().durable(true))?;
//! channel.basic_publish("", "tasks", "Hello")?; // The broker has it.
//!
//! channel.basic_consume("tasks", ConsumeOptions::default(), |channel, delivery| {
//!     println!("{}", String::from_utf8_lossy(&delivery.body()));
//!     delivery.ack()?;
//!     channel.stop_consuming();
//!     Ok(())
//! })?;
//! channel.start_consuming()?;
//! connection.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! * [`BlockingConnection`], [`BlockingChannel`]: handles. They can be cloned and used from any thread.
//! * [`Connector`]: which broker, and how to get there. [`IoThread`]: who reads, writes and keeps time.
//! * [`Connector::credentials_provider`]: credentials that are asked for when they are needed.
//! * [`Delivery`], [`Consumer`], [`Confirm`]: what comes, and what becomes of what goes.
//! * [`StopHandle`], [`Handle`]: to stop consuming, or to run something on the thread that consumes, from any other.
//!
//! Callbacks and handlers run on the thread that waits: in [`start_consuming`](BlockingChannel::start_consuming),
//! [`process_data_events`](BlockingConnection::process_data_events), [`sleep`](BlockingConnection::sleep) or a [`Consumer`]. They may take
//! as long as they like: heartbeats, confirms and acknowledgements go on meanwhile, on the I/O thread. It may let what follows a command
//! wait for a millisecond, a publish or an acknowledgement, to write many at once; never if a call waits for something.
//!
//! Every call has a deadline: [`Config::request_timeout`](proto::Config::request_timeout), unless
//! [`with_timeout`](BlockingChannel::with_timeout) says otherwise. Only waiting for deliveries has none but the end of the connection.

mod channel;
mod connect;
mod connection;
mod consuming;
mod credentials;
mod delivery;
mod dispatch;
mod error;
mod io_thread;
mod iterator;
mod offload;
mod options;
mod publish;
mod transport;
mod wait;

/// The asynchronous client that this is made of.
pub use amqp_async as asynchronous;
pub use amqp_async::{
    BlockedPolicy, Body, ChannelOptions, CloseReport, ConnectionEvent, ConsumeOptions, ConsumerEnd,
    CredentialsProvider, CredentialsSource, DeliverySource, Error, ExchangeKind, FieldTable, FieldValue,
    HandlerError, Interruption, Message, OnLoss, ProvidedCredentials, PublishError, Qos, Recovery,
    RecoveryReport, RefreshError, Reopen, Republish, StepDecision,
};
pub use amqp_mio::Stream;
pub use amqp_net::{
    AttemptError, ConnectError, FailedAttempt, FailedAttempts, Stage, TlsConfig, TlsError, TlsMaterial,
    TlsVersion,
};
pub use amqp_proto as proto;
pub use amqp_proto::Returned;
pub use channel::BlockingChannel;
pub use connect::Connector;
pub use connection::{BlockingConnection, Handle};
pub use consuming::StopHandle;
pub use credentials::BlockingProvider;
pub use delivery::{Delivery, GetMessage};
pub use dispatch::{CallbackId, TimerId};
pub use error::{DispatchError, PostError};
pub use io_thread::IoThread;
pub use iterator::Consumer;
pub use options::{DeclaredQueue, ExchangeOptions, QueueOptions};
pub use publish::Confirm;

/// The README's snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
