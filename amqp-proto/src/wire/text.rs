//! The wire's strings: octets with a length, most often UTF-8, never sure to be.

use core::fmt;
use core::str::{self, Utf8Error};

/// A short string (specification 4.2.5.3): at most 255 octets.
///
/// Names come from other people's programs, so nothing here demands UTF-8: [`to_str`](Self::to_str) fails on its own, and
/// the connection does not. `Display` replaces what is not UTF-8; `Debug` quotes and escapes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ShortStr<'a>(&'a [u8]);

/// A long string (specification 4.2.5.3): octets with a 32-bit length. Text by convention only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LongStr<'a>(&'a [u8]);

/// A long string that nobody should read in a log: a SASL response, a token. Its `Debug` and `Display` tell the length only.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SecretStr<'a>(&'a [u8]);

/// A name or value is longer than the 255 octets of a [`ShortStr`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{length} octets are too many for a short string, which holds 255")]
#[non_exhaustive]
pub struct TooLong {
    /// How long it is, in octets.
    pub length: usize,
}

macro_rules! octet_string {
    ($name:ident) => {
        impl<'a> $name<'a> {
            /// The octets.
            #[must_use]
            pub const fn as_bytes(self) -> &'a [u8] {
                self.0
            }

            /// The text.
            ///
            /// # Errors
            /// Where the octets are not UTF-8.
            pub const fn to_str(self) -> Result<&'a str, Utf8Error> {
                str::from_utf8(self.0)
            }

            /// How many octets.
            #[must_use]
            pub const fn len(self) -> usize {
                self.0.len()
            }

            /// Whether there are none.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0.is_empty()
            }
        }
    };
}

octet_string!(ShortStr);
octet_string!(LongStr);
octet_string!(SecretStr);

impl<'a> ShortStr<'a> {
    /// The empty string.
    pub const EMPTY: Self = Self(&[]);

    /// Checks the length.
    ///
    /// # Errors
    /// Over 255 octets.
    pub const fn new(text: &'a str) -> Result<Self, TooLong> {
        Self::from_bytes(text.as_bytes())
    }

    /// Checks the length.
    ///
    /// # Errors
    /// Over 255 octets.
    pub const fn from_bytes(octets: &'a [u8]) -> Result<Self, TooLong> {
        if octets.len() > 255 {
            Err(TooLong { length: octets.len() })
        } else {
            Ok(Self(octets))
        }
    }

    /// Its length as the wire has it.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "every way to make one checks the length"
    )]
    pub(crate) const fn length_octet(self) -> u8 {
        self.0.len() as u8
    }

    /// For octets that a one-octet length delimited.
    pub(crate) const fn delimited(octets: &'a [u8]) -> Self {
        debug_assert!(octets.len() <= 255);
        Self(octets)
    }
}

impl<'a> LongStr<'a> {
    /// Any octets. More than `u32::MAX` of them fit no frame, which the encoder says.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }
}

impl<'a> SecretStr<'a> {
    /// Any octets. More than `u32::MAX` of them fit no frame, which the encoder says.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }
}

impl<'a> TryFrom<&'a str> for ShortStr<'a> {
    type Error = TooLong;
    fn try_from(text: &'a str) -> Result<Self, TooLong> {
        Self::new(text)
    }
}

impl<'a> TryFrom<&'a [u8]> for ShortStr<'a> {
    type Error = TooLong;
    fn try_from(octets: &'a [u8]) -> Result<Self, TooLong> {
        Self::from_bytes(octets)
    }
}

impl<'a> From<&'a str> for LongStr<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl PartialEq<str> for ShortStr<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortStr<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for LongStr<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for ShortStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lossy(self.0, f)
    }
}

impl fmt::Display for LongStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lossy(self.0, f)
    }
}

impl fmt::Display for SecretStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} secret octets>", self.0.len())
    }
}

impl fmt::Debug for ShortStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Printable(self.0))
    }
}

impl fmt::Debug for LongStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Printable(self.0))
    }
}

impl fmt::Debug for SecretStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn lossy(octets: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in octets.utf8_chunks() {
        f.write_str(chunk.valid())?;
        if !chunk.invalid().is_empty() {
            f.write_str("\u{fffd}")?;
        }
    }
    Ok(())
}

/// Octets in quotes, on one line: control characters and what is not UTF-8 are escaped.
pub(crate) struct Printable<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\'' => f.write_str("'")?,
                    _ => write!(f, "{}", character.escape_debug())?,
                }
            }
            for octet in chunk.invalid() {
                write!(f, "\\x{octet:02x}")?;
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_short_string_holds_255_octets_not_characters() {
        let long = [b'a'; 256];
        assert_eq!(ShortStr::from_bytes(&long[..255]).unwrap().len(), 255);
        assert_eq!(ShortStr::from_bytes(&long), Err(TooLong { length: 256 }));
        let two_octets_each = "é".repeat(128);
        assert_eq!(ShortStr::new(&two_octets_each), Err(TooLong { length: 256 }));
    }

    #[test]
    fn octets_that_are_not_utf8_print_and_only_to_str_fails() {
        let name = ShortStr::from_bytes(b"q\xffueue\n").unwrap();
        assert!(name.to_str().is_err());
        assert_eq!(format!("{name}"), "q\u{fffd}ueue\n");
        assert_eq!(format!("{name:?}"), "\"q\\xffueue\\n\"");
        assert_eq!(format!("{:?}", LongStr::new(b"a\"b'c")), "\"a\\\"b'c\"");
    }

    #[test]
    fn a_secret_prints_its_length() {
        let secret = SecretStr::new(b"\0guest\0guest");
        assert_eq!(
            format!("{secret} {secret:?}"),
            "<12 secret octets> <12 secret octets>"
        );
    }

    #[test]
    fn strings_are_made_of_text_and_octets_and_compared_with_text() {
        let short = ShortStr::try_from("abc").unwrap();
        assert_eq!(short, ShortStr::try_from(&b"abc"[..]).unwrap());
        assert_eq!(
            (short.as_bytes(), short.len(), short.is_empty()),
            (&b"abc"[..], 3, false)
        );
        assert_eq!(short.to_str(), Ok("abc"));
        assert!(short == *"abc" && short == "abc");
        assert!(short != *"abd" && short != "abd");
        assert!(ShortStr::EMPTY.is_empty());
        let too_long = "a".repeat(256);
        assert_eq!(
            ShortStr::try_from(too_long.as_str()),
            Err(TooLong { length: 256 })
        );
        assert_eq!(
            ShortStr::try_from(too_long.as_bytes()),
            Err(TooLong { length: 256 })
        );

        let long = LongStr::from("abc");
        assert_eq!(long, LongStr::new(b"abc"));
        assert_eq!(
            (long.len(), long.is_empty(), long.to_str()),
            (3, false, Ok("abc"))
        );
        assert!(long == "abc" && long != "ab");
        assert!(LongStr::default().is_empty());
        assert_eq!(format!("{}", LongStr::new(b"a\xff\xfeb")), "a\u{fffd}\u{fffd}b");

        let secret = SecretStr::new(b"abc");
        assert_eq!(
            (secret.as_bytes(), secret.len(), secret.is_empty()),
            (&b"abc"[..], 3, false)
        );
        assert!(SecretStr::default().is_empty());
    }
}
