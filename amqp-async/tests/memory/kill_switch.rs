//! A thousand messages are in flight when the connection is shut down and the broker fails in some way at some moment: each is accounted
//! for once, by an outcome that somebody saw or by the report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_async::proto::ConnectionState;
use amqp_async::{
    Channel, CloseReport, Connection, Consumer, Delivery, Handling, ProcessOptions, PublishError,
};
use amqp_testbroker::Random;

use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(20);

/// Messages for each of the three consumers, and publishes; a thousand in all.
const HANDLED: usize = 300;
const TAKEN: usize = 200;
const UNTAKEN: usize = 100;
const PUBLISHED: usize = 400;

/// How many handlers run at a time.
const LIMIT: usize = 40;

/// What somebody saw become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Acked,
    Dropped,
    Rejected,
    Confirmed,
    Lost,
}

#[derive(Debug, Clone, Default)]
struct Tally(Arc<Mutex<BTreeMap<Outcome, usize>>>);

impl Tally {
    fn note(&self, outcome: Outcome) {
        *self.0.lock().unwrap().entry(outcome).or_default() += 1;
    }

    fn count(&self, outcomes: &[Outcome]) -> usize {
        let all = self.0.lock().unwrap();
        outcomes.iter().filter_map(|outcome| all.get(outcome)).sum()
    }

    fn note_publish(&self, result: &Result<(), PublishError>) {
        match result {
            Ok(()) => self.note(Outcome::Confirmed),
            Err(PublishError::Lost(_)) => self.note(Outcome::Lost),
            // It never was in flight.
            Err(PublishError::NotSent(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// How the broker fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Mute,
    Deaf,
    HangUp,
    DropDriver,
}

const FAULTS: [Fault; 5] = [
    Fault::None,
    Fault::Mute,
    Fault::Deaf,
    Fault::HangUp,
    Fault::DropDriver,
];

/// One run: who takes part, and what they saw.
struct Run<'w> {
    world: &'w World,
    connection: Connection,
    channel: Channel,
    random: Random,
    tally: Tally,
}

impl<'w> Run<'w> {
    async fn new(world: &'w World, seed: u64) -> Self {
        let (connection, channel) = world.channel().await;
        for (queue, count) in [
            ("handled", HANDLED),
            ("taken", TAKEN),
            ("untaken", UNTAKEN),
            ("out", 0),
        ] {
            channel.declare_queue(queue).await.unwrap();
            for _ in 0..count {
                channel
                    .default_exchange()
                    .publish_unconfirmed("x", queue)
                    .await
                    .unwrap();
            }
        }
        assert_eq!(
            channel.wait_for_confirms().await.confirmed,
            HANDLED + TAKEN + UNTAKEN
        );
        Self {
            world,
            connection,
            channel,
            random: Random::new(seed),
            tally: Tally::default(),
        }
    }

    /// Up to so many seconds, or as good as for ever.
    fn time(&mut self, most: u64) -> Duration {
        match self.random.up_to(9) {
            0 => 100 * SECOND,
            _ => Duration::from_millis(self.random.up_to(most * 1000)),
        }
    }

    fn publish_all(&mut self, confirms: Vec<amqp_async::Confirm>) {
        for confirm in confirms {
            let tally = self.tally.clone();
            self.world
                .spawn(async move { tally.note_publish(&confirm.await) });
        }
    }

    /// Handlers that publish a result. They are acknowledged if they succeed, and rejected otherwise.
    async fn handle(&mut self) -> Handling {
        let (tally, sleep) = (self.tally.clone(), self.world.sleeper());
        let (connection, out) = (self.connection.clone(), self.channel.default_exchange());
        let times: Vec<_> = (0..HANDLED).map(|_| self.time(4)).collect();
        let times = Mutex::new(times);
        let consumer = self.channel.queue("handled").consume().await.unwrap();
        consumer.handle(LIMIT, ProcessOptions::default(), move |_| {
            let time = times.lock().unwrap().pop().expect("there is one for each");
            let (tally, pause, out) = (tally.clone(), sleep(time), out.clone());
            let connection = connection.clone();
            async move {
                pause.await;
                let result = out.publish("result", "out").await;
                tally.note_publish(&result);
                // It is settled before anybody else has a turn.
                if connection.state() == ConnectionState::Open {
                    let is_ok = result.is_ok();
                    tally.note(if is_ok { Outcome::Acked } else { Outcome::Rejected });
                }
                Ok(result?)
            }
        })
    }

    /// A loop that takes all that comes, and has tasks settle it in some way.
    async fn take(&mut self) {
        let mut consumer = self.channel.queue("taken").consume().await.unwrap();
        let taken: Vec<_> = (0..TAKEN)
            .map(|_| (self.time(20), self.random.up_to(3)))
            .collect();
        for (time, way) in taken {
            let delivery = consumer.next().await.unwrap().unwrap();
            let (tally, pause) = (self.tally.clone(), (self.world.sleeper())(time));
            self.world.spawn(async move {
                pause.await;
                settle(delivery, way, &tally).await;
            });
        }
        self.world.spawn(end(consumer));
    }

    async fn fail(&mut self, fault: Fault) {
        let key = self.world.key();
        if self.random.up_to(2) > 0 {
            let time = Duration::from_millis(self.random.up_to(18_000));
            self.world.sleep(time).await;
        }
        let octets = usize::try_from(self.random.up_to(2000)).unwrap();
        match fault {
            Fault::None => {}
            Fault::Mute => self.world.set_mute(true),
            Fault::Deaf => self.world.set_deaf(true),
            Fault::HangUp => self
                .world
                .broker(|broker, now| broker.hang_up_after(key, now, octets)),
            Fault::DropDriver if self.world.driver_end(0).is_none() => self.world.drop_driver(0),
            Fault::DropDriver => {}
        }
    }

    fn check(&self, report: &CloseReport, context: &str) {
        let settled = self
            .tally
            .count(&[Outcome::Acked, Outcome::Dropped, Outcome::Rejected]);
        let deliveries = settled + report.given_back + report.unsettled;
        assert_eq!(deliveries, HANDLED + TAKEN + UNTAKEN, "{context}");
        let lost = self.tally.count(&[Outcome::Lost]);
        assert_eq!(lost, report.unconfirmed, "{context}");
        assert!(
            report.handlers <= LIMIT && report.handlers <= report.unsettled,
            "{context}"
        );
        assert_eq!(report.untaken, 0, "{context}");
    }
}

/// It ends, some time. What it still gives away when the connection has ended cannot be settled any more.
async fn end(mut consumer: Consumer) {
    while let Some(Ok(delivery)) = consumer.next().await {
        delivery.ack().await.unwrap_err();
    }
}

async fn settle(delivery: Delivery, way: u64, tally: &Tally) {
    let settled = match way {
        0 => delivery.ack().await.map(|()| Outcome::Acked),
        1 => delivery.reject(false).await.map(|()| Outcome::Rejected),
        2 => delivery.nack(true).await.map(|()| Outcome::Dropped),
        _ => {
            let is_open = delivery.channel().connection().state() == ConnectionState::Open;
            drop(delivery);
            return if is_open {
                tally.note(Outcome::Dropped)
            };
        }
    };
    settled.into_iter().for_each(|outcome| tally.note(outcome));
}

async fn run(world: &World, seed: u64, fault: Fault) -> CloseReport {
    let mut run = Run::new(world, seed).await;
    let mut idle = run.channel.queue("untaken").consume().await.unwrap();
    let handling = run.handle().await;
    run.take().await;
    let delay = run.time(10).min(30 * SECOND);
    world.broker(|broker, _| broker.delay_confirms(delay));
    let mut confirms = Vec::new();
    for _ in 0..PUBLISHED {
        let publish = run.channel.default_exchange();
        confirms.push(publish.publish_deferred("x", "out").await.unwrap());
    }
    run.publish_all(confirms);
    // The others stay where they are.
    idle.next().await.unwrap().unwrap().ack().await.unwrap();
    run.tally.note(Outcome::Acked);
    let pause = (world.sleeper())(Duration::from_millis(run.random.up_to(20_000)));
    world.spawn(async move {
        pause.await;
        end(idle).await;
    });
    world.idle().await;
    assert_eq!(
        run.connection.counters().delivered,
        (HANDLED + TAKEN + UNTAKEN) as u64
    );

    let connection = run.connection.clone();
    let begin = world.elapsed();
    // It is under way whatever happens.
    assert!(world.poll_once(connection.shutdown(TIMEOUT)).await.is_none());
    let report = world.spawn_with_result(async move { connection.shutdown(TIMEOUT).await });
    run.fail(fault).await;
    run.connection.closed().await;
    assert!(world.elapsed() <= begin + TIMEOUT);
    world.idle().await;
    let report = report.lock().unwrap().take().expect("it is over");
    // What has come can be handled even if the connection was lost before anybody was told to stop.
    drop(handling);
    world.sleep(101 * SECOND).await;
    // All have seen what became of theirs.
    world.idle().await;
    let context = format!("seed {seed}, {fault:?}: {report:?}, {:?}", run.tally);
    run.check(&report, &context);
    let published = usize::try_from(run.connection.counters().published).unwrap() - HANDLED - TAKEN - UNTAKEN;
    let known = run.tally.count(&[Outcome::Confirmed, Outcome::Lost]);
    assert_eq!(known, published, "{context}");
    if fault == Fault::Deaf {
        world.set_deaf(false);
    }
    if fault == Fault::DropDriver {
        let key = world.key();
        world.broker(|broker, now| broker.hang_up_after(key, now, 0));
    }
    world.idle().await;
    let left = ["handled", "taken", "untaken"].map(|queue| world.queue_len(queue));
    let gone = run.tally.count(&[Outcome::Acked, Outcome::Rejected]);
    let left: usize = left.iter().sum();
    // What the broker did not read of that comes again.
    let is_exact = fault == Fault::None || fault == Fault::Mute;
    assert!(
        left >= 600 - gone && (!is_exact || left == 600 - gone),
        "{context}, {left} left"
    );
    report
}

#[test]
fn of_a_thousand_messages_in_flight_each_is_accounted_for_once() {
    let mut reports = Vec::new();
    for seed in 1..=6 {
        for fault in FAULTS {
            let mut world = World::new();
            world.set_seed(seed);
            world.set_window(if seed % 2 == 0 { 4096 } else { 64 * 1024 });
            reports.push(world.run(run(&world, seed, fault)));
            world.wind_up();
        }
    }
    // It was about something.
    let counts: [fn(&CloseReport) -> usize; 5] = [
        |report| report.consumers,
        |report| report.handlers,
        |report| report.unsettled,
        |report| report.given_back,
        |report| report.unconfirmed,
    ];
    for count in counts {
        assert!(reports.iter().any(|report| count(report) > 0), "{reports:?}");
    }
}
