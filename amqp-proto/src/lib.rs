//! AMQP 0-9-1 as RabbitMQ speaks it, without I/O: octets go in, frames come out, and the other way round. No clock, no socket, no
//! thread, no `unsafe`; `no_std` with `alloc` if the feature `std` is off.
//!
//! ```text
//! socket ─▶ RecvBuf ─▶ RawFrame::parse ─▶ decode ─▶ Frame       yours
//! socket ◀─ SendBuf ◀─ method, content, heartbeat ◀─ QueueDeclare, BasicPublish, …
//! ```
//!
//! The connection and channel machines are not built yet; what is here is the ground they stand on:
//!
//! * [`wire`]: every method, property, field type and frame.
//! * [`RecvBuf`] and [`SendBuf`]: what lies between the core and a socket.
//! * [`ConnectionParameters`], [`Config`], [`AmqpUri`]: what to connect to and how.
//! * [`Credentials`] and [`SaslMechanism`]: who connects.
//! * [`trace`]: every frame of a connection, kept to be read or replayed.
//! * [`Topology`] and [`Plan`]: what was declared, and how to have it again on the next connection.
//! * [`Reconnect`]: when to make that connection, and to which host.
//!
//! A loop around a socket, here a pair of buffers:
//!
//! ```
//! use amqp_proto::wire::{BasicPublish, FrameLimits, Properties, RawFrame};
//! use amqp_proto::{RecvBuf, SendBuf};
//! use bytes::Buf;
//!
//! let mut output = SendBuf::new();
//! let publish = BasicPublish { routing_key: "hello".try_into()?, ..Default::default() };
//! output.content(1, &publish, &Properties::default(), b"Hello World!", 131_072)?;
//!
//! let mut input = RecvBuf::new();
//! let mut lines = Vec::new();
//! while output.has_remaining() || !input.unread().is_empty() {
//!     let count = input.extend(output.chunk()); // write, and read what the other end wrote
//!     output.advance(count);
//!     while let Some(raw) = RawFrame::parse(input.unread(), &FrameLimits::default())? {
//!         let size = raw.size();
//!         lines.push(raw.decode()?.to_string());
//!         input.consume(size);
//!     }
//! }
//! assert_eq!(lines, [
//!     r#"ch 1 basic.publish exchange="" routing_key="hello""#,
//!     "ch 1 header body_size=12",
//!     r#"ch 1 body 12 octets "Hello World!""#,
//! ]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;

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
mod message;
pub mod parameters;
mod reconnect;
pub mod sasl;
pub mod secret;
mod time;
pub mod topology;
pub mod trace;
pub mod uri;
pub mod wire;

pub use buffer::{Payload, RecvBuf, SendBuf};
pub use channel::{Answered, Channel, ConfirmLimits, ConfirmOutcome, NoWait, Reply, Request};
pub use config::{Config, ConfigError, Heartbeat};
pub use connection::{Connection, ConnectionState, Negotiated, TimeoutReason};
pub use counters::Counters;
pub use credentials::Credentials;
pub use error::{ChannelCloseReason, CloseReason, PeerClose, RequestError, SendError, TransportError};
pub use event::Event;
pub use id::{ChannelId, ConfirmTag, ConfirmTags, ConsumerId, DeliveryTag, RequestId};
pub use message::{Delivery, Got, Message, Returned};
pub use parameters::{ConnectionParameters, Host, PeerVerification, ServerName, TcpOptions, TlsParameters};
pub use reconnect::{
    Backoff, Classifier, GiveUpReason, HostOrder, Reconnect, ReconnectAction, ReconnectPolicy, Verdict,
};
pub use sasl::{Mechanism, SaslError, SaslMechanism};
pub use secret::Secret;
pub use time::Instant;
pub use topology::{ChannelKey, Plan, Topology};
pub use uri::{AmqpUri, UriError, UriPart, UriProblem};

/// The README's snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
