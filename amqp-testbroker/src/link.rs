//! A stream between a client and a server, simulated: two directions on a virtual clock, each with its own luck.

use std::collections::VecDeque;
use std::time::Duration;

use amqp_proto::{Instant, RecvBuf};
use bytes::{Buf, BytesMut};

use crate::random::Random;

/// One of the two ends of a link. A direction is named by the end that writes into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that connected.
    Client,
    /// The end that accepted.
    Server,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// How a stream ends, for the end that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// In order: the other end writes no more.
    Ended,
    /// By a reset: an error at both ends, and what was under way may be lost.
    Reset,
}

/// What a [`Link::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadOutcome {
    /// So many octets, at least one.
    Octets(usize),
    /// Nothing for now, or the buffer is full.
    Nothing,
    /// The end of the stream, behind all octets. Said every time.
    Ended,
    /// The stream was reset. Said every time.
    Reset,
}

/// How a [`Link`] behaves, in both directions alike.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkConfig {
    /// What sizes and jitter are drawn from. Default 0.
    pub seed: u64,
    /// Every write is cut into pieces of 1 to so many octets, which arrive one by one. Default `None`: in one piece.
    pub segment: Option<usize>,
    /// How long an octet is under way. Default zero.
    pub latency: Duration,
    /// How much longer a piece is under way at most; none overtakes another. Default zero.
    pub jitter: Duration,
    /// Octets per second; with 0 nothing arrives. Default `None`: any number.
    pub bandwidth: Option<u64>,
    /// How many octets of a direction may be written and not yet read, as the socket buffers and the network between them
    /// hold. Default 256 KiB.
    pub window: usize,
    /// Where the stream breaks by itself. Default `None`.
    pub cut: Option<Cut>,
}

/// A place in a stream where it ends, as soon as so much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// Whose octets are counted.
    pub from: Side,
    /// How many of them pass. 0: the first write finds the stream broken.
    pub after: u64,
    /// [`Ending::Ended`] ends that direction only.
    pub ending: Ending,
}

impl LinkConfig {
    /// No delay, no segmentation, any bandwidth: what is written can be read at once. The default.
    #[must_use]
    pub const fn perfect() -> Self {
        Self {
            seed: 0,
            segment: None,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            window: 256 * 1024,
            cut: None,
        }
    }

    /// Sets [`seed`](Self#structfield.seed).
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets [`segment`](Self#structfield.segment): 1 for octet by octet, `usize::MAX` for pieces of any size.
    #[must_use]
    pub const fn segment(mut self, at_most: usize) -> Self {
        self.segment = Some(at_most);
        self
    }

    /// Sets [`latency`](Self#structfield.latency).
    #[must_use]
    pub const fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets [`jitter`](Self#structfield.jitter).
    #[must_use]
    pub const fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets [`bandwidth`](Self#structfield.bandwidth).
    #[must_use]
    pub const fn bandwidth(mut self, octets_per_second: u64) -> Self {
        self.bandwidth = Some(octets_per_second);
        self
    }

    /// Sets [`window`](Self#structfield.window).
    #[must_use]
    pub const fn window(mut self, octets: usize) -> Self {
        self.window = octets;
        self
    }

    /// Sets [`cut`](Self#structfield.cut): after so many octets from that end, the stream ends in that way.
    #[must_use]
    pub const fn cut(mut self, from: Side, after: u64, ending: Ending) -> Self {
        self.cut = Some(Cut { from, after, ending });
        self
    }

    /// How long the line is busy with so many octets.
    fn transmission(&self, octets: usize) -> Duration {
        let Some(bandwidth) = self.bandwidth else {
            return Duration::ZERO;
        };
        let octets = u64::try_from(octets).unwrap_or(u64::MAX);
        let nanos = u128::from(octets).saturating_mul(1_000_000_000);
        let nanos = nanos
            .saturating_add(u128::from(bandwidth.saturating_sub(1)))
            .checked_div(u128::from(bandwidth));
        let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok());
        Duration::from_nanos(nanos.unwrap_or(u64::MAX))
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self::perfect()
    }
}

/// A stream between a client and a server. The same calls with the same [`LinkConfig`] give the same answers.
///
/// ```
/// use amqp_proto::{Instant, RecvBuf};
/// use amqp_testbroker::{Link, LinkConfig, ReadOutcome, Side};
/// use std::time::Duration;
///
/// let mut link = Link::new(LinkConfig::perfect().latency(Duration::from_millis(5)));
/// let (now, mut input) = (Instant::EPOCH, RecvBuf::new());
/// assert_eq!(link.write(Side::Client, now, b"hello"), 5);
/// assert_eq!(link.read(Side::Server, now, &mut input), ReadOutcome::Nothing);
///
/// let later = link.next_event(now).unwrap();
/// assert_eq!(later.duration_since(now), Duration::from_millis(5));
/// assert_eq!(link.read(Side::Server, later, &mut input), ReadOutcome::Octets(5));
/// assert_eq!(input.unread(), b"hello");
/// ```
#[derive(Debug, Clone)]
pub struct Link {
    config: LinkConfig,
    from_client: Line,
    from_server: Line,
}

impl Link {
    /// A new stream.
    #[must_use]
    pub fn new(config: LinkConfig) -> Self {
        let mut seeds = Random::new(config.seed);
        Self {
            from_client: Line::new(seeds.next_u64()),
            from_server: Line::new(seeds.next_u64()),
            config,
        }
    }

    /// An end writes; says how many octets were taken. 0 is "no more for now": the window is full. After the end of that
    /// direction all are taken, and lost: an end learns from reading what became of the stream.
    pub fn write(&mut self, from: Side, now: Instant, octets: &[u8]) -> usize {
        let cut = self.config.cut.filter(|cut| cut.from == from);
        let (config, line) = self.line_mut(from);
        if line.end.is_some() {
            return octets.len();
        }
        let room = config.window.saturating_sub(line.octets.len());
        let taken = octets.len().min(room);
        let until_cut = cut.map_or(u64::MAX, |cut| cut.after.saturating_sub(line.written));
        let passed = usize::try_from(until_cut).map_or(taken, |left| left.min(taken));
        line.push(config, now, octets.get(..passed).unwrap_or_default());
        match cut {
            Some(cut) if line.written >= cut.after => {
                let at = line.end_behind(now + config.latency, cut.ending);
                if cut.ending == Ending::Reset {
                    self.line_mut(from.other()).1.break_at(at);
                }
                octets.len()
            }
            _ => taken,
        }
    }

    /// An end reads what has arrived: one piece, or as much of it as `input` takes.
    pub fn read(&mut self, to: Side, now: Instant, input: &mut RecvBuf) -> ReadOutcome {
        let (_, line) = self.line_mut(to.other());
        line.read(now, input)
    }

    /// The next moment after `now` at which there is something new to be read at one of the ends; `None` for never, as things
    /// are. What could be read before is no event.
    #[must_use]
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        let [a, b] = [&self.from_client, &self.from_server].map(|line| line.next_event(now));
        Some(a.min(b)).filter(|at| *at != Instant::MAX)
    }

    /// An end writes no more: the other one reads what is under way, then [`ReadOutcome::Ended`]. The other direction goes on.
    pub fn shutdown(&mut self, from: Side, now: Instant) {
        let (config, line) = self.line_mut(from);
        if line.end.is_none() {
            line.end_behind(now + config.latency, Ending::Ended);
        }
    }

    /// An end resets the stream: for itself at once, for the other one behind what is under way to it. What is under way to
    /// the one that resets is lost, and so is all that is written from now on.
    pub fn reset(&mut self, from: Side, now: Instant) {
        let (config, line) = self.line_mut(from);
        line.end_behind(now + config.latency, Ending::Reset);
        self.line_mut(from.other()).1.break_at(now);
    }

    /// Nothing from that end arrives from `since` on for so long; then all of it that is due does. [`Duration::MAX`]: until
    /// [`release`](Self::release). Replaces the stall of that direction before it.
    pub fn stall(&mut self, from: Side, since: Instant, duration: Duration) {
        self.line_mut(from).1.stall = Some((since, since + duration));
    }

    /// Ends the stall of that direction.
    pub fn release(&mut self, from: Side) {
        self.line_mut(from).1.stall = None;
    }

    /// How many octets from that end were let through, since the beginning.
    #[must_use]
    pub const fn written(&self, from: Side) -> u64 {
        self.line(from).written
    }

    /// How many octets from that end were written and not read.
    #[must_use]
    pub fn unread(&self, from: Side) -> usize {
        self.line(from).octets.len()
    }

    const fn line(&self, from: Side) -> &Line {
        match from {
            Side::Client => &self.from_client,
            Side::Server => &self.from_server,
        }
    }

    const fn line_mut(&mut self, from: Side) -> (&LinkConfig, &mut Line) {
        let line = match from {
            Side::Client => &mut self.from_client,
            Side::Server => &mut self.from_server,
        };
        (&self.config, line)
    }
}

/// One direction.
#[derive(Debug, Clone)]
struct Line {
    random: Random,
    /// What was written and not read.
    octets: BytesMut,
    /// The pieces that it arrives in, in order.
    segments: VecDeque<Segment>,
    /// How many octets there were.
    written: u64,
    /// When the next octet can leave.
    free_at: Instant,
    /// When the last octet arrives.
    last_arrival: Instant,
    end: Option<(Instant, Ending)>,
    /// From when until when nothing arrives.
    stall: Option<(Instant, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    at: Instant,
    size: usize,
}

impl Line {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            octets: BytesMut::new(),
            segments: VecDeque::new(),
            written: 0,
            free_at: Instant::EPOCH,
            last_arrival: Instant::EPOCH,
            end: None,
            stall: None,
        }
    }

    fn push(&mut self, config: &LinkConfig, now: Instant, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
        self.written = self
            .written
            .saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        let mut left = octets.len();
        while left > 0 {
            let size = self.piece(config, left);
            self.free_at = self.free_at.max(now) + config.transmission(size);
            let jitter = u64::try_from(config.jitter.as_nanos()).unwrap_or(u64::MAX);
            let jitter = match jitter {
                0 => Duration::ZERO,
                jitter => Duration::from_nanos(self.random.up_to(jitter)),
            };
            let at = self.free_at + config.latency + jitter;
            self.last_arrival = self.last_arrival.max(at);
            self.segments.push_back(Segment {
                at: self.last_arrival,
                size,
            });
            left = left.saturating_sub(size);
        }
    }

    /// The size of the next piece of what is left: at least 1.
    fn piece(&mut self, config: &LinkConfig, left: usize) -> usize {
        let Some(at_most) = config.segment else {
            return left;
        };
        let last = u64::try_from(left.min(at_most))
            .unwrap_or(u64::MAX)
            .saturating_sub(1);
        let drawn = usize::try_from(self.random.up_to(last)).unwrap_or(left);
        drawn.saturating_add(1)
    }

    fn read(&mut self, now: Instant, input: &mut RecvBuf) -> ReadOutcome {
        if self.stalled_until(now).is_some() {
            return ReadOutcome::Nothing;
        }
        let Some(segment) = self.segments.front_mut() else {
            return match self.end {
                Some((at, Ending::Ended)) if at <= now => ReadOutcome::Ended,
                Some((at, Ending::Reset)) if at <= now => ReadOutcome::Reset,
                _ => ReadOutcome::Nothing,
            };
        };
        if segment.at > now {
            return ReadOutcome::Nothing;
        }
        let count = input.extend(self.octets.get(..segment.size).unwrap_or_default());
        self.octets.advance(count);
        segment.size = segment.size.saturating_sub(count);
        if segment.size == 0 {
            self.segments.pop_front();
        }
        match count {
            0 => ReadOutcome::Nothing,
            count => ReadOutcome::Octets(count),
        }
    }

    /// The end of a stall that lasts at that moment.
    fn stalled_until(&self, at: Instant) -> Option<Instant> {
        let (since, until) = self.stall?;
        (since <= at && at < until).then_some(until)
    }

    /// [`Instant::MAX`] for none.
    fn next_event(&self, now: Instant) -> Instant {
        let next = self.segments.front().map(|segment| segment.at);
        let Some(next) = next.or_else(|| self.end.map(|(at, _)| at)) else {
            return Instant::MAX;
        };
        let due = next.max(now);
        let due = self.stalled_until(due).unwrap_or(due);
        if due > now { due } else { Instant::MAX }
    }

    /// Ends it behind what was written, not before `earliest`; says when.
    fn end_behind(&mut self, earliest: Instant, ending: Ending) -> Instant {
        if let Some((at, Ending::Reset)) = self.end {
            return at;
        }
        let at = self.last_arrival.max(earliest);
        self.end = Some((at, ending));
        at
    }

    /// Resets it at that moment: what would arrive later does not.
    fn break_at(&mut self, at: Instant) {
        if let Some((_, Ending::Reset)) = self.end {
            return;
        }
        while let Some(segment) = self.segments.back().filter(|segment| segment.at > at) {
            self.octets
                .truncate(self.octets.len().saturating_sub(segment.size));
            self.segments.pop_back();
        }
        self.end = Some((at, Ending::Reset));
    }
}
