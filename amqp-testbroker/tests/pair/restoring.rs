//! Plans that are carried out on a broker that does not do its part.

use std::sync::{Arc, Mutex};

use amqp_proto::topology::{ChannelKey, Culprits, Outcome, Plan, Restorer, StepError, Topology};
use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Config, Event, RequestError, SendError};
use amqp_testbroker::{Broker, BrokerConfig, Ending, LinkConfig, MethodFault, Side, Simulation, Step};

const ONE: ChannelKey = ChannelKey::new(1);
const TWO: ChannelKey = ChannelKey::new(2);

/// More than any life takes.
const STEPS: usize = 10_000;

/// A program whose connection is made again and again.
struct World {
    sim: Simulation<Broker>,
    topology: Topology,
    culprits: Culprits,
    incarnation: u32,
    /// What the broker was asked, on channels.
    asked: Arc<Mutex<Vec<String>>>,
}

fn short(name: &str) -> ShortStr<'_> {
    name.try_into().unwrap()
}

fn queue(topology: &mut Topology, name: &str) {
    let queue = short(name);
    let declare = QueueDeclare {
        queue,
        auto_delete: true,
        ..Default::default()
    };
    topology.queue_declared(ONE, &declare, queue);
}

fn consumer(topology: &mut Topology, channel: ChannelKey, queue: &str, tag: &str) {
    let consume = BasicConsume {
        queue: short(queue),
        consumer_tag: short(tag),
        ..Default::default()
    };
    topology.consumer_started(channel, &consume, short(tag));
}

impl World {
    fn new(
        config: BrokerConfig,
        topology: Topology,
        mut fault: impl FnMut(&Method<'_>) -> Option<MethodFault> + Send + 'static,
    ) -> Self {
        let mut broker = Broker::new(config);
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        broker.fail_methods(move |method| {
            log.lock().unwrap().push(method.to_string());
            fault(method)
        });
        Self {
            sim: Simulation::new(broker),
            topology,
            culprits: Culprits::default(),
            incarnation: 0,
            asked,
        }
    }

    /// Connects, and has everything restored; says what became of each step, or how the connection ended.
    fn live(&mut self) -> Result<Plan, CloseReason> {
        self.live_on(LinkConfig::perfect())
    }

    fn live_on(&mut self, link: LinkConfig) -> Result<Plan, CloseReason> {
        let config = Arc::new(Config::default());
        self.sim.clients.clear();
        self.sim.connect(config, link, self.incarnation);
        let mut restorer = None;
        for _ in 0..STEPS {
            let client = &mut self.sim.clients[0];
            while let Some(event) = client.events.pop_front() {
                match (event, &mut restorer) {
                    (Event::Connected, restorer) => {
                        let plan = Plan::new(&self.topology);
                        *restorer = Some(Restorer::new(plan).avoiding(self.culprits.clone()));
                    }
                    (Event::Closed(reason), _) => {
                        self.incarnation = client.connection.next_incarnation();
                        if let Some(restorer) = restorer {
                            self.culprits = restorer.into_culprits(&reason);
                        }
                        return Err(reason);
                    }
                    (event, Some(restorer)) => drop(restorer.on_event(&event, &mut self.topology)),
                    (event, None) => panic!("{event:?}"),
                }
            }
            if let Some(restorer) = &mut restorer {
                restorer.send(&mut client.connection, &mut |_| ()).unwrap();
                if restorer.is_finished() {
                    return Ok(restorer.plan().clone());
                }
            }
            assert_ne!(self.sim.step(), Step::Idle, "{restorer:?}");
        }
        panic!("it comes to no end: {restorer:?}");
    }

    /// So many are open, on both sides.
    fn check_channels(&self, count: usize) {
        let connections = self.sim.server.connections();
        assert_eq!(connections.last().unwrap().channels, count, "{connections:?}");
    }

    /// The broker learns that they are gone.
    fn forget_clients(&mut self) {
        let now = self.sim.now();
        for info in self.sim.server.connections() {
            self.sim.server.handle_disconnect(info.key, now);
        }
    }

    fn count(&self, method: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|line| line.starts_with(method)).count()
    }
}

/// What failed, and why.
fn failures(plan: &Plan) -> Vec<(String, StepError)> {
    let failed = plan.outcomes().filter_map(|(step, outcome)| match outcome {
        Outcome::Succeeded => None,
        Outcome::Failed(error) => Some((step.to_string(), error.clone())),
        other => panic!("{step}: {other:?}"),
    });
    failed.collect()
}

fn names(method: &Method<'_>, name: &str) -> bool {
    match method {
        Method::QueueDeclare(declare) => declare.queue == *name,
        Method::BasicConsume(consume) => consume.consumer_tag == *name,
        _ => false,
    }
}

fn hangs(method: &Method<'_>, names_of: &[&str]) -> Option<MethodFault> {
    let is_meant = names_of.iter().any(|name| names(method, name));
    is_meant.then_some(MethodFault::StallsChannel)
}

/// Four queues, and three consumers of the first one on two channels.
fn usual() -> Topology {
    let mut topology = Topology::default();
    for name in ["q1", "q2", "q3", "q4"] {
        queue(&mut topology, name);
    }
    for (channel, tag) in [(ONE, "t1"), (ONE, "t2"), (ONE, "t3"), (TWO, "t4")] {
        consumer(&mut topology, channel, "q1", tag);
    }
    topology
}

fn internal_error() -> MethodFault {
    MethodFault::ClosesConnection(ReplyCode::INTERNAL_ERROR, "INTERNAL_ERROR".to_owned())
}

#[test]
fn what_has_ended_two_connections_is_not_tried_on_the_fourth() {
    for name in ["q3", "t2"] {
        let mut world = World::new(BrokerConfig::default(), usual(), move |method| {
            names(method, name).then(internal_error)
        });
        for _ in 0..3 {
            let reason = world.live().unwrap_err();
            assert_eq!(reason.peer().unwrap().code, ReplyCode::INTERNAL_ERROR);
        }
        let plan = world.live().unwrap();
        let [(what, StepError::EndedConnection(reason))] = &failures(&plan)[..] else {
            panic!("{:?}", failures(&plan));
        };
        assert!(what.contains(name), "{what}");
        assert_eq!(&*reason.peer().unwrap().text, "INTERNAL_ERROR");
    }
}

#[test]
fn nobody_is_blamed_for_what_an_operator_does() {
    let mut topology = Topology::default();
    queue(&mut topology, "q");
    let mut left = 5;
    let mut world = World::new(BrokerConfig::default(), topology, move |method| {
        let is_left = left > 0 && names(method, "q");
        left -= u32::from(is_left);
        is_left.then(|| MethodFault::ClosesConnection(ReplyCode::CONNECTION_FORCED, "shutdown".to_owned()))
    });
    for _ in 0..5 {
        world.live().unwrap_err();
    }
    assert!(world.live().unwrap().is_recovered());
    assert_eq!(world.count("queue.declare"), 6);
}

#[test]
fn what_is_not_answered_in_time_takes_nothing_with_it() {
    for stuck in [&["q1"][..], &["q2"], &["q4"], &["q2", "q3"]] {
        let mut topology = Topology::default();
        for name in ["q1", "q2", "q3", "q4"] {
            queue(&mut topology, name);
        }
        topology.channel_opened(ONE);
        let mut world = World::new(BrokerConfig::default(), topology, |method| hangs(method, stuck));
        let plan = world.live().unwrap();
        check_timeouts(&plan, stuck);
        assert_eq!(world.sim.server.queues("/").len(), 4 - stuck.len());
        world.check_channels(1);
    }
}

#[test]
fn a_consumer_that_is_not_answered_in_time_leaves_the_others_and_its_channel_there() {
    for stuck in [&["t1"][..], &["t2"], &["t3"], &["t1", "t4"]] {
        let mut world = World::new(BrokerConfig::default(), usual(), |method| hangs(method, stuck));
        let plan = world.live().unwrap();
        check_timeouts(&plan, stuck);
        assert_eq!(world.sim.server.consumer_count("/", "q1"), Some(4 - stuck.len()));
        world.check_channels(2);
    }
}

#[test]
fn what_is_late_once_is_there_and_patience_has_an_end() {
    // Each of those is late so often, and asked for as often as that.
    for (stuck, late, asked) in [
        (&["q1"][..], 1, 2),
        (&["t2"], 1, 2),
        (&["t1", "t4"], 1, 4),
        (&["q1"], usize::MAX, 2),
        (&["t2"], usize::MAX, 2),
        // When one was late twice, what is late behind it is given up at once.
        (&["t1", "t2"], usize::MAX, 3),
    ] {
        let mut left: Vec<usize> = stuck.iter().map(|_| late).collect();
        let times = Arc::<Mutex<usize>>::default();
        let count = Arc::clone(&times);
        let mut world = World::new(BrokerConfig::default(), usual(), move |method| {
            let place = stuck.iter().position(|name| names(method, name))?;
            *count.lock().unwrap() += 1;
            left[place] = left[place].checked_sub(1)?;
            Some(MethodFault::StallsChannel)
        });
        let plan = world.live().unwrap();
        assert_eq!(plan.is_recovered(), late == 1, "{stuck:?}: {plan:?}");
        assert_eq!(*times.lock().unwrap(), asked, "{stuck:?} {late}");
        world.check_channels(2);
    }
}

/// Those failed, for want of an answer, and nothing else did.
fn check_timeouts(plan: &Plan, stuck: &[&str]) {
    let failures = failures(plan);
    assert_eq!(failures.len(), stuck.len(), "{failures:?}");
    for ((what, error), name) in failures.iter().zip(stuck) {
        assert!(what.contains(name), "{failures:?}");
        assert_eq!(*error, StepError::Request(RequestError::Timeout));
    }
}

#[test]
fn every_channel_number_can_be_the_programs() {
    for is_careful in [false, true] {
        let mut config = BrokerConfig::default();
        config.channel_max = 2;
        let mut is_to_end = is_careful;
        let mut world = World::new(config, usual(), move |method| {
            names(method, "t2").then(|| match std::mem::take(&mut is_to_end) {
                true => internal_error(),
                // Step by step the queue is gone then, and to be declared again when both numbers were taken.
                false => MethodFault::ClosesChannel(ReplyCode::NOT_FOUND, "gone".to_owned()),
            })
        });
        if is_careful {
            world.live().unwrap_err();
        }
        let plan = world.live().unwrap();
        let [(what, StepError::Request(RequestError::ChannelClosed(_)))] = &failures(&plan)[..] else {
            panic!("{:?}", failures(&plan));
        };
        assert!(what.contains("t2"), "{what}");
        world.check_channels(2);
        // Once on the first connection, and twice on the second.
        assert!(!is_careful || world.count("queue.declare queue=\"q1\"") == 3);
    }
}

#[test]
fn a_broker_that_allows_less_channels_gets_those_that_it_takes() {
    let mut config = BrokerConfig::default();
    config.channel_max = 1;
    let mut world = World::new(config, usual(), |_| None);
    let plan = world.live().unwrap();
    let (steps, outcomes): (Vec<_>, Vec<_>) = plan.outcomes().unzip();
    let place = steps.iter().position(|step| step.channel() == Some(TWO)).unwrap();
    let error = SendError::NoFreeChannel { channel_max: 1 };
    assert_eq!(*outcomes[place], Outcome::Failed(error.into()));
    assert!(
        outcomes[..place]
            .iter()
            .all(|outcome| **outcome == Outcome::Succeeded)
    );
    world.check_channels(1);
}

/// A queue that the broker named, with a binding and a consumer, beside the others.
fn with_server_named() -> Topology {
    let mut topology = usual();
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    topology.queue_declared(ONE, &declare, short("amq.gen-old"));
    let bind = QueueBind {
        queue: short("amq.gen-old"),
        exchange: short("amq.fanout"),
        ..Default::default()
    };
    topology.queue_bound(ONE, &bind);
    consumer(&mut topology, TWO, "amq.gen-old", "t5");
    topology
}

/// What there is on the connection that lives.
fn what_is_there(world: &World) -> (usize, usize, Vec<Option<usize>>) {
    let broker = &world.sim.server;
    let queues = broker.queues("/");
    let consumers = |queue: &String| broker.consumer_count("/", queue);
    let bindings = broker.bindings("/").into_iter();
    let bindings = bindings.filter(|binding| binding.source == "amq.fanout").count();
    (queues.len(), bindings, queues.iter().map(consumers).collect())
}

#[test]
fn a_reset_behind_every_octet_of_a_restored_connection_is_followed_by_one_that_is_whole() {
    for is_careful in [false, true] {
        let new = || {
            let mut world = World::new(BrokerConfig::default(), with_server_named(), |_| None);
            if is_careful {
                world.culprits = careful();
            }
            world
        };
        let mut whole = new();
        assert!(whole.live().unwrap().is_recovered());
        let expected = what_is_there(&whole);
        assert_eq!((expected.0, expected.1), (5, 1));
        for side in [Side::Client, Side::Server] {
            let count = whole.sim.clients[0].link.written(side);
            assert!(count > 500, "{count}");
            let mut cuts = 0;
            for after in 0..count {
                let mut world = new();
                let link = LinkConfig::perfect().cut(side, after, Ending::Reset);
                // What is cut off may be what nobody waits for.
                cuts += usize::from(world.live_on(link).is_err());
                world.forget_clients();
                let plan = world.live().unwrap();
                assert!(plan.is_recovered(), "{side:?} {after}");
                assert_eq!(what_is_there(&world), expected, "{side:?} {after}");
                world.check_channels(2);
            }
            assert!(cuts > 400, "{cuts}");
        }
    }
}

/// As after a connection that was ended for an unknown reason.
fn careful() -> Culprits {
    let mut world = World::new(BrokerConfig::default(), usual(), |method| {
        names(method, "q1").then(internal_error)
    });
    world.live().unwrap_err();
    world.culprits
}
