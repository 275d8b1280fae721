//! The query of an AMQP URI.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use super::error::{UriError, UriPart, UriProblem};
use super::span::{Encoded, Span};
use crate::parameters::{PeerVerification, ServerName};
use crate::sasl::Mechanism;
use crate::secret::Secret;
use crate::wire::FRAME_MIN_SIZE;

/// What the query of an [`AmqpUri`](super::AmqpUri) sets; `None` is the default of
/// [`ConnectionParameters`](crate::ConnectionParameters) or [`Config`](crate::Config).
///
/// The keys are RabbitMQ's (page "URI Query Parameters"), pika's (`URLParameters`) and aio-pika's:
///
/// | key | value | from |
/// |---|---|---|
/// | `heartbeat`, `heartbeat_interval` | seconds, 0 to 65535; 0 is off | all; the second pika 0.9 |
/// | `channel_max` | 0 to 65535 | RabbitMQ, pika |
/// | `frame_max` | bytes, 0 or at least 4096 | RabbitMQ, pika |
/// | `auth_mechanism` | `plain`, `amqplain`, `external`, `anonymous`, `crdemo` (or a name as on the wire), most wanted first; the only key that can be repeated | RabbitMQ |
/// | `connection_timeout` | for one TCP connection, **milliseconds**, at least 1 | RabbitMQ |
/// | `socket_timeout` | the same in **seconds**, with a fraction | pika |
/// | `stack_timeout`, `timeout` | until the connection is usable, seconds | pika, aio-pika |
/// | `connection_attempts` | at least 1 | pika |
/// | `retry_delay` | seconds | pika |
/// | `blocked_connection_timeout` | seconds | pika |
/// | `locale` | 1 to 255 bytes | pika |
/// | `name` | the connection's name | aio-pika |
/// | `cacertfile`, `certfile`, `keyfile` | paths | RabbitMQ, `amqps` only |
/// | `password` | of the key file, **not** the user's | RabbitMQ, `amqps` only |
/// | `verify` | `verify_peer` (default) or `verify_none` | RabbitMQ, `amqps` only |
/// | `depth` | how many intermediate certificates | RabbitMQ, `amqps` only |
/// | `server_name_indication` | a name, or `disable` | RabbitMQ, `amqps` only |
/// | `fail_if_no_peer_cert` | `true` or `false`: a server's setting, without effect | RabbitMQ, `amqps` only |
/// | `customize_hostname_check` | `https`: always done, without effect | RabbitMQ, `amqps` only |
/// | `backpressure_detection` | `t`, `f`, `true`, `false`: always on, without effect | pika 0.9 |
///
/// Seconds may have up to nine decimals and, but for `retry_delay`, are above 0. Two names of one setting
/// count as the same key given twice. Refused with a hint: pika's `client_properties`, `ssl_options` and
/// `tcp_options`, whose values are Python source.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct UriQuery {
    /// Seconds; 0 is off.
    pub heartbeat: Option<u16>,
    /// 0 is no limit of ours.
    pub channel_max: Option<u16>,
    /// Bytes; 0 is no limit of ours.
    pub frame_max: Option<u32>,
    /// Most wanted first; empty is the default.
    pub auth_mechanisms: Vec<Mechanism>,
    /// For one TCP connection (`connection_timeout` or `socket_timeout`).
    pub connection_timeout: Option<Duration>,
    /// Until the connection is usable (`stack_timeout` or `timeout`).
    pub stack_timeout: Option<Duration>,
    /// At least 1.
    pub connection_attempts: Option<u32>,
    /// Between two attempts.
    pub retry_delay: Option<Duration>,
    /// Until a blocked connection is given up.
    pub blocked_connection_timeout: Option<Duration>,
    /// 1 to 255 bytes.
    pub locale: Option<String>,
    /// The connection's name.
    pub name: Option<String>,
    /// Path of the trusted certificates.
    pub cacertfile: Option<String>,
    /// Path of the client's certificate.
    pub certfile: Option<String>,
    /// Path of the client's private key.
    pub keyfile: Option<String>,
    /// The password of the private key.
    pub password: Option<Secret>,
    /// Whether the server's certificate is checked.
    pub verify: Option<PeerVerification>,
    /// How many intermediate certificates may follow the server's.
    pub depth: Option<u32>,
    /// The name to ask the server for.
    pub server_name_indication: Option<ServerName>,
}

impl UriQuery {
    /// `query` is what follows the `?`; nothing is an empty query.
    pub(super) fn parse(query: Span<'_>, tls: bool) -> Result<Self, UriError> {
        let mut parsed = Self::default();
        let mut without_effect = Vec::new();
        if query.text.is_empty() {
            return Ok(parsed);
        }
        for span in query.split('&') {
            let pair = Pair::parse(span)?;
            if pair.is_about_tls() && !tls {
                return Err(pair.key_error(UriProblem::NeedsTls { key: pair.key }));
            }
            if pair.is_without_effect()? {
                if without_effect.contains(&pair.key) {
                    return Err(pair.duplicate());
                }
                without_effect.push(pair.key);
                continue;
            }
            if pair.is_about_tls() {
                parsed.set_tls(&pair)?
            } else {
                parsed.set(&pair)?
            }
        }
        Ok(parsed)
    }

    fn set(&mut self, pair: &Pair<'_>) -> Result<(), UriError> {
        match pair.key {
            "heartbeat" | "heartbeat_interval" => {
                pair.put(&mut self.heartbeat, pair.number("seconds from 0 to 65535")?)
            }
            "channel_max" => pair.put(&mut self.channel_max, pair.number("a number from 0 to 65535")?),
            "frame_max" => pair.put(&mut self.frame_max, pair.frame_max()?),
            "auth_mechanism" => {
                let mechanism = pair.mechanism()?;
                if self.auth_mechanisms.contains(&mechanism) {
                    return Err(pair.duplicate());
                }
                self.auth_mechanisms.push(mechanism);
                Ok(())
            }
            "connection_timeout" => pair.put(&mut self.connection_timeout, pair.milliseconds()?),
            "socket_timeout" => pair.put(&mut self.connection_timeout, pair.positive_seconds()?),
            "stack_timeout" | "timeout" => pair.put(&mut self.stack_timeout, pair.positive_seconds()?),
            "connection_attempts" => pair.put(&mut self.connection_attempts, pair.attempts()?),
            "retry_delay" => pair.put(&mut self.retry_delay, pair.seconds()?),
            "blocked_connection_timeout" => {
                pair.put(&mut self.blocked_connection_timeout, pair.positive_seconds()?)
            }
            "locale" => pair.put(&mut self.locale, pair.locale()?),
            "name" => pair.put(&mut self.name, pair.text("a name")?),
            key => Err(pair.key_error(UriProblem::OnlyInCode {
                key,
                instead: in_code(key),
            })),
        }
    }

    fn set_tls(&mut self, pair: &Pair<'_>) -> Result<(), UriError> {
        match pair.key {
            "cacertfile" => pair.put(&mut self.cacertfile, pair.text("a path")?),
            "certfile" => pair.put(&mut self.certfile, pair.text("a path")?),
            "keyfile" => pair.put(&mut self.keyfile, pair.text("a path")?),
            "password" => pair.put(
                &mut self.password,
                Secret::new(pair.value.decode(UriPart::Query)?),
            ),
            "verify" => pair.put(&mut self.verify, pair.verification()?),
            "depth" => pair.put(&mut self.depth, pair.number("a number from 0 to 4294967295")?),
            _ => pair.put(&mut self.server_name_indication, pair.server_name()?),
        }
    }
}

/// Everything that is no key of `set` or `set_tls` and yet is known.
fn in_code(key: &str) -> &'static str {
    match key {
        "client_properties" => "set Config::client_properties in code",
        "ssl_options" => {
            "set ConnectionParameters::tls in code, or use the keys cacertfile, certfile, keyfile, verify"
        }
        _ => "set ConnectionParameters::tcp in code",
    }
}

const TLS_KEYS: [&str; 9] = [
    "cacertfile",
    "certfile",
    "keyfile",
    "password",
    "verify",
    "depth",
    "server_name_indication",
    "fail_if_no_peer_cert",
    "customize_hostname_check",
];

const OTHER_KEYS: [&str; 18] = [
    "heartbeat",
    "heartbeat_interval",
    "channel_max",
    "frame_max",
    "auth_mechanism",
    "connection_timeout",
    "socket_timeout",
    "stack_timeout",
    "timeout",
    "connection_attempts",
    "retry_delay",
    "blocked_connection_timeout",
    "locale",
    "name",
    "backpressure_detection",
    "client_properties",
    "ssl_options",
    "tcp_options",
];

/// One `key=value`, its key a known one.
struct Pair<'a> {
    key: &'static str,
    at: usize,
    value: Span<'a>,
}

impl<'a> Pair<'a> {
    fn parse(span: Span<'a>) -> Result<Self, UriError> {
        let malformed = || span.error(UriPart::Query, UriProblem::KeyValue);
        let (key, value) = span.split_once('=').ok_or_else(malformed)?;
        let name = key.decode(UriPart::Query)?;
        let known = TLS_KEYS.iter().chain(&OTHER_KEYS).find(|known| **known == name);
        match known {
            Some(known) => Ok(Self {
                key: known,
                at: span.at,
                value,
            }),
            None if name.is_empty() => Err(malformed()),
            None => Err(span.error(UriPart::Query, UriProblem::UnknownKey { key: harmless(name) })),
        }
    }

    fn is_about_tls(&self) -> bool {
        TLS_KEYS.contains(&self.key)
    }

    /// Whether it is accepted for compatibility only; its value is checked all the same.
    fn is_without_effect(&self) -> Result<bool, UriError> {
        let (allowed, expected): (&[&str], _) = match self.key {
            "backpressure_detection" => (&["t", "f", "true", "false"], "t or f"),
            "fail_if_no_peer_cert" => (&["true", "false"], "true or false"),
            "customize_hostname_check" => (&["https"], "https"),
            _ => return Ok(false),
        };
        match allowed.contains(&self.text(expected)?.as_str()) {
            true => Ok(true),
            false => Err(self.invalid(expected)),
        }
    }

    fn put<T>(&self, slot: &mut Option<T>, value: T) -> Result<(), UriError> {
        match slot.replace(value) {
            Some(_) => Err(self.duplicate()),
            None => Ok(()),
        }
    }

    fn key_error(&self, problem: UriProblem) -> UriError {
        UriError::new(UriPart::Query, self.at, problem)
    }

    fn duplicate(&self) -> UriError {
        self.key_error(UriProblem::DuplicateKey { key: self.key })
    }

    fn invalid(&self, expected: &'static str) -> UriError {
        self.value.error(
            UriPart::Query,
            UriProblem::InvalidValue {
                key: self.key,
                expected,
            },
        )
    }

    fn text(&self, expected: &'static str) -> Result<String, UriError> {
        let text = self.value.decode(UriPart::Query)?;
        if text.is_empty() {
            Err(self.invalid(expected))
        } else {
            Ok(text)
        }
    }

    fn number<T: FromStr>(&self, expected: &'static str) -> Result<T, UriError> {
        let text = self.text(expected)?;
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.ok_or_else(|| self.invalid(expected))
    }

    fn frame_max(&self) -> Result<u32, UriError> {
        let expected = "bytes, 0 or from 4096 to 4294967295";
        match self.number(expected)? {
            1..FRAME_MIN_SIZE => Err(self.invalid(expected)),
            bytes => Ok(bytes),
        }
    }

    fn attempts(&self) -> Result<u32, UriError> {
        let expected = "a number from 1 to 4294967295";
        match self.number(expected)? {
            0 => Err(self.invalid(expected)),
            attempts => Ok(attempts),
        }
    }

    fn milliseconds(&self) -> Result<Duration, UriError> {
        let expected = "milliseconds, a whole number above 0";
        match self.number(expected)? {
            0 => Err(self.invalid(expected)),
            milliseconds => Ok(Duration::from_millis(milliseconds)),
        }
    }

    fn seconds(&self) -> Result<Duration, UriError> {
        let expected = "seconds, as 2 or 0.25";
        parse_seconds(&self.text(expected)?).ok_or_else(|| self.invalid(expected))
    }

    fn positive_seconds(&self) -> Result<Duration, UriError> {
        let expected = "seconds above 0, as 2 or 0.25";
        let seconds = parse_seconds(&self.text(expected)?).filter(|seconds| !seconds.is_zero());
        seconds.ok_or_else(|| self.invalid(expected))
    }

    fn mechanism(&self) -> Result<Mechanism, UriError> {
        let expected = "plain, amqplain, external, anonymous or crdemo";
        Mechanism::from_name(&self.text(expected)?).ok_or_else(|| self.invalid(expected))
    }

    fn locale(&self) -> Result<String, UriError> {
        let expected = "1 to 255 bytes, as en_US";
        let locale = self.text(expected)?;
        if locale.len() > 255 {
            Err(self.invalid(expected))
        } else {
            Ok(locale)
        }
    }

    fn verification(&self) -> Result<PeerVerification, UriError> {
        let expected = "verify_peer or verify_none";
        match self.text(expected)?.as_str() {
            "verify_peer" => Ok(PeerVerification::VerifyPeer),
            "verify_none" => Ok(PeerVerification::VerifyNone),
            _ => Err(self.invalid(expected)),
        }
    }

    fn server_name(&self) -> Result<ServerName, UriError> {
        let name = self.text("a host name, or disable")?;
        Ok(if name == "disable" {
            ServerName::Disable
        } else {
            ServerName::Name(name)
        })
    }
}

/// An unknown key, if it looks like one.
fn harmless(key: String) -> String {
    let looks_like_a_key = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if key.len() <= 40 && key.bytes().all(looks_like_a_key) {
        key
    } else {
        "?".into()
    }
}

/// Exact, which a detour by floating point would not be: `1`, `1.5`, `.5`, at most nine decimals.
fn parse_seconds(text: &str) -> Option<Duration> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && decimals.is_empty()) || decimals.len() > 9 || !digits(whole) || !digits(decimals)
    {
        return None;
    }
    let seconds = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanoseconds = decimals.bytes().chain(core::iter::repeat(b'0')).take(9);
    let nanoseconds = nanoseconds.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(Duration::new(seconds, nanoseconds))
}

/// With the `?` in front, or nothing if nothing is set.
impl fmt::Display for UriQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Pairs { f, separator: '?' };
        out.pair("heartbeat", self.heartbeat)?;
        out.pair("channel_max", self.channel_max)?;
        out.pair("frame_max", self.frame_max)?;
        for mechanism in &self.auth_mechanisms {
            out.pair("auth_mechanism", Some(query_name(*mechanism)))?;
        }
        match self
            .connection_timeout
            .map(|timeout| (whole_milliseconds(timeout), timeout))
        {
            Some((None, timeout)) => out.pair("socket_timeout", Some(Seconds(timeout)))?,
            timeout => out.pair(
                "connection_timeout",
                timeout.and_then(|(milliseconds, _)| milliseconds),
            )?,
        }
        out.pair("stack_timeout", self.stack_timeout.map(Seconds))?;
        out.pair("connection_attempts", self.connection_attempts)?;
        out.pair("retry_delay", self.retry_delay.map(Seconds))?;
        out.pair(
            "blocked_connection_timeout",
            self.blocked_connection_timeout.map(Seconds),
        )?;
        out.pair("locale", self.locale.as_deref().map(Encoded))?;
        out.pair("name", self.name.as_deref().map(Encoded))?;
        out.pair("cacertfile", self.cacertfile.as_deref().map(Encoded))?;
        out.pair("certfile", self.certfile.as_deref().map(Encoded))?;
        out.pair("keyfile", self.keyfile.as_deref().map(Encoded))?;
        out.pair("password", self.password.as_ref().map(|_| "***"))?;
        out.pair("verify", self.verify.map(verification_name))?;
        out.pair("depth", self.depth)?;
        out.pair(
            "server_name_indication",
            self.server_name_indication
                .as_ref()
                .and_then(indication)
                .map(Encoded),
        )
    }
}

struct Pairs<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    separator: char,
}

impl Pairs<'_, '_> {
    fn pair(&mut self, key: &str, value: Option<impl fmt::Display>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        write!(self.f, "{}{key}={value}", self.separator)?;
        self.separator = '&';
        Ok(())
    }
}

/// RabbitMQ's own name in a URI where it has one.
fn query_name(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Plain => "plain",
        Mechanism::Amqplain => "amqplain",
        Mechanism::External => "external",
        Mechanism::Anonymous => "anonymous",
        Mechanism::RabbitCrDemo => "crdemo",
    }
}

fn verification_name(verification: PeerVerification) -> &'static str {
    match verification {
        PeerVerification::VerifyPeer => "verify_peer",
        PeerVerification::VerifyNone => "verify_none",
    }
}

fn indication(name: &ServerName) -> Option<&str> {
    match name {
        ServerName::Host => None,
        ServerName::Name(name) => Some(name),
        ServerName::Disable => Some("disable"),
    }
}

/// `None` if there is a fraction left, or too many for `connection_timeout`.
fn whole_milliseconds(duration: Duration) -> Option<u64> {
    let milliseconds = u64::try_from(duration.as_millis()).ok()?;
    (Duration::from_millis(milliseconds) == duration).then_some(milliseconds)
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_nanos() {
            0 => write!(f, "{}", self.0.as_secs()),
            nanoseconds => write!(f, "{}.{nanoseconds:09}", self.0.as_secs()),
        }
    }
}
