//! Connections that are lost and made again with everything that was on them.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use amqp_mio::proto::topology::StepKind;
use amqp_mio::proto::wire::{
    BasicConsume, BasicPublish, ConfirmSelect, Method, Properties, QueueDeclare, QueueDelete, ReplyCode,
    TxSelect,
};
use amqp_mio::proto::{
    Backoff, ConfirmLimits, ConfirmOutcome, ConsumerId, Credentials, GiveUpReason, ReconnectPolicy, SendError,
};
use amqp_mio::{ChannelOptions, ChannelRef, ChannelView, ConnectionId, Connector, Ctx, EventLoop, Recovery};
use amqp_testbroker::{MethodFault, TestBroker};

use crate::world::{CLOSED, Log, close, connector, from, note, queue, short, to};

pub(crate) fn soon() -> Recovery {
    after(Backoff::new(1).initial(Duration::from_millis(1)).jitter(0.0))
}

pub(crate) fn after(backoff: Backoff) -> Recovery {
    Recovery::new(ReconnectPolicy::new(backoff))
}

/// A loop with a connection that is open, and notes what happens to it.
pub(crate) struct Life {
    pub(crate) event_loop: EventLoop<Log>,
    pub(crate) connection: ConnectionId,
}

pub(crate) fn tell(ctx: &mut Ctx<'_, Log>, what: impl Into<String>) {
    note(ctx, what);
    ctx.stop();
}

impl Life {
    pub(crate) fn new(connector: &Connector, recovery: Recovery) -> Self {
        let mut event_loop = EventLoop::new(Log::new()).unwrap();
        let connection = event_loop.connect_recovering(connector, recovery).unwrap();
        let mut life = Self {
            event_loop,
            connection,
        };
        life.event_loop
            .context()
            .call_later(Duration::from_secs(60), |_| panic!("it takes too long"));
        let mut ctx = life.event_loop.context();
        let mut view = ctx.connection(connection).unwrap();
        view.on_open(|ctx, _| tell(ctx, "open"));
        view.on_open_error(|ctx, _, _| tell(ctx, "not reached"));
        view.on_lost(|ctx, _, _| tell(ctx, "lost"));
        view.on_queue_renamed(|ctx, _, old, new| {
            assert_ne!(old, new);
            tell(ctx, "renamed");
        });
        view.on_recovered(|ctx, _, report| {
            let words = match report.is_complete() {
                true => "recovered".to_owned(),
                false => format!(
                    "recovered without {:?}",
                    report.unrestored.iter().map(|one| &one.what).collect::<Vec<_>>()
                ),
            };
            tell(ctx, words);
        });
        view.on_give_up(|ctx, _, reason| {
            let words = match reason {
                GiveUpReason::Permanent(_) => "permanent",
                GiveUpReason::Exhausted(_) => "exhausted",
                GiveUpReason::TimedOut(_) => "too late",
                _ => "another reason",
            };
            tell(ctx, words);
        });
        view.on_close(|ctx, _, reason| tell(ctx, format!("closed: {reason}")));
        life.until("open");
        life
    }

    /// Runs until that has been noted, and forgets it all. Gives what was noted before it.
    pub(crate) fn until(&mut self, what: &str) -> Log {
        loop {
            let log = self.event_loop.state_mut();
            if let Some(at) = log.iter().position(|noted| noted == what) {
                let mut noted = std::mem::take(log);
                *log = noted.split_off(at + 1);
                noted.pop();
                return noted;
            }
            self.event_loop.run().unwrap();
        }
    }

    pub(crate) fn open(&mut self, options: &ChannelOptions) -> ChannelRef {
        let mut ctx = self.event_loop.context();
        let mut view = ctx.connection(self.connection).unwrap();
        let channel = view
            .open_channel_with(options, |ctx, _| tell(ctx, "channel"))
            .unwrap();
        self.until("channel");
        self.on(channel, |view| {
            view.on_close(|ctx, _, _| tell(ctx, "channel closed"));
            view.on_cancel(|ctx, _, _| tell(ctx, "cancelled"));
        });
        channel
    }

    pub(crate) fn on<T>(
        &mut self,
        channel: ChannelRef,
        act: impl FnOnce(&mut ChannelView<'_, Log>) -> T,
    ) -> T {
        act(&mut self.event_loop.context().channel(channel).unwrap())
    }

    pub(crate) fn declare(&mut self, channel: ChannelRef, declare: &QueueDeclare<'_>) {
        self.on(channel, |view| {
            view.request(declare, |ctx, _, answer| {
                tell(ctx, if answer.is_ok() { "declared" } else { "refused" })
            })
            .unwrap();
        });
        self.until("declared");
    }

    /// Acknowledges each delivery and notes its body.
    pub(crate) fn consume(&mut self, channel: ChannelRef, method: &BasicConsume<'_>) -> ConsumerId {
        let consumer = self.on(channel, |view| {
            let on_message = |ctx: &mut Ctx<'_, Log>, channel, delivery: amqp_mio::proto::Delivery| {
                let body = String::from_utf8(delivery.message.body().to_vec()).unwrap();
                let settled = ctx.channel(channel).unwrap().ack(delivery.tag);
                tell(
                    ctx,
                    if settled.is_ok() {
                        body
                    } else {
                        format!("{body}: {settled:?}")
                    },
                );
            };
            view.consume_then(method, on_message, |ctx, _, started| {
                tell(ctx, if started.is_ok() { "started" } else { "not started" });
            })
            .unwrap()
        });
        self.until("started");
        consumer
    }

    pub(crate) fn publish(&mut self, channel: ChannelRef, queue: &str, body: &'static str) {
        self.on(channel, |view| {
            view.publish(&to(queue), &Properties::default(), body.as_bytes())
                .unwrap();
        });
    }

    pub(crate) fn end(mut self) {
        let connection = self.connection;
        close(&mut self.event_loop.context(), connection);
        self.until(CLOSED);
        let gone = self.event_loop.context().connection(connection).map(drop);
        assert_eq!(gone, Err(SendError::Closed));
    }
}

pub(crate) fn lose(broker: &TestBroker) {
    let now = broker.now();
    broker.with(|broker| {
        for connection in broker.connections() {
            broker.close_connection(connection.key, now, ReplyCode::CONNECTION_FORCED, "maintenance");
        }
    });
}

pub(crate) fn durable(name: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(name),
        durable: true,
        ..Default::default()
    }
}

#[test]
fn channels_and_consumers_go_on_and_what_was_under_way_ends() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let limits = ConfirmLimits::default().count(1);
    let channel = life.open(&ChannelOptions::default().limits(limits));
    life.on(channel, |view| {
        view.request(&ConfirmSelect::default(), |ctx, _, _| tell(ctx, "confirms"))
            .unwrap()
    });
    life.until("confirms");
    life.declare(channel, &durable("q"));
    let consumer = life.consume(channel, &from("q"));
    // Neither of them is answered any more.
    let (now, key) = (broker.now(), broker.connections()[0].key);
    broker.with(|broker| broker.set_deaf(key, now, true));
    life.on(channel, |view| {
        let outcome = |ctx: &mut Ctx<'_, Log>, _, outcome| {
            assert!(matches!(outcome, ConfirmOutcome::Lost(_)), "{outcome:?}");
            tell(ctx, "unconfirmed");
        };
        view.publish_confirmed(&to("nowhere"), &Properties::default(), &b"x"[..], outcome)
            .unwrap();
        view.request(&durable("late"), |ctx, _, answer| {
            assert!(answer.is_err());
            tell(ctx, "unanswered");
        })
        .unwrap();
    });
    lose(&broker);
    let mut noted = life.until("lost");
    noted.sort_unstable();
    assert_eq!(noted, ["unanswered", "unconfirmed"]);

    // While it is away, all is refused, and can be asked again afterwards.
    life.on(channel, |view| {
        let declare = view.request(&durable("late"), |_, _, _| ());
        assert_eq!(declare, Err(SendError::NotConnected));
        let publish = view.publish(&to("q"), &Properties::default(), &b"x"[..]);
        assert_eq!(publish, Err(SendError::NotConnected));
        let cancel = view.cancel(consumer, |_, _, _| ());
        assert_eq!(cancel, Err(SendError::NotConnected));
    });
    let mut ctx = life.event_loop.context();
    let mut view = ctx.connection(life.connection).unwrap();
    assert!(view.is_recovering() && !view.is_open());
    assert_eq!(view.open_channel(|_, _| ()), Err(SendError::NotConnected));

    assert_eq!(life.until("recovered"), [""; 0]);
    life.publish(channel, "q", "one");
    let limited = life.on(channel, |view| {
        view.publish(&to("q"), &Properties::default(), &b"two"[..])
    });
    assert_eq!(
        limited,
        Err(SendError::InFlight),
        "its options count again, and its confirms"
    );
    life.until("one");
    // The consumer can be cancelled by its name, and is not there again then.
    let cancelled = |ctx: &mut Ctx<'_, Log>, _, answer: Result<(), _>| tell(ctx, format!("{answer:?}"));
    life.on(channel, |view| view.cancel(consumer, cancelled).unwrap());
    life.until("Ok(())");
    lose(&broker);
    assert_eq!(life.until("recovered"), ["lost"]);
    assert_eq!(broker.with(|broker| broker.consumer_count("/", "q")), Some(0));
    life.end();
}

#[test]
fn a_consumer_of_a_later_life_goes_on_too() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let channel = life.open(&ChannelOptions::default());
    life.declare(channel, &queue(""));
    lose(&broker);
    assert_eq!(life.until("recovered"), ["lost", "renamed"]);
    let name = broker.with(|broker| broker.queues("/")).remove(0);
    let consumer = life.consume(channel, &from(&name));
    for _ in 0..3 {
        lose(&broker);
        assert_eq!(life.until("recovered"), ["lost", "renamed"]);
        let name = broker.with(|broker| broker.queues("/")).remove(0);
        life.publish(channel, &name, "hello");
        life.until("hello");
    }
    life.on(channel, |view| {
        view.cancel(consumer, |ctx, _, _| tell(ctx, "cancelled")).unwrap()
    });
    life.until("cancelled");
    life.end();
}

#[test]
fn what_is_delivered_before_everything_is_there_can_be_settled() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let channels = [(); 8].map(|()| life.open(&ChannelOptions::default()));
    let names: Vec<String> = (0..8).map(|number| format!("q{number}")).collect();
    for (channel, name) in channels.into_iter().zip(&names) {
        life.declare(channel, &durable(name));
        life.consume(channel, &from(name));
    }
    lose(&broker);
    life.until("lost");
    let mut other = Life::new(&connector(&broker), soon());
    let channel = other.open(&ChannelOptions::default());
    for name in &names {
        other.publish(channel, name, "early");
    }
    other.end();
    let mut noted = life.until("recovered");
    while noted.len() < 8 {
        noted.append(life.event_loop.state_mut());
        life.event_loop.run_once(Duration::from_millis(100)).unwrap();
    }
    assert_eq!(noted, ["early"; 8]);
    life.end();
    for name in &names {
        assert_eq!(
            broker.with(|broker| broker.queue_len("/", name)),
            Some(0),
            "{name}"
        );
    }
}

#[test]
fn what_nobody_wants_any_more_is_not_there_again() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let kept = life.open(&ChannelOptions::default());
    let in_transactions = life.open(&ChannelOptions::default());
    life.on(in_transactions, |view| {
        view.request(&TxSelect::default(), |ctx, _, _| tell(ctx, "tx"))
            .unwrap()
    });
    life.until("tx");
    let closing = life.open(&ChannelOptions::default());
    let (now, key) = (broker.now(), broker.connections()[0].key);
    broker.with(|broker| broker.set_deaf(key, now, true));
    life.on(closing, |view| {
        view.close(ReplyCode::REPLY_SUCCESS, "enough").unwrap()
    });
    let mut ctx = life.event_loop.context();
    let mut view = ctx.connection(life.connection).unwrap();
    let opening = view
        .open_channel(|_, _| unreachable!("the broker is deaf"))
        .unwrap();
    life.on(opening, |view| {
        view.on_close(|ctx, _, _| tell(ctx, "channel closed")).unwrap()
    });
    lose(&broker);
    assert_eq!(
        life.until("recovered"),
        ["channel closed", "channel closed", "channel closed", "lost"]
    );
    for channel in [in_transactions, closing, opening] {
        let gone = life.event_loop.context().channel(channel).map(drop);
        assert_eq!(gone, Err(SendError::Stale));
    }
    life.declare(kept, &durable("q"));
    assert_eq!(broker.connections()[0].channels, 1);
    // What was closed in order is not there again either.
    life.on(kept, |view| {
        view.close(ReplyCode::REPLY_SUCCESS, "enough").unwrap()
    });
    life.until("channel closed");
    lose(&broker);
    assert_eq!(life.until("recovered"), ["lost"]);
    assert_eq!(broker.connections()[0].channels, 0);
    life.end();
}

#[test]
fn what_cannot_be_had_again_is_told_and_the_rest_is_there() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let channel = life.open(&ChannelOptions::default());
    life.declare(channel, &durable("here"));
    life.declare(channel, &queue("gone"));
    life.consume(channel, &from("here"));
    let other = life.open(&ChannelOptions::default());
    life.consume(other, &from("gone"));
    lose(&broker);
    life.until("lost");
    // Somebody is quicker, and declares it otherwise.
    let mut rival = Life::new(&connector(&broker), soon());
    let rivals = rival.open(&ChannelOptions::default());
    rival.declare(rivals, &durable("gone"));
    let words = r#"recovered without ["queue.declare queue=\"gone\" exclusive", "basic.consume queue=\"gone\" consumer_tag=\"ctag1.0\""]"#;
    let noted = loop {
        life.event_loop.run().unwrap();
        let log = life.event_loop.state_mut();
        if log.iter().any(|noted| noted.starts_with("recovered")) {
            break std::mem::take(log);
        }
    };
    assert_eq!(noted, ["cancelled", words]);
    life.publish(other, "here", "both channels are there");
    life.until("both channels are there");
    // What is not there is not tried again before it is declared again.
    life.on(channel, |view| {
        view.send_nowait(&QueueDelete {
            queue: short("gone"),
            ..Default::default()
        })
        .unwrap()
    });
    rival.end();
    life.end();
}

#[test]
fn a_filter_leaves_out_channels_and_consumers_which_end() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(
        &connector(&broker),
        soon().filter(|step| *step.kind() != StepKind::Channel),
    );
    let channel = life.open(&ChannelOptions::default());
    life.declare(channel, &durable("q"));
    lose(&broker);
    assert_eq!(
        life.until("recovered without [\"channel.open\"]"),
        ["lost", "channel closed"]
    );
    life.end();

    let mut life = Life::new(
        &connector(&broker),
        soon().filter(|step| !matches!(step.kind(), StepKind::Consumer(_))),
    );
    let channel = life.open(&ChannelOptions::default());
    life.consume(channel, &from("q"));
    lose(&broker);
    assert_eq!(life.until("recovered"), ["lost", "cancelled"]);
    life.consume(channel, &from("q"));
    life.end();
}

#[test]
fn a_filter_that_panics_ends_the_connection() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon().filter(|_| panic!("oh no")));
    life.open(&ChannelOptions::default());
    lose(&broker);
    let error = loop {
        if let Err(error) = life.event_loop.run() {
            break error;
        }
    };
    assert_eq!(error.to_string(), "a callback panicked: oh no");
    assert_eq!(life.event_loop.state()[..2], ["lost", "channel closed"]);
    assert!(life.event_loop.context().connection(life.connection).is_err());
}

#[test]
fn it_is_given_up_when_the_attempts_are_used_up() {
    let broker = TestBroker::start().unwrap();
    let backoff = Backoff::new(1)
        .initial(Duration::from_millis(1))
        .jitter(0.0)
        .attempts(2);
    let mut life = Life::new(&connector(&broker), after(backoff));
    let channel = life.open(&ChannelOptions::default());
    broker.with(|broker| broker.refuse_connections(u32::MAX));
    lose(&broker);
    life.until("lost");
    let mut noted = life.until("channel closed");
    assert_eq!(noted.pop().as_deref(), Some("exhausted"));
    assert_eq!(noted, ["not reached", "not reached"]);
    while life.event_loop.state().is_empty() {
        life.event_loop.run().unwrap();
    }
    assert!(
        life.event_loop.state()[0].starts_with("closed: "),
        "{:?}",
        life.event_loop.state()
    );
    assert!(life.event_loop.context().channel(channel).is_err());
}

#[test]
fn whatever_is_under_way_is_given_up_in_time() {
    // Nobody says anything there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let limited = || {
        let mut recovery = soon();
        recovery.reconnect = recovery.reconnect.give_up_after(Duration::from_millis(100));
        recovery
    };
    for is_reached in [false, true] {
        let broker = TestBroker::start().unwrap();
        let hosts =
            [broker.port(), silent.local_addr().unwrap().port()].map(|port| format!("127.0.0.1:{port}"));
        let others = if is_reached { &hosts[..1] } else { &hosts };
        let uri = format!("amqp://guest:guest@{}", others.join(","));
        let mut life = Life::new(&Connector::from_uri(&uri).unwrap(), limited());
        let channel = life.open(&ChannelOptions::default());
        life.declare(channel, &queue("q"));
        let stalls = |_: &Method<'_>| Some(MethodFault::StallsChannel);
        broker.with(|broker| broker.fail_methods(stalls));
        lose(&broker);
        life.until("lost");
        let noted = life.until("too late");
        let expected: &[&str] = if is_reached { &[] } else { &["not reached"] };
        assert_eq!(noted, expected);
        life.until("channel closed");
        life.event_loop.run_once(Duration::ZERO).unwrap();
        let noted = &life.event_loop.state()[0];
        assert!(noted.contains("it has taken too long"), "{noted}");
    }
    // One that is there again is not given up.
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), limited());
    lose(&broker);
    life.until("recovered");
    let mut ctx = life.event_loop.context();
    ctx.call_later(Duration::from_millis(200), |ctx| tell(ctx, "later"));
    assert_eq!(life.until("later"), [""; 0]);
    life.end();
}

#[test]
fn it_can_be_closed_and_shut_down_while_it_is_lost() {
    for is_shut_down in [false, true] {
        let broker = TestBroker::start().unwrap();
        let slow = Backoff::new(1).initial(Duration::from_secs(600)).jitter(0.0);
        let mut life = Life::new(&connector(&broker), after(slow));
        life.open(&ChannelOptions::default());
        lose(&broker);
        life.until("lost");
        let connection = life.connection;
        let mut ctx = life.event_loop.context();
        let mut view = ctx.connection(connection).unwrap();
        match is_shut_down {
            false => view.close(ReplyCode::REPLY_SUCCESS, "enough"),
            true => view.shutdown(Duration::from_secs(1), |ctx, _, _| tell(ctx, "shut down")),
        }
        let noted = life.until("closed: closed on request, and the peer did not confirm that");
        assert_eq!(noted, ["channel closed"]);
        life.event_loop.run_once(Duration::ZERO).unwrap();
        let rest: &[&str] = if is_shut_down { &["shut down"] } else { &[] };
        assert_eq!(life.event_loop.state(), rest, "it is told once");
        assert!(life.event_loop.context().connection(connection).is_err());
    }
}

#[test]
fn before_it_was_open_once_nothing_is_tried_again() {
    let broker = TestBroker::start().unwrap();
    let uri = format!("amqp://guest:wrong@127.0.0.1:{}", broker.port());
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connector = Connector::from_uri(&uri).unwrap();
    let connection = event_loop.connect_recovering(&connector, soon()).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open_error(|ctx, _, _| note(ctx, "not reached"));
    view.on_reconnect(|ctx, _, _| note(ctx, "again"));
    view.on_give_up(|ctx, _, _| note(ctx, "given up"));
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["not reached"]);
}

/// Between the client and the broker. The next connection breaks when so many octets came from the broker, and so many from the client.
struct Proxy {
    port: u16,
    cut: Arc<Mutex<Option<[usize; 2]>>>,
}

impl Proxy {
    fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(None));
        let next = Arc::clone(&cut);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let [down, up] = next.lock().unwrap().take().unwrap_or([usize::MAX; 2]);
                let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) else {
                    break;
                };
                let [other_client, other_server] =
                    [&client, &server].map(|socket| socket.try_clone().unwrap());
                thread::spawn(move || copy(server, client, down));
                thread::spawn(move || copy(other_client, other_server, up));
            }
        });
        Self { port, cut }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, limit: usize) {
    to.set_nodelay(true).unwrap();
    let (mut left, mut buffer) = (limit, [0; 4096]);
    while left > 0 {
        let room = left.min(buffer.len());
        match from.read(&mut buffer[..room]) {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => left -= count,
            _ => break,
        }
    }
    for socket in [from, to] {
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// Says whether a connection that breaks there was recovered before that.
fn recovers_with_cut(broker: &TestBroker, proxy: &Proxy, cut: [usize; 2]) -> bool {
    let uri = format!("amqp://guest:guest@127.0.0.1:{}", proxy.port);
    let mut life = Life::new(&Connector::from_uri(&uri).unwrap(), soon());
    let channel = life.open(&ChannelOptions::default());
    life.declare(channel, &durable("kept"));
    life.consume(channel, &from("kept"));
    life.declare(channel, &queue(""));
    life.consume(channel, &BasicConsume::default());
    let name = Rc::new(RefCell::new(String::new()));
    let renamed = Rc::clone(&name);
    let mut ctx = life.event_loop.context();
    let mut view = ctx.connection(life.connection).unwrap();
    view.on_queue_renamed(move |_, _, _, new| *renamed.borrow_mut() = new.to_string());
    view.on_reconnect(|ctx, _, _| tell(ctx, "again"));
    *proxy.cut.lock().unwrap() = Some(cut);
    lose(broker);
    let noted = life.until("recovered");
    assert_eq!(
        noted.iter().filter(|noted| *noted == "lost").count(),
        1,
        "{noted:?}"
    );
    let attempts = noted.iter().filter(|noted| *noted == "again").count();
    for to_kept in [true, false] {
        loop {
            let queue = if to_kept {
                "kept".to_owned()
            } else {
                name.borrow().clone()
            };
            let publish = life.on(channel, |view| {
                view.publish(&to(&queue), &Properties::default(), &b"new"[..])
            });
            while publish.is_ok()
                && !life
                    .event_loop
                    .state()
                    .iter()
                    .any(|noted| noted == "new" || noted == "lost")
            {
                life.event_loop.run().unwrap();
            }
            if !life.event_loop.state().iter().any(|noted| noted == "lost") {
                life.until("new");
                break;
            }
            // It has broken behind the recovery.
            life.until("recovered");
        }
    }
    let channels: usize = broker.connections().iter().map(|info| info.channels).sum();
    assert_eq!(channels, 1);
    let consumers = ["kept".to_owned(), name.borrow().clone()]
        .map(|queue| broker.with(|broker| broker.consumer_count("/", &queue)));
    assert_eq!(consumers, [Some(1); 2]);
    life.end();
    attempts == 1
}

#[test]
fn wherever_it_breaks_while_it_is_made_again_everything_is_there_at_last() {
    let broker = TestBroker::start().unwrap();
    let proxy = Proxy::start(broker.port());
    let never = usize::MAX;
    let cuts: [&dyn Fn(usize) -> [usize; 2]; 2] = [&|octets| [octets, never], &|octets| [never, octets]];
    for cut in cuts {
        // On some way behind the point where it is enough.
        let (mut octets, mut enough) = (1, 0);
        while enough < 5 {
            enough += usize::from(recovers_with_cut(&broker, &proxy, cut(octets)));
            octets += 7;
        }
        assert!(octets > 300, "{octets}");
    }
}

#[test]
fn each_life_asks_for_credentials() {
    let broker = TestBroker::start().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let connector = connector(&broker).credentials_provider(move || {
        let times = counter.fetch_add(1, Ordering::SeqCst) + 1;
        match times {
            2 => Err("not now".into()),
            _ => Ok(Credentials::plain("guest", "guest").into()),
        }
    });
    let mut life = Life::new(&connector, soon());
    lose(&broker);
    assert_eq!(life.until("recovered"), ["lost", "not reached"]);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    life.end();
}

#[test]
fn a_channel_that_breaks_before_everything_is_there_ends_with_its_reason() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let rash = life.open(&ChannelOptions::default());
    life.declare(rash, &durable("q"));
    life.on(rash, |view| {
        view.on_close(|ctx, _, reason| tell(ctx, reason.to_string()));
        view.consume(&from("q"), |ctx, channel, _| {
            let publish = BasicPublish {
                exchange: short("nowhere"),
                ..Default::default()
            };
            let mut view = ctx.channel(channel).unwrap();
            view.publish(&publish, &Properties::default(), &b"x"[..]).unwrap();
        })
        .unwrap();
    });
    // This one has to be opened once more, which takes longer.
    let other = life.open(&ChannelOptions::default());
    for name in ["refused", "d"] {
        life.declare(other, &durable(name));
        life.consume(other, &from(name));
    }
    broker.with(|broker| {
        broker.fail_methods(|method| {
            let is_meant = matches!(method, Method::BasicConsume(consume) if consume.queue == *"refused");
            is_meant.then(|| MethodFault::ClosesChannel(ReplyCode::ACCESS_REFUSED, "not you".into()))
        });
    });
    lose(&broker);
    life.until("lost");
    let mut sender = Life::new(&connector(&broker), soon());
    let channel = sender.open(&ChannelOptions::default());
    sender.publish(channel, "q", "early");
    sender.end();
    let words =
        r#"recovered without ["basic.consume queue=\"refused\" consumer_tag=\"ctag1.0\"", "channel.open"]"#;
    let noted = life.until(words);
    assert_eq!(noted[..2], ["cancelled", "channel closed"]);
    assert!(
        noted[2].contains("NOT_FOUND - no exchange 'nowhere'"),
        "{noted:?}"
    );
    let gone = life.event_loop.context().channel(rash).map(drop);
    assert_eq!(gone, Err(SendError::Stale));
    life.publish(other, "d", "hello");
    life.until("hello");
    life.end();
}

#[test]
fn a_panic_when_it_is_lost_is_the_end_of_all_that_was_on_it() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    life.open(&ChannelOptions::default());
    let connection = life.connection;
    let mut ctx = life.event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_lost(|_, _, _| panic!("oh no"));
    lose(&broker);
    let error = loop {
        if let Err(error) = life.event_loop.run() {
            break error;
        }
    };
    assert_eq!(error.to_string(), "a callback panicked: oh no");
    let noted = life.event_loop.state();
    assert_eq!(noted[..2], ["lost", "channel closed"]);
    assert!(noted[2].starts_with("closed: ") && noted.len() == 3, "{noted:?}");
    assert!(life.event_loop.context().connection(connection).is_err());
}
