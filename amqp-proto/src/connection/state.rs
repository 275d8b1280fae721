//! What a connection is doing.

use core::fmt;

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
