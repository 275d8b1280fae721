//! Calls and answers over queues (RabbitMQ tutorial 6 and page "Direct Reply-to").
//!
//! A caller publishes a message with `reply_to` and `correlation_id`; whoever takes it publishes its answer there, with the same
//! `correlation_id`. A server's failure is an answer whose `type` is `error` and whose body is its text.

mod client;
mod server;

pub use client::{RpcClient, RpcClientOptions};
pub use server::serve;

use std::time::Duration;

use crate::error::PublishError;
use crate::inbox::ConsumerEnd;
use crate::proto::Message;

/// The `type` of an answer that tells of a failure.
const ERROR_TYPE: &str = "error";

/// Why a call was not answered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// Nobody could get the call: there is no such queue.
    #[error("no queue takes the call")]
    NoServer,
    /// No answer came in time. The call may have been carried out.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The server failed, in its own words.
    #[error("the server failed: {}", String::from_utf8_lossy(&.0.body()))]
    Server(Box<Message>),
    /// The call could not be made.
    #[error(transparent)]
    Publish(PublishError),
    /// No answers come any more.
    #[error("no answers come any more: {0}")]
    Ended(ConsumerEnd),
}
