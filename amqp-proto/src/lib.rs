//! AMQP 0-9-1 as RabbitMQ speaks it, without I/O: octets and time go in, events and octets come out. No clock, no socket, no
//! thread, no `unsafe`; `no_std` with `alloc` if the feature `std` is off.
//!
//! ```text
//! socket ─▶ RecvBuf ─▶ ┌────────────── Connection ──────────────┐ ─▶ Event
//! clock  ─▶ Instant ─▶ │ handshake, channels, content, confirms, │ ─▶ SendBuf ─▶ socket
//! you    ─▶ commands ─▶│ heartbeats, deadlines, back-pressure    │ ─▶ when to wake
//!                      └────────── wire: the codec ──────────────┘
//! ```
//!
//! * [`Connection`]: the client's end of a connection; its page has the contract. [`Channel`] is a view of one of its channels,
//!   [`Event`] what comes out.
//! * [`RecvBuf`] and [`SendBuf`]: what lies between the core and a socket. They are the caller's, so that no lock is held over I/O.
//! * [`ConnectionParameters`], [`Config`], [`AmqpUri`]: what to connect to and how.
//! * [`Credentials`] and [`SaslMechanism`]: who connects.
//! * [`CloseReason`], [`ChannelCloseReason`], [`RequestError`], [`SendError`]: why something ended or was refused.
//! * [`trace`]: every frame of a connection, kept to be read or replayed.
//! * [`Topology`] and [`Plan`]: what was declared, and how to have it again on the next connection.
//! * [`Reconnect`]: when to make that connection, and to which host.
//! * [`Refresh`]: when to ask for another token, before the one that a connection was opened with runs out.
//! * [`Shutdown`]: in which order to leave it, and what was abandoned.
//! * [`wire`]: every method, property, field type and frame, for whoever needs only the codec.
//!
//! In the repository, `docs/embedding.md` tells what to do around it, with recipes for several kinds of I/O, and the examples
//! `embed_std`, `embed_poll`, `embed_tick` and `embed_shared` do it on a real broker.
//!
//! # A loop
//!
//! Around a socket that is a pair of buffers here. `broker` holds what a broker would say, written ahead: the core reads one
//! event's worth at a time, so the answers wait until they are asked for.
//!
//! ```
//! use amqp_proto::wire::*;
//! use amqp_proto::{CloseReason, Config, Connection, Event, Instant, RecvBuf, SendBuf};
//! use bytes::Buf;
//! use std::sync::Arc;
//!
//! let mut broker = SendBuf::new();
//! let start = ConnectionStart {
//!     version_minor: 9,
//!     mechanisms: LongStr::new(b"PLAIN"),
//!     locales: LongStr::new(b"en_US"),
//!     ..Default::default()
//! };
//! broker.method(0, &start, 4096)?;
//! broker.method(0, &ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }, 4096)?;
//! broker.method(0, &ConnectionOpenOk::default(), 4096)?;
//! broker.method(1, &ChannelOpenOk::default(), 4096)?;
//! broker.method(1, &QueueDeclareOk { queue: "tasks".try_into()?, message_count: 7, consumer_count: 0 }, 4096)?;
//! broker.method(1, &ChannelCloseOk {}, 4096)?;
//! broker.method(0, &ConnectionCloseOk {}, 4096)?;
//!
//! let now = Instant::EPOCH; // A real loop asks its clock.
//! let mut connection = Connection::new(Arc::new(Config::default()), now, 0);
//! let (mut input, mut output) = (RecvBuf::new(), SendBuf::new());
//! let mut declare = None;
//! let closed = loop {
//!     // 1. What happened?
//!     match connection.poll_event(now, &mut input) {
//!         Some(Event::Connected) => {
//!             let id = connection.open_channel()?;
//!             let mut channel = connection.channel(id)?;
//!             declare = Some(channel.request(&QueueDeclare { queue: "tasks".try_into()?, ..Default::default() })?);
//!         }
//!         Some(Event::Reply(reply)) => {
//!             let ok = reply.read(declare.unwrap()).unwrap();
//!             assert_eq!(ok.message_count, 7);
//!             connection.close(ReplyCode::REPLY_SUCCESS, "that is all");
//!         }
//!         Some(Event::Closed(reason)) => break reason,
//!         Some(_) => {}
//!         None => {
//!             // 2. Write.
//!             while connection.poll_transmit(now, &mut output) {
//!                 output.advance(output.chunk().len());
//!             }
//!             // 3. Wait until `poll_timeout`, and read.
//!             let count = input.extend(broker.chunk());
//!             broker.advance(count);
//!         }
//!     }
//! };
//! assert_eq!(closed, CloseReason::Requested { acknowledged: true });
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;

mod arguments;
mod buffer;
mod channel;
pub mod config;
mod connection;
mod counters;
pub mod credentials;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod id;
mod inequivalent;
mod link;
mod message;
mod outbox;
pub mod parameters;
mod reconnect;
mod refresh;
pub mod sasl;
pub mod secret;
mod shutdown;
mod time;
pub mod topology;
pub mod trace;
pub mod uri;
pub mod wire;

pub use arguments::{Lint, Overflow, QueueArguments, ServerVersion};
pub use buffer::{Payload, RecvBuf, SendBuf};
pub use channel::{AckCoalescing, Answered, Channel, ConfirmLimits, ConfirmOutcome, NoWait, Reply, Request};
pub use config::{Config, ConfigError, Heartbeat};
pub use connection::{Connection, ConnectionState, Negotiated, TimeoutReason};
pub use counters::Counters;
pub use credentials::Credentials;
pub use error::{ChannelCloseReason, CloseReason, PeerClose, RequestError, SendError, TransportError};
pub use event::Event;
pub use id::{ChannelId, ConfirmTag, ConfirmTags, ConsumerId, DeliveryTag, RequestId};
pub use inequivalent::InequivalentArgument;
pub use message::{Delivery, Got, Message, Returned};
pub use outbox::{OnLoss, Outbox, Republish};
pub use parameters::{ConnectionParameters, Host, PeerVerification, ServerName, TcpOptions, TlsParameters};
pub use reconnect::{
    Backoff, Classifier, GiveUpReason, HostOrder, Reconnect, ReconnectAction, ReconnectPolicy, Verdict,
};
pub use refresh::{ProvidedCredentials, ProviderError, Refresh, RefreshPolicy, RefreshStep};
pub use sasl::{Mechanism, SaslError, SaslMechanism};
pub use secret::Secret;
pub use shutdown::{CloseReport, InFlight, Shutdown, ShutdownAction};
pub use time::Instant;
pub use topology::{ChannelKey, Plan, Topology};
pub use uri::{AmqpUri, UriError, UriPart, UriProblem};

/// The snippets of the guide for embedders are tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;
