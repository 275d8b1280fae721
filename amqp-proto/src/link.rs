//! The way out: frames to be written, how much of them waits, and what is to be told about that.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bytes::Buf;

use crate::config::Config;
use crate::error::SendError;
use crate::event::Event;
use crate::time::Instant;
use crate::trace::{Direction, FrameTap};
use crate::wire::{Arguments, CarriesContent, EncodeError, FRAME_MIN_SIZE, Properties};
use crate::{Counters, Payload, SendBuf};

/// What the connection and all its channels share: the outgoing octets, the events to come, the counters.
pub(crate) struct Link {
    pub(crate) config: Arc<Config>,
    /// Whole frames that were not handed over.
    out: SendBuf,
    /// What the caller had not written when it last asked.
    unwritten: usize,
    /// Octets of methods without content, which are mostly answers and acknowledgements: of these here, and of those handed
    /// over that may not be written.
    methods: usize,
    methods_handed_over: usize,
    /// What the peer takes, in octets of the whole frame.
    pub(crate) frame_max: u32,
    /// [`Config::outbound_high_water`].
    high_water: usize,
    /// Consequences of one input or command that are still to be told.
    pub(crate) events: VecDeque<Event>,
    pub(crate) counters: Counters,
    /// Channels with requests that were not handed over.
    pub(crate) unsent: Vec<u16>,
    /// No request's deadline is before this.
    pub(crate) request_deadline: Instant,
    /// Channels that hold acknowledgements back.
    pub(crate) holding: Vec<u16>,
    /// When they are to be looked at; [`Instant::MAX`] for never.
    pub(crate) acks_due: Instant,
    /// How many octets of incomplete messages all channels hold.
    pub(crate) partial_content: u64,
    pub(crate) tap: Option<Box<dyn FrameTap>>,
    /// All consumers were cancelled, and no new ones are started.
    pub(crate) takes_no_consumers: bool,
    /// Somebody was told that it is full.
    wants_writable: bool,
    is_behind: bool,
    multiplier: u32,
}

impl Link {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let mut out = SendBuf::new();
        out.protocol_header();
        Self {
            multiplier: config.backpressure_multiplier,
            high_water: config.outbound_high_water,
            config,
            out,
            unwritten: 0,
            methods: 0,
            methods_handed_over: 0,
            frame_max: FRAME_MIN_SIZE,
            events: VecDeque::new(),
            counters: Counters::default(),
            unsent: Vec::new(),
            request_deadline: Instant::MAX,
            holding: Vec::new(),
            acks_due: Instant::MAX,
            partial_content: 0,
            tap: None,
            takes_no_consumers: false,
            wants_writable: false,
            is_behind: false,
        }
    }

    /// What waits to be written, here and at the caller.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.out.remaining().saturating_add(self.unwritten)
    }

    /// Refuses what may wait: publishes and requests.
    #[inline]
    pub(crate) fn check_high_water(&mut self) -> Result<(), SendError> {
        let (queued, limit) = (self.queued(), self.high_water);
        if queued > limit {
            Err(self.full(queued, limit))
        } else {
            Ok(())
        }
    }

    /// Refuses what should not wait.
    #[inline]
    pub(crate) fn check_limit(&mut self) -> Result<(), SendError> {
        let limit = self.config.outbound_limit;
        if self.is_over_limit() {
            Err(self.full(self.queued(), limit))
        } else {
            Ok(())
        }
    }

    /// Whether so many methods wait that nothing more must be read, since answering would add to them. Contents do not count: one
    /// large message must not make us deaf for what the peer says meanwhile.
    #[inline]
    pub(crate) fn is_over_limit(&self) -> bool {
        self.methods.saturating_add(self.methods_handed_over) > self.config.outbound_limit
    }

    #[cold]
    fn full(&mut self, queued: usize, limit: usize) -> SendError {
        self.wants_writable = true;
        SendError::Full { queued, limit }
    }

    /// Appends a method.
    #[inline]
    pub(crate) fn method<A: Arguments>(&mut self, channel: u16, method: &A) -> Result<(), EncodeError> {
        let before = self.out.remaining();
        self.out.method(channel, method, self.frame_max)?;
        self.methods += self.out.remaining() - before;
        self.counters.frames_sent += 1;
        Ok(())
    }

    /// Appends an answer that the protocol demands, and that fits every frame.
    pub(crate) fn answer<A: Arguments>(&mut self, channel: u16, method: &A) {
        let written = self.method(channel, method);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Appends a message, in one step.
    #[inline]
    pub(crate) fn content<A: CarriesContent>(
        &mut self,
        channel: u16,
        method: &A,
        properties: &Properties<'_>,
        body: Payload<'_>,
    ) -> Result<(), EncodeError> {
        let frames = self
            .out
            .content_frames(channel, method, properties, body, self.frame_max)?;
        self.counters.frames_sent += frames as u64;
        Ok(())
    }

    /// A channel asked something, or closes.
    pub(crate) fn note_unsent(&mut self, channel: u16) {
        if !self.unsent.contains(&channel) {
            self.unsent.push(channel);
        }
    }

    /// A channel holds an acknowledgement back. Its time starts when somebody looks, which is to be soon.
    pub(crate) fn note_held(&mut self, channel: u16) {
        if !self.holding.contains(&channel) {
            self.holding.push(channel);
        }
        self.acks_due = Instant::EPOCH;
    }

    pub(crate) fn heartbeat(&mut self) {
        self.out.heartbeat();
        self.counters.frames_sent += 1;
        self.counters.heartbeats_sent += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.out.has_remaining()
    }

    /// Nothing is to be handed over, and no mark was passed.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        !self.out.has_remaining() && self.unsent.is_empty() && !self.wants_writable && !self.is_behind
    }

    /// Drops what was not handed over: whole frames that nobody will read.
    pub(crate) fn drop_queued(&mut self) {
        self.out = SendBuf::new();
        self.methods = 0;
    }

    /// Hands over what there is if the caller has written all it had; says whether it did.
    pub(crate) fn hand_over(&mut self, out: &mut SendBuf) -> bool {
        self.unwritten = out.remaining();
        let is_handed_over = self.unwritten == 0 && self.out.has_remaining();
        if self.unwritten == 0 {
            self.methods_handed_over = 0;
        }
        if is_handed_over {
            self.counters.octets_sent += self.out.remaining() as u64;
            mem::swap(&mut self.out, out);
            self.unwritten = out.remaining();
            self.methods_handed_over = mem::take(&mut self.methods);
        }
        is_handed_over
    }

    /// The caller has written all it had.
    #[inline]
    pub(crate) const fn note_all_written(&mut self) {
        self.unwritten = 0;
        self.methods_handed_over = 0;
    }

    /// Shows what is about to be handed over.
    #[cold]
    pub(crate) fn tap_queued(&mut self, now: Instant) {
        if let Some(tap) = &mut self.tap {
            self.out
                .for_each_frame(|channel, octets| tap.frame(now, Direction::Sent, channel, octets));
        }
    }

    /// Looks at how much waits, after the caller has written: what crosses a mark is told, once.
    pub(crate) fn watch_marks(&mut self, is_behind: bool) {
        let queued = self.queued();
        if self.wants_writable && queued <= self.high_water / 2 {
            self.wants_writable = false;
            self.events.push_back(Event::Writable);
        }
        if !self.is_behind && !is_behind {
            return;
        }
        let limit = self.backpressure_limit();
        if !self.is_behind && is_behind && queued > limit {
            self.is_behind = true;
            self.events.push_back(Event::BackpressureOn { queued, limit });
        } else if self.is_behind && queued <= limit / 2 {
            self.is_behind = false;
            self.events.push_back(Event::BackpressureOff { queued });
        }
    }

    pub(crate) fn set_backpressure_multiplier(&mut self, multiplier: u32) {
        self.multiplier = multiplier;
    }

    /// The multiplier times the mean size of the frames so far.
    fn backpressure_limit(&self) -> usize {
        if self.multiplier == 0 {
            return usize::MAX;
        }
        let octets = self
            .counters
            .octets_sent
            .saturating_add(self.out.remaining() as u64);
        let mean = octets / self.counters.frames_sent.max(1);
        usize::try_from(mean.saturating_mul(u64::from(self.multiplier))).unwrap_or(usize::MAX)
    }
}
