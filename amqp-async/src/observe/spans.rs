//! Spans and events, through `tracing`. The attributes are those of OpenTelemetry's conventions for messaging.

use std::future::Future;
use std::sync::Arc;

use amqp_proto::{ChannelCloseReason, CloseReason, Connection, Event, Message as Received};
use tracing::{Instrument, debug, debug_span, field, info, warn};

use crate::delivery::Delivery;
use crate::events::ConnectionEvent;
use crate::message::Message;

/// What happened, in its order, to be told where no lock is held.
#[derive(Debug, Default)]
pub(super) struct Happened(Vec<Happening>);

#[derive(Debug)]
enum Happening {
    Connected(Server),
    ChannelOpened(u16),
    ChannelClosed(u16, ChannelCloseReason),
    ConsumerCancelled(u16),
    Blocked(Arc<str>),
    Unblocked,
    BackpressureOn { queued: usize, limit: usize },
    BackpressureOff { queued: usize },
    Closed(CloseReason),
}

/// What the broker says of itself.
#[derive(Debug)]
struct Server {
    product: String,
    version: String,
}

impl Happened {
    pub(super) fn note(&mut self, event: &Event, connection: &Connection) {
        let happening = match event {
            Event::Connected => Happening::Connected(Server::of(connection)),
            Event::ChannelOpened { channel } => Happening::ChannelOpened(channel.number()),
            Event::ChannelClosed { channel, reason } => {
                Happening::ChannelClosed(channel.number(), reason.clone())
            }
            Event::ConsumerCancelled { consumer } => {
                Happening::ConsumerCancelled(consumer.channel().number())
            }
            Event::Blocked { reason } => Happening::Blocked(Arc::clone(reason)),
            Event::Unblocked => Happening::Unblocked,
            Event::BackpressureOn { queued, limit } => Happening::BackpressureOn {
                queued: *queued,
                limit: *limit,
            },
            Event::BackpressureOff { queued } => Happening::BackpressureOff { queued: *queued },
            Event::Closed(reason) => Happening::Closed(reason.clone()),
            _ => return,
        };
        self.0.push(happening);
    }

    pub(super) fn take(&mut self) -> Self {
        Self(std::mem::take(&mut self.0))
    }

    pub(super) fn tell(self) {
        self.0.into_iter().for_each(Happening::tell);
    }
}

impl Server {
    fn of(connection: &Connection) -> Self {
        let properties = connection.server_properties();
        let text = |key| {
            let value = properties.get(key).ok().flatten();
            let text = value.and_then(|value| value.as_str());
            text.unwrap_or_default().to_owned()
        };
        Self {
            product: text("product"),
            version: text("version"),
        }
    }
}

impl Happening {
    fn tell(self) {
        match self {
            Self::Connected(Server { product, version }) => info!(product, version, "connected"),
            Self::ChannelOpened(channel) => debug!(channel, "channel opened"),
            Self::ChannelClosed(channel, reason) => match reason {
                ChannelCloseReason::Requested | ChannelCloseReason::Connection(_) => {
                    debug!(channel, %reason, "channel closed");
                }
                reason => warn!(channel, %reason, "channel closed"),
            },
            Self::ConsumerCancelled(channel) => warn!(channel, "consumer cancelled by the broker"),
            Self::Blocked(reason) => warn!(%reason, "the broker takes no publishes"),
            Self::Unblocked => info!("the broker takes publishes again"),
            Self::BackpressureOn { queued, limit } => {
                warn!(queued, limit, "more waits to be written than should");
            }
            Self::BackpressureOff { queued } => info!(queued, "less waits to be written again"),
            Self::Closed(reason) => match reason {
                CloseReason::Requested { .. } => info!(%reason, "connection closed"),
                reason => warn!(%reason, "connection closed"),
            },
        }
    }
}

/// In the span of a publish.
pub(crate) fn publishing<F: Future>(
    exchange: &str,
    routing_key: &str,
    message: &Message,
    future: F,
) -> impl Future<Output = F::Output> {
    let span = debug_span!(
        "publish",
        otel.kind = "producer",
        messaging.system = "rabbitmq",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = exchange,
        messaging.rabbitmq.destination.routing_key = routing_key,
        messaging.message.body.size = message.body().len(),
    );
    future.instrument(span)
}

/// Calls a handler, in a span of its own.
pub(crate) fn processing<F: Future>(
    message: Received,
    handler: impl FnOnce(Received) -> F,
) -> impl Future<Output = F::Output> {
    let span = debug_span!(
        "process",
        otel.kind = "consumer",
        messaging.system = "rabbitmq",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = %message.exchange(),
        messaging.rabbitmq.destination.routing_key = %message.routing_key(),
        messaging.message.body.size = message.body_len(),
        messaging.message.id = field::Empty,
        messaging.message.conversation_id = field::Empty,
        traceparent = field::Empty,
    );
    if !span.is_disabled() {
        let properties = message.properties();
        if let Some(id) = properties.message_id {
            span.record("messaging.message.id", field::display(id));
        }
        if let Some(id) = properties.correlation_id {
            span.record("messaging.message.conversation_id", field::display(id));
        }
        let headers = properties.headers.unwrap_or_default();
        let value = headers.get("traceparent").ok().flatten();
        if let Some(value) = value.and_then(|value| value.as_str()) {
            span.record("traceparent", value);
        }
    }
    async { handler(message).await }.instrument(span)
}

/// A delivery is dropped that nobody has settled.
pub(crate) fn forgotten(delivery: &Delivery) {
    // With its channel it was given back already.
    if delivery.channel().is_open() {
        warn!(
            delivery_tag = delivery.tag().value(),
            exchange = %delivery.exchange(),
            routing_key = %delivery.routing_key(),
            "a delivery was dropped without being settled: it goes back to its queue"
        );
    }
}

/// A consumer starts that has no prefetch limit.
pub(crate) fn unlimited(consumer_tag: &str) {
    warn!(
        consumer_tag,
        "a consumer without a prefetch limit: the broker sends it all there is"
    );
}

/// A secret was renewed, or was not.
pub(crate) fn refreshing(event: &ConnectionEvent) {
    match event {
        ConnectionEvent::CredentialsRefreshed { valid_for } => {
            info!(?valid_for, "the broker has a new secret");
        }
        ConnectionEvent::CredentialsNotRefreshed { error, retry_in } => {
            warn!(%error, ?retry_in, "the secret is not renewed");
        }
        ConnectionEvent::CredentialsExpired => warn!("the secret has run out"),
        _ => {}
    }
}
