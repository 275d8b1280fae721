//! What every adapter needs to reach a broker, and what does not depend on its runtime: no task, no thread, no event loop.
//!
//! ```text
//!  ConnectionParameters ─▶ Attempts ─▶ (your resolver) ─▶ order ─▶ connect_start, finish ─▶ (your TLS stream) ─▶ amqp-proto
//!                     └─▶ TlsConfig ─▶ rustls::ClientConfig, the server's name ──────────────┘
//!                                 whatever fails on the way ─▶ FailedAttempts ─▶ ConnectError
//! ```
//!
//! * [`TlsConfig`]: roots, client certificate, versions, cipher suites, names; makes a [`rustls::ClientConfig`].
//! * [`Search`]: which host, which of its addresses, and when, up to a connection or the end; made of [`Attempts`] and [`order`].
//! * [`connect_start`], [`apply`] and [`finish`]: a TCP connection that does not block, with its options.
//! * [`ConnectError`]: everything that was tried, and why none of it worked.
//!
//! # An example
//!
//! The plan for two brokers, with what a resolver might say about the first:
//!
//! ```
//! use amqp_net::{Attempt, Attempts, order};
//! use amqp_proto::ConnectionParameters;
//!
//! let parameters = ConnectionParameters::from_uri("amqp://b1,b2:5673?connection_attempts=2&retry_delay=3").unwrap();
//! let plan: Vec<_> = Attempts::new(&parameters).map(|attempt| attempt.to_string()).collect();
//! assert_eq!(plan, ["b1:5672", "b2:5673", "wait 3s", "b1:5672", "b2:5673"]);
//!
//! let resolved = ["[2001:db8::1]:5672", "[2001:db8::2]:5672", "192.0.2.1:5672"].map(|a| a.parse().unwrap());
//! let addresses: Vec<_> = order(resolved).iter().map(|address| address.to_string()).collect();
//! assert_eq!(addresses, ["[2001:db8::1]:5672", "192.0.2.1:5672", "[2001:db8::2]:5672"]);
//! ```
// What servers, resolvers and files say reaches nearly all of this. (Tests may fail, so they are let off.)
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod address;
mod error;
mod search;
mod socket;
mod tls;

pub use address::{Attempt, Attempts, order};
pub use error::{AttemptError, ConnectError, FailedAttempt, FailedAttempts, Stage};
/// The TLS library whose types are part of this interface.
pub use rustls;
pub use search::{Search, Step};
pub use socket::{apply, connect_start, finish};
pub use tls::{MaterialProblem, TlsConfig, TlsError, TlsMaterial, TlsVersion};

/// The README's snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
