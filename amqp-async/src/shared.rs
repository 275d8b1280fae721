//! What handles and driver share: the core, and who waits for what of it.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use amqp_proto::{
    ChannelId, CloseReason, CloseReport, Connection, Counters, Got, Instant, Reply, RequestError, RequestId,
    SendError,
};

use crate::alarms::Alarms;
use crate::channels::{Channels, Entry};
use crate::dispatch::Sip;
use crate::error::Error;
use crate::events::{ConnectionEvent, Watchers};
use crate::leaving::Leaving;
use crate::observe::{Meters, Notes};
use crate::recovery::Recovering;
use crate::sync::{Mutex, MutexGuard};
use crate::transport::{Spawner, Task};
use crate::wakers::{self, WakerSet};

/// One connection, behind its lock. Nothing is waited for while it is held, and nobody is woken.
pub(crate) struct Shared {
    state: Mutex<State>,
    spawner: Spawner,
    meters: Meters,
    /// How many handlers run.
    pub(crate) handlers: AtomicUsize,
    /// Somebody wants to know when they are done.
    pub(crate) is_leaving: AtomicBool,
}

/// The lock, held. Released, it drops the wakers that are of no use any more: one may own the last handle of this very connection.
pub(crate) struct Locked<'s> {
    // The order of these fields is that of their drop.
    state: MutexGuard<'s, State>,
    retired: Vec<Waker>,
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) connection: Connection,
    driver: Option<Waker>,
    /// The driver has looked at everything: who changes something wakes it.
    pub(crate) is_asleep: bool,
    /// How often publishes have woken the driver since one of their tasks waited for something.
    pub(crate) driver_wakes: u8,
    pub(crate) channels: Channels,
    pub(crate) calls: HashMap<RequestId, CallState>,
    pub(crate) alarms: Alarms,
    /// Who found no room to write.
    pub(crate) writable: WakerSet,
    /// Who may not ask now, or has asked too much, until something is answered.
    pub(crate) answered: WakerSet,
    /// Who waits for the broker to take publishes again.
    pub(crate) unblocked: WakerSet,
    /// Who waits for the connection to be there, or to end.
    pub(crate) changed: WakerSet,
    /// Who waits for publishes to be settled, on any channel.
    pub(crate) settled: WakerSet,
    /// Who waits for octets to be written.
    pub(crate) written: WakerSet,
    /// What was handed over and what waited to be written when somebody was told last.
    seen_writing: (u64, usize),
    pub(crate) watchers: Watchers,
    pub(crate) is_connected: bool,
    pub(crate) is_closing: bool,
    /// For good.
    pub(crate) closed: Option<CloseReason>,
    /// The core's connection has ended, which is not the end if another one follows.
    pub(crate) ended: Option<CloseReason>,
    /// Why it was lost, until everything is there again.
    pub(crate) lost: Option<CloseReason>,
    /// Why it was lost the last time.
    pub(crate) last_loss: Option<CloseReason>,
    /// How often there was another connection.
    pub(crate) lives: u32,
    /// How often everything was there again.
    pub(crate) recoveries: u64,
    /// What former connections have counted.
    pub(crate) past: Counters,
    /// How often somebody began to renew the secret: the last one does it.
    pub(crate) renewals: u32,
    /// What another connection would need; none if none is to follow.
    pub(crate) recovering: Option<Box<Recovering>>,
    /// Whom to wake when the lock is released.
    pub(crate) wakes: Vec<Waker>,
    /// Wakers to be dropped when the lock is released.
    pub(crate) retired: Vec<Waker>,
    /// The connection goes on without handles.
    pub(crate) is_detached: bool,
    /// It is to be closed in order.
    pub(crate) leaving: Option<Box<Leaving>>,
    /// What came of that.
    pub(crate) report: Option<CloseReport>,
    /// Some channel has something that could not be said yet.
    pub(crate) has_unsaid: bool,
    /// Some channel is not as it was before the broker closed it.
    pub(crate) has_to_restore: bool,
    /// Some channel has kept publishes that are to be published again.
    pub(crate) has_to_republish: bool,
    /// When the next channel is to be opened again that waits for that.
    pub(crate) restore_at: Option<Instant>,
    /// The stream is held back because consumers take too little, and nobody waits for the broker.
    pub(crate) sip: Option<Sip>,
    /// Deliveries that were dropped without being settled.
    pub(crate) unsettled_dropped: u64,
    pub(crate) notes: Notes,
}

/// A request that somebody waits for.
#[derive(Debug)]
pub(crate) enum CallState {
    /// Not answered.
    Waiting(Option<Waker>),
    /// Answered, or not to be answered.
    Done(Result<Answer, RequestError>),
}

/// What answers a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    Got(Got),
    GetEmpty,
}

impl Shared {
    pub(crate) fn new(connection: Connection, spawner: Spawner) -> Arc<Self> {
        let meters = Meters::new(connection.config().connection_name.as_deref());
        let state = State {
            connection,
            driver: None,
            is_asleep: false,
            driver_wakes: 0,
            channels: Channels::default(),
            calls: HashMap::new(),
            alarms: Alarms::default(),
            writable: WakerSet::default(),
            answered: WakerSet::default(),
            unblocked: WakerSet::default(),
            changed: WakerSet::default(),
            settled: WakerSet::default(),
            written: WakerSet::default(),
            seen_writing: (0, 0),
            watchers: Watchers::default(),
            is_connected: false,
            is_closing: false,
            closed: None,
            ended: None,
            lost: None,
            last_loss: None,
            lives: 0,
            recoveries: 0,
            past: Counters::default(),
            renewals: 0,
            recovering: None,
            wakes: Vec::new(),
            retired: Vec::new(),
            is_detached: false,
            leaving: None,
            report: None,
            has_unsaid: false,
            has_to_restore: false,
            has_to_republish: false,
            restore_at: None,
            sip: None,
            unsettled_dropped: 0,
            notes: Notes::default(),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            spawner,
            meters,
            handlers: AtomicUsize::new(0),
            is_leaving: AtomicBool::new(false),
        })
    }

    /// To look at something. A panic elsewhere under this lock is no reason for another one here.
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked {
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner),
            retired: Vec::new(),
        }
    }

    /// Not to be used under the lock: what they tell is told to the user's code.
    pub(crate) const fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Has a task run in the background.
    pub(crate) fn spawn(&self, task: Task) {
        (self.spawner)(task);
    }

    /// To do something that the driver has to know of: it is woken afterwards, as are those that it wakes by that.
    #[inline]
    pub(crate) fn command<R>(&self, command: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = command(&mut state);
        let driver = state.take_driver();
        let wakes = std::mem::take(&mut state.wakes);
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        wakes.into_iter().for_each(Waker::wake);
        result
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.retired = std::mem::take(&mut self.state.retired);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.state.try_lock() {
            Ok(state) => state.fmt(f),
            Err(_) => f.write_str("Connection { locked }"),
        }
    }
}

/// What the core says, and how much is kept beside it.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = || self.channels.iter();
        let waiting = entries().map(|entry| entry.changed.len() + entry.room.len() + entry.ledger.len());
        let sets = self.waiting_for_input().map(WakerSet::len);
        let waiting =
            waiting.sum::<usize>() + sets.iter().sum::<usize>() + self.changed.len() + self.written.len();
        f.debug_struct("State")
            .field("core", &self.connection)
            .field("entries", &entries().count())
            .field(
                "consumers",
                &entries().map(|entry| entry.consumers.len()).sum::<usize>(),
            )
            .field(
                "publishes",
                &entries().map(|entry| entry.confirms.len()).sum::<usize>(),
            )
            .field("calls", &self.calls.len())
            .field("alarms", &self.alarms.len())
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl State {
    /// The connection was lost, and not everything is there again.
    #[inline]
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// The driver goes to sleep; a command wakes it.
    pub(crate) fn sleep(&mut self, cx: &Context<'_>) {
        self.is_asleep = true;
        self.retired.extend(wakers::replace(&mut self.driver, cx));
    }

    /// Whether that alarm's time has passed.
    pub(crate) fn poll_alarm(&mut self, number: u64, cx: &Context<'_>) -> Poll<()> {
        self.alarms.poll(number, cx, &mut self.retired)
    }

    /// Nobody waits for that alarm any more.
    pub(crate) fn remove_alarm(&mut self, number: u64) {
        self.retired.extend(self.alarms.remove(number));
    }

    /// The driver, if it sleeps, to be woken where no lock is held.
    pub(crate) fn take_driver(&mut self) -> Option<Waker> {
        let was_asleep = std::mem::take(&mut self.is_asleep);
        self.driver.as_ref().filter(|_| was_asleep).cloned()
    }

    /// A refusal of the core, with the reason that is known for it here.
    pub(crate) fn refusal(&self, channel: usize, error: SendError) -> Error {
        if let Some(reason) = &self.closed {
            return Error::ConnectionClosed(reason.clone());
        }
        if error == SendError::Closed {
            // We are closing it, and do not know yet how that ends.
            return Error::ConnectionClosed(CloseReason::Requested { acknowledged: false });
        }
        let ended = |entry: &Entry| {
            let former = entry.last_end.as_deref().cloned().filter(|_| !entry.is_closing);
            entry.closed.clone().or(former)
        };
        match (error, self.channels.get(channel).and_then(ended)) {
            (SendError::Stale, Some(reason)) => reason.into(),
            (error, _) => Error::Refused(error),
        }
    }

    /// The core's view of a channel.
    pub(crate) fn core(&mut self, channel: usize) -> Result<amqp_proto::Channel<'_>, SendError> {
        let entry = self.channels.get(channel).ok_or(SendError::Stale)?;
        if !entry.restore.is_empty() || self.is_lost() && entry.closed.is_none() {
            // It is not sent yet, for want of room or of a connection.
            let queued = self.connection.queued_bytes();
            return Err(SendError::Full {
                queued,
                limit: queued,
            });
        }
        let id = entry.id();
        self.connection.channel(id)
    }

    /// The same, for what came before: that is not there any more once the connection was lost or the channel was closed, and is not
    /// waited for.
    pub(crate) fn core_to_settle(&mut self, channel: usize) -> Result<amqp_proto::Channel<'_>, SendError> {
        if self.is_lost() && !self.connection.is_open() {
            return Err(SendError::Stale);
        }
        // Consumers get deliveries before everything is there again.
        let id = self.channels.get(channel).ok_or(SendError::Stale)?.id();
        self.connection.channel(id)
    }

    /// Says what was acknowledged on any channel and waits for others.
    pub(crate) fn flush_acks(&mut self) {
        for entry in self.channels.iter() {
            if let Ok(mut core) = self.connection.channel(entry.id()) {
                core.flush_acks();
            }
        }
    }

    /// How many publishes wait for their confirm, on all channels.
    pub(crate) fn unconfirmed(&mut self) -> usize {
        let (connection, channels) = (&mut self.connection, &self.channels);
        let unconfirmed = |entry: &Entry| {
            let core = connection.channel(entry.id());
            core.map_or(0, |channel| channel.unconfirmed()) + entry.unsent()
        };
        channels.iter().map(unconfirmed).sum()
    }

    /// What was counted since the beginning, on this connection and on those before it.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.connection.counters();
        counters += self.past;
        counters
    }

    /// What was handed over for writing, in octets since this connection began, and what of all that waits to be written.
    pub(crate) fn writing(&self) -> (u64, usize) {
        let handed_over = self.connection.counters().octets_sent;
        (handed_over, self.connection.queued_bytes())
    }

    /// Something may have been written.
    pub(crate) fn note_written(&mut self) {
        if self.written.len() > 0 && self.seen_writing != self.writing() {
            self.seen_writing = self.writing();
            self.written.drain_into(&mut self.wakes);
        }
    }

    /// A delivery was dropped without being settled. The first of them are told one by one, and then ever fewer, since a program
    /// that forgets this once does so each time.
    pub(crate) fn note_unsettled(&mut self, channel: ChannelId) {
        let is_open = |entry: &mut Entry| entry.is_open && !entry.is_closing && entry.closed.is_none();
        if self.is_closing || !self.entry_of(channel).is_some_and(is_open) {
            return;
        }
        self.unsettled_dropped += 1;
        if self.unsettled_dropped.is_power_of_two() {
            let event = ConnectionEvent::DeliveryDropped {
                channel: channel.number(),
                count: self.unsettled_dropped,
            };
            self.watchers.tell(&event, &mut self.wakes);
        }
    }

    /// A request was sent that somebody waits for.
    pub(crate) fn await_answer(&mut self, request: RequestId) {
        self.calls.insert(request, CallState::Waiting(None));
    }

    /// Whether it makes sense to go on reading although there is more than anybody takes: somebody waits for an answer, or for
    /// room, which there may not be before the broker has got rid of what it has to say.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.is_closing
            || self.leaving.is_some()
            || self.waiting_for_input().iter().any(|set| set.len() > 0)
            || self
                .calls
                .values()
                .any(|call| matches!(call, CallState::Waiting(_)))
            || self.channels.iter().any(Entry::is_awaiting)
    }

    /// Those who go on when the broker has said something.
    const fn waiting_for_input(&self) -> [&WakerSet; 4] {
        [&self.writable, &self.answered, &self.unblocked, &self.settled]
    }

    /// The channel of the core, if it is one of ours.
    pub(crate) fn entry_of(&mut self, channel: ChannelId) -> Option<&mut Entry> {
        self.channels.find_mut(channel)
    }
}
