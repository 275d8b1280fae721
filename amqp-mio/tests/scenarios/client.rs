//! A connection on a loop of its own, which is run until a callback has been called: scenarios are read from top to bottom then.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{
    BasicConsume, BasicGet, BasicPublish, BasicQos, ConfirmSelect, FieldTable, FieldValue, Properties,
    QueueDeclare, QueueDelete, QueuePurge, ReplyCode, ShortStr,
};
use amqp_mio::proto::{
    Answered, ChannelCloseReason, CloseReason, CloseReport, ConfirmOutcome, ConsumerId, Delivery, Got,
    Request, RequestError,
};
use amqp_mio::{
    ChannelOptions, ChannelRef, ChannelView, ConnectError, ConnectionId, ConnectionView, Connector, Ctx,
    EventLoop, Recovery,
};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a callback was called with.
pub(crate) struct Told<T>(Rc<RefCell<VecDeque<T>>>);

impl<T> Told<T> {
    pub(crate) fn new() -> Self {
        Self(Rc::default())
    }

    /// Whoever waits for it looks again.
    pub(crate) fn tell(&self, ctx: &mut Ctx<'_, ()>, value: T) {
        self.0.borrow_mut().push_back(value);
        ctx.stop();
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.borrow_mut().pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

impl<T> Clone for Told<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

pub(crate) struct Client {
    event_loop: EventLoop<()>,
    connection: ConnectionId,
    closed: Told<CloseReason>,
}

/// What the broker says of a queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) message_count: u32,
    pub(crate) consumer_count: u32,
}

/// What comes to a consumer.
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    pub(crate) deliveries: Told<Delivery>,
}

impl Client {
    pub(crate) fn connect_uri(uri: &str) -> Result<Self, ConnectError> {
        Self::connect(&Connector::from_uri(uri)?)
    }

    pub(crate) fn connect(connector: &Connector) -> Result<Self, ConnectError> {
        Self::begin(|event_loop| event_loop.connect(connector))
    }

    pub(crate) fn connect_recovering(
        connector: &Connector,
        recovery: Recovery,
    ) -> Result<Self, ConnectError> {
        Self::begin(|event_loop| event_loop.connect_recovering(connector, recovery))
    }

    fn begin(
        connect: impl FnOnce(&mut EventLoop<()>) -> Result<ConnectionId, ConnectError>,
    ) -> Result<Self, ConnectError> {
        let mut event_loop = EventLoop::new(()).unwrap();
        let connection = connect(&mut event_loop)?;
        let (opened, closed) = (Told::new(), Told::new());
        let (open, failed, close) = (opened.clone(), opened.clone(), closed.clone());
        let mut client = Self {
            event_loop,
            connection,
            closed,
        };
        client.connection(|view| {
            view.on_open(move |ctx, _| open.tell(ctx, Ok(())));
            view.on_open_error(move |ctx, _, error| failed.tell(ctx, Err(error.clone())));
            view.on_close(move |ctx, _, reason| close.tell(ctx, reason.clone()));
        });
        client.wait(&opened)?;
        Ok(client)
    }

    /// Runs the loop until that gives something; whatever makes it do so stops the loop.
    fn run_for<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut ctx = self.event_loop.context();
        let late = ctx.call_later(PATIENCE, |_| panic!("it takes too long")).unwrap();
        let found = loop {
            if let Some(found) = look() {
                break found;
            }
            self.event_loop.run().unwrap();
        };
        self.event_loop.context().remove_timeout(late);
        found
    }

    /// Runs the loop until a callback has said something there.
    pub(crate) fn wait<T>(&mut self, told: &Told<T>) -> T {
        self.run_for(|| told.pop())
    }

    /// Runs the loop until that is so; whatever makes it so stops the loop.
    pub(crate) fn run_until(&mut self, is_so: impl Fn() -> bool) {
        self.run_for(|| is_so().then_some(()));
    }

    /// Runs the loop while something else is done, so that heartbeats go on.
    pub(crate) fn meanwhile<T: Send + 'static>(&mut self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let handle = self.event_loop.handle();
        let (done, is_done) = mpsc::channel();
        let working = thread::spawn(move || {
            let _ = done.send(job());
            let _ = handle.call_soon(|ctx| ctx.stop());
        });
        let result = self.run_for(|| match is_done.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the other thread panicked"),
        });
        working.join().unwrap();
        result
    }

    pub(crate) fn connection<T>(&mut self, job: impl FnOnce(&mut ConnectionView<'_, ()>) -> T) -> T {
        let mut ctx = self.event_loop.context();
        job(&mut ctx.connection(self.connection).unwrap())
    }

    pub(crate) fn on<T>(
        &mut self,
        channel: ChannelRef,
        job: impl FnOnce(&mut ChannelView<'_, ()>) -> T,
    ) -> T {
        let mut ctx = self.event_loop.context();
        job(&mut ctx.channel(channel).unwrap())
    }

    /// A channel in confirm mode.
    pub(crate) fn channel(&mut self) -> ChannelRef {
        let channel = self.channel_without_confirms();
        self.ask(channel, &ConfirmSelect::default()).unwrap();
        channel
    }

    pub(crate) fn channel_without_confirms(&mut self) -> ChannelRef {
        self.channel_with(&ChannelOptions::default())
    }

    pub(crate) fn channel_with(&mut self, options: &ChannelOptions) -> ChannelRef {
        let opened = Told::new();
        let open = opened.clone();
        self.connection(|view| {
            view.open_channel_with(options, move |ctx, channel| open.tell(ctx, channel))
                .unwrap();
        });
        self.wait(&opened)
    }

    /// Waits for the answer, and takes from it what is needed.
    pub(crate) fn ask_for<R: Request, T: 'static>(
        &mut self,
        channel: ChannelRef,
        method: &R,
        take: impl FnOnce(<R::Method as Answered>::Answer<'_>) -> T + 'static,
    ) -> Result<T, RequestError>
    where
        R::Method: 'static,
    {
        let answered = Told::new();
        let answer = answered.clone();
        self.on(channel, |view| {
            view.request(method, move |ctx, _, result| answer.tell(ctx, result.map(take)))
                .unwrap();
        });
        self.wait(&answered)
    }

    pub(crate) fn ask<R: Request>(&mut self, channel: ChannelRef, method: &R) -> Result<(), RequestError>
    where
        R::Method: 'static,
    {
        self.ask_for(channel, method, |_| ())
    }

    pub(crate) fn declare(
        &mut self,
        channel: ChannelRef,
        method: &QueueDeclare<'_>,
    ) -> Result<Declared, RequestError> {
        self.ask_for(channel, method, |ok| Declared {
            name: ok.queue.to_string(),
            message_count: ok.message_count,
            consumer_count: ok.consumer_count,
        })
    }

    /// How many messages that were.
    pub(crate) fn purge(&mut self, channel: ChannelRef, queue: &str) -> u32 {
        let purge = QueuePurge {
            queue: short(queue),
            ..Default::default()
        };
        let purged = self.ask_for(channel, &purge, |ok| ok.message_count);
        purged.unwrap()
    }

    /// How many messages were in it.
    pub(crate) fn delete(&mut self, channel: ChannelRef, queue: &str) -> u32 {
        let delete = QueueDelete {
            queue: short(queue),
            ..Default::default()
        };
        let deleted = self.ask_for(channel, &delete, |ok| ok.message_count);
        deleted.unwrap()
    }

    /// A channel in confirm mode, and the name of a queue of its own.
    pub(crate) fn queue(&mut self) -> (ChannelRef, String) {
        let channel = self.channel();
        let declared = self.declare(channel, &own_queue()).unwrap();
        (channel, declared.name)
    }

    /// Publishes in confirm mode, and waits for what becomes of it.
    pub(crate) fn publish(
        &mut self,
        channel: ChannelRef,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: impl AsRef<[u8]>,
    ) -> ConfirmOutcome {
        let outcomes = Told::new();
        let outcome = outcomes.clone();
        self.on(channel, |view| {
            view.publish_confirmed(method, properties, body.as_ref(), move |ctx, _, told| {
                outcome.tell(ctx, told);
            })
            .unwrap();
        });
        self.wait(&outcomes)
    }

    /// To that queue, which takes it.
    pub(crate) fn send(&mut self, channel: ChannelRef, queue: &str, body: impl AsRef<[u8]>) {
        let outcome = self.publish(channel, &to(queue), &Properties::default(), body);
        assert_eq!(outcome, ConfirmOutcome::Acked);
    }

    pub(crate) fn get(&mut self, channel: ChannelRef, queue: &str) -> Option<Got> {
        let answered = Told::new();
        let answer = answered.clone();
        let get = BasicGet {
            queue: short(queue),
            ..Default::default()
        };
        self.on(channel, |view| {
            view.get(&get, move |ctx, _, got| answer.tell(ctx, got)).unwrap();
        });
        self.wait(&answered).unwrap()
    }

    pub(crate) fn consume(
        &mut self,
        channel: ChannelRef,
        method: &BasicConsume<'_>,
    ) -> Result<Consumer, RequestError> {
        let deliveries = Told::new();
        let delivery = deliveries.clone();
        let id = self.consume_by(channel, method, move |ctx, _, told| delivery.tell(ctx, told))?;
        Ok(Consumer { id, deliveries })
    }

    /// Starts a consumer whose deliveries that callback gets.
    pub(crate) fn consume_by(
        &mut self,
        channel: ChannelRef,
        method: &BasicConsume<'_>,
        on_message: impl FnMut(&mut Ctx<'_, ()>, ChannelRef, Delivery) + 'static,
    ) -> Result<ConsumerId, RequestError> {
        let started = Told::new();
        let start = started.clone();
        self.on(channel, |view| {
            view.consume_then(method, on_message, move |ctx, _, result| start.tell(ctx, result))
                .unwrap();
        });
        self.wait(&started)
    }

    pub(crate) fn cancel(&mut self, channel: ChannelRef, consumer: ConsumerId) {
        let cancelled = Told::new();
        let cancel = cancelled.clone();
        self.on(channel, |view| {
            view.cancel(consumer, move |ctx, _, result| cancel.tell(ctx, result))
                .unwrap();
        });
        self.wait(&cancelled).unwrap();
    }

    /// Why it ends, when it does.
    pub(crate) fn on_channel_close(&mut self, channel: ChannelRef) -> Told<ChannelCloseReason> {
        let closed = Told::new();
        let close = closed.clone();
        self.on(channel, |view| {
            view.on_close(move |ctx, _, reason| close.tell(ctx, reason.clone()))
                .unwrap();
        });
        closed
    }

    /// The broker's words, when it takes no publishes any more.
    pub(crate) fn on_blocked(&mut self) -> Told<String> {
        let blocked = Told::new();
        let block = blocked.clone();
        self.connection(|view| {
            view.on_blocked(move |ctx, _, words| block.tell(ctx, words.to_owned()));
        });
        blocked
    }

    /// Publishes in confirm mode; what becomes of it is told there.
    pub(crate) fn publish_deferred(
        &mut self,
        channel: ChannelRef,
        method: &BasicPublish<'_>,
        body: &[u8],
    ) -> Told<ConfirmOutcome> {
        let outcomes = Told::new();
        let outcome = outcomes.clone();
        self.on(channel, |view| {
            view.publish_confirmed(method, &Properties::default(), body, move |ctx, _, told| {
                outcome.tell(ctx, told);
            })
            .unwrap();
        });
        outcomes
    }

    pub(crate) fn octets_sent(&mut self) -> u64 {
        self.connection(|view| view.core().unwrap().counters().octets_sent)
    }

    /// The reason for which the connection ends by itself.
    pub(crate) fn closed(&mut self) -> CloseReason {
        let closed = self.closed.clone();
        self.wait(&closed)
    }

    pub(crate) fn event_loop(&mut self) -> &mut EventLoop<()> {
        &mut self.event_loop
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.connection
    }

    /// Ends the connection, and is sure that nothing was wrong with it.
    pub(crate) fn close(&mut self) {
        self.connection(|view| view.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown"));
        assert_eq!(self.closed(), CloseReason::Requested { acknowledged: true });
    }

    /// A channel which begins with that; when the broker closes it, another one follows it, which begins the same way.
    pub(crate) fn channel_and_successors(
        &mut self,
        begin: impl Fn(&mut Ctx<'_, ()>, ChannelRef) + 'static,
    ) -> Told<ChannelRef> {
        let channels = Told::new();
        let begun = channels.clone();
        let begin = move |ctx: &mut Ctx<'_, ()>, channel| {
            begin(ctx, channel);
            begun.tell(ctx, channel);
        };
        open_and_follow(&mut self.event_loop.context(), self.connection, Rc::new(begin));
        channels
    }

    /// Waits until the broker has closed it too.
    pub(crate) fn close_channel(&mut self, channel: ChannelRef) {
        let closed = self.on_channel_close(channel);
        self.on(channel, |view| view.close(ReplyCode::REPLY_SUCCESS, "it is done"))
            .unwrap();
        assert_eq!(self.wait(&closed), ChannelCloseReason::Requested);
    }

    /// Looks at that queue until it is as it is to be.
    pub(crate) fn look_until(&mut self, channel: ChannelRef, queue: &str, is_so: impl Fn(&Declared) -> bool) {
        let start = Instant::now();
        loop {
            let seen = self.declare(channel, &passive(queue)).unwrap();
            if is_so(&seen) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{seen:?}");
        }
    }

    /// Finishes what is under way, then ends the connection.
    pub(crate) fn shut_down(&mut self, timeout: Duration) -> CloseReport {
        let reports = Told::new();
        let report = reports.clone();
        self.connection(|view| {
            view.shutdown(timeout, move |ctx, _, told| report.tell(ctx, told.clone()));
        });
        self.wait(&reports)
    }
}

/// The peer's words of why the channel ended.
pub(crate) fn peer<T: Debug>(result: Result<T, RequestError>) -> amqp_mio::proto::PeerClose {
    let Err(RequestError::ChannelClosed(ChannelCloseReason::Peer(peer))) = result else {
        panic!("{result:?}");
    };
    peer
}

pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

pub(crate) fn to(queue: &str) -> BasicPublish<'_> {
    BasicPublish {
        routing_key: short(queue),
        ..Default::default()
    }
}

pub(crate) fn mandatory(queue: &str) -> BasicPublish<'_> {
    BasicPublish {
        mandatory: true,
        ..to(queue)
    }
}

pub(crate) fn prefetch(prefetch_count: u16) -> BasicQos {
    BasicQos {
        prefetch_count,
        ..Default::default()
    }
}

pub(crate) fn from(queue: &str) -> BasicConsume<'_> {
    BasicConsume {
        queue: short(queue),
        ..Default::default()
    }
}

/// Only looks at it.
pub(crate) fn passive(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(queue),
        passive: true,
        ..Default::default()
    }
}

/// A queue of this connection's own, which the broker names.
pub(crate) fn own_queue() -> QueueDeclare<'static> {
    QueueDeclare {
        exclusive: true,
        ..Default::default()
    }
}

/// The same with a name.
pub(crate) fn exclusive(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(queue),
        ..own_queue()
    }
}

/// One that outlives its connection, and the broker.
pub(crate) fn durable(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(queue),
        durable: true,
        ..Default::default()
    }
}

/// Asks for that queue until the broker grants it, each time on a channel of its own, which a refusal ends; then goes on.
pub(crate) fn until_declared(
    ctx: &mut Ctx<'_, ()>,
    connection: ConnectionId,
    method: fn(&str) -> QueueDeclare<'_>,
    queue: String,
    refused: impl Fn(&mut Ctx<'_, ()>, RequestError) + 'static,
    go_on: impl FnOnce(&mut Ctx<'_, ()>) + 'static,
) {
    let opened = move |ctx: &mut Ctx<'_, ()>, asking| {
        let name = queue.clone();
        let mut view = ctx.channel(asking).unwrap();
        view.request(&method(&name), move |ctx, asking, answer| {
            match answer.map(drop) {
                Ok(()) => {
                    let mut view = ctx.channel(asking).unwrap();
                    view.close(ReplyCode::REPLY_SUCCESS, "it is there").unwrap();
                    go_on(ctx);
                }
                Err(error) => {
                    refused(ctx, error);
                    let again = move |ctx: &mut Ctx<'_, ()>| {
                        until_declared(ctx, connection, method, queue, refused, go_on);
                    };
                    ctx.call_later(Duration::from_millis(100), again).unwrap();
                }
            }
        })
        .unwrap();
    };
    let mut view = ctx.connection(connection).unwrap();
    view.open_channel(opened).unwrap();
}

fn open_and_follow(
    ctx: &mut Ctx<'_, ()>,
    connection: ConnectionId,
    begin: Rc<impl Fn(&mut Ctx<'_, ()>, ChannelRef) + 'static>,
) {
    let mut view = ctx.connection(connection).unwrap();
    let channel = view.open_channel(|_, _| {}).unwrap();
    let next = Rc::clone(&begin);
    let mut view = ctx.channel(channel).unwrap();
    view.on_close(move |ctx, _, reason| {
        if matches!(reason, ChannelCloseReason::Peer(_)) {
            open_and_follow(ctx, connection, Rc::clone(&next));
        }
    })
    .unwrap();
    begin(ctx, channel);
}

/// A table of these entries.
pub(crate) fn table(entries: &[(&str, FieldValue<'_>)]) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in entries {
        table.insert(key, *value).unwrap();
    }
    table
}
