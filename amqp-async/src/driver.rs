//! The task that moves octets between a connection and its stream.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amqp_proto::topology::{Plan, Topology};
use amqp_proto::{CloseReason, Config, GiveUpReason, Instant, RecvBuf, SendBuf, TransportError};
use bytes::Buf;

use crate::observe::{Notes, Told};
use crate::recovery::{StepFilter, StepJudge};
use crate::shared::Shared;
use crate::transport::{Timer, Transport};

/// How many events are told before something else gets its turn.
const MOST_EVENTS: usize = 64;

/// How often it goes round before other tasks get their turn.
const MOST_TURNS: usize = 32;

/// How many pieces of memory are written at once.
const MOST_SLICES: usize = 16;

/// How long it takes at most to write what is left and to see the end of the stream, once the connection is closed; and how long
/// what the peer had to say is waited for when nothing can be written any more.
const LINGER: Duration = Duration::from_secs(2);

/// Moves octets and time for one connection. It must be polled, mostly by a task of its own, until it says why the connection
/// ended. To drop it earlier ends the connection at once, and whoever waits for something learns that.
#[derive(Debug)]
#[must_use = "nothing happens unless it is polled"]
pub struct Driver<T, C: Timer> {
    shared: Arc<Shared>,
    /// None while there is no connection.
    transport: Option<T>,
    timer: C,
    input: RecvBuf,
    output: SendBuf,
    stream: Stream,
    /// Whom to wake; empty between turns, and kept for its room.
    wakes: Vec<Waker>,
    told: Told,
    /// The user's code: not for under the lock.
    filter: Option<StepFilter>,
    judge: Option<StepJudge>,
    /// What the program does not want to go on without, and does not get again.
    unrestored: Option<Arc<str>>,
    /// When nobody waits any longer for everything to be there again; none if it is.
    give_up_at: Option<Instant>,
}

/// How far the stream is.
#[derive(Debug, Default)]
struct Stream {
    /// Its end was read, or it failed.
    is_read: bool,
    /// Writing has failed: the peer's words may still be readable.
    is_broken: bool,
    /// Nothing is kept by a layer in between.
    is_flushed: bool,
    is_shut: bool,
    /// It is not read for a while, to hold the broker back.
    is_paused: bool,
    /// When the end of the stream is not waited for any longer.
    linger: Option<Instant>,
}

impl Stream {
    fn new() -> Self {
        Self {
            is_flushed: true,
            ..Self::default()
        }
    }
}

/// What became of an attempt to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// Something came of it.
    Done,
    /// The stream wakes the driver when there is more.
    Waiting,
    /// There was no reason or no room to read.
    Skipped,
}

/// What is to be done next.
#[derive(Debug, Default)]
struct Turn {
    /// There are more events.
    has_more: bool,
    is_closed: bool,
    /// Both sides know, and nobody has anything more to say.
    is_agreed: bool,
    deadline: Option<Instant>,
}

impl<T: Transport, C: Timer> Driver<T, C> {
    pub(crate) fn new(shared: Arc<Shared>, transport: T, timer: C) -> Self {
        Self {
            shared,
            transport: Some(transport),
            timer,
            input: RecvBuf::new(),
            output: SendBuf::new(),
            stream: Stream::new(),
            wakes: Vec::new(),
            told: Told::default(),
            filter: None,
            judge: None,
            unrestored: None,
            give_up_at: None,
        }
    }

    /// Makes again only what that says.
    pub(crate) fn set_filter(&mut self, filter: Option<StepFilter>) {
        self.filter = filter;
    }

    /// Has that decide about what fails.
    pub(crate) fn set_judge(&mut self, judge: Option<StepJudge>) {
        self.judge = judge;
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) const fn shared_and_timer(&mut self) -> (&Arc<Shared>, &mut C) {
        (&self.shared, &mut self.timer)
    }

    pub(crate) fn now(&self) -> Instant {
        self.timer.now()
    }

    /// The connection has ended: so does the stream.
    pub(crate) fn disconnect(&mut self) {
        self.transport = None;
        self.input = RecvBuf::new();
        self.output = SendBuf::new();
    }

    /// Another connection begins, on another stream; it may take until then at most until everything is there again.
    pub(crate) fn begin_life(&mut self, transport: T, config: Arc<Config>, give_up_at: Option<Instant>) {
        let now = self.timer.now();
        self.shared.command(|state| state.begin_life(config, now));
        self.transport = Some(transport);
        self.stream = Stream::new();
        self.give_up_at = give_up_at;
    }

    /// Why it is not worth going on, if that was lost for that reason: something is not there again, or all has taken too long.
    pub(crate) fn gives_up(&mut self, lost: &CloseReason) -> Option<GiveUpReason> {
        if let Some(what) = self.unrestored.take() {
            return Some(GiveUpReason::Unrestored(what));
        }
        let is_late = self.give_up_at.is_some_and(|at| at <= self.timer.now());
        is_late.then(|| GiveUpReason::TimedOut(lost.clone()))
    }

    /// Has the user's code do what is its part in a recovery. No lock is held.
    #[cold]
    fn plan(&mut self, unplanned: Option<Topology>, unjudged: Option<Plan>) {
        if let Some(topology) = &unplanned {
            let plan = StepFilter::plan(self.filter.as_ref(), topology);
            self.shared.lock().begin_to_restore(plan);
        }
        if let (Some(plan), Some(judge)) = (&unjudged, &self.judge) {
            let mut judged = judge.judge(plan);
            self.unrestored = judged.given_up.take();
            if self.unrestored.is_none() {
                let now = self.timer.now();
                self.shared.lock().on_judged(judged, now);
            }
        }
    }

    fn can_read(&self) -> bool {
        !self.stream.is_read && !self.stream.is_paused && !self.input.is_full()
    }

    /// Reads once.
    fn read(&mut self, cx: &mut Context<'_>) -> Read {
        if !self.can_read() {
            return Read::Skipped;
        }
        let Some(transport) = &mut self.transport else {
            return Read::Skipped;
        };
        let error = match transport.poll_read(cx, self.input.spare_mut()) {
            Poll::Pending => return Read::Waiting,
            Poll::Ready(Ok(0)) => None,
            Poll::Ready(Ok(count)) => {
                self.input.advance(count);
                return Read::Done;
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return Read::Done,
            Poll::Ready(Err(error)) => Some(TransportError::from(error)),
        };
        self.stream.is_read = true;
        let now = self.timer.now();
        self.shared.lock().connection.handle_disconnect(now, error);
        Read::Done
    }

    /// Tells what happened, and takes what is to be written. Holds the lock; wakes nobody before it is released.
    fn turn(&mut self, cx: &Context<'_>) -> Turn {
        let now = self.timer.now();
        let mut state = self.shared.lock();
        state.alarms.look(now);
        let unread = self.input.unread().len();
        let mut events = 0;
        while events < MOST_EVENTS {
            match state.on_next(now, &mut self.input, MOST_EVENTS - events) {
                0 => break,
                count => events += count,
            }
        }
        if self.input.unread().len() != unread {
            state.on_input();
        }
        if state.is_lost() {
            state.go_on_restoring(now);
        }
        let reopening = state.restore(now);
        state.republish();
        state.say_unsaid();
        let leaving = state.step_leaving(now, &self.shared.handlers);
        let (is_paused, patience) = state.holds_back(now);
        if is_paused != self.stream.is_paused {
            self.stream.is_paused = is_paused;
            match is_paused {
                true => state.connection.handle_pause(),
                false => state.connection.handle_resume(now),
            }
        }
        if self.stream.is_broken {
            self.output.advance(self.output.remaining());
        }
        state.connection.poll_transmit(now, &mut self.output);
        state.note_written();
        std::mem::swap(&mut state.wakes, &mut self.wakes);
        let alarm = state.alarms.tick(now, &mut self.wakes);
        let deadline = state.connection.poll_timeout();
        let is_closed = state.ended.is_some();
        let is_agreed = matches!(state.ended, Some(CloseReason::Requested { acknowledged: true }));
        let notes = Notes::take(&mut state);
        let (unplanned, unjudged) = (state.take_unplanned(), state.take_unjudged());
        let retry = state.retry_at();
        self.give_up_at = self.give_up_at.filter(|_| state.is_lost());
        state.sleep(cx);
        drop(state);
        self.wakes.drain(..).for_each(Waker::wake);
        let has_planned = unplanned.is_some() || unjudged.is_some();
        if has_planned {
            self.plan(unplanned, unjudged);
        }
        notes.tell(self.shared.meters(), &mut self.told);
        if is_closed || self.stream.is_broken {
            self.stream.linger.get_or_insert(now + LINGER);
        }
        let linger = self.stream.linger.filter(|_| is_closed || !self.stream.is_read);
        let deadlines = [
            alarm,
            deadline,
            patience,
            linger,
            leaving,
            retry,
            reopening,
            self.give_up_at,
        ];
        Turn {
            has_more: events == MOST_EVENTS || has_planned,
            is_closed,
            is_agreed,
            deadline: deadlines.into_iter().flatten().min(),
        }
    }

    /// Writes what there is. Says whether something came of it, be it that the stream failed.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(transport) = &mut self.transport else {
            return false;
        };
        let was_broken = self.stream.is_broken;
        let mut has_written = false;
        while self.output.has_remaining() && !self.stream.is_broken {
            let mut slices = [IoSlice::new(&[]); MOST_SLICES];
            let count = self.output.chunks_vectored(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            match transport.poll_write(cx, slices) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.stream.is_broken = true,
                Poll::Ready(Ok(count)) => {
                    self.output.advance(count);
                    self.stream.is_flushed = false;
                    has_written = true;
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(_)) => self.stream.is_broken = true,
            }
        }
        if !self.stream.is_flushed && !self.stream.is_broken {
            match transport.poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.stream.is_flushed = true,
                Poll::Ready(Err(_)) => self.stream.is_broken = true,
            }
        }
        has_written || self.stream.is_broken != was_broken
    }

    /// The connection is closed: all is written, then the stream ends; on both sides, if they have not agreed on that and the other one
    /// does its part in time.
    fn leave(&mut self, cx: &mut Context<'_>, is_agreed: bool) -> Poll<()> {
        let is_written = !self.output.has_remaining() && self.stream.is_flushed || self.stream.is_broken;
        if is_written
            && !self.stream.is_shut
            && let Some(transport) = &mut self.transport
        {
            match transport.poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(_) => self.stream.is_shut = true,
            }
        }
        let is_late = |linger| linger <= self.timer.now();
        if (self.stream.is_read || is_agreed) && (self.stream.is_shut || self.stream.is_broken)
            || self.stream.linger.is_some_and(is_late)
        {
            return Poll::Ready(());
        }
        // What still comes is of no use.
        let unread = self.input.unread().len();
        self.input.consume(unread);
        Poll::Pending
    }

    fn on_deadline(&mut self) {
        let now = self.timer.now();
        let mut state = self.shared.lock();
        let is_late = self.stream.linger.is_some_and(|linger| linger <= now);
        if self.stream.is_broken && !self.stream.is_read && is_late {
            self.stream.is_read = true;
            let error = TransportError::new("the stream takes no more octets");
            state.connection.handle_disconnect(now, Some(error));
        }
        state.connection.handle_timeout(now);
    }

    fn reason(&self) -> CloseReason {
        let reason = self.shared.lock().ended.clone();
        reason.unwrap_or(CloseReason::Requested { acknowledged: false })
    }
}

impl<T: Transport + Unpin, C: Timer + Unpin> Future for Driver<T, C> {
    type Output = CloseReason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let this = self.get_mut();
        let mut has_more = false;
        for _ in 0..MOST_TURNS {
            // What was read comes first: it is in the cache, and its memory is used again when it is gone.
            let read = if has_more { Read::Skipped } else { this.read(cx) };
            let turn = this.turn(cx);
            if this.unrestored.is_some() {
                // Whoever drives it gives up now: nobody is asked again, and nothing goes on.
                return Poll::Pending;
            }
            let has_written = this.write(cx);
            if turn.is_closed && this.leave(cx, turn.is_agreed).is_ready() {
                return Poll::Ready(this.reason());
            }
            // What there was no room to read for may be read now, and nobody would wake the driver for it.
            let can_read = read == Read::Done || read == Read::Skipped && this.can_read();
            has_more = turn.has_more;
            if can_read || has_written || has_more {
                continue;
            }
            let Some(deadline) = turn.deadline else {
                return Poll::Pending;
            };
            if this.timer.poll_until(cx, deadline).is_pending() {
                return Poll::Pending;
            }
            this.on_deadline();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T, C: Timer> Driver<T, C> {
    /// The connection ends for that reason, at once.
    pub(crate) fn break_off(&mut self, reason: &str) {
        let now = self.timer.now();
        let mut state = self.shared.lock();
        state
            .connection
            .handle_disconnect(now, Some(TransportError::new(reason)));
        while state.on_next(now, &mut self.input, usize::MAX) > 0 {}
    }
}

impl<T, C: Timer> Drop for Driver<T, C> {
    fn drop(&mut self) {
        // No other one follows.
        self.shared.lock().recovering = None;
        self.break_off("the task that drives the connection was dropped");
        let mut state = self.shared.lock();
        if state.closed.is_none()
            && let Some(reason) = state.ended.clone()
        {
            state.finish(reason);
        }
        let wakes = std::mem::take(&mut state.wakes);
        let notes = Notes::take(&mut state);
        drop(state);
        wakes.into_iter().for_each(Waker::wake);
        let meters = self.shared.meters();
        notes.tell(meters, &mut self.told);
        self.told.end(meters);
    }
}
