//! No spans and events: the feature is off.

use std::future::Future;

use amqp_proto::{Connection, Event, Message as Received};

use crate::delivery::Delivery;
use crate::events::ConnectionEvent;
use crate::message::Message;

#[derive(Debug, Default)]
pub(super) struct Happened {}

impl Happened {
    #[inline]
    pub(super) const fn note(&mut self, _: &Event, _: &Connection) {}

    #[inline]
    pub(super) const fn take(&mut self) -> Self {
        Self {}
    }

    #[inline]
    pub(super) const fn tell(self) {}
}

#[inline]
pub(crate) fn publishing<F: Future>(
    _: &str,
    _: &str,
    _: &Message,
    future: F,
) -> impl Future<Output = F::Output> {
    future
}

#[inline]
pub(crate) fn processing<F: Future>(
    message: Received,
    handler: impl FnOnce(Received) -> F,
) -> impl Future<Output = F::Output> {
    handler(message)
}

#[inline]
pub(crate) const fn forgotten(_: &Delivery) {}

#[inline]
pub(crate) const fn unlimited(_: &str) {}

#[inline]
pub(crate) const fn refreshing(_: &ConnectionEvent) {}
