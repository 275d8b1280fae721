//! AMQP 0-9-1 as RabbitMQ speaks it, without I/O.
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;

mod buffer;
pub mod wire;

pub use buffer::{Payload, RecvBuf, SendBuf};
