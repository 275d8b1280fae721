//! The consumers of a channel.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::progress::Progress;
use super::request::Purpose;
use super::unsettled::Unsettled;

/// In the order of their tags, since that is what deliveries name; mostly there is one.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    by_tag: Vec<(Box<[u8]>, Consumer)>,
    next_number: u32,
    /// What comes may be from a stream and be unsettled, even if nobody knows its consumer any more.
    had_stream: bool,
    /// By number, how far those of streams have come.
    progress: Vec<(u32, Progress)>,
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

    /// A delivery from a stream was told.
    pub(crate) fn note_offset(&mut self, number: u32, tag: u64, offset: u64, unsettled: &Unsettled) {
        let known = self.progress.iter().position(|(other, _)| *other == number);
        let place = known.unwrap_or_else(|| {
            self.progress.push((number, Progress::default()));
            self.progress.len().saturating_sub(1)
        });
        if let Some((_, progress)) = self.progress.get_mut(place) {
            progress.delivered(tag, offset, unsettled);
        }
    }

    /// What is settled is not known any more.
    #[cold]
    pub(crate) fn stop_progress(&mut self, unsettled: &Unsettled) {
        for (_, progress) in &mut self.progress {
            progress.stop(unsettled);
        }
    }

    /// Where that one would go on in its stream.
    pub(crate) fn position(&self, number: u32, unsettled: &Unsettled) -> Option<u64> {
        let mut all = self.positions(unsettled);
        all.find(|(other, _)| *other == number).map(|(_, next)| next)
    }

    /// Where they would go on in their streams, by number.
    pub(crate) fn positions(&self, unsettled: &Unsettled) -> impl Iterator<Item = (u32, u64)> {
        let all = self.progress.iter();
        all.filter_map(|(number, progress)| Some((*number, progress.position(unsettled)?)))
    }

    /// Whether one of them, or of those that are gone, was of a stream, with acknowledgements.
    pub(crate) const fn had_stream(&self) -> bool {
        self.had_stream
    }

    #[inline(always)]
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
        self.progress.retain(|(other, _)| *other != number);
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
