//! A broker for tests: AMQP 0-9-1 as RabbitMQ speaks it, in memory. **It is no production broker**: nothing is written to disk, and
//! nothing about it is meant for load.
//!
//! ```text
//!  octets, time ─▶ ┌──────────────── Broker ────────────────┐ ─▶ octets
//!  (each stream)   │ connection ×n   ──▶  virtual host ×n     │    (each stream)
//!                  │ handshake, channels   exchanges, queues  │ ─▶ next deadline
//!                  └──────────────────────────────────────────┘
//! ```
//!
//! * [`Broker`]: the server's end of any number of connections, without I/O and without a clock.
//! * [`TestBroker`]: a [`Broker`] that listens on TCP (feature `listener`, on by default), and on TLS (feature `tls`).
//! * [`Pair`] and [`Simulation`]: clients and a server in one thread, on a virtual clock, each with a [`Link`] between.
//! * [`ScriptedPeer`]: a server that follows a [`Script`], for what no honest broker sends.
// Octets from a stranger reach nearly all of this. (Tests may fail, so they are let off.)
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod broker;
mod config;
mod connection;
mod erlang;
mod fault;
#[cfg(feature = "fuzzing")]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
pub mod fuzzing;
mod inspect;
mod link;
#[cfg(feature = "listener")]
mod listener;
mod name;
mod pair;
mod random;
mod refusal;
mod script;
mod server;
#[cfg(feature = "tls")]
mod tls;
mod vhost;

pub use broker::{Broker, ConnectionKey};
pub use config::{Access, BrokerConfig, Permissions, Release, User};
pub use fault::MethodFault;
pub use inspect::{BindingInfo, ConnectionInfo};
pub use link::{Cut, Ending, Link, LinkConfig, ReadOutcome, Side};
#[cfg(feature = "listener")]
pub use listener::{TestBroker, TestBrokerBuilder};
pub use pair::{Client, Pair, Simulation, Step, Stuck, StuckReason};
pub use random::Random;
pub use script::{CraftedFrame, Script, ScriptFailure, ScriptedPeer};
pub use server::{Server, StreamEnd};

/// The README's snippets are tests. They need what is on by default.
#[cfg(all(doctest, feature = "listener"))]
#[doc = include_str!("../README.md")]
struct Readme;
