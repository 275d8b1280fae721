//! Consuming and settling.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{BasicConsume, BasicRecover, Properties, QueueDelete, ReplyCode};
use amqp_mio::proto::{ConfirmOutcome, Delivery, SendError};
use amqp_mio::{ChannelOptions, ChannelRef, ChannelView, Ctx, Handle};

use super::World;
use super::client::{Client, Consumer, Told, from, own_queue, passive, prefetch, short, to};

pub(crate) fn no_more_than_the_prefetch_comes_before_it_is_settled(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..3_u8 {
        client.send(channel, &queue, [number]);
    }
    client.ask(channel, &prefetch(1)).unwrap();
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    for number in 0..3_u8 {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.body().to_vec(), [number]);
        let counted = client.declare(channel, &passive(&queue)).unwrap();
        assert_eq!(counted.message_count, 2 - u32::from(number));
        assert_eq!(consumer.deliveries.len(), 0);
        client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    }
    client.close();
}

pub(crate) fn what_is_given_back_comes_again_and_says_so(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    client.send(channel, &queue, "again");
    let first = client.get(channel, &queue).unwrap();
    assert!(!first.redelivered);
    client.on(channel, |view| view.nack(first.tag, true)).unwrap();
    let second = client.get(channel, &queue).unwrap();
    assert!(second.redelivered);
    client
        .on(channel, |view| view.core()?.reject(second.tag, true))
        .unwrap();
    let third = client.get(channel, &queue).unwrap();
    assert!(third.redelivered);
    client
        .on(channel, |view| view.core()?.reject(third.tag, false))
        .unwrap();
    assert_eq!(client.get(channel, &queue), None);
    client.close();
}

pub(crate) fn one_ack_can_be_for_many(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..10_u8 {
        client.send(channel, &queue, [number]);
    }
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    for _ in 0..9 {
        client.wait(&consumer.deliveries);
    }
    let last = client.wait(&consumer.deliveries);
    client
        .on(channel, |view| view.core()?.ack_multiple(last.tag))
        .unwrap();
    client.cancel(channel, consumer.id);
    let delete = QueueDelete {
        queue: short(&queue),
        if_empty: true,
        ..Default::default()
    };
    let left = client.ask_for(channel, &delete, |ok| ok.message_count);
    assert_eq!(left.unwrap(), 0);
    client.close();
}

pub(crate) fn a_cancelled_consumer_gives_back_what_it_has_not_taken(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..100_u8 {
        client.send(channel, &queue, [number]);
    }
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    let first = client.wait(&consumer.deliveries);
    client.cancel(channel, consumer.id);
    // No more comes now: what was told is all there is to give back.
    let untaken = consumer.deliveries.len();
    assert!(untaken > 0);
    while let Some(delivery) = consumer.deliveries.pop() {
        client.on(channel, |view| view.nack(delivery.tag, true)).unwrap();
    }
    client.on(channel, |view| view.ack(first.tag)).unwrap();
    let mut came_again = 0;
    for number in 1..100_u8 {
        let got = client.get(channel, &queue).unwrap();
        came_again += usize::from(got.redelivered);
        let body = got.message.body().to_vec();
        assert_eq!(body, [number], "they are in their order again");
        client.on(channel, |view| view.ack(got.tag)).unwrap();
    }
    assert_eq!(came_again, untaken);
    assert_eq!(client.get(channel, &queue), None);
    client.close();
}

pub(crate) fn a_consumer_learns_that_its_queue_was_deleted(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    let cancelled = Told::new();
    let told = cancelled.clone();
    client.on(channel, |view| {
        view.on_cancel(move |ctx, _, consumer| told.tell(ctx, consumer))
            .unwrap();
    });
    client.delete(channel, &queue);
    assert_eq!(client.wait(&cancelled), consumer.id);
    client.close();
    assert_eq!((cancelled.len(), consumer.deliveries.len()), (0, 0));
}

pub(crate) fn several_consumers_take_turns(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let consume = BasicConsume {
        no_ack: true,
        ..from(&queue)
    };
    let one = client.consume(channel, &consume).unwrap();
    let other = client.consume(channel, &consume).unwrap();
    assert_ne!(one.id, other.id);
    for number in 0..10_u8 {
        client.send(channel, &queue, [number]);
    }
    for _ in 0..5 {
        client.wait(&one.deliveries);
        client.wait(&other.deliveries);
    }
    assert_eq!((one.deliveries.len(), other.deliveries.len()), (0, 0));
    client.close();
}

/// What was not settled is in its queue again.
const GIVE_BACK: BasicRecover = BasicRecover { requeue: true };

/// Settles a delivery by what came of handling it: one that fails again is not worth a third time.
fn settle(
    view: &mut ChannelView<'_, ()>,
    delivery: &Delivery,
    handled: Result<(), ()>,
) -> Result<(), SendError> {
    match handled {
        Ok(()) => view.ack(delivery.tag),
        Err(()) => view.nack(delivery.tag, !delivery.redelivered),
    }
}

pub(crate) fn a_handler_settles_by_its_outcome(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for text in ["good", "bad", "good"] {
        client.send(channel, &queue, text);
    }
    let handle = |delivery: &Delivery| match &*delivery.message.body().to_vec() {
        b"good" => Ok(()),
        _ => Err(()),
    };
    let deliveries = Told::new();
    let told = deliveries.clone();
    let id = client.on(channel, |view| {
        view.consume(&from(&queue), move |ctx, channel, delivery| {
            let handled = handle(&delivery);
            let mut view = ctx.channel(channel).unwrap();
            settle(&mut view, &delivery, handled).unwrap();
            told.tell(ctx, delivery);
        })
        .unwrap()
    });
    let mut failures = Vec::new();
    for _ in 0..4 {
        let delivery = client.wait(&deliveries);
        if handle(&delivery).is_err() {
            failures.push(delivery.redelivered);
        }
    }
    // The bad one came twice, and no more.
    assert_eq!(failures, [false, true]);
    let consumer = Consumer { id, deliveries };
    client.cancel(channel, consumer.id);
    assert_eq!(consumer.deliveries.len(), 0);
    client.ask(channel, &GIVE_BACK).unwrap();
    assert_eq!(client.get(channel, &queue), None);
    client.close();
}

/// What a handler needs that is called on a thread of its own.
#[derive(Clone)]
struct Background {
    event_loop: Handle<()>,
    reply_to: String,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    /// For as many as are to run at the same time.
    together: Arc<Barrier>,
}

impl Background {
    /// Answers, and settles when the broker has the answer.
    fn handle(self, channel: ChannelRef, delivery: &Delivery) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.together.wait();
        let (body, tag) = (delivery.message.body().to_vec(), delivery.tag);
        let (confirmed, is_confirmed) = mpsc::channel();
        let answer = move |ctx: &mut Ctx<'_, ()>| {
            let mut view = ctx.channel(channel).unwrap();
            let told = move |_: &mut Ctx<'_, ()>, _, outcome| confirmed.send(outcome).unwrap();
            view.publish_confirmed(&to(&self.reply_to), &Properties::default(), &*body, told)
                .unwrap();
        };
        self.event_loop.call_soon(answer).unwrap();
        // A handler may wait for the broker on the channel that it was called from.
        assert_eq!(is_confirmed.recv(), Ok(ConfirmOutcome::Acked));
        self.running.fetch_sub(1, Ordering::SeqCst);
        let ack = move |ctx: &mut Ctx<'_, ()>| ctx.channel(channel).unwrap().ack(tag).unwrap();
        self.event_loop.call_soon(ack).unwrap();
    }
}

/// Each delivery has its thread; the prefetch says how many that are.
pub(crate) fn handlers_run_in_the_background_a_few_at_a_time(world: World) {
    const COUNT: usize = 200;
    const FEW: u16 = 4;
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let replies = client.declare(channel, &own_queue()).unwrap().name;
    client.ask(channel, &prefetch(FEW)).unwrap();
    let background = Background {
        event_loop: client.event_loop().handle(),
        reply_to: replies.clone(),
        running: Arc::default(),
        most: Arc::default(),
        together: Arc::new(Barrier::new(FEW.into())),
    };
    let most = Arc::clone(&background.most);
    let (handling, threads) = mpsc::channel();
    let id = client.on(channel, |view| {
        view.consume(&from(&queue), move |_, channel, delivery| {
            let background = background.clone();
            let handler = thread::spawn(move || background.handle(channel, &delivery));
            handling.send(handler).unwrap();
        })
        .unwrap()
    });
    for number in 0..COUNT {
        client.send(channel, &queue, number.to_string());
    }
    client.meanwhile(move || {
        for handler in threads.iter().take(COUNT) {
            handler.join().unwrap();
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), FEW.into());
    client.cancel(channel, id);
    client.ask(channel, &GIVE_BACK).unwrap();
    assert_eq!(client.get(channel, &queue), None, "all were acknowledged");
    let mut answers = BTreeSet::new();
    while let Some(got) = client.get(channel, &replies) {
        client.on(channel, |view| view.ack(got.tag)).unwrap();
        answers.insert(got.message.body().to_vec());
    }
    assert_eq!(
        answers,
        (0..COUNT).map(|number| number.to_string().into_bytes()).collect()
    );
    client.close();
}

const FLOOD: u32 = 5000;

/// Publishes so many, and waits for nothing.
fn flood(view: &mut ChannelView<'_, ()>, queue: &str) {
    for number in 0..FLOOD {
        let body = number.to_be_bytes();
        view.publish(&to(queue), &Properties::default(), &body[..])
            .unwrap();
    }
}

/// The first delivery is enough for it.
pub(crate) fn a_consumer_without_acks_can_be_dropped_in_a_flood(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    client.on(channel, |view| flood(view, &queue));
    let consume = BasicConsume {
        no_ack: true,
        ..from(&queue)
    };
    let (mut published, mut taken) = (FLOOD, 0);
    for _ in 0..3 {
        let (deliveries, cancelled) = (Told::new(), Told::new());
        let (told, cancel, source) = (deliveries.clone(), cancelled.clone(), queue.clone());
        let on_message = move |ctx: &mut Ctx<'_, ()>, channel, delivery: Delivery| {
            if told.len() == 0 {
                let (cancel, mut view) = (cancel.clone(), ctx.channel(channel).unwrap());
                view.cancel(delivery.consumer, move |ctx, _, result| cancel.tell(ctx, result))
                    .unwrap();
                flood(&mut view, &source);
            }
            told.tell(ctx, delivery);
        };
        client
            .on(channel, |view| view.consume(&consume, on_message))
            .unwrap();
        client.wait(&cancelled).unwrap();
        // RabbitMQ may count before it has taken what was published.
        client.send(channel, &queue, "last");
        published += FLOOD + 1;
        taken += u32::try_from(deliveries.len()).unwrap();
        // The channel goes on, nobody consumes, and nothing that was under way got lost.
        let counted = client.declare(channel, &passive(&queue)).unwrap();
        assert_eq!(
            (counted.consumer_count, counted.message_count),
            (0, published - taken)
        );
    }
    client.close();
}

/// It is taken from until nothing has come for so long.
pub(crate) fn a_consumer_is_taken_from_until_nothing_comes(world: World) {
    const IDLE: Duration = Duration::from_millis(300);
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..3_u8 {
        client.send(channel, &queue, [number]);
    }
    let (deliveries, idle) = (Told::new(), Told::new());
    let (told, mut timer) = (deliveries.clone(), None);
    let is_idle = idle.clone();
    let on_message = move |ctx: &mut Ctx<'_, ()>, channel, delivery: Delivery| {
        let mut view = ctx.channel(channel).unwrap();
        let mut core = view.core().unwrap();
        assert_eq!(core.consumer_tag(delivery.consumer), Some(short("mine")));
        view.ack(delivery.tag).unwrap();
        if let Some(timer) = timer.take() {
            ctx.remove_timeout(timer);
        }
        let (came, is_idle) = (Instant::now(), is_idle.clone());
        timer = ctx.call_later(IDLE, move |ctx| is_idle.tell(ctx, came.elapsed()));
        told.tell(ctx, delivery);
    };
    let consume = BasicConsume {
        consumer_tag: short("mine"),
        ..from(&queue)
    };
    let id = client
        .on(channel, |view| view.consume(&consume, on_message))
        .unwrap();
    let consumer = Consumer { id, deliveries };
    assert!(client.wait(&idle) >= IDLE);
    for number in 0..3_u8 {
        let delivery = consumer.deliveries.pop().unwrap();
        assert_eq!(delivery.message.body().to_vec(), [number]);
    }
    // It has not ended by that.
    client.send(channel, &queue, "late");
    let late = client.wait(&consumer.deliveries);
    assert_eq!(late.message.body().to_vec(), b"late");
    assert!(client.wait(&idle) >= IDLE);
    assert_eq!(idle.len(), 0);
    client.cancel(channel, consumer.id);
    client.ask(channel, &GIVE_BACK).unwrap();
    assert_eq!(client.get(channel, &queue), None);
    client.close();
}

/// A channel whose acknowledgements are joined, with that prefetch.
fn joining(client: &mut Client, count: u16, delay: Duration, prefetch_count: u16) -> ChannelRef {
    let opened = Told::new();
    let open = opened.clone();
    let options = ChannelOptions::default().coalesce_acks(count, delay);
    client.connection(|view| {
        view.open_channel_with(&options, move |ctx, channel| open.tell(ctx, channel))
            .unwrap();
    });
    let channel = client.wait(&opened);
    client.ask(channel, &prefetch(prefetch_count)).unwrap();
    channel
}

/// How many were in the queue that must be empty.
fn delete_empty(client: &mut Client, channel: ChannelRef, queue: &str) -> u32 {
    let delete = QueueDelete {
        queue: short(queue),
        if_empty: true,
        ..Default::default()
    };
    client.ask_for(channel, &delete, |ok| ok.message_count).unwrap()
}

pub(crate) fn joined_acks_are_for_what_was_settled_and_for_nothing_else(world: World) {
    const COUNT: usize = 300;
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..COUNT {
        client.send(channel, &queue, number.to_string());
    }
    // If the broker ever waited for what was not said, this would take minutes.
    let joining = joining(&mut client, 1000, Duration::from_secs(600), 100);
    let frames_sent =
        |client: &mut Client| client.connection(|view| view.core().unwrap().counters().frames_sent);
    let before = frames_sent(&mut client);
    let consumer = client.consume(joining, &from(&queue)).unwrap();
    let (mut waiting, mut kept) = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        let delivery = client.wait(&consumer.deliveries);
        match number {
            280..285 => kept.push(delivery),
            _ => waiting.push(delivery.tag),
        }
        if waiting.len() == 5 {
            // The last one first.
            for tag in waiting.drain(..).rev() {
                client.on(joining, |view| view.ack(tag)).unwrap();
            }
        }
    }
    assert!(waiting.is_empty());
    let bodies: Vec<_> = kept
        .iter()
        .map(|delivery| delivery.message.body().to_vec())
        .collect();
    for delivery in kept.drain(1..) {
        client.on(joining, |view| view.nack(delivery.tag, true)).unwrap();
    }
    for _ in 1..5 {
        let delivery = client.wait(&consumer.deliveries);
        assert!(delivery.redelivered && bodies.contains(&delivery.message.body().to_vec()));
        client.on(joining, |view| view.ack(delivery.tag)).unwrap();
    }
    let frames = frames_sent(&mut client) - before;
    assert!(frames < 60, "{frames} frames for {COUNT} deliveries");
    // What is kept goes back, and nothing else.
    let closed = client.on_channel_close(joining);
    client
        .on(joining, |view| view.close(ReplyCode::REPLY_SUCCESS, "enough"))
        .unwrap();
    client.wait(&closed);
    // The queue may learn of that later than we do.
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    let again = client.wait(&consumer.deliveries);
    assert_eq!(
        (again.message.body().to_vec(), again.redelivered),
        (bodies[0].clone(), true)
    );
    client.on(channel, |view| view.ack(again.tag)).unwrap();
    client.cancel(channel, consumer.id);
    assert_eq!(delete_empty(&mut client, channel, &queue), 0);
    client.close();
}

pub(crate) fn a_joined_ack_is_said_when_its_time_has_come(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..14_u8 {
        client.send(channel, &queue, [number]);
    }
    let joining = joining(&mut client, 1000, Duration::from_millis(50), 10);
    let consumer = client.consume(joining, &from(&queue)).unwrap();
    let mut taken: Vec<_> = (0..10).map(|_| client.wait(&consumer.deliveries).tag).collect();
    for tag in taken.drain(..4) {
        client.on(joining, |view| view.ack(tag)).unwrap();
    }
    // These come only when the broker knows of those.
    for number in 10..14_u8 {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.body().to_vec(), [number]);
        taken.push(delivery.tag);
    }
    for tag in taken {
        client.on(joining, |view| view.ack(tag)).unwrap();
    }
    client.cancel(joining, consumer.id);
    assert_eq!(delete_empty(&mut client, channel, &queue), 0);
    client.close();
}
