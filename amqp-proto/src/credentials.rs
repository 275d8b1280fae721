//! Who connects, and by which mechanisms.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::sasl::{BuiltIn, Identity, Mechanism, SaslError, SaslMechanism};
use crate::secret::{Secret, SharedSecret};

/// An ordered list of ways to authenticate; the first one that the server offers too is used.
///
/// A clone shares the secrets with its original: erasing either erases both.
///
/// ```
/// use amqp_proto::Credentials;
/// // The TLS certificate where the server takes it, else a password.
/// let credentials = Credentials::external().or(Credentials::plain("ann", "s3cret"));
/// assert_eq!(credentials.select(b"AMQPLAIN PLAIN").unwrap().name(), "PLAIN");
/// assert_eq!(credentials.select(b"AMQPLAIN PLAIN EXTERNAL").unwrap().name(), "EXTERNAL");
/// ```
///
/// # Erasing
///
/// [`erase`](Self::erase) overwrites the password where these credentials and all their clones keep it. It
/// does not reach: a buffer or string the caller made the [`Secret`] from by reference, the text of a URI, a
/// [`Secret`] cloned before, and the encoded `connection.start-ok` in the send buffer (and in the kernel)
/// until those are used again.
#[derive(Clone)]
pub struct Credentials {
    user: Option<String>,
    mechanisms: Vec<Arc<dyn SaslMechanism>>,
    erase_on_connect: bool,
    erased: Arc<AtomicBool>,
}

impl Credentials {
    /// A user name and a password, by `PLAIN` or else `AMQPLAIN`.
    ///
    /// The password may be of any length (tokens of many kilobytes included) as long as the
    /// `connection.start-ok` fits in one frame: 4096 bytes before RabbitMQ 4.1, 8192 since, its setting
    /// `initial_frame_max`.
    #[must_use]
    pub fn plain(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::with_mechanisms(user, password, [Mechanism::Plain, Mechanism::Amqplain])
    }

    /// A user name and a password, by these mechanisms in this order of preference.
    #[must_use]
    pub fn with_mechanisms(
        user: impl Into<String>,
        password: impl Into<Secret>,
        mechanisms: impl IntoIterator<Item = Mechanism>,
    ) -> Self {
        let password = SharedSecret::new(&password.into());
        let identity = Arc::new(Identity {
            user: user.into(),
            password,
        });
        let user = Some(identity.user.clone());
        let built_in = |mechanism| {
            let identity = Arc::clone(&identity);
            Arc::new(BuiltIn { mechanism, identity }) as Arc<dyn SaslMechanism>
        };
        Self::from_list(user, mechanisms.into_iter().map(built_in).collect())
    }

    /// An OAuth 2 access token (RabbitMQ page "OAuth 2"): sent as the password, the user name is empty
    /// because the server takes it from the token.
    #[must_use]
    pub fn token(token: impl Into<Secret>) -> Self {
        Self::plain("", token)
    }

    /// `EXTERNAL`: the TLS client certificate is the identity. RabbitMQ lists it on every TLS connection,
    /// with a client certificate or without, and refuses it later (403) if there was none.
    #[must_use]
    pub fn external() -> Self {
        Self {
            user: None,
            ..Self::with_mechanisms("", "", [Mechanism::External])
        }
    }

    /// `ANONYMOUS`: RabbitMQ logs the client in as its `anonymous_login_user`.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            user: None,
            ..Self::with_mechanisms("", "", [Mechanism::Anonymous])
        }
    }

    /// `RABBIT-CR-DEMO`, which asks for the password in a second round. Never chosen unless asked for here.
    #[must_use]
    pub fn rabbit_cr_demo(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::with_mechanisms(user, password, [Mechanism::RabbitCrDemo])
    }

    /// A mechanism of one's own.
    #[must_use]
    pub fn custom(mechanism: impl SaslMechanism + 'static) -> Self {
        Self::from_list(None, [Arc::new(mechanism) as Arc<dyn SaslMechanism>].into())
    }

    /// These mechanisms first, then those of `other`. All is erased on connect if either asks for it.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.user = self.user.or(other.user);
        self.mechanisms.extend(other.mechanisms);
        self.erase_on_connect |= other.erase_on_connect;
        self
    }

    /// Whether the connection is to call [`erase`](Self::erase) once it is authenticated (on
    /// `connection.tune`). Off by default. With it there is one connection only: reconnecting needs new
    /// credentials.
    #[must_use]
    pub fn erase_on_connect(mut self, erase: bool) -> Self {
        self.erase_on_connect = erase;
        self
    }

    /// What [`erase_on_connect`](Self::erase_on_connect) was set to.
    #[must_use]
    pub fn is_erase_on_connect(&self) -> bool {
        self.erase_on_connect
    }

    /// Overwrites the secrets with zeros, here and in every clone. From then on every attempt gives
    /// [`SaslError::CredentialsErased`], also by mechanisms that hold no secret.
    pub fn erase(&self) {
        self.erased.store(true, Ordering::SeqCst);
        for mechanism in &self.mechanisms {
            mechanism.erase();
        }
    }

    /// Whether [`erase`](Self::erase) was called, on this or on a clone.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.erased.load(Ordering::SeqCst)
    }

    /// The user name, if these credentials have one; not a secret.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The names of the mechanisms, most wanted first.
    pub fn mechanisms(&self) -> impl Iterator<Item = &str> {
        self.mechanisms.iter().map(|mechanism| mechanism.name())
    }

    /// The first of these mechanisms that is in `offered`, the list of `connection.start` as it was received:
    /// names separated by spaces. To be kept for the whole exchange.
    ///
    /// # Errors
    /// [`SaslError::AuthMechanismNotOffered`] if there is none, [`SaslError::CredentialsErased`].
    pub fn select(&self, offered: &[u8]) -> Result<Arc<dyn SaslMechanism>, SaslError> {
        if self.is_erased() {
            return Err(SaslError::CredentialsErased);
        }
        let is_offered = |name: &str| {
            !name.is_empty()
                && offered
                    .split(|byte| *byte == b' ')
                    .any(|other| other == name.as_bytes())
        };
        let chosen = self
            .mechanisms
            .iter()
            .find(|mechanism| is_offered(mechanism.name()));
        chosen.cloned().ok_or_else(|| SaslError::AuthMechanismNotOffered {
            offered: printable(offered),
            supported: self.mechanisms().collect::<Vec<_>>().join(" "),
        })
    }

    fn from_list(user: Option<String>, mechanisms: Vec<Arc<dyn SaslMechanism>>) -> Self {
        Self {
            user,
            mechanisms,
            erase_on_connect: false,
            erased: Arc::default(),
        }
    }
}

/// guest / guest, which RabbitMQ accepts over the loopback interface only (page "Access Control").
impl Default for Credentials {
    fn default() -> Self {
        Self::plain("guest", "guest")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("mechanisms", &self.mechanisms().collect::<Vec<_>>())
            .field("erase_on_connect", &self.erase_on_connect)
            .field("erased", &self.is_erased())
            .finish_non_exhaustive()
    }
}

/// What a peer sent, fit for a log: at most 256 characters, none of them a control character.
fn printable(bytes: &[u8]) -> String {
    let replace = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    String::from_utf8_lossy(bytes)
        .chars()
        .take(256)
        .map(replace)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    fn chosen(credentials: &Credentials, offered: &str) -> String {
        credentials
            .select(offered.as_bytes())
            .map_or_else(|e| format!("{e:?}"), |m| m.name().to_string())
    }

    #[test]
    fn our_order_decides_not_the_servers() {
        let credentials = Credentials::plain("a", "b");
        assert_eq!(chosen(&credentials, "AMQPLAIN PLAIN"), "PLAIN");
        assert_eq!(chosen(&credentials, "RABBIT-CR-DEMO AMQPLAIN"), "AMQPLAIN");
        let demo_first = Credentials::rabbit_cr_demo("a", "b").or(credentials);
        assert_eq!(
            chosen(&demo_first, "AMQPLAIN PLAIN RABBIT-CR-DEMO"),
            "RABBIT-CR-DEMO"
        );
        assert_eq!(
            demo_first.mechanisms().collect::<Vec<_>>(),
            ["RABBIT-CR-DEMO", "PLAIN", "AMQPLAIN"]
        );
        assert_eq!(chosen(&Credentials::anonymous(), "PLAIN ANONYMOUS"), "ANONYMOUS");
    }

    #[test]
    fn names_are_compared_whole() {
        for offered in ["AMQPLAIN2", "plain", "XPLAIN PLAINX", "PLAIN\0", "", "  "] {
            let error = Credentials::plain("a", "b")
                .select(offered.as_bytes())
                .unwrap_err();
            assert!(
                matches!(error, SaslError::AuthMechanismNotOffered { .. }),
                "{offered:?}"
            );
        }
        assert_eq!(
            chosen(&Credentials::plain("a", "b"), "  EXTERNAL   PLAIN "),
            "PLAIN"
        );
    }

    #[test]
    fn not_offered_says_both_sides_and_stays_printable() {
        let error = Credentials::plain("a", "b")
            .select(b"EXTERNAL X\n\xff")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the server offers the authentication mechanisms [EXTERNAL X\u{fffd}\u{fffd}], \
             these credentials have [PLAIN AMQPLAIN]"
        );
        let long = Credentials::external().select(&[b'x'; 5000]).unwrap_err();
        let SaslError::AuthMechanismNotOffered { offered, supported } = long else {
            unreachable!()
        };
        assert_eq!((offered.len(), supported.as_str()), (256, "EXTERNAL"));
    }

    #[test]
    fn a_nameless_mechanism_never_matches() {
        #[derive(Debug)]
        struct Nameless;
        impl SaslMechanism for Nameless {
            fn name(&self) -> &str {
                ""
            }
            fn respond(&self, _: u32, _: &[u8]) -> Result<Secret, SaslError> {
                Ok(Secret::default())
            }
        }
        assert!(Credentials::custom(Nameless).select(b"PLAIN  X").is_err());
        assert!(
            Credentials::with_mechanisms("a", "b", [])
                .select(b"PLAIN")
                .is_err()
        );
    }

    #[test]
    fn erase_reaches_clones_and_mechanisms_already_chosen() {
        let credentials = Credentials::plain("ann", "pw").erase_on_connect(true);
        let clone = credentials.clone();
        let plain = clone.select(b"PLAIN").unwrap();
        assert_eq!(plain.respond(0, b"").unwrap().expose(), b"\0ann\0pw");
        assert!(!clone.is_erased());

        credentials.erase();
        assert!(clone.is_erased() && clone.is_erase_on_connect());
        assert_eq!(plain.respond(0, b"").err(), Some(SaslError::CredentialsErased));
        assert_eq!(clone.select(b"PLAIN").err(), Some(SaslError::CredentialsErased));
        assert_eq!(clone.select(b"NOTHING").err(), Some(SaslError::CredentialsErased));
    }

    #[test]
    fn erase_reaches_both_halves_of_or_and_external() {
        let second = Credentials::plain("ann", "pw");
        let plain = second.select(b"PLAIN").unwrap();
        let both = Credentials::external().or(second);
        both.erase();
        assert_eq!(plain.respond(0, b"").err(), Some(SaslError::CredentialsErased));
        assert_eq!(chosen(&both, "EXTERNAL"), "CredentialsErased");
    }

    #[test]
    fn both_halves_of_or_are_erased_on_connect_if_either_asks() {
        let erased = || Credentials::plain("ann", "pw").erase_on_connect(true);
        let kept = || Credentials::external();
        assert!(kept().or(erased()).is_erase_on_connect());
        assert!(erased().or(kept()).is_erase_on_connect());
        assert!(!kept().or(kept()).is_erase_on_connect());
    }

    #[test]
    fn debug_and_getters_hide_the_password_only() {
        let credentials = Credentials::plain("ann", "hunter2");
        let text = format!("{credentials:?} {:?}", credentials.mechanisms);
        assert!(
            text.starts_with("Credentials { user: Some(\"ann\")") && !text.contains("hunter2"),
            "{text}"
        );
        assert_eq!(credentials.user(), Some("ann"));
        assert!(
            format!("{credentials:?}").contains(r#"mechanisms: ["PLAIN", "AMQPLAIN"]"#),
            "{text}"
        );
        assert_eq!(Credentials::external().user(), None);
        assert_eq!(Credentials::anonymous().user(), None);
        assert_eq!(Credentials::external().or(credentials).user(), Some("ann"));
        assert_eq!(
            Credentials::token("jwt")
                .select(b"PLAIN")
                .unwrap()
                .respond(0, b"")
                .unwrap()
                .expose(),
            b"\0\0jwt"
        );
    }
}
