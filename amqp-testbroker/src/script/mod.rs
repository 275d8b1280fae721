//! A server that follows a script: what to expect, what to send, when to be silent, how to go.

mod frame;
mod peer;

pub use frame::CraftedFrame;
pub use peer::{ScriptFailure, ScriptedPeer};

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use amqp_proto::wire::{ConnectionOpenOk, ConnectionStart, ConnectionTune, Method};

use crate::server::StreamEnd;

/// What a [`ScriptedPeer`] does, step by step. Data: made once, used for as many peers as you like.
///
/// ```
/// use amqp_proto::wire::{ChannelOpenOk, QueueDeclareOk};
/// use amqp_testbroker::{CraftedFrame, Script};
/// use std::time::Duration;
///
/// let script = Script::new()
///     .handshake()
///     .expect("channel.open")
///     .reply(ChannelOpenOk {})
///     .expect(r#"ch 1 queue.declare queue="tasks" durable"#)
///     .wait(Duration::from_secs(1))
///     .send(CraftedFrame::method(1, QueueDeclareOk::default()).end(0xCF))
///     .expect("connection.close")
///     .hang_up();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: Vec<(ScriptStep, &'static Location<'static>)>,
}

#[derive(Debug, Clone)]
enum ScriptStep {
    /// A frame of that name, of that channel and name, or that prints so.
    Expect {
        wanted: String,
        skips: bool,
    },
    /// A content header with that body size.
    ExpectHeader(u64),
    /// Body frames that give this.
    ExpectBody(Vec<u8>),
    ExpectEnd,
    Send(Vec<u8>),
    /// On the channel of the last frame that was expected.
    Reply(CraftedFrame),
    Wait(Duration),
    Heartbeats(Duration),
    End(StreamEnd),
}

impl Script {
    /// Nothing: waits, says nothing, drops what comes.
    #[must_use]
    pub const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    /// The handshake of an honest broker without heartbeats: up to 2047 channels, frames of 128 KiB.
    #[track_caller]
    #[must_use]
    pub fn handshake(self) -> Self {
        self.handshake_with(ConnectionTune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
        })
    }

    /// The handshake of an honest broker that proposes these limits.
    #[track_caller]
    #[must_use]
    pub fn handshake_with(self, tune: ConnectionTune) -> Self {
        self.expect("protocol header")
            .reply(ConnectionStart::default())
            .expect("connection.start-ok")
            .reply(tune)
            .expect("connection.tune-ok")
            .expect("connection.open")
            .reply(ConnectionOpenOk {})
    }

    /// The next frame must be that one; heartbeats do not count, unless they are expected.
    ///
    /// By its name: `queue.declare`, `header`, `body`, `heartbeat`, `protocol header`. By its channel and name:
    /// `ch 1 queue.declare`. Or by all it says, as [`Frame`](amqp_proto::wire::Frame) prints it:
    /// `ch 1 queue.declare queue="tasks" durable`.
    #[track_caller]
    #[must_use]
    pub fn expect(self, wanted: &str) -> Self {
        self.push(ScriptStep::Expect {
            wanted: wanted.to_owned(),
            skips: false,
        })
    }

    /// Takes all frames up to that one, which [`expect`](Self::expect) tells how to name.
    #[track_caller]
    #[must_use]
    pub fn skip_to(self, wanted: &str) -> Self {
        self.push(ScriptStep::Expect {
            wanted: wanted.to_owned(),
            skips: true,
        })
    }

    /// A method with content, then a header, then that body in any number of frames.
    #[track_caller]
    #[must_use]
    pub fn expect_content(self, wanted: &str, body: &[u8]) -> Self {
        let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let script = self.expect(wanted).push(ScriptStep::ExpectHeader(size));
        match body {
            [] => script,
            body => script.push(ScriptStep::ExpectBody(body.to_vec())),
        }
    }

    /// The client must end the stream now.
    #[track_caller]
    #[must_use]
    pub fn expect_end(self) -> Self {
        self.push(ScriptStep::ExpectEnd)
    }

    /// Sends a method on the channel of the last frame that was expected.
    #[track_caller]
    #[must_use]
    pub fn reply<'m>(self, method: impl Into<Method<'m>>) -> Self {
        self.push(ScriptStep::Reply(CraftedFrame::method(0, method)))
    }

    /// Sends a frame as it is.
    #[track_caller]
    #[must_use]
    pub fn send(self, frame: CraftedFrame) -> Self {
        self.send_all([frame])
    }

    /// Sends frames as they are.
    #[track_caller]
    #[must_use]
    pub fn send_all(self, frames: impl IntoIterator<Item = CraftedFrame>) -> Self {
        let octets = frames.into_iter().flat_map(|frame| frame.octets()).collect();
        self.push(ScriptStep::Send(octets))
    }

    /// Does nothing for so long, and reads nothing but heartbeats.
    #[track_caller]
    #[must_use]
    pub fn wait(self, duration: Duration) -> Self {
        self.push(ScriptStep::Wait(duration))
    }

    /// From now on, whatever else is done, sends a heartbeat whenever so much time has passed; never if it is zero.
    #[track_caller]
    #[must_use]
    pub fn heartbeats(self, every: Duration) -> Self {
        self.push(ScriptStep::Heartbeats(every))
    }

    /// Writes no more, and goes on reading.
    #[track_caller]
    #[must_use]
    pub fn half_close(self) -> Self {
        self.push(ScriptStep::End(StreamEnd::HalfClose))
    }

    /// Closes the stream; what still comes is dropped.
    #[track_caller]
    #[must_use]
    pub fn hang_up(self) -> Self {
        self.push(ScriptStep::End(StreamEnd::HangUp))
    }

    /// Resets the stream.
    #[track_caller]
    #[must_use]
    pub fn reset(self) -> Self {
        self.push(ScriptStep::End(StreamEnd::Reset))
    }

    /// Another script behind this one.
    #[must_use]
    pub fn then(mut self, script: Self) -> Self {
        self.steps.extend(script.steps);
        self
    }

    #[track_caller]
    fn push(mut self, step: ScriptStep) -> Self {
        self.steps.push((step, Location::caller()));
        self
    }
}

/// As "expected …".
impl fmt::Display for ScriptStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expect { wanted, skips: false } => f.write_str(wanted),
            Self::Expect { wanted, skips: true } => write!(f, "{wanted} sooner or later"),
            Self::ExpectHeader(size) => write!(f, "header body_size={size}"),
            Self::ExpectBody(body) => write!(f, "body \"{}\"", body.escape_ascii()),
            Self::ExpectEnd => f.write_str("the end of the stream"),
            Self::Send(_) | Self::Reply(_) | Self::Heartbeats(_) | Self::End(_) => {
                f.write_str("to send or to close")
            }
            Self::Wait(duration) => write!(f, "to wait for {duration:?}"),
        }
    }
}
