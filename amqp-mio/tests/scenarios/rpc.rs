//! Calls and answers: a queue for the answers, and a number by which each of them finds its call.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{BasicConsume, BasicPublish, Properties};
use amqp_mio::proto::{ChannelCloseReason, ConfirmOutcome, ConsumerId, Delivery};
use amqp_mio::{ChannelRef, Ctx, TimerId};

use super::World;
use super::client::{Client, Told, exclusive, from, mandatory, passive, prefetch, short};

/// The queue of RabbitMQ's that leads back to whoever publishes.
const DIRECT: &str = "amq.rabbitmq.reply-to";

/// The `type` of an answer that tells of a failure.
const ERROR: &str = "error";

/// Longer than any call here takes.
const LIMIT: Duration = Duration::from_secs(30);

type Answer = Result<String, Failure>;

/// Why a call was not answered.
#[derive(Debug, PartialEq)]
enum Failure {
    NoServer,
    TooLate,
    Server(String),
    Ended(ChannelCloseReason),
}

/// Makes calls, any number at the same time.
#[derive(Clone)]
struct Caller {
    channel: ChannelRef,
    reply_to: String,
    calls: Rc<RefCell<Calls>>,
}

#[derive(Default)]
struct Calls {
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// How many answers came for no call.
    dropped_answers: usize,
}

struct Waiting {
    answer: Told<Answer>,
    deadline: TimerId,
}

impl Caller {
    /// Answers come by RabbitMQ's direct way.
    fn direct(client: &mut Client) -> Self {
        let channel = client.channel();
        Self::new(client, channel, DIRECT.into())
    }

    /// Answers come by an exclusive queue.
    fn with_queue(client: &mut Client) -> Self {
        let (channel, queue) = client.queue();
        Self::new(client, channel, queue)
    }

    fn new(client: &mut Client, channel: ChannelRef, reply_to: String) -> Self {
        let caller = Self {
            channel,
            reply_to,
            calls: Rc::default(),
        };
        let answers = BasicConsume {
            no_ack: true,
            ..from(&caller.reply_to)
        };
        let answered = caller.clone();
        let on_answer = move |ctx: &mut Ctx<'_, ()>, _, answer| answered.on_answer(ctx, &answer);
        client.consume_by(channel, &answers, on_answer).unwrap();
        let ended = caller.clone();
        client.on(channel, |view| {
            view.on_close(move |ctx, _, reason| ended.end_all(ctx, reason))
                .unwrap();
        });
        caller
    }

    fn call(&self, client: &mut Client, queue: &str, body: &str) -> Told<Answer> {
        self.call_within(client, queue, body, LIMIT)
    }

    fn call_within(&self, client: &mut Client, queue: &str, body: &str, limit: Duration) -> Told<Answer> {
        let mut calls = self.calls.borrow_mut();
        calls.next += 1;
        let (number, answer) = (calls.next, Told::new());
        let late = self.clone();
        let deadline = client.event_loop().context().call_later(limit, move |ctx| {
            late.end(ctx, number, Err(Failure::TooLate));
        });
        let waiting = Waiting {
            answer: answer.clone(),
            deadline: deadline.unwrap(),
        };
        calls.waiting.insert(number, waiting);
        let (correlation_id, expiration) = (number.to_string(), limit.as_millis().to_string());
        let properties = Properties {
            reply_to: Some(short(&self.reply_to)),
            correlation_id: Some(short(&correlation_id)),
            expiration: Some(short(&expiration)),
            ..Default::default()
        };
        let returned = self.clone();
        let confirmed = move |ctx: &mut Ctx<'_, ()>, _, outcome| {
            if outcome == ConfirmOutcome::Returned {
                returned.end(ctx, number, Err(Failure::NoServer));
            }
        };
        client
            .on(self.channel, |view| {
                view.publish_confirmed(&mandatory(queue), &properties, body, confirmed)
            })
            .unwrap();
        answer
    }

    fn on_answer(&self, ctx: &mut Ctx<'_, ()>, answer: &Delivery) {
        let properties = answer.message.properties();
        let number = properties.correlation_id.unwrap().to_string();
        let text = String::from_utf8(answer.message.body().to_vec()).unwrap();
        let result = if properties.message_type == Some(short(ERROR)) {
            Err(Failure::Server(text))
        } else {
            Ok(text)
        };
        if !self.end(ctx, number.parse().unwrap(), result) {
            self.calls.borrow_mut().dropped_answers += 1;
        }
    }

    /// Says whether somebody waited for that.
    fn end(&self, ctx: &mut Ctx<'_, ()>, number: u64, result: Answer) -> bool {
        let call = self.calls.borrow_mut().waiting.remove(&number);
        let Some(call) = call else {
            return false;
        };
        ctx.remove_timeout(call.deadline);
        call.answer.tell(ctx, result);
        true
    }

    fn end_all(&self, ctx: &mut Ctx<'_, ()>, reason: &ChannelCloseReason) {
        let numbers: Vec<_> = self.calls.borrow().waiting.keys().copied().collect();
        for number in numbers {
            self.end(ctx, number, Err(Failure::Ended(reason.clone())));
        }
    }
}

/// Doubles numbers, and knows no others.
fn double(body: &[u8]) -> Result<String, String> {
    let number: Result<u64, _> = String::from_utf8_lossy(body).parse();
    number
        .map(|number| (number * 2).to_string())
        .map_err(|error| error.to_string())
}

/// Answers calls, so many at a time. Those are told of whose answer is with the broker, and which are acknowledged then.
fn serve(client: &mut Client, channel: ChannelRef, queue: &str, limit: u16) -> (ConsumerId, Told<()>) {
    client.ask(channel, &prefetch(limit)).unwrap();
    let answered = Told::new();
    let told = answered.clone();
    let on_call = move |ctx: &mut Ctx<'_, ()>, channel, call| answer(ctx, channel, &call, told.clone());
    let consumer = client.consume_by(channel, &from(queue), on_call).unwrap();
    (consumer, answered)
}

fn answer(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, call: &Delivery, answered: Told<()>) {
    let (text, message_type) = match double(&call.message.body()) {
        Ok(text) => (text, None),
        Err(text) => (text, Some(short(ERROR))),
    };
    let (tag, asked) = (call.tag, call.message.properties());
    let to_caller = BasicPublish {
        routing_key: asked.reply_to.unwrap(),
        ..Default::default()
    };
    let properties = Properties {
        correlation_id: asked.correlation_id,
        message_type,
        ..Default::default()
    };
    let confirmed = move |ctx: &mut Ctx<'_, ()>, channel, outcome| {
        assert_eq!(outcome, ConfirmOutcome::Acked);
        ctx.channel(channel).unwrap().ack(tag).unwrap();
        answered.tell(ctx, ());
    };
    let mut view = ctx.channel(channel).unwrap();
    view.publish_confirmed(&to_caller, &properties, text.as_str(), confirmed)
        .unwrap();
}

pub(crate) fn every_call_gets_its_own_answer(world: World) {
    let mut client = world.connect();
    let (channel, queue) = (client.channel(), world.name("rpc"));
    client.declare(channel, &exclusive(&queue)).unwrap();
    let (server, answered) = serve(&mut client, channel, &queue, 8);
    let callers = [Caller::direct(&mut client), Caller::with_queue(&mut client)];
    for caller in &callers {
        // All are under way before any is answered.
        let call = |number: u64| caller.call(&mut client, &queue, &number.to_string());
        let answers: Vec<_> = (0..200).map(call).collect();
        for (number, answer) in (0..200_u64).zip(&answers) {
            assert_eq!(client.wait(answer), Ok((number * 2).to_string()));
        }
        assert_eq!(caller.calls.borrow().dropped_answers, 0);
        for _ in 0..200 {
            client.wait(&answered);
        }
    }
    client.cancel(channel, server);
    // Nothing comes back from the server's channel: all was acknowledged.
    client.close_channel(channel);
    let left = client.declare(callers[0].channel, &passive(&queue)).unwrap();
    assert_eq!((left.message_count, left.consumer_count), (0, 0));
    assert_eq!(answered.len(), 0);
    client.close();
}

pub(crate) fn a_server_s_failure_reaches_the_caller(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let (_, answered) = serve(&mut client, channel, &queue, 1);
    let caller = Caller::direct(&mut client);
    let call = caller.call(&mut client, &queue, "no number");
    let failure = Failure::Server("invalid digit found in string".into());
    assert_eq!(client.wait(&call), Err(failure));
    let call = caller.call(&mut client, &queue, "21");
    assert_eq!(client.wait(&call), Ok("42".into()));
    client.wait(&answered);
    client.wait(&answered);
    client.close();
}

pub(crate) fn a_call_that_nobody_takes_says_so(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let caller = Caller::direct(&mut client);
    let call = caller.call(&mut client, &world.name("nowhere"), "1");
    assert_eq!(client.wait(&call), Err(Failure::NoServer));
    // A queue without a server keeps the call, but not for ever.
    let (limit, start) = (Duration::from_millis(50), Instant::now());
    let call = caller.call_within(&mut client, &queue, "1", limit);
    assert_eq!(client.wait(&call), Err(Failure::TooLate));
    assert!(start.elapsed() >= limit);
    client.look_until(channel, &queue, |declared| declared.message_count == 0);
    client.close();
}

pub(crate) fn a_call_ends_with_its_connection(world: World) {
    let (mut owner, mut other) = (world.connect(), world.connect());
    let (channel, queue) = owner.queue();
    let caller = Caller::direct(&mut other);
    let confirmed = Told::new();
    let confirm = confirmed.clone();
    other.on(caller.channel, |view| {
        view.on_confirm(move |ctx, _, _, outcome| confirm.tell(ctx, outcome.clone()))
            .unwrap();
    });
    let call = caller.call(&mut other, &queue, "1");
    assert_eq!(other.wait(&confirmed), ConfirmOutcome::Acked);
    let waiting = owner.declare(channel, &passive(&queue)).unwrap();
    assert_eq!((waiting.message_count, call.len()), (1, 0));
    other.close();
    let ended = Failure::Ended(ChannelCloseReason::Requested);
    assert_eq!(call.pop(), Some(Err(ended)));
    owner.close();
}
