//! The consumers of a channel.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::request::Purpose;

/// In the order of their tags, since that is what deliveries name; mostly there is one.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    by_tag: Vec<(Box<[u8]>, Consumer)>,
    next_number: u32,
    /// What comes may be from a stream and be unsettled, even if nobody knows its consumer any more.
    had_stream: bool,
    /// Where the last one was found: the next delivery is mostly for the same.
    recent: usize,
}

/// ```text
///          consume                consume-ok            cancel
/// (none) ──────────▶ Starting ───────────────▶ Active ─────────▶ Cancelling ──▶ (none) on cancel-ok
///                        └──── unwanted: cancelled as soon as it is there ──▶ Cancelling
/// ```
/// A `basic.cancel` of the server, or the end of the channel, leads from everywhere to the end. If something was asked about the
/// consumer then, it stays as an unwanted one that is cancelled, until that is answered: its tag is not free before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Consumer {
    pub(crate) number: u32,
    pub(crate) no_ack: bool,
    /// Of a stream, which takes nothing back.
    pub(crate) is_stream_queue: bool,
    /// Bodies come in pieces.
    pub(crate) is_streamed: bool,
    /// It was given up before it was there: its deliveries go back.
    pub(crate) is_unwanted: bool,
    /// Of answers to what is asked here (RabbitMQ page "Direct Reply-to"): it lasts as long as anything is asked.
    pub(crate) takes_replies: bool,
    pub(crate) is_cancelling: bool,
}

impl Consumers {
    /// The tag that the next consumer gets if it has none of its own.
    pub(crate) fn next_tag(&mut self, incarnation: u32) -> Box<[u8]> {
        loop {
            let tag = format!("ctag{incarnation}.{}", self.next_number);
            if !self.contains(tag.as_bytes()) {
                return tag.into_bytes().into();
            }
            // One of the caller's own looks the same.
            self.next_number = self.next_number.wrapping_add(1);
        }
    }

    pub(crate) fn contains(&self, tag: &[u8]) -> bool {
        self.find(tag).is_ok()
    }

    /// Adds one; its tag is not in use.
    pub(crate) fn insert(
        &mut self,
        tag: Box<[u8]>,
        no_ack: bool,
        is_stream_queue: bool,
        takes_replies: bool,
    ) -> u32 {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        let consumer = Consumer {
            number,
            no_ack,
            is_stream_queue,
            is_streamed: false,
            is_unwanted: false,
            takes_replies,
            is_cancelling: false,
        };
        self.had_stream |= is_stream_queue && !no_ack;
        if let Err(place) = self.find(&tag) {
            self.by_tag.insert(place, (tag, consumer));
        }
        number
    }

    /// Whether one of them, or of those that are gone, was of a stream, with acknowledgements.
    pub(crate) const fn had_stream(&self) -> bool {
        self.had_stream
    }

    #[inline]
    pub(crate) fn get(&mut self, tag: &[u8]) -> Option<&Consumer> {
        let is_recent = |(recent, _): &&(Box<[u8]>, Consumer)| **recent == *tag;
        if self.by_tag.get(self.recent).filter(is_recent).is_none() {
            self.recent = self.find(tag).ok()?;
        }
        self.by_tag.get(self.recent).map(|(_, consumer)| consumer)
    }

    /// Whether an answer that names this tag is about a request for that purpose.
    pub(crate) fn is_about(&self, tag: &[u8], purpose: Purpose) -> bool {
        let (Purpose::Consume { number } | Purpose::Cancel { number }) = purpose else {
            return false;
        };
        let named = self.find(tag).ok().and_then(|place| self.by_tag.get(place));
        named.is_some_and(|(_, consumer)| consumer.number == number)
    }

    pub(crate) fn by_number(&mut self, number: u32) -> Option<(&[u8], &mut Consumer)> {
        let mut all = self.by_tag.iter_mut().map(|(tag, consumer)| (&**tag, consumer));
        all.find(|(_, consumer)| consumer.number == number)
    }

    pub(crate) fn by_tag(&mut self, tag: &[u8]) -> Option<&mut Consumer> {
        let place = self.find(tag).ok()?;
        self.by_tag.get_mut(place).map(|(_, consumer)| consumer)
    }

    pub(crate) fn remove_number(&mut self, number: u32) {
        self.by_tag.retain(|(_, consumer)| consumer.number != number);
    }

    /// How many the peer may still send something to that is no reply.
    pub(crate) fn count(&self) -> usize {
        let all = self.by_tag.iter();
        all.filter(|(_, consumer)| !consumer.takes_replies).count()
    }

    /// Those that were not cancelled yet.
    pub(crate) fn active(&mut self) -> impl Iterator<Item = (&[u8], &mut Consumer)> {
        self.by_tag
            .iter_mut()
            .map(|(tag, consumer)| (&**tag, consumer))
            .filter(|(_, consumer)| !consumer.is_cancelling)
    }

    /// Where it is, or where it would be.
    fn find(&self, tag: &[u8]) -> Result<usize, usize> {
        self.by_tag.binary_search_by(|(other, _)| (**other).cmp(tag))
    }
}
