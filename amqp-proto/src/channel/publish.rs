//! Publishing.

use alloc::string::ToString;

use super::Channel;
use crate::Payload;
use crate::error::SendError;
use crate::id::ConfirmTag;
use crate::message::Message;
use crate::wire::*;

/// The header that carries a mandatory publish's number, if the channel was told to add it.
const NUMBER_HEADER: &str = "x-publish-number";

impl Channel<'_> {
    /// Publishes a message. In confirm mode its tag is assigned in this same step, and
    /// [`Event::Confirmed`](crate::Event::Confirmed) resolves it.
    ///
    /// A body given as [`Bytes`](bytes::Bytes) of 4096 octets or more is not copied. Whoever keeps the connection behind a
    /// lock copies a large slice into `Bytes` before taking it.
    ///
    /// The broker says nothing of a publish that no queue gets, unless it is mandatory. `immediate` is refused by RabbitMQ
    /// (540, for the whole connection).
    ///
    /// # Errors
    /// [`SendError::Full`], [`SendError::InFlight`], [`SendError::FlowStopped`], [`SendError::Committing`], [`SendError::Stale`];
    /// properties that fit no frame, [`SendError::Headers`] that cannot take the number. Nothing is written then, and no tag is
    /// used up.
    #[inline]
    pub fn publish<'p>(
        &mut self,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: impl Into<Payload<'p>>,
    ) -> Result<Option<ConfirmTag>, SendError> {
        let body = body.into();
        if !self.state.is_usable() | self.state.is_flow_stopped | self.state.is_committing {
            return Err(self.why_not());
        }
        self.link.check_high_water()?;
        let size = body.len();
        let mut number = None;
        if let Some(window) = &self.state.confirm {
            if !window.admits(size) {
                return Err(SendError::InFlight);
            }
            if self.state.numbers_publishes && is_returnable(method) {
                number = Some(window.last_tag().wrapping_add(1));
            }
        }
        match number {
            None => self
                .link
                .content(self.state.id.number(), method, properties, body)?,
            Some(number) => self.publish_numbered(method, properties, &body, number)?,
        }
        self.link.counters.published += 1;
        let Some(window) = &mut self.state.confirm else {
            return Ok(None);
        };
        let route = is_returnable(method)
            .then(|| window.route(method.exchange.as_bytes(), method.routing_key.as_bytes()));
        Ok(Some(ConfirmTag::new(self.state.id, window.push(size, route))))
    }

    #[cold]
    fn why_not(&self) -> SendError {
        self.check_usable().err().unwrap_or(SendError::FlowStopped)
    }

    #[cold]
    fn publish_numbered(
        &mut self,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: &Payload<'_>,
        number: u64,
    ) -> Result<(), SendError> {
        let number = FieldValue::I64(number.cast_signed());
        let headers = with_header(properties, NUMBER_HEADER, number)?;
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..*properties
        };
        Ok(self
            .link
            .content(self.state.id.number(), method, &properties, body.clone())?)
    }

    /// Whether publishes that may be returned carry their number in a header of ours, `x-publish-number`; off at first.
    ///
    /// Without it a return is matched to the oldest such publish with its exchange and routing key, which is exact as long as
    /// a route that leads to a queue does not lose it while publishes are in flight. With it a return is exact always, each
    /// such publish costs a copy of its header table, and the header is seen by consumers.
    pub fn number_publishes(&mut self, number_publishes: bool) {
        self.state.numbers_publishes = number_publishes;
    }
}

/// The headers of a message with another one.
pub(crate) fn with_header<'v>(
    properties: &Properties<'_>,
    name: &str,
    value: impl Into<FieldValue<'v>>,
) -> Result<FieldTable, SendError> {
    let refused = |error: &dyn core::error::Error| SendError::Headers(error.to_string().into());
    let headers = properties.headers.map(FieldTableRef::to_owned).transpose();
    let mut headers = headers.map_err(|error| refused(&error))?.unwrap_or_default();
    headers.insert(name, value).map_err(|error| refused(&error))?;
    Ok(headers)
}

/// Whether the broker may send it back.
#[inline]
const fn is_returnable(method: &BasicPublish<'_>) -> bool {
    method.mandatory || method.immediate
}

/// The number of a publish that came back, if it carries one.
pub(super) fn number_of(message: &Message) -> Option<u64> {
    let headers = message.properties().headers?;
    match headers.get(NUMBER_HEADER) {
        Ok(Some(FieldValue::I64(number))) => Some(number.cast_unsigned()),
        _ => None,
    }
}
