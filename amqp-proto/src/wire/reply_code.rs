//! Reply codes (specification 1.3, and RabbitMQ's `NO_ROUTE`).

use core::fmt;

/// A reply code, as in `connection.close`, `channel.close` and `basic.return`: open, as the wire is.
///
/// ```
/// use amqp_proto::wire::ReplyCode;
/// assert_eq!(ReplyCode(404).to_string(), "404 NOT_FOUND");
/// assert_eq!(ReplyCode(404), ReplyCode::NOT_FOUND);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct ReplyCode(pub u16);

macro_rules! reply_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal $error:ident;)+) => {
        impl ReplyCode {
            $($(#[doc = $doc])+ pub const $name: Self = Self($code);)+

            /// The specification's name in RabbitMQ's spelling (`NOT_FOUND`), where the code has one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)+
                    _ => None,
                }
            }

            /// Whether it ends the connection (`Some(true)`), only the channel (`Some(false)`), or is neither or not known.
            #[must_use]
            pub const fn is_connection_error(self) -> Option<bool> {
                match self.0 {
                    $($code => reply_codes!(@ $error),)+
                    _ => None,
                }
            }
        }
    };
    (@ info) => { None };
    (@ channel) => { Some(false) };
    (@ connection) => { Some(true) };
}

reply_codes! {
    /// All went well; also the code of an orderly close.
    REPLY_SUCCESS = 200 info;
    /// Content over what the server takes at the moment.
    CONTENT_TOO_LARGE = 311 channel;
    /// A mandatory message that no queue got (RabbitMQ; in `basic.return` only).
    NO_ROUTE = 312 channel;
    /// An immediate message that no consumer was ready for.
    NO_CONSUMERS = 313 channel;
    /// An operator ended the connection.
    CONNECTION_FORCED = 320 connection;
    /// An unknown virtual host (RabbitMQ says 530).
    INVALID_PATH = 402 connection;
    /// No permission, or a name that is reserved.
    ACCESS_REFUSED = 403 channel;
    /// No such queue or exchange.
    NOT_FOUND = 404 channel;
    /// An exclusive queue of another connection.
    RESOURCE_LOCKED = 405 channel;
    /// Unequal arguments, an unknown delivery tag, a queue in use.
    PRECONDITION_FAILED = 406 channel;
    /// A malformed frame.
    FRAME_ERROR = 501 connection;
    /// A frame with an illegal value in a field.
    SYNTAX_ERROR = 502 connection;
    /// A method that is not valid here.
    COMMAND_INVALID = 503 connection;
    /// A channel that is not open, or must not be used so.
    CHANNEL_ERROR = 504 connection;
    /// A frame that is not expected here, mostly in the middle of content.
    UNEXPECTED_FRAME = 505 connection;
    /// The server lacks resources.
    RESOURCE_ERROR = 506 connection;
    /// Something that this virtual host, user or server does not allow.
    NOT_ALLOWED = 530 connection;
    /// Something that the server does not implement.
    NOT_IMPLEMENTED = 540 connection;
    /// The server failed.
    INTERNAL_ERROR = 541 connection;
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} {name}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn an_unknown_code_has_no_name_and_no_weight() {
        assert_eq!(ReplyCode(999).name(), None);
        assert_eq!(ReplyCode(999).is_connection_error(), None);
        assert_eq!(
            format!("{} {:?}", ReplyCode(999), ReplyCode::NOT_FOUND),
            "999 404 NOT_FOUND"
        );
    }
}
