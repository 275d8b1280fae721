//! Who answers.

use std::future::Future;

use super::ERROR_TYPE;
use crate::delivery::ProcessOptions;
use crate::error::Error;
use crate::handling::{HandlerError, Handling};
use crate::message::Message;
use crate::proto;
use crate::queue::Queue;

/// Answers calls that come by that queue, up to `limit` at a time, at least one.
///
/// A call is acknowledged when its answer is with the broker, so that one whose server dies is carried out by another one. What the
/// handler fails with is told to the caller. A call without `reply_to` is carried out and not answered; an answer that
/// nobody takes any more is dropped.
///
/// # Errors
/// As [`Channel::request`](crate::Channel::request).
pub async fn serve<F, Fut>(queue: &Queue, limit: usize, handler: F) -> Result<Handling, Error>
where
    F: Fn(proto::Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Message, HandlerError>> + Send + 'static,
{
    let consumer = queue.consume().await?;
    let exchange = queue.channel().default_exchange();
    let options = ProcessOptions::default()
        .requeue(true)
        .reject_on_redelivered(true);
    Ok(consumer.handle(limit, options, move |call| {
        let exchange = exchange.clone();
        let properties = call.properties();
        let text = |text: Option<proto::wire::ShortStr<'_>>| text.map(|text| text.to_string());
        let (reply_to, correlation_id) = (text(properties.reply_to), text(properties.correlation_id));
        let answer = handler(call);
        async move {
            let answer = answer.await.unwrap_or_else(|error| {
                Message::new(error.to_string())
                    .message_type(ERROR_TYPE)
                    .content_type("text/plain")
            });
            let Some(reply_to) = reply_to else {
                return Ok(());
            };
            let answer = match correlation_id {
                Some(id) => answer.correlation_id(id),
                None => answer,
            };
            exchange.publish_optional(answer, &reply_to).await?;
            Ok(())
        }
    }))
}
