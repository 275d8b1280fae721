//! An owned name.

use alloc::sync::Arc;
use core::fmt;

use crate::wire::{ShortStr, TooLong};

/// The name of a queue, an exchange or a consumer, or a routing key, to keep: at most 255 octets, most often UTF-8, cheap to
/// clone.
///
/// ```
/// use amqp_proto::topology::Name;
///
/// let name = Name::try_from("orders")?;
/// assert_eq!(name, "orders");
/// assert_eq!(name.as_short_str().to_str(), Ok("orders"));
/// # Ok::<(), amqp_proto::wire::TooLong>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The same name, borrowed, as methods take it.
    #[must_use]
    pub fn as_short_str(&self) -> ShortStr<'_> {
        ShortStr::delimited(&self.0)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Exchanges that every virtual host has: the default one, and those whose names the server reserves.
    pub(super) fn is_predeclared(&self) -> bool {
        self.is_empty() || self.0.starts_with(b"amq.")
    }
}

impl Default for Name {
    /// The empty name.
    fn default() -> Self {
        ShortStr::EMPTY.into()
    }
}

impl From<ShortStr<'_>> for Name {
    fn from(name: ShortStr<'_>) -> Self {
        Self(name.as_bytes().into())
    }
}

impl TryFrom<&str> for Name {
    type Error = TooLong;
    fn try_from(name: &str) -> Result<Self, TooLong> {
        ShortStr::new(name).map(Self::from)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_short_str().fmt(f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_short_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_name_is_its_octets() {
        let name = Name::from(ShortStr::from_bytes(b"a\xffb").unwrap());
        assert_eq!(name.as_short_str().as_bytes(), b"a\xffb");
        assert_eq!(
            (format!("{name}"), format!("{name:?}")),
            ("a\u{fffd}b".into(), "\"a\\xffb\"".into())
        );
        assert!(Name::default().is_empty() && !name.is_empty());
        assert_eq!(
            Name::try_from("x".repeat(256).as_str()),
            Err(TooLong { length: 256 })
        );
        assert!(name != "a" && name != *"b");
    }

    #[test]
    fn reserved_names_are_predeclared() {
        let is_predeclared = |name: &str| Name::try_from(name).unwrap().is_predeclared();
        assert!(is_predeclared("") && is_predeclared("amq.direct"));
        assert!(!is_predeclared("amqp") && !is_predeclared("x"));
    }
}
