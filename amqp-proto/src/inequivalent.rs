//! RabbitMQ's words for a declaration that differs from what is there, taken apart.

use crate::wire::ReplyCode;

/// What differs between a declaration and what is there, as RabbitMQ words it (page "Queues", section "Property Equivalence").
///
/// ```
/// use amqp_proto::{PeerClose, wire::ReplyCode};
/// let peer = PeerClose::new(
///     ReplyCode::PRECONDITION_FAILED,
///     "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'tasks' in vhost '/': received 'false' but current is 'true'",
///     None,
/// );
/// let found = peer.inequivalent_argument().unwrap();
/// assert_eq!((found.entity, found.name, found.argument), ("queue", "tasks", "durable"));
/// assert_eq!((found.received, found.current), (Some("false"), Some("true")));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InequivalentArgument<'t> {
    /// `queue` or `exchange`.
    pub entity: &'t str,
    /// Its name.
    pub name: &'t str,
    /// Where it is.
    pub virtual_host: &'t str,
    /// What differs: a property such as `durable`, or an argument such as `x-max-length`.
    pub argument: &'t str,
    /// Its value in the declaration; `None` if it is not there.
    pub received: Option<&'t str>,
    /// Its value so far; `None` if it is not there. The broker cuts texts over 255 octets, and writes `...` at their end.
    pub current: Option<&'t str>,
}

impl<'t> InequivalentArgument<'t> {
    /// Takes the text of a close apart, if it is such a one.
    pub(crate) fn read(code: ReplyCode, text: &'t str) -> Option<Self> {
        if code != ReplyCode::PRECONDITION_FAILED {
            return None;
        }
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once("' for ")?;
        let (entity, rest) = rest.split_once(" '")?;
        let (name, rest) = rest.split_once("' in vhost '")?;
        let (virtual_host, rest) = rest.split_once("': received ")?;
        let (received, current) = rest.split_once(" but current is ")?;
        Some(Self {
            entity,
            name,
            virtual_host,
            argument,
            received: value(received),
            current: value(current),
        })
    }
}

/// `'5'`, or `the value '5' of type 'long'`, or `none`.
fn value(text: &str) -> Option<&str> {
    if text == "none" {
        return None;
    }
    let typed = text.strip_prefix("the value ").unwrap_or(text);
    let (bare, _) = typed.rsplit_once(" of type '").unwrap_or((typed, ""));
    let bare = bare.strip_prefix('\'').unwrap_or(bare);
    Some(bare.strip_suffix('\'').unwrap_or(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "PRECONDITION_FAILED - inequivalent arg ";

    fn read(rest: &str) -> Option<InequivalentArgument<'_>> {
        InequivalentArgument::read(ReplyCode::PRECONDITION_FAILED, rest)
    }

    #[test]
    fn values_are_given_without_their_dress() {
        for (words, expected) in [
            ("received none but current is 'a'", (None, Some("a"))),
            (
                "received the value '5' of type 'signedint' but current is none",
                (Some("5"), None),
            ),
            (
                "received '' but current is the value 'it's' of type 'longstr'",
                (Some(""), Some("it's")),
            ),
            (
                "received 'x' but current is 'long...",
                (Some("x"), Some("long...")),
            ),
        ] {
            let text = format!("{START}'x-arg' for exchange 'a name' in vhost 'a|b': {words}");
            let found = read(&text).unwrap();
            assert_eq!((found.received, found.current), expected, "{words}");
            assert_eq!(
                (found.argument, found.entity, found.name, found.virtual_host),
                ("x-arg", "exchange", "a name", "a|b")
            );
        }
    }

    #[test]
    fn other_words_are_not_taken_apart() {
        for text in [
            "",
            "PRECONDITION_FAILED - unknown delivery tag 5",
            "PRECONDITION_FAILED - inequivalent arg 'x-arg' for queue 'q' in vhost '/': received ...",
            "PRECONDITION_FAILED - inequivalent arg 'x-arg",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let text = format!("{START}'a' for queue 'q' in vhost '/': received 'b' but current is 'c'");
        assert_eq!(InequivalentArgument::read(ReplyCode::NOT_FOUND, &text), None);
    }
}
