//! Why a text is no AMQP URI.

use alloc::string::String;
use core::fmt;

/// Why a text is no AMQP URI: which part, where, and what is wrong with it.
///
/// It never contains a value out of the URI, so it can be logged whatever the URI holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad {part} in the URI, at byte {offset}: {problem}")]
#[non_exhaustive]
pub struct UriError {
    /// The bad part.
    pub part: UriPart,
    /// Where, in bytes from the start of the URI, from 0; the URI's length if something is missing at its
    /// end.
    pub offset: usize,
    /// What is wrong.
    pub problem: UriProblem,
}

impl UriError {
    pub(super) fn new(part: UriPart, offset: usize, problem: UriProblem) -> Self {
        Self {
            part,
            offset,
            problem,
        }
    }
}

/// The parts of an AMQP URI (RabbitMQ page "AMQP URI Specification").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UriPart {
    /// `amqp` or `amqps`, and the `://`.
    Scheme,
    /// User name and password together.
    UserInfo,
    /// The user name.
    User,
    /// The password.
    Password,
    /// A host.
    Host,
    /// A host's port.
    Port,
    /// The path, which is the virtual host.
    VirtualHost,
    /// What follows the `?`.
    Query,
    /// What follows the `#`.
    Fragment,
}

impl fmt::Display for UriPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "scheme",
            Self::UserInfo => "user information",
            Self::User => "user name",
            Self::Password => "password",
            Self::Host => "host",
            Self::Port => "port",
            Self::VirtualHost => "virtual host",
            Self::Query => "query",
            Self::Fragment => "fragment",
        })
    }
}

/// What is wrong with a part of a URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriProblem {
    /// Neither `amqp://` nor `amqps://`.
    #[error("it must begin with amqp:// or amqps://")]
    UnknownScheme,
    /// A `%` without two hexadecimal digits behind it.
    #[error("a % must be followed by two hexadecimal digits; write %25 for the character itself")]
    PercentEncoding,
    /// The decoded bytes are no UTF-8.
    #[error("not UTF-8 after percent-decoding")]
    InvalidUtf8,
    /// A NUL byte, encoded or not.
    #[error("a NUL byte is not possible here")]
    Nul,
    /// White space as it stands.
    #[error("white space must be percent-encoded (a space is %20)")]
    WhiteSpace,
    /// A control character as it stands.
    #[error("a control character must be percent-encoded")]
    ControlCharacter,
    /// An `@` where it is unclear what it separates.
    #[error(
        "an @ that is not the end of user name and password must be written %40; in those, / ? # are %2F %3F %23"
    )]
    At,
    /// Nothing between two commas of a list of hosts.
    #[error("an empty host in a list of several")]
    EmptyHost,
    /// A character that no host name has.
    #[error("a host name has letters, digits, dots, hyphens and underscores only")]
    HostCharacter,
    /// An IPv6 address without its brackets.
    #[error("more than one colon; an IPv6 address stands in brackets")]
    Brackets,
    /// An opening bracket without a closing one.
    #[error("the bracket is never closed")]
    UnclosedBracket,
    /// Something else than a port behind the bracket.
    #[error("only a colon and a port may follow the closing bracket")]
    AfterBracket,
    /// No IPv6 address in the brackets.
    #[error("not an IPv6 address")]
    Ipv6,
    /// No zone, or an odd one, behind the `%25` in an IPv6 address.
    #[error("not the zone of an IPv6 address: letters, digits and . _ ~ - after %25")]
    Ipv6Zone,
    /// A colon without a port.
    #[error("no digits after the colon")]
    EmptyPort,
    /// Not a number from 1 to 65535.
    #[error("not a number from 1 to 65535")]
    PortRange,
    /// A second path segment.
    #[error("a / within the name must be written %2F")]
    Slash,
    /// More than 255 bytes after decoding.
    #[error("longer than 255 bytes")]
    TooLong,
    /// An AMQP URI has no fragment.
    #[error("there is none in an AMQP URI; write %23 for the character itself")]
    Unexpected,
    /// A key without `=`, or nothing between two `&`.
    #[error("key=value is expected")]
    KeyValue,
    /// No such key.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// The key, or `?` if it does not look like one and might be a part of something secret.
        key: String,
    },
    /// The same setting for the second time, perhaps by another name.
    #[error("`{key}` is already set")]
    DuplicateKey {
        /// The key.
        key: &'static str,
    },
    /// A value that the key does not take.
    #[error("`{key}` takes {expected}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A key about TLS in an `amqp://` URI, where it would have no effect.
    #[error("`{key}` is about TLS and needs amqps://")]
    NeedsTls {
        /// The key.
        key: &'static str,
    },
    /// A key of pika's whose value is Python source.
    #[error("`{key}` cannot be given in a URI here; {instead}")]
    OnlyInCode {
        /// The key.
        key: &'static str,
        /// What to do.
        instead: &'static str,
    },
}
