//! What a connection is doing.
//!
//! ```text
//!                  start              tune                open-ok            close
//! Start ──────────────────▶ Secure ─────────▶ WaitOpenOk ─────────▶ Open ──────────▶ Closing
//! (header sent)  start-ok   │  ▲    tune-ok,                          channels first, then
//!                           └──┘    open                              connection.close
//!                   secure, secure-ok                                            │
//!                                                                                │ close-ok
//!   from everywhere: the peer's close, a protocol error, the end of               ▼
//!   the stream, a deadline ─────────────────────────────────────────────────▶ Closed
//! ```

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::sasl::SaslMechanism;
use crate::wire::ReplyCode;

/// What a connection is doing, as it looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// The protocol header is on its way; `connection.start` has not come.
    WaitingForStart,
    /// We said who we are; `connection.secure` or `connection.tune` has not come.
    WaitingForTune,
    /// The limits are settled and the virtual host is named; `connection.open-ok` has not come.
    WaitingForOpenOk,
    /// It can be used.
    Open,
    /// It can be used, but the peer reads nothing for the time being (RabbitMQ page "Blocked Connection Notifications").
    Blocked,
    /// We are closing it.
    Closing,
    /// It ended.
    Closed,
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WaitingForStart => "waiting for connection.start",
            Self::WaitingForTune => "waiting for connection.tune",
            Self::WaitingForOpenOk => "waiting for connection.open-ok",
            Self::Open => "open",
            Self::Blocked => "blocked",
            Self::Closing => "closing",
            Self::Closed => "closed",
        })
    }
}

/// The state and what belongs to it.
#[derive(Debug)]
pub(super) enum State {
    /// `connection.start` is next.
    Start,
    /// `connection.secure` or `connection.tune` is next.
    Secure {
        mechanism: Arc<dyn SaslMechanism>,
        /// How many challenges were answered.
        round: u32,
    },
    /// `connection.open-ok` is next.
    WaitOpenOk,
    Open,
    /// We are closing it.
    Closing {
        code: ReplyCode,
        text: String,
        /// `connection.close` was written; before that, the channels are closed.
        is_said: bool,
    },
    Closed,
}

impl State {
    pub(super) const fn summary(&self, is_blocked: bool) -> ConnectionState {
        match self {
            Self::Start => ConnectionState::WaitingForStart,
            Self::Secure { .. } => ConnectionState::WaitingForTune,
            Self::WaitOpenOk => ConnectionState::WaitingForOpenOk,
            Self::Open if is_blocked => ConnectionState::Blocked,
            Self::Open => ConnectionState::Open,
            Self::Closing { .. } => ConnectionState::Closing,
            Self::Closed => ConnectionState::Closed,
        }
    }
}
