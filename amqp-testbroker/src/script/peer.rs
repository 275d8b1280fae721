//! The peer that follows a script.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use amqp_proto::wire::{Frame, FrameLimits, HEARTBEAT, PROTOCOL_HEADER, RawFrame};
use amqp_proto::{Instant, RecvBuf};
use bytes::{Buf, BytesMut};

use super::{Script, ScriptStep};
use crate::server::{Server, StreamEnd};

/// The largest frame that is taken, in octets.
const LARGEST_FRAME: u32 = 1024 * 1024;

/// How many frames before the wrong one a failure tells of.
const REMEMBERED: usize = 5;

/// A server that follows a [`Script`] on the first stream that it accepts, and resets the others.
///
/// When something else comes than the script says, it resets the stream, and [`finish`](Self::finish) tells what it was. When
/// the script is at its end, the stream stays as it is, and what still comes is dropped.
#[derive(Debug, Clone)]
pub struct ScriptedPeer {
    script: Script,
    /// The step that is being done.
    current: usize,
    /// How much of the body that is expected was there.
    body_taken: usize,
    /// Of the last frame that was expected.
    channel: u16,
    output: BytesMut,
    /// The end of the waiting that is being done.
    waits_until: Option<Instant>,
    /// How often to send a heartbeat, and when next.
    heartbeats: Option<(Duration, Instant)>,
    end: Option<StreamEnd>,
    accepted: usize,
    /// The last frames, as printed.
    recent: VecDeque<String>,
    failure: Option<ScriptFailure>,
}

/// Something else came than the script said.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScriptFailure {
    /// Where the step was written: file, line and column.
    pub location: String,
    /// Which step of the script it was, from 0.
    pub step: usize,
    /// What was expected.
    pub wanted: String,
    /// What came.
    pub found: String,
    /// The last frames that came before.
    pub before: Vec<String>,
}

impl fmt::Display for ScriptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            location,
            step,
            wanted,
            found,
            before,
        } = self;
        write!(
            f,
            "step {step} of the script ({location}) expected {wanted}, but {found}"
        )?;
        if !before.is_empty() {
            write!(f, "; before that: {}", before.join("; "))?;
        }
        Ok(())
    }
}

impl std::error::Error for ScriptFailure {}

/// What the input begins with.
struct Found<'a> {
    name: &'static str,
    line: String,
    channel: u16,
    size: usize,
    /// `None` for the protocol header.
    frame: Option<Frame<'a>>,
}

impl<'a> Found<'a> {
    /// `None` if it is not all there; what is wrong with it, in words.
    fn parse(octets: &'a [u8]) -> Result<Option<Self>, String> {
        if octets.starts_with(&PROTOCOL_HEADER) {
            return Ok(Some(Self {
                name: "protocol header",
                line: "protocol header".to_owned(),
                channel: 0,
                size: PROTOCOL_HEADER.len(),
                frame: None,
            }));
        }
        let limits = FrameLimits {
            body: LARGEST_FRAME,
            other: LARGEST_FRAME,
        };
        let raw = RawFrame::parse(octets, &limits).map_err(|error| error.to_string())?;
        let Some(raw) = raw else {
            return Ok(None);
        };
        let frame = raw.decode().map_err(|error| error.to_string())?;
        let name = match &frame {
            Frame::Method { method, .. } => method.spec().name,
            Frame::Header { .. } => "header",
            Frame::Body { .. } => "body",
            Frame::Heartbeat => "heartbeat",
        };
        Ok(Some(Self {
            name,
            line: frame.to_string(),
            channel: raw.channel,
            size: raw.size(),
            frame: Some(frame),
        }))
    }

    /// By its name, its channel and name, or all that it says.
    fn is(&self, wanted: &str) -> bool {
        let Self {
            name, line, channel, ..
        } = self;
        wanted == *name || wanted == line || wanted == format!("ch {channel} {name}")
    }
}

impl ScriptedPeer {
    /// One at the beginning of its script.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self {
            script,
            current: 0,
            body_taken: 0,
            channel: 0,
            output: BytesMut::new(),
            waits_until: None,
            heartbeats: None,
            end: None,
            accepted: 0,
            recent: VecDeque::new(),
            failure: None,
        }
    }

    /// Whether every step was done.
    ///
    /// # Errors
    /// Something else came than the script said, or nothing.
    pub fn finish(&self) -> Result<(), ScriptFailure> {
        match (&self.failure, self.step()) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(_)) => Err(self.failure_by("nothing came".to_owned())),
            (None, None) => Ok(()),
        }
    }

    fn step(&self) -> Option<&ScriptStep> {
        self.script.steps.get(self.current).map(|(step, _)| step)
    }

    /// Does the steps that wait for nothing, up to the next one that does.
    fn proceed(&mut self, now: Instant) {
        while self.failure.is_none()
            && let Some((step, _)) = self.script.steps.get(self.current)
        {
            match step {
                ScriptStep::Expect { .. }
                | ScriptStep::ExpectHeader(_)
                | ScriptStep::ExpectBody(_)
                | ScriptStep::ExpectEnd => return,
                ScriptStep::Send(octets) => self.output.extend_from_slice(octets),
                ScriptStep::Reply(frame) => {
                    let frame = frame.clone().channel(self.channel);
                    self.output.extend_from_slice(&frame.octets());
                }
                ScriptStep::Wait(duration) => {
                    let until = *self.waits_until.get_or_insert(now + *duration);
                    if now < until {
                        return;
                    }
                    self.waits_until = None;
                }
                ScriptStep::Heartbeats(every) => {
                    self.heartbeats = (!every.is_zero()).then(|| (*every, now + *every));
                }
                ScriptStep::End(end) => self.end = Some(*end),
            }
            self.current = self.current.saturating_add(1);
        }
    }

    /// Takes what the input begins with, and says how many octets that was: 0 if it must wait.
    fn take(&mut self, octets: &[u8]) -> usize {
        let is_deaf = self.end.is_some_and(|end| end != StreamEnd::HalfClose);
        let step = self.script.steps.get(self.current).filter(|_| !is_deaf);
        let Some((step, _)) = step else {
            return octets.len();
        };
        let found = match Found::parse(octets) {
            Ok(Some(found)) => found,
            Ok(None) => return 0,
            Err(problem) => {
                self.fail(format!("got something unreadable: {problem}"));
                return octets.len();
            }
        };
        let is_wanted = match (step, found.frame) {
            (ScriptStep::Expect { wanted, .. }, _) => found.is(wanted),
            (_, Some(Frame::Heartbeat)) => false,
            (ScriptStep::ExpectHeader(size), Some(Frame::Header { header, .. })) => header.body_size == *size,
            (ScriptStep::ExpectBody(body), Some(Frame::Body { payload, .. })) => {
                let rest = body.get(self.body_taken..).unwrap_or_default();
                if rest.len() > payload.len() && rest.starts_with(payload) {
                    self.body_taken = self.body_taken.saturating_add(payload.len());
                    self.remember(found.line);
                    return found.size;
                }
                rest == payload
            }
            (ScriptStep::Wait(_), _) => return 0,
            _ => false,
        };
        let skips = matches!(step, ScriptStep::Expect { skips: true, .. });
        if is_wanted {
            self.channel = found.channel;
            self.body_taken = 0;
            self.current = self.current.saturating_add(1);
        } else if !skips && found.name != "heartbeat" {
            self.fail(format!("got {}", found.line));
        }
        let size = found.size;
        self.remember(found.line);
        size
    }

    fn remember(&mut self, line: String) {
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    fn fail(&mut self, found: String) {
        self.failure = Some(self.failure_by(found));
        self.heartbeats = None;
        self.waits_until = None;
        self.output.clear();
        self.end = Some(StreamEnd::Reset);
    }

    fn failure_by(&self, found: String) -> ScriptFailure {
        let (wanted, location) = match self.script.steps.get(self.current) {
            Some((step, location)) => (step.to_string(), location.to_string()),
            None => (String::new(), String::new()),
        };
        ScriptFailure {
            location,
            step: self.current,
            wanted,
            found,
            before: self.recent.iter().cloned().collect(),
        }
    }
}

impl Server for ScriptedPeer {
    /// Counts the streams.
    type Key = usize;
    type Output = BytesMut;

    fn accept(&mut self, now: Instant) -> usize {
        let key = self.accepted;
        self.accepted = key.saturating_add(1);
        if key == 0 {
            self.proceed(now);
        }
        key
    }

    fn handle_input(&mut self, key: usize, now: Instant, input: &mut RecvBuf) {
        if key != 0 {
            return input.consume(usize::MAX);
        }
        input.raise_limit(LARGEST_FRAME as usize);
        self.proceed(now);
        while !input.unread().is_empty() {
            let count = self.take(input.unread());
            if count == 0 {
                return;
            }
            input.consume(count);
            self.proceed(now);
        }
    }

    fn handle_disconnect(&mut self, key: usize, now: Instant) {
        if key != 0 {
            return;
        }
        self.heartbeats = None;
        match self.step() {
            Some(ScriptStep::ExpectEnd) => {
                self.current = self.current.saturating_add(1);
                self.proceed(now);
            }
            Some(_) if self.failure.is_none() => self.fail("the stream ended".to_owned()),
            _ => {}
        }
    }

    fn poll_transmit(&mut self, key: usize, _now: Instant, out: &mut BytesMut) {
        if key == 0 && !out.has_remaining() {
            std::mem::swap(out, &mut self.output);
        }
    }

    fn stream_end(&self, key: usize) -> Option<StreamEnd> {
        if key == 0 {
            self.end
        } else {
            Some(StreamEnd::Reset)
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let heartbeat = self.heartbeats.map(|(_, at)| at);
        self.waits_until.into_iter().chain(heartbeat).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some((every, at)) = self.heartbeats
            && at <= now
        {
            if self.output.is_empty() {
                self.output.extend_from_slice(&HEARTBEAT);
            }
            self.heartbeats = Some((every, now + every));
        }
        self.proceed(now);
    }
}
