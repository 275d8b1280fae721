//! An AMQP 0-9-1 (RabbitMQ) client for [mio]: non-blocking, on one thread, in your own loop.
//!
//! * [`Connector`]: which broker, and how to get there.
//! * [`MioConnection`]: a source of events for your [`mio::Poll`]. Channels, requests and events are those of [`amqp_proto`].
//! * [`EventLoop`]: the loop ready-made, with callbacks. [`SelectConnection`] is one with a connection, under pika's names.

mod connection;
mod connector;
mod credentials;
mod event_loop;
mod leaving;
mod offload;
mod select;
mod session;
mod stream;

pub use amqp_net::{AttemptError, ConnectError, Stage, TlsConfig, TlsMaterial, TlsVersion};
pub use amqp_proto as proto;
pub use amqp_proto::topology::{RecoveryReport, StepFilter, Unrestored};
pub use amqp_proto::{Event, ProvidedCredentials};
pub use connection::MioConnection;
pub use connector::Connector;
pub use credentials::{CredentialsEvent, CredentialsSource, RefreshError};
pub use event_loop::{
    Backpressure, CallbackId, ChannelOptions, ChannelRef, ChannelView, ConnectionId, ConnectionView, Ctx,
    EventLoop, Handle, PollBackend, PollerError, PollerType, PostError, Recovery, RunError, TimerId,
    poll_backend,
};
pub use select::{AsyncoreConnection, SelectConnection, SelectError};
pub use stream::Stream;

/// The README's snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
