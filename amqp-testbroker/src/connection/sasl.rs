//! The mechanisms: PLAIN, AMQPLAIN, EXTERNAL, and RabbitMQ's demonstration of a second round.

use amqp_proto::wire::FieldTableRef;

use super::Stream;
use crate::config::BrokerConfig;

/// What came of a round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    Accepted {
        user: String,
    },
    /// `connection.secure` is to be said.
    Challenge {
        user: String,
        challenge: &'static [u8],
    },
    /// Somebody else, or a wrong password.
    Refused,
    /// A mechanism that was not offered, or a response that it cannot read.
    Malformed,
}

const CHALLENGE: &[u8] = b"Please tell me your password";
const ANSWER: &[u8] = b"My password is ";

/// The response in `connection.start-ok`.
pub(super) fn first_round(
    config: &BrokerConfig,
    stream: &Stream,
    mechanism: &[u8],
    response: &[u8],
) -> Login {
    match (mechanism, stream) {
        (b"PLAIN", _) => match plain(response) {
            Some((user, password)) => check(config, user, password),
            None => Login::Malformed,
        },
        (b"AMQPLAIN", _) => match amqplain(FieldTableRef::from_encoded(response)) {
            Some((user, password)) => check(config, user, password),
            None => Login::Malformed,
        },
        (b"RABBIT-CR-DEMO", _) => Login::Challenge {
            user: String::from_utf8_lossy(response).into_owned(),
            challenge: CHALLENGE,
        },
        (b"EXTERNAL", Stream::Tls { certificate_name }) => match certificate_name {
            Some(user) if config.users.contains_key(user) => Login::Accepted { user: user.clone() },
            _ => Login::Refused,
        },
        _ => Login::Malformed,
    }
}

/// The response in `connection.secure-ok`.
pub(super) fn second_round(config: &BrokerConfig, user: &str, response: &[u8]) -> Login {
    match response.strip_prefix(ANSWER) {
        Some(password) => check(config, user.as_bytes(), password),
        None => Login::Malformed,
    }
}

/// RabbitMQ takes no other name to act as.
fn plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.strip_prefix(b"\0")?.split(|octet| *octet == 0);
    let (user, password) = (parts.next()?, parts.next()?);
    parts.next().is_none().then_some((user, password))
}

fn amqplain(table: FieldTableRef<'_>) -> Option<(&[u8], &[u8])> {
    let get = |key| table.get(key).ok().flatten()?.as_bytes();
    Some((get("LOGIN")?, get("PASSWORD")?))
}

fn check(config: &BrokerConfig, user: &[u8], password: &[u8]) -> Login {
    let user = String::from_utf8_lossy(user).into_owned();
    match config.users.get(&user) {
        Some(found) if found.password.as_bytes() == password => Login::Accepted { user },
        _ => Login::Refused,
    }
}
