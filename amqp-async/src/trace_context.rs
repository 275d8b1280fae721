//! The W3C trace context, in a message's headers.

use std::fmt;
use std::str::FromStr;

use amqp_proto::Message as Received;
use amqp_proto::wire::FieldValue;

use crate::delivery::Delivery;
use crate::message::Message;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// How many octets `traceparent` of version 00 has.
const PARENT_LENGTH: usize = 55;

/// How many members `tracestate` may have.
const MOST_MEMBERS: usize = 32;

/// How long `tracestate` may be here, in octets.
const LONGEST_STATE: usize = 8192;

/// Who caused a message: its trace and its span, as [W3C Trace Context](https://www.w3.org/TR/trace-context/) has it. It travels in the
/// headers `traceparent` and `tracestate`. `Display` and `FromStr` are those of `traceparent`.
///
/// This crate starts no traces: whoever does gives their context to a [`Message`] and takes it from a [`Delivery`]. With OpenTelemetry:
///
/// ```
/// use amqp_async::{Message, TraceContext};
/// use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
///
/// fn inject(message: Message, span: &SpanContext) -> Message {
///     let (trace_id, span_id) = (span.trace_id().to_bytes(), span.span_id().to_bytes());
///     match TraceContext::new(trace_id, span_id, span.trace_flags().to_u8()) {
///         Some(context) => message.trace_context(&context.with_state(&span.trace_state().header())),
///         None => message,
///     }
/// }
///
/// fn extract(context: &TraceContext) -> SpanContext {
///     let state: TraceState = context.state().parse().unwrap_or_default();
///     let flags = TraceFlags::new(context.flags());
///     let (trace_id, span_id) = (context.trace_id(), context.span_id());
///     SpanContext::new(TraceId::from_bytes(trace_id), SpanId::from_bytes(span_id), flags, true, state)
/// }
///
/// let context: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse()?;
/// let context = context.with_state("vendor=1");
/// let message = inject(Message::new("x"), &extract(&context));
/// assert_eq!(message, Message::new("x").trace_context(&context));
/// # Ok::<(), amqp_async::TraceContextError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: String,
}

/// What is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent as W3C Trace Context has it")]
pub struct TraceContextError;

impl TraceContext {
    /// The bit of [`flags`](Self::flags) that says that the trace is recorded.
    pub const SAMPLED: u8 = 1;

    /// A context; none if either id is all zeros.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<Self> {
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self {
            trace_id,
            span_id,
            flags,
            state: String::new(),
        })
    }

    /// The same with what tracing systems add (`tracestate`): at most 32 members, here 8 KiB. What breaks its grammar is left out
    /// as a whole.
    #[must_use]
    pub fn with_state(mut self, state: &str) -> Self {
        self.state = match is_state(state) {
            true => state.to_owned(),
            false => String::new(),
        };
        self
    }

    /// The context that a message came with, if it came with one.
    #[must_use]
    pub fn of(message: &Received) -> Option<Self> {
        let headers = message.properties().headers?;
        let text = |key| headers.get(key).ok().flatten()?.as_str();
        let context: Self = text(TRACEPARENT)?.parse().ok()?;
        Some(match text(TRACESTATE) {
            Some(state) => context.with_state(state),
            None => context,
        })
    }

    /// Which trace it belongs to.
    #[must_use]
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span that caused the message (`parent-id`).
    #[must_use]
    pub const fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The trace flags.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// What tracing systems added (`tracestate`); mostly nothing.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }
}

/// As `traceparent` of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))?;
        f.write_str("-")?;
        self.span_id
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// From `traceparent` of version 00, or of a later one as far as it begins like that.
impl FromStr for TraceContext {
    type Err = TraceContextError;

    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        parse(text).ok_or(TraceContextError)
    }
}

fn parse(text: &str) -> Option<TraceContext> {
    let (known, later) = text.split_at_checked(PARENT_LENGTH)?;
    let mut fields = known.split('-');
    let [version] = hex(fields.next()?)?;
    let trace_id = hex(fields.next()?)?;
    let span_id = hex(fields.next()?)?;
    let [flags] = hex(fields.next()?)?;
    let is_known = match version {
        0 => later.is_empty(),
        0xff => false,
        _ => later.is_empty() || later.starts_with('-'),
    };
    if !is_known || fields.next().is_some() {
        return None;
    }
    TraceContext::new(trace_id, span_id, flags)
}

/// So many octets, in lower case.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = |octet: u8| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.bytes().all(is_hex) {
        return None;
    }
    let mut octets = [0; N];
    for (octet, digits) in octets.iter_mut().zip(text.as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(octets)
}

/// Whether it is a list of members with keys of their own.
fn is_state(state: &str) -> bool {
    if state.len() > LONGEST_STATE {
        return false;
    }
    let mut keys = Vec::new();
    for member in state.split(',').map(|member| member.trim_matches([' ', '\t'])) {
        if member.is_empty() {
            continue;
        }
        let Some((key, value)) = member.split_once('=') else {
            return false;
        };
        if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MOST_MEMBERS {
            return false;
        }
        keys.push(key);
    }
    true
}

fn is_key(key: &str) -> bool {
    let is_part = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let begins = |text: &str| matches!(text.as_bytes().first(), Some(b'a'..=b'z' | b'0'..=b'9'));
    match key.split_once('@') {
        None => key.len() <= 256 && begins(key) && key.bytes().all(is_part),
        Some((tenant, system)) => {
            let parts = [(tenant, 241), (system, 14)];
            let is_fine =
                |(part, most): (&str, usize)| part.len() <= most && begins(part) && part.bytes().all(is_part);
            parts.into_iter().all(is_fine)
        }
    }
}

fn is_value(value: &str) -> bool {
    let is_part = |octet: u8| matches!(octet, b' '..=b'~') && octet != b',' && octet != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(is_part)
}

impl Message {
    /// Says who caused it, in its headers.
    #[must_use]
    pub fn trace_context(self, context: &TraceContext) -> Self {
        let parent = context.to_string();
        let message = self.header(TRACEPARENT, FieldValue::LongStr(parent.as_bytes()));
        match context.state() {
            "" => message.without_header(TRACESTATE),
            state => message.header(TRACESTATE, FieldValue::LongStr(state.as_bytes())),
        }
    }
}

impl Delivery {
    /// Who caused it, if its headers say that.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::of(self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_proto::wire::ShortStr;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_as_it_is_written() {
        let context: TraceContext = PARENT.parse().unwrap();
        assert_eq!(context.trace_id()[..3], [0x0a, 0xf7, 0x65]);
        assert_eq!(context.span_id()[6..], [0x33, 0x31]);
        assert!(context.is_sampled());
        assert_eq!(context.to_string(), PARENT);
        let unsampled: TraceContext = PARENT.replace("-01", "-fe").parse().unwrap();
        assert!(!unsampled.is_sampled());
        // Of a later version only what is known counts.
        let later = PARENT.replacen("00", "cc", 1);
        for text in [later.clone(), format!("{later}-what-the-future-brings")] {
            assert_eq!(text.parse::<TraceContext>().unwrap().to_string(), PARENT);
        }
    }

    #[test]
    fn what_is_no_parent_is_refused() {
        for text in [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
            "00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692-3331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(TraceContextError), "{text}");
        }
    }

    #[test]
    fn a_state_is_taken_whole_or_not_at_all() {
        let context: TraceContext = PARENT.parse().unwrap();
        let many = |count: usize| {
            (0..count)
                .map(|n| format!("k{n}=v"))
                .collect::<Vec<_>>()
                .join(",")
        };
        for good in [
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            "a=1 , b=2,,",
            "tenant@system=x",
            &many(32),
        ] {
            assert_eq!(context.clone().with_state(good).state(), good);
        }
        for bad in [
            "a",
            "a=",
            "A=1",
            "a=1,a=2",
            "a=1=2",
            "@b=1",
            "a@=1",
            "a=é",
            &many(33),
            &format!("a={}", "x".repeat(257)),
        ] {
            let before = context.clone().with_state("kept=no");
            assert_eq!(before.with_state(bad).state(), "", "{bad}");
        }
    }

    #[test]
    fn it_travels_in_headers() {
        let context: TraceContext = PARENT.parse().unwrap();
        let carried = |message: &Message| {
            let properties = message.properties(None).unwrap();
            let empty = ShortStr::default();
            TraceContext::of(&Received::new(empty, empty, &properties, Vec::new()).unwrap())
        };
        let message = Message::new("x");
        assert_eq!(carried(&message), None);
        let stated = context.clone().with_state("a=1");
        let message = message.trace_context(&stated);
        assert_eq!(carried(&message), Some(stated));
        // The next one takes its place.
        let message = message.trace_context(&context);
        assert_eq!(carried(&message), Some(context));
        let message = message.header(TRACEPARENT, 7_i32);
        assert_eq!(carried(&message), None);
    }
}
