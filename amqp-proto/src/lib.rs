//! AMQP 0-9-1 as RabbitMQ speaks it, without I/O.
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;

mod buffer;
pub mod config;
pub mod credentials;
pub mod parameters;
pub mod sasl;
pub mod secret;
pub mod uri;
pub mod wire;

pub use buffer::{Payload, RecvBuf, SendBuf};
pub use config::{Config, ConfigError, Heartbeat};
pub use credentials::Credentials;
pub use parameters::{ConnectionParameters, Host, TlsParameters};
pub use sasl::{Mechanism, SaslError, SaslMechanism};
pub use secret::Secret;
pub use uri::{AmqpUri, UriError};
