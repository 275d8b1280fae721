//! The wire: every octet of AMQP 0-9-1 as RabbitMQ speaks it, read and written without a copy of its own.
//!
//! ```text
//! octets ──▶ RawFrame::parse ──▶ RawFrame ──▶ decode ──▶ Frame ─┬─▶ Method ──▶ QueueDeclareOk, BasicDeliver, …
//!            delimits, checks sizes         reads the payload  ├─▶ ContentHeader ──▶ Properties
//!                                                              └─▶ body octets
//! ```
//!
//! Everything that is read borrows from the octets it was read from, so a type serves both directions: the
//! [`QueueDeclare`] that a server decodes is the one that a client fills in and encodes.
//!
//! ```
//! use amqp_proto::wire::{Frame, FrameLimits, Method, QueueDeclare, RawFrame};
//!
//! let declare = QueueDeclare { queue: "hello".try_into()?, durable: true, ..Default::default() };
//! let mut octets = Vec::new();
//! Method::from(declare).encode(&mut octets, 1, 4096)?;
//!
//! let raw = RawFrame::parse(&octets, &FrameLimits::default())?.expect("all of it is there");
//! let frame = raw.decode()?;
//! assert_eq!(frame, Frame::Method { channel: 1, method: declare.into() });
//! assert_eq!(frame.to_string(), r#"ch 1 queue.declare queue="hello" durable"#);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
// Octets from a stranger reach this code. (Tests may fail, so they are let off.)
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(feature = "arbitrary")]
mod arbitrary;
mod decode;
pub(crate) mod encode;
mod error;
pub mod field;
pub(crate) mod frame;
mod method;
mod octets;
mod properties;
mod protocol_header;
mod reply_code;
mod text;

pub use error::{EncodeError, Problem, ProtocolError, TableError, TableProblem};
pub use field::{
    Decimal, FieldArray, FieldArrayRef, FieldError, FieldTable, FieldTableRef, FieldValue, MAX_TABLE_DEPTH,
};
pub use frame::{
    FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameLimits, FrameType, HEADER_SIZE, HEARTBEAT, RawFrame,
};
pub use method::*;
pub use properties::{ContentHeader, Properties};
pub use protocol_header::{PROTOCOL_HEADER, parse_protocol_header};
pub use reply_code::ReplyCode;
pub use text::{LongStr, SecretStr, ShortStr, TooLong};
