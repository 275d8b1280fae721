//! The consumers of a channel.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;

/// By tag, since that is what deliveries name.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    by_tag: BTreeMap<Box<[u8]>, Consumer>,
    next_number: u32,
}

/// ```text
///          consume                consume-ok            cancel
/// (none) ──────────▶ Starting ───────────────▶ Active ─────────▶ Cancelling ──▶ (none) on cancel-ok
///                        └──── unwanted: cancelled as soon as it is there ──▶ Cancelling
/// ```
/// A `basic.cancel` of the server, or the end of the channel, leads from everywhere to the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Consumer {
    pub(crate) number: u32,
    pub(crate) no_ack: bool,
    /// Bodies come in pieces.
    pub(crate) is_streamed: bool,
    /// It was given up before it was there: its deliveries go back.
    pub(crate) is_unwanted: bool,
    pub(crate) is_cancelling: bool,
}

impl Consumers {
    /// The tag that the next consumer gets if it has none of its own.
    pub(crate) fn next_tag(&self, incarnation: u32) -> Box<[u8]> {
        format!("ctag{incarnation}.{}", self.next_number)
            .into_bytes()
            .into()
    }

    pub(crate) fn contains(&self, tag: &[u8]) -> bool {
        self.by_tag.contains_key(tag)
    }

    /// Adds one; its tag is not in use.
    pub(crate) fn insert(&mut self, tag: Box<[u8]>, no_ack: bool) -> u32 {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.by_tag.insert(
            tag,
            Consumer {
                number,
                no_ack,
                is_streamed: false,
                is_unwanted: false,
                is_cancelling: false,
            },
        );
        number
    }

    #[inline]
    pub(crate) fn get(&self, tag: &[u8]) -> Option<&Consumer> {
        self.by_tag.get(tag)
    }

    pub(crate) fn by_number(&mut self, number: u32) -> Option<(&[u8], &mut Consumer)> {
        let mut all = self.by_tag.iter_mut().map(|(tag, consumer)| (&**tag, consumer));
        all.find(|(_, consumer)| consumer.number == number)
    }

    pub(crate) fn remove(&mut self, tag: &[u8]) -> Option<Consumer> {
        self.by_tag.remove(tag)
    }

    pub(crate) fn remove_number(&mut self, number: u32) {
        self.by_tag.retain(|_, consumer| consumer.number != number);
    }

    /// Those that were not cancelled yet.
    pub(crate) fn active(&mut self) -> impl Iterator<Item = (&[u8], &mut Consumer)> {
        self.by_tag
            .iter_mut()
            .map(|(tag, consumer)| (&**tag, consumer))
            .filter(|(_, consumer)| !consumer.is_cancelling)
    }
}
