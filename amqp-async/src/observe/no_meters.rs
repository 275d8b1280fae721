//! No numbers: the feature is off.

use amqp_proto::{ConfirmOutcome, ConfirmTag, ConfirmTags};

use crate::shared::State;

#[derive(Debug)]
pub(crate) struct Meters;

#[derive(Debug, Default)]
pub(crate) struct Told {}

#[derive(Debug, Default)]
pub(crate) struct Measured {}

#[derive(Debug, Default)]
pub(crate) struct Sample {}

#[derive(Debug)]
pub(crate) struct InHand;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Ack,
    Nack,
    Reject,
}

impl Meters {
    pub(crate) const fn new(_: Option<&str>) -> Self {
        Self
    }
}

impl Told {
    #[inline]
    pub(crate) const fn end(&mut self, _: &Meters) {}
}

impl Measured {
    #[inline]
    pub(crate) const fn published(&mut self, _: &mut Sample, _: ConfirmTag) {}

    #[inline]
    pub(crate) const fn republished(&mut self, _: usize) {}

    #[inline]
    pub(crate) const fn confirmed(&mut self, _: Option<&mut Sample>, _: ConfirmTags, _: &ConfirmOutcome) {}

    #[inline]
    pub(super) const fn take(_: &mut State) -> Self {
        Self {}
    }

    #[inline]
    pub(super) const fn tell(self, _: &Meters, _: &mut Told) {}
}

impl InHand {
    #[inline]
    pub(crate) const fn new(_: &Meters, _: bool) -> Self {
        Self
    }

    #[inline]
    pub(crate) const fn settled(&mut self, _: Outcome) {}
}
