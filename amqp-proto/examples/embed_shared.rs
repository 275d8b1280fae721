//! The core behind a mutex: one thread does the I/O, two publish 5000 messages each and wait for every confirm, the main
//! thread consumes. The lock is held for handling the core only, never over I/O: socket and buffers are the I/O thread's
//! own. On Unix.
//!
//! ```sh
//! AMQP_URL=amqp://guest:guest@localhost cargo run -p amqp-proto --example embed_shared
//! ```
//!
//! `common/mod.rs` has the reading and writing.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an example of what the core does not do: a clock, sockets, threads, locks"
)]

mod common;

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use amqp_proto::wire::{
    BasicConsume, BasicPublish, BasicQos, ConfirmSelect, Properties, QueueDeclare, ReplyCode, ShortStr,
};
use amqp_proto::{
    Channel, ChannelId, CloseReason, ConfirmTag, Connection, Delivery, Event, Reply, SendError,
    TransportError,
};
use bytes::Buf;
use common::{DEADLINE, Epoch, Error, Wire, check};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

const PUBLISHERS: u32 = 2;
const MESSAGES_EACH: u32 = 5000;
const ALL_MESSAGES: u32 = PUBLISHERS * MESSAGES_EACH;
/// After so many events the I/O thread lets others have the lock.
const EVENTS_AT_ONCE: usize = 64;

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<(), Error> {
    let epoch = Epoch::new();
    let (wire, config) = Wire::connect()?;
    // Little may wait to be written, so that the publishers have to wait for room.
    let config = config.outbound_high_water(64 * 1024);
    let (waker, wakened) = UnixStream::pair()?;
    waker.set_nonblocking(true)?;
    wakened.set_nonblocking(true)?;
    let shared = Shared {
        epoch,
        state: Mutex::new(State::new(Connection::new(Arc::new(config), epoch.now(), 0))),
        changed: Condvar::new(),
        waker,
    };
    let closed = thread::scope(|scope| {
        let io = scope.spawn(|| run_io(&shared, wire, &wakened));
        consume_and_publish(&shared).unwrap_or_else(|error| shared.fail(&error));
        // If it is closed already, the I/O thread says why.
        let _ = shared.command(|state| {
            state
                .connection
                .close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
            Ok(())
        });
        io.join()
    });
    let failure = shared.lock().failure.take();
    match (closed.map_err(|_| "the I/O thread panicked")?, failure) {
        (CloseReason::Requested { acknowledged: true }, None) => {}
        // It was closed because of that.
        (CloseReason::Requested { .. }, Some(failure)) => return Err(failure.into()),
        (reason, _) => return Err(reason.into()),
    }
    println!("{ALL_MESSAGES} messages published by {PUBLISHERS} threads, confirmed once each, received");
    Ok(())
}

/// What all threads see.
struct Shared {
    epoch: Epoch,
    state: Mutex<State>,
    /// The state is not what it was.
    changed: Condvar,
    /// An octet into this ends the sleep of the I/O thread.
    waker: UnixStream,
}

/// What the lock is for.
struct State {
    connection: Connection,
    /// The I/O thread is going to sleep and does not know of what is written from now on.
    is_asleep: bool,
    replies: VecDeque<Reply>,
    deliveries: VecDeque<Delivery>,
    /// Somebody found no room to publish, and there is none yet.
    is_full: bool,
    unconfirmed: BTreeSet<ConfirmTag>,
    failure: Option<String>,
    closed: Option<CloseReason>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the connection, once there is room for it, and lets the I/O thread know.
    fn command<T>(&self, mut command: impl FnMut(&mut State) -> Result<T, SendError>) -> Result<T, Error> {
        loop {
            let mut state = self.lock();
            let result = command(&mut state);
            state.is_full |= matches!(result, Err(SendError::Full { .. }));
            let is_asleep = mem::take(&mut state.is_asleep);
            drop(state);
            if is_asleep {
                // The only failure is a full pipe, which wakes as well.
                let _ = (&self.waker).write(&[1]);
            }
            match result {
                Err(SendError::Full { .. }) => self.wait(|state| (!state.is_full).then_some(()))?,
                result => return Ok(result?),
            }
        }
    }

    /// Everybody's waiting ends with this.
    fn fail(&self, error: &Error) {
        self.lock().failure.get_or_insert_with(|| error.to_string());
        self.changed.notify_all();
    }

    /// Waits until `wanted` finds what it looks for.
    fn wait<T>(&self, mut wanted: impl FnMut(&mut State) -> Option<T>) -> Result<T, Error> {
        let mut state = self.lock();
        loop {
            if let Some(found) = wanted(&mut state) {
                return Ok(found);
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone().into());
            }
            if let Some(reason) = &state.closed {
                return Err(reason.clone().into());
            }
            let timeout = self.epoch.until(None);
            if timeout.is_zero() {
                return Err("out of time".into());
            }
            let waited = self.changed.wait_timeout(state, timeout);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            is_asleep: false,
            replies: VecDeque::new(),
            deliveries: VecDeque::new(),
            is_full: false,
            unconfirmed: BTreeSet::new(),
            failure: None,
            closed: None,
        }
    }

    fn on_event(&mut self, event: Event) {
        if let Err(error) = check(&event) {
            self.failure.get_or_insert_with(|| error.to_string());
        }
        match event {
            Event::Reply(reply) => self.replies.push_back(reply),
            Event::Delivery(delivery) => self.deliveries.push_back(delivery),
            Event::Confirmed { tags, .. } => {
                for tag in tags.iter().filter(|tag| !self.unconfirmed.remove(tag)) {
                    self.failure = Some(format!("{tag:?} was confirmed, but did not wait for that"));
                }
            }
            Event::Writable => self.is_full = false,
            Event::Closed(reason) => self.closed = Some(reason),
            _ => {}
        }
    }

    fn channel(&mut self, id: ChannelId) -> Result<Channel<'_>, SendError> {
        self.connection.channel(id)
    }

    fn publish(&mut self, id: ChannelId, method: &BasicPublish<'_>, body: &str) -> Result<(), SendError> {
        let tag = self.channel(id)?.publish(method, &Properties::default(), body)?;
        // Noted under the same lock as it is published: its confirm cannot come before.
        self.unconfirmed.extend(tag);
        Ok(())
    }
}

/// The I/O thread: the only one that touches the socket, and the lock is free while it does.
fn run_io(shared: &Shared, mut wire: Wire, wakened: &UnixStream) -> CloseReason {
    let now = || shared.epoch.now();
    loop {
        let (has_output, timeout) = handle_core(shared, &mut wire);
        // Those who wait look for themselves.
        shared.changed.notify_all();
        let closed = shared.lock().closed.clone();
        if let Some(reason) = closed {
            wire.hang_up(|output| shared.lock().connection.poll_transmit(now(), output));
            return reason;
        }
        if has_output && wire.write() {
            continue;
        }
        let is_readable = wait(&wire, wakened, timeout);
        let mut outcome = is_readable.and_then(|is_readable| Ok(is_readable && wire.read()?));
        if now() >= DEADLINE {
            outcome = Err(TransportError::new("out of time"));
        }
        if let Err(error) = outcome {
            shared.lock().connection.handle_disconnect(now(), Some(error));
        }
    }
}

/// Takes events out of the core and octets to be written; says whether there are some, and how long to sleep at most.
fn handle_core(shared: &Shared, wire: &mut Wire) -> (bool, Duration) {
    let now = shared.epoch.now();
    let mut state = shared.lock();
    if state.connection.poll_timeout().is_some_and(|at| at <= now) {
        state.connection.handle_timeout(now);
    }
    let mut events = 0;
    while events < EVENTS_AT_ONCE
        && let Some(event) = state.connection.poll_event(now, &mut wire.input)
    {
        state.on_event(event);
        events += 1;
    }
    let has_output = state.connection.poll_transmit(now, &mut wire.output);
    let timeout = if events == EVENTS_AT_ONCE {
        Duration::ZERO // There may be more.
    } else {
        shared.epoch.until(state.connection.poll_timeout())
    };
    // Set under the same lock: what is commanded from here on wakes us, what was before is in `output`.
    state.is_asleep = true;
    (has_output, timeout)
}

/// Sleeps until the socket is ready, somebody commanded something, or so much time has passed; says whether to read.
fn wait(wire: &Wire, wakened: &UnixStream, timeout: Duration) -> Result<bool, TransportError> {
    let mut interest = PollFlags::IN;
    if wire.output.has_remaining() {
        interest |= PollFlags::OUT;
    }
    let mut both = [
        PollFd::new(&wire.socket, interest),
        PollFd::new(wakened, PollFlags::IN),
    ];
    let timeout = Timespec::try_from(timeout).map_err(TransportError::new)?;
    match poll(&mut both, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(TransportError::new(error)),
    }
    if !both[1].revents().is_empty() {
        let mut octets = [0; 64];
        let _ = (&mut &*wakened).read(&mut octets);
    }
    let to_read = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
    Ok(both[0].revents().intersects(to_read))
}

/// The main thread: declares, starts the publishers, consumes what they publish.
fn consume_and_publish(shared: &Shared) -> Result<(), Error> {
    shared.wait(|state| state.connection.is_open().then_some(()))?;
    let id = shared.command(|state| state.connection.open_channel())?;
    let qos = BasicQos {
        prefetch_count: 500,
        ..Default::default()
    };
    shared.command(|state| state.channel(id)?.request(&qos))?;
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let declare = shared.command(|state| state.channel(id)?.request(&declare))?;
    let queue = &*shared.wait(|state| {
        let answer = |reply: Reply| Some(reply.read(declare)?.queue.to_string());
        state.replies.drain(..).find_map(answer)
    })?;
    let consume = BasicConsume {
        queue: ShortStr::new(queue)?,
        ..Default::default()
    };
    shared.command(|state| state.channel(id)?.consume(&consume))?;
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let publish = move || publish(shared, publisher, queue);
            scope.spawn(move || publish().unwrap_or_else(|error| shared.fail(&error)));
        }
        consume_all(shared, id)
    })
}

/// Every message of every publisher, in the order of that publisher.
fn consume_all(shared: &Shared, id: ChannelId) -> Result<(), Error> {
    let mut next = [0; PUBLISHERS as usize];
    while next.iter().sum::<u32>() < ALL_MESSAGES {
        let batch =
            shared.wait(|state| (!state.deliveries.is_empty()).then(|| mem::take(&mut state.deliveries)))?;
        for delivery in &batch {
            let body = delivery.message.body();
            let (publisher, number) = std::str::from_utf8(&body)?.split_once(' ').ok_or("no number")?;
            let expected = next
                .get_mut(publisher.parse::<usize>()?)
                .ok_or("no such publisher")?;
            if number.parse::<u32>()? != *expected {
                return Err(format!("message {number} of {publisher} came instead of {expected}").into());
            }
            *expected += 1;
        }
        if let Some(last) = batch.back() {
            shared.command(|state| state.channel(id)?.ack_multiple(last.tag))?;
        }
    }
    Ok(())
}

/// A publisher: a channel of its own, a message after the other, then the confirms.
fn publish(shared: &Shared, publisher: u32, queue: &str) -> Result<(), Error> {
    let id = shared.command(|state| state.connection.open_channel())?;
    shared.command(|state| state.channel(id)?.request(&ConfirmSelect::default()))?;
    let method = BasicPublish {
        routing_key: ShortStr::new(queue)?,
        mandatory: true,
        ..Default::default()
    };
    for number in 0..MESSAGES_EACH {
        let body = format!("{publisher} {number}");
        shared.command(|state| state.publish(id, &method, &body))?;
    }
    let all_of_mine = ConfirmTag::new(id, 0)..=ConfirmTag::new(id, u64::MAX);
    shared.wait(|state| {
        state
            .unconfirmed
            .range(all_of_mine.clone())
            .next()
            .is_none()
            .then_some(())
    })
}
