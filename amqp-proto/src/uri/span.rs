//! A piece of the URI that knows where it stands, and percent-encoding both ways.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::mem;

use zeroize::Zeroizing;

use super::error::{UriError, UriPart, UriProblem};

/// A piece of the URI and its offset in bytes.
#[derive(Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Span<'a> {
    /// Where it ends.
    pub(super) fn end(self) -> usize {
        self.at.saturating_add(self.text.len())
    }

    /// Before and after the first `separator`, which is ASCII.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let (before, after) = self.text.split_once(separator)?;
        let at = self.end().saturating_sub(after.len());
        Some((Self { text: before, ..self }, Self { text: after, at }))
    }

    /// Before the first of `separators`, and from it on.
    pub(super) fn split_before(self, separators: &[char]) -> (Self, Self) {
        let length = self.text.find(separators).unwrap_or(self.text.len());
        let (before, after) = self.text.split_at_checked(length).unwrap_or((self.text, ""));
        let at = self.end().saturating_sub(after.len());
        (Self { text: before, ..self }, Self { text: after, at })
    }

    pub(super) fn strip_prefix(self, prefix: char) -> Option<Self> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Self {
            text,
            at: self.end().saturating_sub(text.len()),
        })
    }

    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        core::iter::from_fn(move || {
            let span = rest.take()?;
            let Some((before, after)) = span.split_once(separator) else {
                return Some(span);
            };
            rest = Some(after);
            Some(before)
        })
    }

    /// Where the first `wanted` stands in the URI.
    pub(super) fn find(self, wanted: char) -> Option<usize> {
        self.text
            .find(wanted)
            .map(|offset| self.at.saturating_add(offset))
    }

    pub(super) fn error(self, part: UriPart, problem: UriProblem) -> UriError {
        UriError::new(part, self.at, problem)
    }

    /// Percent-decoded. No buffer with a part of the result is left behind.
    pub(super) fn decode(self, part: UriPart) -> Result<String, UriError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.text.len()));
        for byte in self.decoded_bytes() {
            let (_, byte) = byte.map_err(|(offset, problem)| UriError::new(part, offset, problem))?;
            bytes.push(byte);
        }
        String::from_utf8(mem::take(&mut *bytes)).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            drop(Zeroizing::new(error.into_bytes()));
            let offset = self
                .decoded_bytes()
                .flatten()
                .nth(valid)
                .map_or(self.at, |(offset, _)| offset);
            UriError::new(part, offset, UriProblem::InvalidUtf8)
        })
    }

    /// Each decoded byte with the offset it comes from.
    fn decoded_bytes(self) -> impl Iterator<Item = Result<(usize, u8), (usize, UriProblem)>> + 'a {
        let mut characters = self.text.char_indices();
        let mut pending = [0; 4].into_iter().take(0);
        let mut pending_at = self.at;
        core::iter::from_fn(move || {
            if let Some(byte) = pending.next() {
                return Some(Ok((pending_at, byte)));
            }
            let (offset, character) = characters.next()?;
            let at = self.at.saturating_add(offset);
            if character == '%' {
                let value = hexadecimal(characters.next(), characters.next());
                return Some(match value {
                    Some(0) => Err((at, UriProblem::Nul)),
                    Some(byte) => Ok((at, byte)),
                    None => Err((at, UriProblem::PercentEncoding)),
                });
            }
            if let Some(problem) = forbidden(character) {
                return Some(Err((at, problem)));
            }
            let mut buffer = [0; 4];
            let length = character.encode_utf8(&mut buffer).len();
            pending = buffer.into_iter().take(length);
            pending_at = at;
            pending.next().map(|byte| Ok((at, byte)))
        })
    }
}

fn hexadecimal(high: Option<(usize, char)>, low: Option<(usize, char)>) -> Option<u8> {
    let high = high?.1.to_digit(16)?;
    let low = low?.1.to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// What is wrong with a character as it stands.
fn forbidden(character: char) -> Option<UriProblem> {
    match character {
        '\0' => Some(UriProblem::Nul),
        character if character.is_whitespace() => Some(UriProblem::WhiteSpace),
        character if character.is_control() => Some(UriProblem::ControlCharacter),
        _ => None,
    }
}

/// Prints a text with everything percent-encoded but letters, digits and `- . _ ~` (RFC 3986 section 2.3).
pub(super) struct Encoded<'a>(pub(super) &'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}
