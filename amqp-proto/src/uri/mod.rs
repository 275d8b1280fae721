//! AMQP URIs: `amqps://user:password@host1,host2:5671/virtual-host?key=value`.

mod error;
mod query;
mod span;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

pub use error::{UriError, UriPart, UriProblem};
pub use query::UriQuery;
use span::{Encoded, Span};

use crate::config::{Config, Heartbeat};
use crate::credentials::Credentials;
use crate::parameters::{ConnectionParameters, Host, TlsParameters, is_ipv6};
use crate::sasl::Mechanism;
use crate::secret::Secret;

/// A parsed AMQP URI (RabbitMQ pages "AMQP URI Specification" and "URI Query Parameters").
///
/// `Debug` and `Display` print `***` in place of the passwords; but for them, what `Display` prints parses to
/// the same again.
///
/// ```
/// use amqp_proto::AmqpUri;
/// let uri: AmqpUri = "amqp://ann:s3cret@[::1]:5673/a%2Fb?heartbeat=20".parse().unwrap();
/// assert_eq!(uri.virtual_host, "a/b");
/// assert_eq!(uri.to_string(), "amqp://ann:***@[::1]:5673/a%2Fb?heartbeat=20");
///
/// let error = "amqp://host:70000".parse::<AmqpUri>().unwrap_err();
/// assert_eq!(error.to_string(), "bad port in the URI, at byte 12: not a number from 1 to 65535");
/// ```
///
/// # What is read
///
/// * **Scheme**: `amqp` (port 5672) or `amqps` (TLS, port 5671), in any case.
/// * **User and password**, percent-decoded. Without any, guest / guest; a user alone has the password
///   "guest", as in RabbitMQ's Erlang and Go clients; `user:@` is an empty password. The password begins
///   behind the first colon and may contain more of them. An `@` in it must be `%40`. Where no user stands
///   before the host, an `@` anywhere behind it is refused: it would come from a password with a raw `/`, `?`
///   or `#` in it.
/// * **Hosts**, several separated by commas, each with its own port or the default one. A single one may be
///   left out and is localhost then. IPv6 addresses stand in brackets, a zone behind `%25`.
/// * **Virtual host**: the percent-decoded path without its leading slash. `amqp://host`, `amqp://host/` and
///   `amqp://host//` all mean "/". pika, aiormq and the Go client read them so as well, whereas RabbitMQ's
///   own rules make the second one the virtual host with an empty name; [`Config::virtual_host`] can still
///   ask for that one. Any other further slash must be `%2F`.
/// * **Query**: `key=value`, separated by `&`, both percent-decoded; the keys are on [`UriQuery`]. A `+` is a
///   plus, as RabbitMQ reads it, and not a space. An unknown key is an error, and so is one given twice.
/// * **Fragment**: an error.
///
/// Characters beyond ASCII may stand as they are but in hosts; white space and control characters must be
/// encoded; NUL and what is not UTF-8 after decoding are refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AmqpUri {
    /// Whether the scheme is `amqps`.
    pub tls: bool,
    /// The user name, if there is one; it may be empty.
    pub user: Option<String>,
    /// The password, if there is one; it may be empty. The URI's own text is the caller's to clear.
    pub password: Option<Secret>,
    /// At least one.
    pub hosts: Vec<Host>,
    /// At most 255 bytes.
    pub virtual_host: String,
    /// What the query sets.
    pub query: UriQuery,
}

impl FromStr for AmqpUri {
    type Err = UriError;

    fn from_str(uri: &str) -> Result<Self, UriError> {
        let (tls, rest) = scheme(Span { text: uri, at: 0 })?;
        let (authority, rest) = rest.split_before(&['/', '?', '#']);
        let (user, password, hosts) = user_info(authority, rest)?;
        let (rest, fragment) = rest.split_before(&['#']);
        if !fragment.text.is_empty() {
            return Err(fragment.error(UriPart::Fragment, UriProblem::Unexpected));
        }
        let (path, query) = rest.split_before(&['?']);
        Ok(Self {
            tls,
            user,
            password,
            hosts: host_list(hosts)?,
            virtual_host: virtual_host(path)?,
            query: query
                .strip_prefix('?')
                .map_or_else(|| Ok(UriQuery::default()), |q| UriQuery::parse(q, tls))?,
        })
    }
}

fn scheme(uri: Span<'_>) -> Result<(bool, Span<'_>), UriError> {
    let unknown = || uri.error(UriPart::Scheme, UriProblem::UnknownScheme);
    let (name, rest) = uri.split_once(':').ok_or_else(unknown)?;
    let tls = match name.text {
        name if name.eq_ignore_ascii_case("amqp") => false,
        name if name.eq_ignore_ascii_case("amqps") => true,
        _ => return Err(unknown()),
    };
    let rest = rest.strip_prefix('/').and_then(|rest| rest.strip_prefix('/'));
    rest.map(|rest| (tls, rest))
        .ok_or_else(|| UriError::new(UriPart::Scheme, name.end(), UriProblem::UnknownScheme))
}

type UserInfo<'a> = (Option<String>, Option<Secret>, Span<'a>);

/// The user, the password and what follows them; `rest` is what follows the authority.
fn user_info<'a>(authority: Span<'a>, rest: Span<'a>) -> Result<UserInfo<'a>, UriError> {
    let Some((user_info, hosts)) = authority.split_once('@') else {
        return match rest.find('@') {
            Some(offset) => Err(UriError::new(UriPart::UserInfo, offset, UriProblem::At)),
            None => Ok((None, None, authority)),
        };
    };
    if hosts.text.contains('@') {
        return Err(UriError::new(UriPart::UserInfo, user_info.end(), UriProblem::At));
    }
    let (user, password) = match user_info.split_once(':') {
        Some((user, password)) => (user, Some(password.decode(UriPart::Password)?)),
        None => (user_info, None),
    };
    Ok((
        Some(user.decode(UriPart::User)?),
        password.map(Secret::new),
        hosts,
    ))
}

fn host_list(hosts: Span<'_>) -> Result<Vec<Host>, UriError> {
    let several = hosts.text.contains(',');
    let parse = |span: Span<'_>| {
        let host = host(span)?;
        match (host.name.is_empty(), several) {
            (true, true) => Err(span.error(UriPart::Host, UriProblem::EmptyHost)),
            (true, false) => Ok(Host {
                name: "localhost".into(),
                ..host
            }),
            (false, _) => Ok(host),
        }
    };
    hosts.split(',').map(parse).collect()
}

fn host(span: Span<'_>) -> Result<Host, UriError> {
    if let Some(inner) = span.strip_prefix('[') {
        let unclosed = || span.error(UriPart::Host, UriProblem::UnclosedBracket);
        let (address, rest) = inner.split_once(']').ok_or_else(unclosed)?;
        let port = match rest.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if rest.text.is_empty() => None,
            None => return Err(rest.error(UriPart::Host, UriProblem::AfterBracket)),
        };
        return Ok(Host {
            name: ipv6(address)?,
            port,
        });
    }
    let (name, digits) = match span.split_once(':') {
        Some((_, digits)) if digits.text.contains(':') => {
            return Err(span.error(UriPart::Host, UriProblem::Brackets));
        }
        Some((name, digits)) => (name, Some(digits)),
        None => (span, None),
    };
    let decoded = name.decode(UriPart::Host)?;
    if !decoded
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        return Err(name.error(UriPart::Host, UriProblem::HostCharacter));
    }
    Ok(Host {
        name: decoded,
        port: digits.map(port).transpose()?,
    })
}

/// The text between brackets: an address, perhaps with a zone (RFC 6874). The result has a plain `%` before
/// it.
fn ipv6(span: Span<'_>) -> Result<String, UriError> {
    let decoded = span.decode(UriPart::Host)?;
    let (address, zone) = match decoded.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (decoded.as_str(), None),
    };
    if !is_ipv6(address) {
        return Err(span.error(UriPart::Host, UriProblem::Ipv6));
    }
    let is_zone = |zone: &str| {
        !zone.is_empty()
            && zone
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    match zone {
        Some(zone) if !is_zone(zone) => Err(span.error(UriPart::Host, UriProblem::Ipv6Zone)),
        _ => Ok(decoded),
    }
}

fn port(digits: Span<'_>) -> Result<u16, UriError> {
    if digits.text.is_empty() {
        return Err(digits.error(UriPart::Port, UriProblem::EmptyPort));
    }
    // A plus sign is a number's to `parse`, but not a port's.
    let number = digits
        .text
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.text.parse().ok());
    let in_range = number.flatten().filter(|port| *port != 0);
    in_range.ok_or_else(|| digits.error(UriPart::Port, UriProblem::PortRange))
}

fn virtual_host(path: Span<'_>) -> Result<String, UriError> {
    let segment = match path.strip_prefix('/') {
        Some(segment) if !matches!(segment.text, "" | "/") => segment,
        _ => return Ok("/".into()),
    };
    if let Some(offset) = segment.find('/') {
        return Err(UriError::new(UriPart::VirtualHost, offset, UriProblem::Slash));
    }
    let name = segment.decode(UriPart::VirtualHost)?;
    match name.len() {
        0..=255 => Ok(name),
        _ => Err(segment.error(UriPart::VirtualHost, UriProblem::TooLong)),
    }
}

/// The virtual host is printed as `%2F` rather than left out if it is "/": that has one meaning only,
/// everywhere. One with an empty name, which no parsed URI has, cannot be printed.
impl fmt::Display for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "amqps://" } else { "amqp://" })?;
        if let Some(user) = &self.user {
            write!(f, "{}", Encoded(user))?;
            f.write_str(if self.password.is_some() { ":***@" } else { "@" })?;
        }
        for (position, host) in self.hosts.iter().enumerate() {
            f.write_str(if position > 0 { "," } else { "" })?;
            write!(f, "{host}")?;
        }
        write!(f, "/{}{}", Encoded(&self.virtual_host), self.query)
    }
}

impl ConnectionParameters {
    /// What a URI says; the syntax is on [`AmqpUri`].
    ///
    /// # Errors
    /// [`UriError`], which names the bad part and never contains the password.
    pub fn from_uri(uri: &str) -> Result<Self, UriError> {
        uri.parse::<AmqpUri>().map(Self::from)
    }
}

impl From<AmqpUri> for ConnectionParameters {
    fn from(uri: AmqpUri) -> Self {
        let AmqpUri {
            tls,
            user,
            password,
            hosts,
            virtual_host,
            query,
        } = uri;
        let mechanisms = match query.auth_mechanisms.is_empty() {
            true => [Mechanism::Plain, Mechanism::Amqplain].into(),
            false => query.auth_mechanisms.clone(),
        };
        let user = user.unwrap_or_else(|| "guest".into());
        let password = password.unwrap_or_else(|| "guest".into());
        let defaults = Self::default();
        Self {
            hosts,
            tls: tls.then(|| TlsParameters {
                ca_certificate: query.cacertfile.clone(),
                client_certificate: query.certfile.clone(),
                private_key: query.keyfile.clone(),
                key_password: query.password.clone(),
                verification: query.verify.unwrap_or_default(),
                server_name: query.server_name_indication.clone().unwrap_or_default(),
                depth: query.depth,
            }),
            connection_timeout: query.connection_timeout.unwrap_or(defaults.connection_timeout),
            connection_attempts: query.connection_attempts.unwrap_or(defaults.connection_attempts),
            retry_delay: query.retry_delay.unwrap_or(defaults.retry_delay),
            stack_timeout: query.stack_timeout.unwrap_or(defaults.stack_timeout),
            tcp: defaults.tcp,
            config: Config {
                virtual_host,
                ..query.config()
            }
            .credentials(Credentials::with_mechanisms(user, password, mechanisms)),
        }
    }
}

impl UriQuery {
    /// The part that concerns the protocol, over the defaults.
    fn config(&self) -> Config {
        let defaults = Config::default();
        Config {
            channel_max: self.channel_max.unwrap_or(defaults.channel_max),
            frame_max: self.frame_max.unwrap_or(defaults.frame_max),
            heartbeat: match self.heartbeat {
                None => Heartbeat::ServerProposal,
                Some(0) => Heartbeat::Off,
                Some(seconds) => Heartbeat::Seconds(seconds),
            },
            locale: self.locale.clone().unwrap_or(defaults.locale),
            connection_name: self.name.clone(),
            blocked_connection_timeout: self.blocked_connection_timeout,
            ..defaults
        }
    }
}
