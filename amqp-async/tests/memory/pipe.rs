//! Streams in memory, and the clock.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use amqp_async::{Timer, Transport};
use amqp_proto::{Instant, RecvBuf};
use amqp_testbroker::{Server, StreamEnd};
use bytes::{Buf, BytesMut};

/// How many octets the server's end takes at once.
const PIECE: usize = 32 * 1024;

/// One direction of a stream.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    octets: BytesMut,
    window: usize,
    /// How many octets pass before the stream breaks.
    left: usize,
    /// The writer has ended it.
    is_ended: bool,
    is_reset: bool,
    /// Writing fails, and the reader learns nothing of it.
    is_broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(window: usize) -> Self {
        Self {
            window,
            left: usize::MAX,
            ..Self::default()
        }
    }

    fn room(&self) -> usize {
        self.window.saturating_sub(self.octets.len()).min(self.left)
    }

    fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn wake_writer(&mut self) {
        self.writer.take().into_iter().for_each(Waker::wake);
    }

    fn reset(&mut self) {
        self.is_reset = true;
        self.octets.clear();
        self.wake_reader();
        self.wake_writer();
    }
}

/// A stream and what the server's end of it holds.
#[derive(Debug)]
pub(crate) struct Stream<S: Server> {
    pub(crate) key: S::Key,
    from_client: Pipe,
    from_server: Pipe,
    input: RecvBuf,
    output: S::Output,
    /// The server was told that it ended.
    is_told: bool,
    is_hung_up: bool,
    /// The client has closed its end.
    is_left: bool,
}

/// What all share: the time, the server, the streams.
#[derive(Debug)]
pub(crate) struct Common<S: Server> {
    pub(crate) now: Instant,
    pub(crate) server: S,
    pub(crate) streams: Vec<Stream<S>>,
    alarms: BTreeMap<usize, (Instant, Waker)>,
    next_alarm: usize,
    /// After how many octets the next streams break, in either direction.
    pub(crate) cuts: VecDeque<(usize, usize)>,
    /// How far those get who connect again; to the end if it does not say.
    pub(crate) stuck: Option<Stuck>,
}

/// Where a connection that is made again gets no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// There is no stream.
    Connecting,
    /// Nothing passes on it.
    Handshake,
}

impl<S: Server> Common<S> {
    pub(crate) fn new(server: S) -> Self {
        Self {
            now: Instant::EPOCH,
            server,
            streams: Vec::new(),
            alarms: BTreeMap::new(),
            next_alarm: 0,
            cuts: VecDeque::new(),
            stuck: None,
        }
    }

    /// Opens a stream that holds so many octets in each direction.
    pub(crate) fn open(&mut self, window: usize) -> usize {
        let key = self.server.accept(self.now);
        let (read, written) = self.cuts.pop_front().unwrap_or((usize::MAX, usize::MAX));
        let (mut from_client, mut from_server) = (Pipe::new(window), Pipe::new(window));
        (from_client.left, from_server.left) = (written, read);
        self.streams.push(Stream {
            key,
            from_client,
            from_server,
            input: RecvBuf::new(),
            output: S::Output::default(),
            is_told: false,
            is_hung_up: false,
            is_left: false,
        });
        self.streams.len() - 1
    }

    pub(crate) fn new_alarm(&mut self) -> usize {
        self.next_alarm += 1;
        self.next_alarm
    }

    /// From now on writing fails for the client of the last stream, and that is all.
    pub(crate) fn break_writing(&mut self) {
        if let Some(stream) = self.streams.last_mut() {
            stream.from_client.is_broken = true;
        }
    }

    /// What the server can do now. Says whether it did anything.
    pub(crate) fn turn(&mut self) -> bool {
        let (now, server) = (self.now, &mut self.server);
        let mut has_worked = false;
        for stream in &mut self.streams {
            has_worked |= stream.turn(server, now);
        }
        if server.poll_timeout().is_some_and(|at| at <= now) {
            server.handle_timeout(now);
            has_worked = true;
        }
        has_worked
    }

    /// When something is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let alarms = self.alarms.values().map(|(at, _)| *at);
        alarms.chain(self.server.poll_timeout()).min()
    }

    /// The clock goes on to that moment.
    pub(crate) fn advance(&mut self, to: Instant) {
        self.now = self.now.max(to);
        let due: Vec<_> = self.alarms.iter().filter(|(_, (at, _))| *at <= to).collect();
        let due: Vec<_> = due.into_iter().map(|(number, _)| *number).collect();
        for number in due {
            self.alarms
                .remove(&number)
                .into_iter()
                .for_each(|(_, waker)| waker.wake());
        }
    }
}

impl<S: Server> Stream<S> {
    fn break_if_due(&mut self) {
        if self.from_client.left == 0 || self.from_server.left == 0 {
            self.from_client.reset();
            self.from_server.reset();
        }
    }

    fn turn(&mut self, server: &mut S, now: Instant) -> bool {
        if self.is_told {
            return false;
        }
        let mut has_worked = self.take(server, now);
        let is_ended = self.from_client.is_ended && self.from_client.octets.is_empty();
        let is_lost = self.from_client.is_reset || self.is_left && !has_worked;
        if is_lost || is_ended && self.input.unread().is_empty() {
            self.is_told = true;
            server.handle_disconnect(self.key, now);
            self.from_server.is_ended = true;
            self.from_server.wake_reader();
            return true;
        }
        loop {
            server.poll_transmit(self.key, now, &mut self.output);
            let count = self.output.chunk().len().min(self.from_server.room());
            if count == 0 {
                break;
            }
            self.from_server
                .octets
                .extend_from_slice(&self.output.chunk()[..count]);
            self.output.advance(count);
            self.from_server.wake_reader();
            has_worked = true;
        }
        if !self.output.has_remaining()
            && !self.is_hung_up
            && let Some(end) = server.stream_end(self.key)
        {
            self.is_hung_up = end != StreamEnd::HalfClose;
            has_worked |= !self.from_server.is_ended;
            self.from_server.is_ended = true;
            self.from_server.wake_reader();
            if end == StreamEnd::Reset {
                self.from_client.reset();
                self.from_server.reset();
            }
        }
        has_worked
    }

    /// The server reads a piece, if it reads.
    fn take(&mut self, server: &mut S, now: Instant) -> bool {
        let pipe = &mut self.from_client;
        let piece = &pipe.octets[..PIECE.min(pipe.octets.len())];
        let count = if self.is_hung_up {
            piece.len()
        } else {
            self.input.extend(piece)
        };
        pipe.octets.advance(count);
        let before = self.input.unread().len();
        if self.is_hung_up {
            self.input.consume(before);
        } else if before > 0 {
            server.handle_input(self.key, now, &mut self.input);
        }
        if count > 0 {
            self.from_client.wake_writer();
        }
        count > 0 || self.input.unread().len() != before
    }
}

/// The client's end of a stream.
#[derive(Debug)]
pub(crate) struct End<S: Server> {
    pub(crate) common: Arc<Mutex<Common<S>>>,
    pub(crate) stream: usize,
}

impl<S: Server> End<S> {
    fn with<R>(&self, look: impl FnOnce(&mut Stream<S>) -> R) -> R {
        look(&mut lock(&self.common).streams[self.stream])
    }
}

impl<S: Server> Transport for End<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        assert!(!buffer.is_empty(), "a read into nothing");
        self.with(|stream| {
            stream.break_if_due();
            let pipe = &mut stream.from_server;
            if pipe.is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let count = pipe.octets.len().min(buffer.len()).min(pipe.left);
            if count == 0 && !pipe.is_ended {
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            pipe.octets.copy_to_slice(&mut buffer[..count]);
            pipe.left -= count;
            Poll::Ready(Ok(count))
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.with(|stream| {
            stream.break_if_due();
            let pipe = &mut stream.from_client;
            if pipe.is_reset || pipe.is_broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let mut count = 0;
            for buffer in buffers {
                let taken = buffer.len().min(pipe.room());
                pipe.octets.extend_from_slice(&buffer[..taken]);
                pipe.left -= taken;
                count += taken;
            }
            if count == 0 {
                pipe.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(count))
        })
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.from_client.is_ended = true);
        Poll::Ready(Ok(()))
    }
}

impl<S: Server> Drop for End<S> {
    fn drop(&mut self) {
        // What was written still arrives if the stream was ended in order.
        self.with(|stream| {
            if !stream.from_client.is_ended {
                stream.from_client.reset();
            }
            stream.from_server.reset();
            stream.is_left = true;
        });
    }
}

/// The clock, and one alarm.
#[derive(Debug)]
pub(crate) struct Clock<S: Server> {
    pub(crate) common: Arc<Mutex<Common<S>>>,
    pub(crate) alarm: usize,
}

impl<S: Server> Timer for Clock<S> {
    fn now(&self) -> Instant {
        lock(&self.common).now
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let mut common = lock(&self.common);
        if at <= common.now {
            common.alarms.remove(&self.alarm);
            return Poll::Ready(());
        }
        common.alarms.insert(self.alarm, (at, cx.waker().clone()));
        Poll::Pending
    }
}

impl<S: Server> Drop for Clock<S> {
    fn drop(&mut self) {
        lock(&self.common).alarms.remove(&self.alarm);
    }
}

/// A test that failed elsewhere is no reason to hide why.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl<S: Server> Stream<S> {
    /// Where the octets are.
    pub(crate) fn account(&self) -> String {
        format!(
            "{} octets from the client, {} unread, {} to be written, {} to the client",
            self.from_client.octets.len(),
            self.input.unread().len(),
            self.output.remaining(),
            self.from_server.octets.len(),
        )
    }
}
