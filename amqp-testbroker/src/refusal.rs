//! What the peer is told when it asks for what cannot be.

use std::fmt::Display;

use amqp_proto::wire::ReplyCode;

/// Why a method is refused, as `channel.close` or `connection.close` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ReplyCode,
    /// All of the text, the code's name in front: `NOT_FOUND - no queue 'q' in vhost '/'`.
    pub(crate) text: String,
    pub(crate) scope: Scope,
}

/// What ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Channel,
    Connection,
}

impl Refusal {
    /// Ends the channel. The code's name goes in front of the text.
    pub(crate) fn channel(code: ReplyCode, text: impl Display) -> Self {
        Self::new(code, text, Scope::Channel)
    }

    /// Ends the connection. The code's name goes in front of the text.
    pub(crate) fn connection(code: ReplyCode, text: impl Display) -> Self {
        Self::new(code, text, Scope::Connection)
    }

    /// 403: a reserved name, or something that nobody may do.
    pub(crate) fn access_refused(text: impl Display) -> Self {
        Self::channel(ReplyCode::ACCESS_REFUSED, text)
    }

    /// 404: a queue or an exchange that is not there.
    pub(crate) fn not_found(resource: impl Display) -> Self {
        Self::channel(ReplyCode::NOT_FOUND, format_args!("no {resource}"))
    }

    /// 406: unequal or unacceptable arguments, something in use.
    pub(crate) fn precondition_failed(text: impl Display) -> Self {
        Self::channel(ReplyCode::PRECONDITION_FAILED, text)
    }

    fn new(code: ReplyCode, text: impl Display, scope: Scope) -> Self {
        let text = match code.name() {
            Some(name) => format!("{name} - {text}"),
            None => text.to_string(),
        };
        Self { code, text, scope }
    }

    /// The broker failed: RabbitMQ says no more than that, and ends the connection.
    pub(crate) fn internal_error() -> Self {
        Self {
            code: ReplyCode::INTERNAL_ERROR,
            text: "INTERNAL_ERROR".to_owned(),
            scope: Scope::Connection,
        }
    }

    /// The text as it fits a short string: what is longer than 255 octets ends in an ellipsis.
    pub(crate) fn short_text(&self) -> Vec<u8> {
        const MAX: usize = 255;
        const ELLIPSIS: &[u8] = b"...";
        let text = self.text.as_bytes();
        if text.len() <= MAX {
            return text.to_vec();
        }
        let kept = text.iter().take(MAX - ELLIPSIS.len());
        kept.chain(ELLIPSIS).copied().collect()
    }
}
