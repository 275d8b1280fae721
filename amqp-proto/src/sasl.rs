//! SASL: how a client proves who it is during `connection.start` and `connection.secure`.
//!
//! Every mechanism is a [`SaslMechanism`]. The built-in ones are listed in [`Mechanism`] and are made by
//! [`Credentials`](crate::Credentials), which also picks the one to use from what the server offers.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::secret::{Secret, SharedSecret};

/// One way to authenticate (specification section 2.2.4, RabbitMQ page "Access Control", section on
/// mechanisms).
///
/// A mechanism is shared by every connection made from one configuration, at the same time and one after the
/// other, so it answers from `&self` and what it is given; it keeps no state of a particular exchange.
///
/// ```
/// use amqp_proto::{Credentials, SaslError, SaslMechanism, Secret};
///
/// #[derive(Debug)]
/// struct Ticket(Secret);
///
/// impl SaslMechanism for Ticket {
///     fn name(&self) -> &str {
///         "X-TICKET"
///     }
///     fn respond(&self, round: u32, challenge: &[u8]) -> Result<Secret, SaslError> {
///         match round {
///             0 => Ok(Secret::default()),
///             1 => Ok(Secret::new([challenge, self.0.expose()].concat())),
///             _ => Err(SaslError::unexpected_challenge(self.name(), round)),
///         }
///     }
/// }
///
/// let credentials = Credentials::custom(Ticket(Secret::from("abc")));
/// let chosen = credentials.select(b"PLAIN X-TICKET").unwrap();
/// assert_eq!(chosen.respond(1, b"nonce:").unwrap().expose(), b"nonce:abc");
/// ```
pub trait SaslMechanism: Send + Sync + fmt::Debug {
    /// The name as the server offers it, compared byte for byte: "PLAIN". Without spaces.
    fn name(&self) -> &str;

    /// The answer to a challenge.
    ///
    /// Round 0 is the initial response in `connection.start-ok`; its `challenge` is empty. Round *n* answers
    /// the *n*-th `connection.secure` with a `connection.secure-ok`. The answer is wiped once it is encoded.
    ///
    /// # Errors
    /// Whatever makes an answer impossible; the connection attempt fails with it and nothing is sent.
    fn respond(&self, round: u32, challenge: &[u8]) -> Result<Secret, SaslError>;

    /// What a `connection.update-secret` has to carry to renew this identity: the password or token. `None`, the default, is
    /// right for a mechanism that presents nothing that runs out, and for one whose secret was erased.
    fn secret(&self) -> Option<Secret> {
        None
    }

    /// Overwrites the secrets this mechanism holds, after which [`respond`](Self::respond) should give
    /// [`SaslError::CredentialsErased`]. The default does nothing: right for a mechanism without a secret.
    fn erase(&self) {}
}

/// The built-in mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// `PLAIN` (RFC 4616): user name and password in the initial response. On in every RabbitMQ.
    Plain,
    /// `AMQPLAIN`: the same two as a field table, AMQP's own older form. On in every RabbitMQ.
    Amqplain,
    /// `EXTERNAL`: nothing is sent; the server knows the client by its TLS certificate. RabbitMQ offers it
    /// only on TLS and with the plugin `rabbitmq_auth_mechanism_ssl`.
    External,
    /// `ANONYMOUS` (RFC 4505): no identity. RabbitMQ 4.0 and later, for the user in `anonymous_login_user`.
    Anonymous,
    /// `RABBIT-CR-DEMO`: RabbitMQ's demonstration of a challenge. Not safer than `PLAIN`; off by default.
    RabbitCrDemo,
}

impl Mechanism {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Amqplain => "AMQPLAIN",
            Self::External => "EXTERNAL",
            Self::Anonymous => "ANONYMOUS",
            Self::RabbitCrDemo => "RABBIT-CR-DEMO",
        }
    }

    /// The mechanism of that name, in any case: the name on the wire, or `crdemo`, which is how RabbitMQ's
    /// URI query parameter `auth_mechanism` calls `RABBIT-CR-DEMO`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("crdemo") {
            return Some(Self::RabbitCrDemo);
        }
        [
            Self::Plain,
            Self::Amqplain,
            Self::External,
            Self::Anonymous,
            Self::RabbitCrDemo,
        ]
        .into_iter()
        .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why authentication did not get as far as the server's verdict. Never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// The server offers none of the mechanisms these credentials can use. RabbitMQ would not say so: it
    /// stays silent for three seconds and resets the connection.
    #[error(
        "the server offers the authentication mechanisms [{offered}], these credentials have [{supported}]"
    )]
    AuthMechanismNotOffered {
        /// What the server offers, separated by spaces; unprintable bytes replaced, cut after 256 characters.
        offered: String,
        /// What these credentials can use, most wanted first, separated by spaces.
        supported: String,
    },
    /// The credentials were erased (see [`Credentials::erase`](crate::Credentials::erase)): they served one
    /// connection and cannot serve another.
    #[error("the credentials were erased after an earlier connection; make new ones to connect again")]
    CredentialsErased,
    /// The server asked again although this mechanism had said all it has to say.
    #[error("the server sent challenge {round}, which {mechanism} does not expect")]
    UnexpectedChallenge {
        /// The mechanism's name.
        mechanism: String,
        /// Which challenge, counted from 1.
        round: u32,
    },
    /// `PLAIN` separates user name and password by a NUL byte, so neither may contain one (RFC 4616 section
    /// 2).
    #[error("a user name or password for PLAIN must not contain a NUL byte; AMQPLAIN can carry it")]
    NulInPlain,
    /// The user name or password is longer than 4294967295 bytes: a long string cannot carry it.
    #[error("the user name or password is too long for AMQPLAIN")]
    TooLong,
    /// A mechanism of one's own failed.
    #[error("{mechanism}: {reason}")]
    Failed {
        /// The mechanism's name.
        mechanism: String,
        /// What went wrong, without secrets.
        reason: String,
    },
}

impl SaslError {
    /// An [`UnexpectedChallenge`](Self::UnexpectedChallenge).
    #[must_use]
    pub fn unexpected_challenge(mechanism: &str, round: u32) -> Self {
        Self::UnexpectedChallenge {
            mechanism: mechanism.into(),
            round,
        }
    }

    /// A [`Failed`](Self::Failed).
    #[must_use]
    pub fn failed(mechanism: &str, reason: impl Into<String>) -> Self {
        Self::Failed {
            mechanism: mechanism.into(),
            reason: reason.into(),
        }
    }
}

/// A built-in mechanism with the identity it presents.
#[derive(Clone, Debug)]
pub(crate) struct BuiltIn {
    pub(crate) mechanism: Mechanism,
    pub(crate) identity: Arc<Identity>,
}

/// User name and password; empty and unused for `EXTERNAL` and `ANONYMOUS`.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) password: SharedSecret,
}

impl SaslMechanism for BuiltIn {
    fn name(&self) -> &str {
        self.mechanism.name()
    }

    fn respond(&self, round: u32, _challenge: &[u8]) -> Result<Secret, SaslError> {
        if self.identity.password.is_erased() {
            return Err(SaslError::CredentialsErased);
        }
        match (self.mechanism, round) {
            (Mechanism::Plain, 0) => self.identity.plain(),
            (Mechanism::Amqplain, 0) => self.identity.amqplain(),
            (Mechanism::External | Mechanism::Anonymous, 0) => Ok(Secret::default()),
            (Mechanism::RabbitCrDemo, 0) => Ok(Secret::new(self.identity.user.as_str())),
            (Mechanism::RabbitCrDemo, 1) => self.identity.with_password(b"My password is "),
            _ => Err(SaslError::unexpected_challenge(self.name(), round)),
        }
    }

    fn secret(&self) -> Option<Secret> {
        match self.mechanism {
            Mechanism::External | Mechanism::Anonymous => None,
            Mechanism::Plain | Mechanism::Amqplain | Mechanism::RabbitCrDemo => {
                self.identity.with_password(b"").ok()
            }
        }
    }

    fn erase(&self) {
        self.identity.password.erase();
    }
}

impl Identity {
    fn plain(&self) -> Result<Secret, SaslError> {
        if self.user.contains('\0') || self.password.contains_nul() {
            // An erasure that ran in between leaves zeros too.
            return Err(match self.password.is_erased() {
                true => SaslError::CredentialsErased,
                false => SaslError::NulInPlain,
            });
        }
        self.with_password(&[b"\0", self.user.as_bytes(), b"\0"].concat())
    }

    /// A field table without the length in front of it, which is what RabbitMQ and the 0-9-1 errata want.
    fn amqplain(&self) -> Result<Secret, SaslError> {
        let long_string = |length: usize| u32::try_from(length).map_err(|_| SaslError::TooLong);
        let user_length = long_string(self.user.len())?.to_be_bytes();
        let password_length = long_string(self.password.len())?.to_be_bytes();
        let before: [&[u8]; 5] = [
            b"\x05LOGINS",
            &user_length,
            self.user.as_bytes(),
            b"\x08PASSWORDS",
            &password_length,
        ];
        self.with_password(&before.concat())
    }

    /// `before` and the password, in a buffer that never has to grow: growing would leave a copy behind.
    fn with_password(&self, before: &[u8]) -> Result<Secret, SaslError> {
        let mut out = Vec::with_capacity(before.len().saturating_add(self.password.len()));
        out.extend_from_slice(before);
        let complete = self.password.append_to(&mut out);
        let response = Secret::new(out);
        complete.map(|()| response).ok_or(SaslError::CredentialsErased)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn built_in(mechanism: Mechanism, user: &str, password: &[u8]) -> BuiltIn {
        let password = SharedSecret::new(&Secret::from(password));
        BuiltIn {
            mechanism,
            identity: Arc::new(Identity {
                user: user.into(),
                password,
            }),
        }
    }

    fn answer(mechanism: Mechanism, round: u32) -> Result<Vec<u8>, SaslError> {
        built_in(mechanism, "ann", b"pw")
            .respond(round, b"Please")
            .map(|secret| secret.expose().to_vec())
    }

    #[test]
    fn the_bytes_of_every_built_in() {
        let cases: [(Mechanism, u32, &[u8]); 6] = [
            (Mechanism::Plain, 0, b"\0ann\0pw"),
            (
                Mechanism::Amqplain,
                0,
                b"\x05LOGINS\0\0\0\x03ann\x08PASSWORDS\0\0\0\x02pw",
            ),
            (Mechanism::External, 0, b""),
            (Mechanism::Anonymous, 0, b""),
            (Mechanism::RabbitCrDemo, 0, b"ann"),
            (Mechanism::RabbitCrDemo, 1, b"My password is pw"),
        ];
        for (mechanism, round, bytes) in cases {
            assert_eq!(
                answer(mechanism, round).as_deref(),
                Ok(bytes),
                "{mechanism} round {round}"
            );
        }
    }

    #[test]
    fn what_renews_an_identity_is_its_password_until_it_is_erased() {
        for mechanism in [Mechanism::Plain, Mechanism::Amqplain, Mechanism::RabbitCrDemo] {
            let ann = built_in(mechanism, "ann", b"pw");
            assert_eq!(ann.secret().unwrap().expose(), b"pw", "{mechanism}");
            ann.erase();
            assert!(ann.secret().is_none(), "{mechanism}");
        }
        for mechanism in [Mechanism::External, Mechanism::Anonymous] {
            assert!(built_in(mechanism, "", b"").secret().is_none(), "{mechanism}");
        }
    }

    #[test]
    fn a_challenge_too_many_is_an_error() {
        for (mechanism, round) in [
            (Mechanism::Plain, 1),
            (Mechanism::Amqplain, 1),
            (Mechanism::External, 1),
            (Mechanism::Anonymous, 7),
            (Mechanism::RabbitCrDemo, 2),
        ] {
            let error = SaslError::UnexpectedChallenge {
                mechanism: mechanism.name().into(),
                round,
            };
            assert_eq!(answer(mechanism, round), Err(error));
        }
    }

    #[test]
    fn long_passwords_keep_their_length() {
        for length in [127, 128, 129, 255, 256, 1500, 70_000] {
            let password = alloc::vec![b'j'; length];
            let plain = built_in(Mechanism::Plain, "", &password).respond(0, b"").unwrap();
            assert_eq!(plain.expose().get(2..), Some(&password[..]));

            let amqplain = built_in(Mechanism::Amqplain, "", &password)
                .respond(0, b"")
                .unwrap();
            let (head, tail) = amqplain.expose().split_at(25);
            assert_eq!(head[..21], *b"\x05LOGINS\0\0\0\0\x08PASSWORDS");
            assert_eq!(head[21..], u32::try_from(length).unwrap().to_be_bytes());
            assert_eq!(tail, password);
        }
    }

    #[test]
    fn nul_bytes_are_refused_by_plain_and_carried_by_amqplain() {
        let response = |mechanism, user, password| built_in(mechanism, user, password).respond(0, b"");
        assert_eq!(
            response(Mechanism::Plain, "a\0", b"b").err(),
            Some(SaslError::NulInPlain)
        );
        assert_eq!(
            response(Mechanism::Plain, "a", b"b\0").err(),
            Some(SaslError::NulInPlain)
        );
        assert!(response(Mechanism::Amqplain, "a\0", b"b\0").is_ok());
    }

    #[test]
    fn after_erase_every_round_is_refused() {
        for mechanism in [Mechanism::Plain, Mechanism::Amqplain, Mechanism::RabbitCrDemo] {
            let built_in = built_in(mechanism, "ann", b"pw");
            built_in.erase();
            for round in 0..2 {
                assert_eq!(
                    built_in.respond(round, b"").err(),
                    Some(SaslError::CredentialsErased)
                );
            }
            assert_eq!(
                built_in.identity.plain().err(),
                Some(SaslError::CredentialsErased)
            );
            assert_eq!(
                built_in.identity.amqplain().err(),
                Some(SaslError::CredentialsErased)
            );
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        for mechanism in [
            Mechanism::Plain,
            Mechanism::Amqplain,
            Mechanism::External,
            Mechanism::Anonymous,
            Mechanism::RabbitCrDemo,
        ] {
            assert_eq!(Mechanism::from_name(&mechanism.to_string()), Some(mechanism));
            assert_eq!(
                Mechanism::from_name(&mechanism.name().to_ascii_lowercase()),
                Some(mechanism)
            );
        }
        assert_eq!(Mechanism::from_name("crDemo"), Some(Mechanism::RabbitCrDemo));
        assert_eq!(Mechanism::from_name("SCRAM-SHA-256"), None);
        assert_eq!(Mechanism::from_name(""), None);
    }

    #[test]
    fn errors_say_what_to_do() {
        assert_eq!(SaslError::failed("X", "no ticket").to_string(), "X: no ticket");
        assert_eq!(
            SaslError::unexpected_challenge("PLAIN", 1).to_string(),
            "the server sent challenge 1, which PLAIN does not expect"
        );
    }
}
