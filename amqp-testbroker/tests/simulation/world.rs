//! One run: a program, a broker and the links between them, on a virtual clock; at last, what must be true when all is over.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::topology::{Destination, Name};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{CloseReason, Config, Event, Instant, SendBuf};
use amqp_testbroker::{Broker, BrokerConfig, Client, LinkConfig, Side, Simulation, Step as Round};

use crate::case::{Act, Case, Fault, Op, Settings};
use crate::ledger::{Checked, Violation, ensure};
use crate::mail::lasting;
use crate::program::{Phase, Program, Tally, text};

/// How many rounds something may take that must come to its end. A small window makes many of them: it is filled octet by octet.
const ROUNDS: usize = 2_000_000;

/// How much time it may take: longer than any fault lasts, and a few reconnects on top.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// By how many octets the broker may go over its limit: it looks whether the body of a message fits, and counts the message once
/// in each queue that gets it, and more than its body.
const SLACK: u64 = 6 * 21_000;

/// How many rounds running there is nothing to do until there will not be anything.
const IDLE_ROUNDS: usize = 4;

/// How often something can still go wrong when no fault is added.
const MOST_CUTS: usize = 20;

/// How many of the last things that happened are kept.
const REMEMBERED: usize = 60;

/// What ends a fault.
#[derive(Debug, Clone, Copy)]
enum Lift {
    Block,
    DelayConfirms,
    ReverseConfirms,
    Mute,
    Deaf,
    Stall(Side),
}

/// A run that broke a rule.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) violation: Violation,
    /// What happened last.
    pub(crate) story: Vec<String>,
}

struct World {
    sim: Simulation<Broker>,
    program: Program,
    config: Arc<Config>,
    links: VecDeque<LinkConfig>,
    lifts: BTreeMap<(Instant, usize), Lift>,
    lift_count: usize,
    incarnation: u32,
    max_memory: u64,
    /// How many events came.
    happened: u64,
    story: Option<VecDeque<String>>,
}

/// Runs it; tells a story only if asked to, since that takes longer.
pub(crate) fn run(case: &Case, tells: bool) -> Result<Tally, Finding> {
    let mut world = World::new(case, tells);
    let result = world.run(case);
    match result {
        Ok(()) => Ok(world.program.tally),
        Err(violation) => Err(Finding {
            violation,
            story: world.story.unwrap_or_default().into(),
        }),
    }
}

fn client_config(settings: &Settings) -> Config {
    Config::default()
        .frame_max(settings.frame_max)
        .outbound_high_water(settings.high_water)
}

fn broker_config(settings: &Settings) -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.release = settings.release;
    config.joins_confirms = settings.joins_confirms;
    config.heartbeat = settings.heartbeat;
    config.max_memory = settings.max_memory;
    config
}

impl World {
    fn new(case: &Case, tells: bool) -> Self {
        let settings = &case.settings;
        Self {
            sim: Simulation::new(Broker::new(broker_config(settings))),
            program: Program::new(case.seed, settings.clone()),
            config: Arc::new(client_config(settings)),
            links: case.links.iter().cloned().collect(),
            lifts: BTreeMap::new(),
            lift_count: 0,
            incarnation: 0,
            max_memory: settings.max_memory,
            happened: 0,
            story: tells.then(VecDeque::new),
        }
    }

    fn run(&mut self, case: &Case) -> Checked {
        for step in &case.steps {
            for _ in 0..step.after {
                self.round()?;
            }
            match &step.act {
                Act::Fault(fault) => self.fault(fault),
                Act::Do(op) => self.operate(op)?,
            }
        }
        self.end_faults();
        // More than once, since something may be on its way: that the broker closes a channel, or that the link breaks at last.
        let mut happened = 0;
        for _ in 0..MOST_CUTS {
            self.go_until("what was asked comes to an end", Self::is_quiet)?;
            if happened == self.happened {
                return self.check_end();
            }
            happened = self.happened;
            self.operate(&Op::Wait { ms: 5_000 })?;
        }
        ensure(false, "without new faults it comes to rest", String::new)
    }

    fn check_end(&mut self) -> Checked {
        self.check_topology()?;
        self.leave()?;
        self.check_rest()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.sim.now().duration_since(Instant::EPOCH);
        if let Some(story) = &mut self.story {
            if story.len() >= REMEMBERED {
                story.pop_front();
            }
            story.push_back(format!("{:>9.3} s  {}", now.as_secs_f64(), what()));
        }
    }

    fn operate(&mut self, op: &Op) -> Checked {
        if let Op::Wait { ms } = op {
            let end = self.sim.now() + Duration::from_millis(*ms);
            return self.go_on(|world| world.sim.now() >= end, Some(end)).map(drop);
        }
        self.go_until("the connection comes back", |world| world.program.is_ready())?;
        self.note(|| format!("{op:?}"));
        self.program.tally.operations += 1;
        let Some(client) = self.sim.clients.last_mut() else {
            return Ok(());
        };
        self.program.run(&mut client.connection, op)
    }

    /// Nothing is under way.
    fn is_quiet(&self) -> bool {
        let is_quiet = |client: &Client<Broker>| {
            let link = &client.link;
            client.connection.queued_bytes() + link.unread(Side::Client) + link.unread(Side::Server) == 0
        };
        let clients = &self.sim.clients;
        self.program.is_quiet()
            && clients.iter().all(is_quiet)
            // The end of a connection may be on its way to the client.
            && self.sim.server.connections().len() == clients.len()
    }

    /// Goes on until it is so.
    fn go_until(&mut self, rule: &'static str, is_so: impl Fn(&Self) -> bool) -> Checked {
        let done = self.go_on(is_so, None)?;
        ensure(done, rule, || {
            let program = &self.program;
            let slots = &program.slots;
            let describe = |client: &Client<Broker>| {
                let under_way = [Side::Client, Side::Server].map(|side| client.link.unread(side));
                format!("{}, under way {under_way:?}", client.connection.state())
            };
            let clients: Vec<_> = self.sim.clients.iter().map(describe).collect();
            format!(
                "at {:?}: {:?}, {clients:?}, pending {:?}, {:?}, {slots:?}",
                self.sim.now(),
                program.phase,
                program.ledger.pending(),
                program.recovery
            )
        })
    }

    /// Goes on until something is so; says whether it came to that.
    fn go_on(&mut self, is_so: impl Fn(&Self) -> bool, until: Option<Instant>) -> Checked<bool> {
        let end = self.sim.now() + PATIENCE;
        let mut idle = 0;
        for _ in 0..ROUNDS {
            if is_so(self) {
                return Ok(true);
            }
            if self.sim.now() > end {
                return Ok(false);
            }
            if self.round()? {
                idle = 0;
            } else if let Some(at) = until {
                self.pass(at)?;
            } else if idle < IDLE_ROUNDS {
                // What the adapter does follows from what the round before has brought.
                idle += 1;
            } else {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn pass(&mut self, at: Instant) -> Checked {
        let duration = at.duration_since(self.sim.now());
        self.sim.drive_for(duration).map_err(|stuck| Violation {
            rule: "time goes on",
            detail: stuck.to_string(),
        })
    }

    /// Does what can be done now, or goes to the next moment. `false` if there is none.
    fn round(&mut self) -> Checked<bool> {
        self.lift();
        self.connect();
        self.work()?;
        let step = self.sim.step();
        self.take_events()?;
        self.check_limits()?;
        if step != Round::Idle {
            return Ok(true);
        }
        let reconnect = match self.program.phase {
            // Otherwise it waits for the end of the last connection, not for the time.
            Phase::Waiting(at) if at > self.sim.now() => Some(at),
            _ => None,
        };
        let lift = self.lifts.keys().next().map(|(at, _)| *at);
        let next = [reconnect, lift].into_iter().flatten().min();
        match next {
            Some(at) => self.pass(at).map(|()| true),
            None => Ok(false),
        }
    }

    /// The adapter connects when it is time, and when the broker knows that the last connection is gone: what still came of that
    /// could undo what is recovered, and nobody could say what must be true.
    fn connect(&mut self) {
        self.sim.clients.retain(|client| !client.is_over());
        let Phase::Waiting(at) = self.program.phase else {
            return;
        };
        if !self.sim.clients.is_empty() || self.sim.now() < at {
            return;
        }
        let link = self.links.pop_front().unwrap_or_default();
        self.program.connecting();
        self.sim.connect(Arc::clone(&self.config), link, self.incarnation);
        self.note(|| "connects".into());
    }

    fn take_events(&mut self) -> Checked {
        let now = self.sim.now();
        loop {
            let Some(client) = self.sim.clients.last_mut() else {
                return Ok(());
            };
            let Some(event) = client.events.pop_front() else {
                return Ok(());
            };
            if let Event::Closed(reason) = &event {
                self.incarnation = client.connection.next_incarnation();
                let writes = client.connection.poll_transmit(now, &mut SendBuf::new());
                let has_stream = !matches!(reason, CloseReason::Transport { .. });
                ensure(
                    has_stream || !writes,
                    "nothing is written to a stream that ended",
                    String::new,
                )?;
            }
            self.note(|| shorten(&event));
            self.happened += 1;
            self.program.on_event(event, now)?;
        }
    }

    /// What the adapter does by itself.
    fn work(&mut self) -> Checked {
        match self.sim.clients.last_mut() {
            Some(client) if client.connection.is_open() => self.program.work(&mut client.connection),
            _ => Ok(()),
        }
    }

    fn check_limits(&self) -> Checked {
        let memory = self.sim.server.memory();
        ensure(
            memory <= self.max_memory + SLACK,
            "the broker keeps its memory limit",
            || memory.to_string(),
        )?;
        let queued = self
            .sim
            .clients
            .last()
            .map_or(0, |client| client.connection.queued_bytes());
        // One message may go over the mark, and what answers the broker passes it.
        let limit = self.program.settings.high_water + 64 * 1024;
        ensure(queued <= limit, "the client keeps its mark", || {
            format!("{queued} octets")
        })
    }

    fn fault(&mut self, fault: &Fault) {
        self.note(|| format!("FAULT {fault:?}"));
        self.program.tally.faults += 1;
        let now = self.sim.now();
        let broker = &mut self.sim.server;
        match *fault {
            Fault::Restart => {
                broker.restart(now);
                self.program.mail.broker_restarted();
            }
            Fault::Block { ms } => {
                broker.block("low on memory");
                self.lift_after(ms, Lift::Block);
            }
            Fault::Refuse { count } => broker.refuse_connections(count),
            Fault::Nack { count } => broker.nack_publishes(count),
            Fault::DelayConfirms { by, ms } => {
                broker.delay_confirms(Duration::from_millis(by));
                self.lift_after(ms, Lift::DelayConfirms);
            }
            Fault::ReverseConfirms { ms } => {
                broker.reverse_confirms(true);
                self.lift_after(ms, Lift::ReverseConfirms);
            }
            _ => self.fault_of_connection(fault),
        }
    }

    fn fault_of_connection(&mut self, fault: &Fault) {
        let now = self.sim.now();
        let Some(client) = self.sim.clients.last_mut() else {
            return;
        };
        let (broker, key) = (&mut self.sim.server, client.key);
        match *fault {
            Fault::CancelConsumer { slot, nth } => {
                let slot = &self.program.slots[usize::from(slot)];
                let consumer = slot.consumers.get(usize::from(nth));
                let started = consumer.and_then(|consumer| self.program.consumers.get(consumer));
                if let (Some(id), Some(started)) = (slot.id, started) {
                    broker.cancel_consumer(key, now, id.number(), &started.tag);
                }
            }
            Fault::CloseChannel { slot } => {
                if let Some(id) = self.program.slots[usize::from(slot)].id {
                    broker.close_channel(key, now, id.number(), ReplyCode::INTERNAL_ERROR, "a fault");
                }
            }
            Fault::CloseConnection => {
                broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "a fault");
            }
            Fault::Mute { ms } => {
                broker.set_mute(key, now, true);
                self.lift_after(ms, Lift::Mute);
            }
            Fault::Deaf { ms } => {
                broker.set_deaf(key, now, true);
                self.lift_after(ms, Lift::Deaf);
            }
            Fault::HangUp { octets } => broker.hang_up_after(key, now, octets),
            Fault::Stall { from, ms } => {
                client.link.stall(from, now, Duration::from_millis(ms));
                self.lift_after(ms, Lift::Stall(from));
            }
            Fault::Reset { by } => client.link.reset(by, now),
            Fault::EndServer => client.link.shutdown(Side::Server, now),
            _ => {}
        }
    }

    fn lift_after(&mut self, ms: u64, lift: Lift) {
        let at = self.sim.now() + Duration::from_millis(ms);
        self.lift_count += 1;
        self.lifts.insert((at, self.lift_count), lift);
    }

    /// Ends the faults whose time has come.
    fn lift(&mut self) {
        let now = self.sim.now();
        while let Some(entry) = self.lifts.first_entry()
            && entry.key().0 <= now
        {
            let lift = entry.remove();
            self.note(|| format!("the end of {lift:?}"));
            let broker = &mut self.sim.server;
            match lift {
                Lift::Block => broker.unblock(now),
                Lift::DelayConfirms => broker.delay_confirms(Duration::ZERO),
                Lift::ReverseConfirms => broker.reverse_confirms(false),
                Lift::Mute | Lift::Deaf => {
                    for info in broker.connections() {
                        match lift {
                            Lift::Mute => broker.set_mute(info.key, now, false),
                            _ => broker.set_deaf(info.key, now, false),
                        }
                    }
                }
                Lift::Stall(from) => {
                    for client in &mut self.sim.clients {
                        client.link.release(from);
                    }
                }
            }
        }
    }

    fn end_faults(&mut self) {
        self.note(|| "the end of all faults".into());
        let now = self.sim.now();
        let lifts = std::mem::take(&mut self.lifts).into_values().enumerate();
        self.lifts = lifts.map(|(place, lift)| ((now, place), lift)).collect();
        self.lift();
        self.links.clear();
        self.sim.server.refuse_connections(0);
        self.sim.server.nack_publishes(0);
    }

    /// Closes the connection, and waits until nothing of it is left.
    fn leave(&mut self) -> Checked {
        self.note(|| "leaves".into());
        if let Some(client) = self.sim.clients.last_mut() {
            client.connection.close(ReplyCode::REPLY_SUCCESS, "done");
        }
        self.program.phase = Phase::Leaving;
        let is_left = |world: &Self| {
            world.program.phase == Phase::Left && world.sim.clients.iter().all(Client::is_over)
        };
        self.go_until("a connection comes to its end", is_left)
    }

    /// The broker has what is recorded.
    fn check_topology(&mut self) -> Checked {
        let (broker, topology) = (&self.sim.server, &self.program.topology);
        let mut recorded = Vec::new();
        let mut consumers: BTreeMap<String, usize> = BTreeMap::new();
        for queue in topology.queues() {
            recorded.push(format!("queue {}", text(queue.name())));
            consumers.entry(text(queue.name())).or_default();
        }
        for channel in topology.channels() {
            for consumer in topology.consumers(channel) {
                *consumers.entry(text(consumer.queue())).or_default() += 1;
            }
        }
        // What was declared without an answer is not recorded, and nobody knows when it goes, and with it its bindings and what
        // is deleted when it has no bindings any more.
        let has_ghosts = self.program.has_ghosts;
        let is_lasting = |exchange: &Name| self.program.has_exchange(exchange) && *exchange != "passing";
        let exchanges = topology.exchanges();
        for exchange in exchanges.filter(|exchange| !has_ghosts || is_lasting(exchange.name())) {
            recorded.push(format!("exchange {}", text(exchange.name())));
        }
        for binding in topology.bindings() {
            let (destination, is_to_exchange) = match binding.destination() {
                Destination::Queue(name) => (name, false),
                Destination::Exchange(name) => (name, true),
                other => unreachable!("{other:?}"),
            };
            let (source, key) = (text(binding.source()), text(binding.routing_key()));
            let describe = describe_binding(&source, &text(destination), is_to_exchange, &key);
            let is_known = match is_to_exchange {
                true => is_lasting(destination),
                false => lasting().any(|queue| *destination == *queue),
            };
            let is_known = is_known && is_lasting(binding.source());
            if is_known || !has_ghosts {
                recorded.push(describe);
            }
        }
        let mut found: Vec<_> = broker
            .queues("/")
            .iter()
            .map(|queue| format!("queue {queue}"))
            .collect();
        let exchanges = broker.exchanges("/");
        let own = exchanges
            .iter()
            .filter(|name| !name.is_empty() && !name.starts_with("amq."));
        found.extend(own.map(|name| format!("exchange {name}")));
        found.extend(broker.bindings("/").iter().map(|binding| {
            let (source, destination) = (&binding.source, &binding.destination);
            describe_binding(source, destination, binding.is_to_exchange, &binding.routing_key)
        }));
        for (queue, count) in &consumers {
            let counted = broker.consumer_count("/", queue).unwrap_or(0);
            ensure(
                counted == *count,
                "the broker has the consumers of the record",
                || format!("{queue} has {counted} instead of {count}"),
            )?;
        }
        let channels: usize = broker.connections().iter().map(|info| info.channels).sum();
        ensure(
            channels == topology.channels().count(),
            "the broker has the channels of the record",
            || channels.to_string(),
        )?;
        let missing = without(&recorded, &found);
        ensure(missing.is_empty(), "the broker has what is recorded", || {
            format!("{missing:?} is missing")
        })?;
        let extra = without(&found, &recorded);
        self.program.tally.recorded += recorded.len() as u64;
        ensure(
            extra.is_empty() || has_ghosts,
            "what the broker has is recorded",
            || format!("{extra:?} is not"),
        )
    }

    /// Nobody is connected any more.
    fn check_rest(&self) -> Checked {
        let broker = &self.sim.server;
        let connections = broker.connections();
        ensure(connections.is_empty(), "the broker forgets connections", || {
            format!("{connections:?}")
        })?;
        let pending = self.program.ledger.pending();
        ensure(pending.is_empty(), "nothing is pending at the end", || {
            format!("{pending:?}")
        })?;
        for queue in lasting() {
            let messages = broker.messages("/", queue).unwrap_or_default();
            self.program.mail.check_queue(queue, &messages)?;
        }
        let left: usize = broker
            .queues("/")
            .iter()
            .filter_map(|queue| broker.queue_len("/", queue))
            .sum();
        let memory = broker.memory();
        ensure(left > 0 || memory == 0, "the broker counts its memory", || {
            format!("{memory} octets in no message")
        })
    }
}

fn describe_binding(source: &str, destination: &str, is_to_exchange: bool, key: &str) -> String {
    let kind = if is_to_exchange { "exchange" } else { "queue" };
    format!("binding of {kind} {destination} to {source} by {key}")
}

fn without(these: &[String], those: &[String]) -> Vec<String> {
    these.iter().filter(|one| !those.contains(one)).cloned().collect()
}

/// Bodies would fill pages.
fn shorten(event: &impl Debug) -> String {
    let text = format!("{event:?}");
    match text.char_indices().nth(260) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
