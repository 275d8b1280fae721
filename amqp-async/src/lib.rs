//! An asynchronous AMQP 0-9-1 (RabbitMQ) client for any runtime. Most programs use it through `amqp-tokio` or `amqp-async-std`, which
//! bring the stream, the clock and the tasks; this crate has the rest.
//!
//! ```text
//! Connection ── Channel ──┬── Exchange ── publish ──▶ Confirm
//!                         └── Queue ── consume ──▶ Consumer ──▶ Delivery ── ack
//!        │ handles write at once, under a lock, and wait for answers
//!        ▼
//!     Driver: one task that reads, writes and keeps time
//! ```
//!
//! * [`Connection`], [`Channel`], [`Exchange`], [`Queue`]: handles. They can be cloned and used from any task or thread.
//! * [`Message`]: what is published. [`Confirm`]: what becomes of it.
//! * [`Consumer`], [`Delivery`]: what comes.
//! * [`rpc`]: calls and answers. [`worker`]: tasks, and who does them.
//! * [`PoisonPolicy`]: what becomes of messages that fail again and again.
//! * [`CredentialsProvider`]: with what to connect, asked for when it is needed, and renewed before it runs out.
//! * [`Error`], [`PublishError`], [`ConsumerEnd`]: what goes wrong, in the broker's own words.
//! * [`Driver`], [`Transport`], [`Timer`]: for whoever brings another runtime.
//!
//! # Features
//!
//! All are off by default, and cost nothing then.
//!
//! * `tracing`: events of what happens to connections, channels and consumers, and of what is done without care (a delivery that is
//!   dropped, a consumer without a prefetch limit); a span for each publish and each handler, at the level `DEBUG`.
//! * `metrics`: counters `amqp_published`, `amqp_confirmed`, `amqp_nacked`, `amqp_returned`, `amqp_lost`, `amqp_delivered`, `amqp_settled`
//!   (by `outcome`), `amqp_received_octets`, `amqp_sent_octets`; gauges `amqp_unconfirmed`, `amqp_unsettled`, `amqp_queued_octets`;
//!   the histogram `amqp_confirm_seconds`. Those of a connection with a
//!   [name](amqp_proto::Config#structfield.connection_name) have it as label `connection`. The recorder must be installed before
//!   the connection is made.
//! * `trace-context`: the W3C trace context in message headers, without a dependency.
//!
//! Every future here can be dropped at any time. An answer that nobody waits for is discarded, and what it would leave behind is undone.

mod alarms;
mod batch;
mod call;
mod channel;
mod channels;
mod confirms;
mod connection;
mod consumer;
mod credentials;
mod delivery;
mod dispatch;
mod driver;
mod error;
mod events;
mod exchange;
mod handling;
mod idle;
mod inbox;
mod interruption;
mod leaving;
mod ledger;
mod message;
mod observe;
mod poison;
mod publish;
mod queue;
mod recovery;
mod reopen;
mod republish;
mod resubscribe;
mod returns;
pub mod rpc;
mod shared;
mod stats;
mod sync;
mod times;
#[cfg(feature = "trace-context")]
mod trace_context;
mod transport;
mod wakers;
pub mod worker;

use std::future::Future;
use std::pin::Pin;

pub use amqp_proto as proto;
pub use amqp_proto::wire::{FieldTable, FieldValue};
pub use amqp_proto::{
    AckCoalescing, CloseReport, OnLoss, Overflow, ProvidedCredentials, QueueArguments, Republish,
};
pub use batch::{Batch, BatchReport};
pub use channel::{BlockedPolicy, Channel, ChannelOptions, Qos};
pub use connection::Connection;
pub use consumer::{Consumer, Next};
pub use credentials::{CredentialsProvider, CredentialsSource, RefreshError};
pub use delivery::{Delivery, DeliverySource, ProcessOptions};
pub use driver::Driver;
pub use error::{Error, PublishError};
pub use events::{ConnectionEvent, Events};
pub use exchange::{DeclareExchange, Exchange, ExchangeKind};
pub use handling::{HandlerError, Handling};
pub use idle::UntilIdle;
pub use inbox::ConsumerEnd;
pub use interruption::Interruption;
pub use leaving::Working;
pub use message::{Body, Message};
pub use poison::{Parking, PoisonPolicy};
pub use publish::Confirm;
pub use queue::{ConsumeOptions, DeclareQueue, Queue, StreamOffset};
pub use recovery::{
    Connect, Connected, QueueName, Recovery, RecoveryReport, StepDecision, StepFilter, StepJudge, Unrestored,
};
pub use reopen::Reopen;
pub use returns::Returns;
pub use stats::Stats;
pub use times::{DeliveryMode, Expiration, Timestamp};
#[cfg(feature = "trace-context")]
pub use trace_context::{TraceContext, TraceContextError};
pub use transport::{BoxTransport, Spawner, Task, Timer, Transport};

/// A future on the heap.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
