//! A client program and its adapter: carries out operations, records what was answered, and recovers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use amqp_proto::topology::{ChannelKey, Destination, Name, Plan, StepError, StepKind, Topology};
use amqp_proto::wire::*;
use amqp_proto::{
    Backoff, ChannelCloseReason, ChannelId, CloseReason, Connection, ConsumerId, DeliveryTag, Instant,
    Reconnect, ReconnectPolicy, RequestError, RequestId, SendError, Verdict,
};

use crate::case::{EXCHANGES, Mode, QUEUES, SERVER_NAMED, SLOTS, Settings};
use crate::ledger::{Checked, Ledger, Violation, ensure};
use crate::mail::{Mail, lasting};
use crate::recovery::{Recovery, Sent, Started};
use crate::short;

/// What the program is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is no connection; the next one is not to be made before that moment.
    Waiting(Instant),
    Connecting,
    Recovering,
    Running,
    /// It is closing, and makes no other.
    Leaving,
    Left,
}

/// What an answer means.
#[derive(Debug)]
pub(crate) enum Ask {
    DeclareExchange(u8),
    DeleteExchange(u8),
    BindExchange { from: u8, to: u8, key: u8 },
    DeclareQueue(u8),
    DeleteQueue(Name),
    Purge(Name),
    Bind { queue: Name, exchange: u8, key: u8 },
    Unbind { queue: Name, exchange: u8, key: u8 },
    Consume(ConsumerId),
    Cancel(ConsumerId),
    Get { queue: Name, no_ack: bool },
    Qos(BasicQos),
    Mode(Mode),
    Recover,
    Commit(Vec<u64>),
    Rollback(Vec<u64>),
}

impl Ask {
    /// Whether it changes where messages go, or takes some away.
    pub(crate) const fn destroys(&self) -> bool {
        matches!(
            self,
            Self::DeleteQueue(_) | Self::Purge(_) | Self::DeleteExchange(_) | Self::Unbind { .. }
        )
    }
}

#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) key: ChannelKey,
    pub(crate) ask: Ask,
    /// What was settled on the channel before.
    pub(crate) proves: Vec<(u64, String)>,
}

/// A channel of the program.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) key: Option<ChannelKey>,
    pub(crate) id: Option<ChannelId>,
    pub(crate) is_transactional: bool,
    pub(crate) is_closing: bool,
    /// How many `basic.recover` are to be answered. What is settled before that does not count.
    pub(crate) recovers: usize,
    pub(crate) consumers: Vec<ConsumerId>,
    /// By delivery tag.
    pub(crate) unsettled: BTreeMap<u64, Held>,
    /// The limit for consumers that start from now on.
    pub(crate) prefetch: Option<u16>,
    pub(crate) unproved: Vec<(u64, String)>,
    /// What the open transaction publishes.
    pub(crate) transaction: Vec<u64>,
    /// By number on the channel.
    pub(crate) tags: HashMap<u64, u64>,
}

/// A message that came and is not settled.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) number: u64,
    pub(crate) queue: String,
    /// `None` if it was asked for.
    pub(crate) consumer: Option<ConsumerId>,
}

/// What was done, in figures.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) faults: u64,
    pub(crate) connections: u64,
    pub(crate) recoveries: u64,
    pub(crate) confirms: u64,
    pub(crate) deliveries: u64,
    /// Queues, exchanges and bindings that were recorded at the end.
    pub(crate) recorded: u64,
}

impl Tally {
    pub(crate) const fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.faults += other.faults;
        self.connections += other.connections;
        self.recoveries += other.recoveries;
        self.confirms += other.confirms;
        self.deliveries += other.deliveries;
        self.recorded += other.recorded;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations, {} faults, {} connections, {} recoveries, {} confirms, {} deliveries, {} things recorded at the end",
            self.operations,
            self.faults,
            self.connections,
            self.recoveries,
            self.confirms,
            self.deliveries,
            self.recorded
        )
    }
}

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) settings: Settings,
    pub(crate) phase: Phase,
    pub(crate) ledger: Ledger,
    pub(crate) mail: Mail,
    pub(crate) topology: Topology,
    pub(crate) slots: [Slot; SLOTS as usize],
    pub(crate) asked: HashMap<RequestId, Asked>,
    /// The limits of consumers, by their tags. They keep them when they are started again.
    pub(crate) prefetch: HashMap<String, u16>,
    /// What came last on channels that ended.
    pub(crate) stale: Vec<DeliveryTag>,
    pub(crate) consumers: HashMap<ConsumerId, Started>,
    /// The server-named queue, by one of its names.
    pub(crate) own_queue: Option<Name>,
    /// How many requests are under way that take something away.
    pub(crate) destructive: usize,
    /// Something may have been declared that is not recorded.
    pub(crate) has_ghosts: bool,
    pub(crate) tally: Tally,
    pub(crate) recovery: Option<Recovery>,
    /// Channels that the broker closed, and that are to be opened again.
    pub(crate) reopen: BTreeSet<ChannelKey>,
    pub(crate) reconnect: Reconnect,
    /// The next number for a channel of the program.
    next_key: u64,
    /// The connection is to be given up: something on it is not known any more.
    pub(crate) gives_up: bool,
}

impl Program {
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        // A broker that goes away three times running during the handshake looks like one that refuses the password.
        let policy =
            ReconnectPolicy::new(Backoff::new(seed).max(Duration::from_secs(5))).classifier(|reason| {
                matches!(reason, CloseReason::AuthRefused { peer: None }).then_some(Verdict::Transient)
            });
        Self {
            settings,
            phase: Phase::Waiting(Instant::EPOCH),
            ledger: Ledger::default(),
            mail: Mail::default(),
            topology: Topology::default(),
            slots: Default::default(),
            asked: HashMap::new(),
            prefetch: HashMap::new(),
            stale: Vec::new(),
            consumers: HashMap::new(),
            own_queue: None,
            destructive: 0,
            has_ghosts: false,
            tally: Tally::default(),
            recovery: None,
            reopen: BTreeSet::new(),
            reconnect: Reconnect::new(policy, 1),
            next_key: 0,
            gives_up: false,
        }
    }

    /// The connection is there, with all channels.
    pub(crate) fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.recovery.is_none() && self.reopen.is_empty()
    }

    /// Nothing is under way, and the connection is as it should be.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_closing = self
            .slots
            .iter()
            .any(|slot| slot.is_closing || slot.key.is_some() && slot.id.is_none());
        self.is_ready()
            && !self.ledger.has_pending()
            && !self.gives_up
            && !is_closing
            && self.slots.iter().all(|slot| self.is_opened(slot))
    }

    fn is_opened(&self, slot: &Slot) -> bool {
        slot.key
            .is_none_or(|key| self.topology.channels().any(|other| other == key))
    }

    pub(crate) fn connecting(&mut self) {
        self.phase = Phase::Connecting;
        self.tally.connections += 1;
        self.ledger.connection_made();
        self.gives_up = false;
    }

    pub(crate) fn new_key(&mut self, slot: u8) -> ChannelKey {
        self.next_key += 1;
        ChannelKey::new(self.next_key * u64::from(SLOTS) + u64::from(slot))
    }

    /// The present name of a queue; `None` for the server-named one when there is none.
    pub(crate) fn queue_name(&self, queue: u8) -> Option<Name> {
        if queue != SERVER_NAMED {
            return Name::try_from(QUEUES[usize::from(queue)].name).ok();
        }
        self.topology
            .current_queue_name(self.own_queue.as_ref()?)
            .cloned()
    }

    pub(crate) fn asks(&mut self, slot: u8, request: RequestId, ask: Ask) -> Checked {
        let index = usize::from(slot);
        let Some(key) = self.slots[index].key else {
            return Ok(());
        };
        // What a transaction acknowledges counts from its commit on; programs do not do that.
        let proves = std::mem::take(&mut self.slots[index].unproved);
        if let Ask::DeleteQueue(queue) | Ask::Purge(queue) | Ask::Get { queue, no_ack: true } = &ask {
            self.mail.wipe(&text(queue));
        }
        if ask.destroys() {
            self.destructive += 1;
            self.mail.doubt_open();
        }
        self.asked.insert(request, Asked { key, ask, proves });
        self.ledger.asked(request)
    }

    /// Sends what the adapter has to send by itself.
    pub(crate) fn work(&mut self, connection: &mut Connection) -> Checked {
        if self.gives_up {
            connection.close(ReplyCode::REPLY_SUCCESS, "starting anew");
            return Ok(());
        }
        if let Some(recovery) = &mut self.recovery {
            let sent = recovery.send(connection, &mut self.ledger)?;
            for sent in sent {
                if let Sent::Channel(_, id) = sent
                    && let Ok(mut channel) = connection.channel(id)
                {
                    let result = self.settings.apply(&mut channel);
                    ensure(result == Ok(()), "a channel begins without deliveries", || {
                        format!("{result:?}")
                    })?;
                }
                self.note_sent(sent);
            }
            if self.recovery.as_ref().is_some_and(Recovery::is_finished) {
                self.end_recovery()?;
            }
        } else if self.phase == Phase::Running
            // A plan is for what is recorded now: what is still to be answered may change that.
            && !self.ledger.has_open_requests()
            && let Some(key) = self.reopen.pop_first()
        {
            let plan = Plan::for_channel(&self.topology, key);
            self.recovery = Some(Recovery::new(plan, false, self.settings.pipelines_plan));
        }
        Ok(())
    }

    fn note_sent(&mut self, sent: Sent) {
        match sent {
            Sent::Channel(key, id) => {
                let slot = self.slot_of_key(key);
                *slot = Slot {
                    key: Some(key),
                    id: Some(id),
                    ..Slot::default()
                };
                self.reopen.remove(&key);
            }
            Sent::Transaction(key) => self.slot_of_key(key).is_transactional = true,
            Sent::Consumer(key, consumer, started) => {
                self.consumers.insert(consumer, started);
                self.slot_of_key(key).consumers.push(consumer);
            }
        }
    }

    pub(crate) fn slot_of_key(&mut self, key: ChannelKey) -> &mut Slot {
        let place = usize::try_from(key.number() % u64::from(SLOTS)).unwrap();
        &mut self.slots[place]
    }

    pub(crate) fn slot_of(&mut self, channel: ChannelId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.id == Some(channel))
    }

    /// What failed because something is gone that was never recorded is left out; anything else is tried again.
    fn end_recovery(&mut self) -> Checked {
        let Some(recovery) = self.recovery.take() else {
            return Ok(());
        };
        if !recovery.is_recovered() && !recovery.is_full {
            self.gives_up = true;
            return Ok(());
        }
        for (step, error) in recovery.failures() {
            let code = match error {
                StepError::Request(RequestError::ChannelClosed(ChannelCloseReason::Peer(peer))) => peer.code,
                _ => ReplyCode::INTERNAL_ERROR,
            };
            if code != ReplyCode::NOT_FOUND {
                self.gives_up = true;
                continue;
            }
            self.leave_out(step).map_err(|rule| Violation {
                rule,
                detail: format!("{step}: {error}"),
            })?;
        }
        if !self.gives_up && recovery.is_full {
            self.tally.recoveries += 1;
            self.phase = Phase::Running;
        }
        Ok(())
    }

    fn leave_out(&mut self, step: &amqp_proto::topology::Step) -> Result<(), &'static str> {
        let is_recorded = match step.kind() {
            StepKind::Consumer(consumer) => {
                let key = step.channel().unwrap_or(ChannelKey::new(0));
                let tag = consumer.tag().as_short_str();
                let is_recorded = self.topology.queue(consumer.queue()).is_some();
                // It may be that its consumers were cancelled meanwhile, and the queue went with them.
                let is_current = self
                    .topology
                    .consumers(key)
                    .any(|other| other.tag() == consumer.tag());
                self.topology.consumer_cancelled(key, tag);
                is_recorded && is_current
            }
            StepKind::QueueBinding(binding) => {
                let Method::QueueBind(bind) = binding.bind() else {
                    return Ok(());
                };
                self.topology.queue_unbound(
                    ChannelKey::new(0),
                    &QueueUnbind {
                        queue: bind.queue,
                        exchange: bind.exchange,
                        routing_key: bind.routing_key,
                        arguments: bind.arguments,
                    },
                );
                let Destination::Queue(queue) = binding.destination() else {
                    return Ok(());
                };
                self.topology.queue(queue).is_some() && self.has_exchange(binding.source())
            }
            StepKind::ExchangeBinding(binding) => {
                let Method::ExchangeBind(bind) = binding.bind() else {
                    return Ok(());
                };
                self.topology.exchange_unbound(&ExchangeUnbind {
                    destination: bind.destination,
                    source: bind.source,
                    routing_key: bind.routing_key,
                    arguments: bind.arguments,
                    ..Default::default()
                });
                let Destination::Exchange(exchange) = binding.destination() else {
                    return Ok(());
                };
                self.has_exchange(exchange) && self.has_exchange(binding.source())
            }
            _ => true,
        };
        match is_recorded {
            true => Err("what is recorded is found again"),
            false => Ok(()),
        }
    }

    pub(crate) fn has_exchange(&self, name: &Name) -> bool {
        let is_there = |declared: &Name| declared == name;
        text(name).starts_with("amq.")
            || self
                .topology
                .exchanges()
                .any(|exchange| is_there(exchange.name()))
    }

    /// Which of the lasting queues a message must get to, as far as the record says.
    pub(crate) fn expected(&self, exchange: &str, routing_key: &str, mandatory: bool) -> Vec<String> {
        let is_recorded = |queue: &str| self.topology.queues().any(|other| text(other.name()) == queue);
        if exchange.is_empty() {
            return lasting()
                .filter(|queue| *queue == routing_key && (mandatory || is_recorded(queue)))
                .map(str::to_owned)
                .collect();
        }
        let takes_all = exchange == "fanout";
        let mut expected = BTreeSet::new();
        for binding in self.topology.bindings() {
            if let Destination::Queue(queue) = binding.destination()
                && text(binding.source()) == exchange
                && (takes_all || text(binding.routing_key()) == routing_key)
                && is_recorded(&text(queue))
                && lasting().any(|lasting| *queue == *lasting)
            {
                expected.insert(text(queue));
            }
        }
        expected.into_iter().collect()
    }

    /// Takes what a command said; what cannot be done now is left out.
    pub(crate) fn sent<T>(&mut self, result: Result<T, SendError>) -> Checked<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(SendError::Full { .. }) => {
                self.ledger.refused_for_room();
                Ok(None)
            }
            // Its end is told by an event that is to come.
            Err(SendError::Stale | SendError::Closed | SendError::NotConnected | SendError::Committing) => {
                Ok(None)
            }
            Err(error) => Err(Violation {
                rule: "a command that makes sense is taken",
                detail: error.to_string(),
            }),
        }
    }
}

pub(crate) fn text(name: &Name) -> String {
    name.as_short_str().to_string()
}

pub(crate) fn exchange_name(exchange: u8) -> ShortStr<'static> {
    short(EXCHANGES[usize::from(exchange)].0)
}

fn routing_key(key: u8) -> ShortStr<'static> {
    short(crate::case::KEYS[usize::from(key)])
}

pub(crate) fn exchange_bind(from: u8, to: u8, key: u8) -> ExchangeBind<'static> {
    ExchangeBind {
        destination: exchange_name(to),
        source: exchange_name(from),
        routing_key: routing_key(key),
        ..Default::default()
    }
}

pub(crate) fn queue_bind(queue: &Name, exchange: u8, key: u8) -> QueueBind<'_> {
    QueueBind {
        queue: queue.as_short_str(),
        exchange: exchange_name(exchange),
        routing_key: routing_key(key),
        ..Default::default()
    }
}

pub(crate) fn queue_unbind(queue: &Name, exchange: u8, key: u8) -> QueueUnbind<'_> {
    QueueUnbind {
        queue: queue.as_short_str(),
        exchange: exchange_name(exchange),
        routing_key: routing_key(key),
        ..Default::default()
    }
}
