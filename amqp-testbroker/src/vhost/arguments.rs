//! The arguments of queues and consumers: what they mean, and what RabbitMQ says to those that mean nothing.

use std::time::Duration;

use amqp_proto::wire::{FieldTable, FieldTableRef, FieldValue};

use super::Name;
use super::value::{Bare, Resource, Text, same, type_name};
use crate::config::Release;
use crate::refusal::Refusal;

/// What kind of queue `x-queue-type` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueType {
    Classic,
    Quorum,
}

/// What happens to a message that a full queue has no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It is taken, and the oldest goes.
    DropHead,
    /// It is refused.
    RejectPublish,
    /// It is refused, and dead-lettered all the same.
    RejectPublishDlx,
}

/// What the arguments of a queue say.
#[derive(Debug, Clone)]
pub(super) struct Arguments {
    pub(super) queue_type: QueueType,
    pub(super) message_ttl: Option<Duration>,
    /// How long it stays without use.
    pub(super) expires: Option<Duration>,
    /// In messages that are ready.
    pub(super) max_length: Option<u64>,
    /// In octets of the bodies of messages that are ready.
    pub(super) max_length_bytes: Option<u64>,
    pub(super) overflow: Overflow,
    pub(super) dead_letter_exchange: Option<Name>,
    pub(super) dead_letter_routing_key: Option<Name>,
    /// Higher ones count as this one.
    pub(super) max_priority: u8,
    /// Of messages that do not say any.
    pub(super) default_priority: u8,
    pub(super) single_active_consumer: bool,
    /// How often a message may be requeued.
    pub(super) delivery_limit: Option<u32>,
}

/// The longest that a message or a queue may live, in milliseconds: ten years.
pub(super) const MAX_EXPIRY: i64 = 315_360_000_000;

/// What quorum queues have unless they say otherwise, since RabbitMQ 4.
const DEFAULT_DELIVERY_LIMIT: u32 = 20;

/// The highest and the default priority in quorum queues, which have them since RabbitMQ 4 whatever they say.
const QUORUM_PRIORITIES: (u8, u8) = (31, 4);

/// How a value is checked.
#[derive(Debug, Clone, Copy)]
enum Check {
    NonNegative,
    Positive,
    /// Milliseconds.
    Expiry,
    /// Milliseconds, and more than none.
    PositiveExpiry,
    AtMost(i64),
    Bool,
    Text,
    /// Text, and there is a dead letter exchange.
    RoutingKey,
    /// One of these, or else an error of this name.
    OneOf(&'static [&'static str], &'static str),
    Mode,
    Version,
    /// Not looked at.
    Anything,
}

/// An argument: its name, what it may be, and which types of queue have it.
struct Rule(&'static str, Check, &'static [QueueType]);

const BOTH: &[QueueType] = &[QueueType::Classic, QueueType::Quorum];
const CLASSIC: &[QueueType] = &[QueueType::Classic];
const QUORUM: &[QueueType] = &[QueueType::Quorum];
const STREAM: &[QueueType] = &[];

/// In the order in which RabbitMQ looks at them.
const RULES: &[Rule] = &[
    Rule("x-expires", Check::PositiveExpiry, BOTH),
    Rule("x-message-ttl", Check::Expiry, BOTH),
    Rule("x-dead-letter-exchange", Check::Text, BOTH),
    Rule("x-dead-letter-routing-key", Check::RoutingKey, BOTH),
    Rule(
        "x-dead-letter-strategy",
        Check::OneOf(&["at-most-once", "at-least-once"], "invalid_dlx_strategy"),
        QUORUM,
    ),
    Rule("x-max-length", Check::NonNegative, BOTH),
    Rule("x-max-length-bytes", Check::NonNegative, BOTH),
    Rule("x-max-in-memory-length", Check::NonNegative, QUORUM),
    Rule("x-max-in-memory-bytes", Check::NonNegative, QUORUM),
    Rule("x-max-priority", Check::AtMost(255), CLASSIC),
    Rule(
        "x-overflow",
        Check::OneOf(
            &["drop-head", "reject-publish", "reject-publish-dlx"],
            "invalid_overflow",
        ),
        BOTH,
    ),
    Rule("x-queue-mode", Check::Mode, CLASSIC),
    Rule("x-queue-version", Check::Version, CLASSIC),
    Rule("x-single-active-consumer", Check::Bool, BOTH),
    Rule("x-queue-type", Check::Anything, BOTH),
    Rule("x-quorum-initial-group-size", Check::Positive, QUORUM),
    Rule("x-max-age", Check::Anything, STREAM),
    Rule("x-stream-max-segment-size-bytes", Check::Anything, STREAM),
    Rule("x-initial-cluster-size", Check::Anything, STREAM),
    Rule(
        "x-queue-leader-locator",
        Check::OneOf(
            &["client-local", "balanced", "random", "least-leaders"],
            "invalid_queue_locator_arg",
        ),
        QUORUM,
    ),
];

/// Not among those that RabbitMQ checks or compares.
const DELIVERY_LIMIT: &str = "x-delivery-limit";

impl Arguments {
    /// Reads what was checked by [`check`].
    fn read(table: FieldTableRef<'_>, queue_type: QueueType, release: Release) -> Self {
        let get = |key| table.get(key).ok().flatten();
        let number = |key| get(key).and_then(|value| value.as_i64());
        let count = |key| number(key).and_then(|number| u64::try_from(number).ok());
        let name = |key| get(key).and_then(|value| value.as_bytes().map(Name::copy_from_slice));
        let default_limit = match (queue_type, release) {
            (QueueType::Quorum, Release::V4) => Some(DEFAULT_DELIVERY_LIMIT),
            _ => None,
        };
        let priorities = match (queue_type, release) {
            (QueueType::Quorum, Release::V4) => QUORUM_PRIORITIES,
            _ => {
                let most = number("x-max-priority").and_then(|most| most.try_into().ok());
                (most.unwrap_or(0), 0)
            }
        };
        Self {
            queue_type,
            message_ttl: count("x-message-ttl").map(Duration::from_millis),
            expires: count("x-expires").map(Duration::from_millis),
            max_length: count("x-max-length"),
            max_length_bytes: count("x-max-length-bytes"),
            overflow: match get("x-overflow").and_then(|value| value.as_bytes()) {
                Some(b"reject-publish") => Overflow::RejectPublish,
                Some(b"reject-publish-dlx") => Overflow::RejectPublishDlx,
                _ => Overflow::DropHead,
            },
            dead_letter_exchange: name("x-dead-letter-exchange"),
            dead_letter_routing_key: name("x-dead-letter-routing-key"),
            max_priority: priorities.0,
            default_priority: priorities.1,
            single_active_consumer: get("x-single-active-consumer").and_then(|value| value.as_bool())
                == Some(true),
            // A classic queue is refused if it has one.
            delivery_limit: match number(DELIVERY_LIMIT) {
                // Since RabbitMQ 4, -1 is no limit.
                Some(limit) => u32::try_from(limit).ok(),
                None => default_limit,
            },
        }
    }
}

/// The arguments as RabbitMQ keeps them: 4 writes the default type into them.
pub(super) fn complete(arguments: FieldTableRef<'_>, release: Release) -> FieldTable {
    // What cannot be read is no table; the connection's side refuses it.
    let mut table = arguments.to_owned().unwrap_or_default();
    if release == Release::V4 && table.get("x-queue-type").is_none() {
        // A table holds that many more octets unless it has 4 GiB already.
        let _ = table.insert("x-queue-type", "classic");
    }
    table
}

/// Reads the arguments of a new queue, and refuses those that RabbitMQ refuses.
pub(super) fn check(
    table: FieldTableRef<'_>,
    queue: Resource<'_>,
    release: Release,
) -> Result<Arguments, Refusal> {
    let get = |key| table.get(key).ok().flatten();
    if let Some(value) = get("x-dead-letter-exchange")
        && !matches!(value, FieldValue::LongStr(_))
    {
        let of = type_name(&value);
        return Err(Refusal::precondition_failed(format_args!(
            "invalid type '{of}' for arg 'x-dead-letter-exchange' in {queue}"
        )));
    }
    let queue_type = queue_type(get("x-queue-type")).map_err(|why| invalid("x-queue-type", queue, &why))?;
    for Rule(key, check, types) in RULES {
        if types.contains(&queue_type)
            && let Some(value) = get(key)
        {
            check
                .check(value, table, release)
                .map_err(|why| invalid(key, queue, &why))?;
        }
    }
    for (key, _) in table.iter().flatten() {
        let is_foreign = match RULES.iter().find(|Rule(name, ..)| key == *name) {
            Some(Rule(_, _, types)) => !types.contains(&queue_type),
            None => key == DELIVERY_LIMIT && queue_type != QueueType::Quorum,
        };
        if is_foreign {
            return Err(foreign(key.as_bytes(), queue, queue_type));
        }
    }
    Ok(Arguments::read(table, queue_type, release))
}

/// Reads the arguments of a consumer, and gives its priority.
pub(super) fn check_consumer(
    table: FieldTableRef<'_>,
    queue: Resource<'_>,
    queue_type: QueueType,
) -> Result<i64, Refusal> {
    let mut priority = 0;
    if let Ok(Some(value)) = table.get("x-priority") {
        priority = integer(value).map_err(|why| invalid("x-priority", queue, &why))?;
    }
    if let Ok(Some(_)) = table.get("x-stream-offset") {
        return Err(foreign(b"x-stream-offset", queue, queue_type));
    }
    Ok(priority)
}

/// Whether a queue that was declared with `current` may be declared with `received`.
pub(super) fn check_equivalence(
    current: &FieldTable,
    received: &FieldTable,
    queue: Resource<'_>,
    release: Release,
) -> Result<(), Refusal> {
    let compared = RULES
        .iter()
        .filter(|Rule(_, check, _)| release == Release::V3_10 || !matches!(check, Check::Mode));
    for Rule(key, ..) in compared {
        equivalent(key, current.get(key), received.get(key), queue)?;
    }
    Ok(())
}

/// Whether two values of an argument are the same to RabbitMQ, absent ones included.
pub(super) fn equivalent(
    key: &str,
    current: Option<FieldValue<'_>>,
    received: Option<FieldValue<'_>>,
    resource: Resource<'_>,
) -> Result<(), Refusal> {
    let is_same = match (current, received) {
        (None, None) => true,
        (Some(current), Some(received)) => same(current, received),
        (Some(only), None) | (None, Some(only)) => {
            key == "x-queue-type" && only.as_bytes() == Some(b"classic")
        }
    };
    if is_same {
        return Ok(());
    }
    let shown = |value: Option<FieldValue<'_>>, other: Option<FieldValue<'_>>| match (value, other) {
        (None, _) => "none".to_owned(),
        (Some(value), None) => format!("the value '{}' of type '{}'", Bare(value), type_name(&value)),
        (Some(value), Some(_)) => format!("'{}'", Bare(value)),
    };
    let (received, current) = (shown(received, current), shown(current, received));
    Err(inequivalent(key, resource, &received, &current))
}

/// Whether two properties are the same.
pub(super) fn equivalent_property(
    key: &str,
    current: bool,
    received: bool,
    resource: Resource<'_>,
) -> Result<(), Refusal> {
    equivalent(key, Some(current.into()), Some(received.into()), resource)
}

/// 406, as RabbitMQ words it for a redeclaration.
fn inequivalent(key: &str, resource: Resource<'_>, received: &str, current: &str) -> Refusal {
    Refusal::precondition_failed(format_args!(
        "inequivalent arg '{key}' for {resource}: received {received} but current is {current}"
    ))
}

fn invalid(key: &str, queue: Resource<'_>, why: &str) -> Refusal {
    Refusal::precondition_failed(format_args!("invalid arg '{key}' for {queue}: {why}"))
}

fn foreign(key: &[u8], queue: Resource<'_>, queue_type: QueueType) -> Refusal {
    let key = Text(key);
    let module = queue_type.module();
    Refusal::precondition_failed(format_args!(
        "invalid arg '{key}' for {queue} of queue type {module}"
    ))
}

impl QueueType {
    /// What RabbitMQ calls it in its errors.
    pub(super) const fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }
}

/// Streams are refused as RabbitMQ refuses a type that it does not know.
fn queue_type(value: Option<FieldValue<'_>>) -> Result<QueueType, String> {
    match value {
        None => Ok(QueueType::Classic),
        Some(FieldValue::LongStr(b"classic")) => Ok(QueueType::Classic),
        Some(FieldValue::LongStr(b"quorum")) => Ok(QueueType::Quorum),
        Some(value @ FieldValue::LongStr(_)) => Err(format!("\"unsupported queue type '{}'\"", Bare(value))),
        Some(value) => Err(unacceptable(value)),
    }
}

fn unacceptable(value: FieldValue<'_>) -> String {
    format!("{{unacceptable_type,{}}}", type_name(&value))
}

fn integer(value: FieldValue<'_>) -> Result<i64, String> {
    value
        .as_i64()
        .ok_or_else(|| format!("\"expected integer, got {}\"", type_name(&value)))
}

fn non_negative(value: FieldValue<'_>) -> Result<i64, String> {
    let number = integer(value)?;
    if number < 0 {
        return Err(format!("{{value_negative,{number}}}"));
    }
    Ok(number)
}

fn text(value: FieldValue<'_>) -> Result<&[u8], String> {
    match value {
        FieldValue::LongStr(text) => Ok(text),
        _ => Err(unacceptable(value)),
    }
}

impl Check {
    /// `Err` is RabbitMQ's reason, in Erlang.
    fn check(self, value: FieldValue<'_>, table: FieldTableRef<'_>, release: Release) -> Result<(), String> {
        match self {
            Self::Anything => {}
            Self::NonNegative => _ = non_negative(value)?,
            Self::Positive => {
                if non_negative(value)? == 0 {
                    return Err("{value_zero,0}".to_owned());
                }
            }
            Self::Expiry => expiry(value)?,
            Self::PositiveExpiry => {
                if integer(value)? == 0 {
                    return Err("{value_zero,0}".to_owned());
                }
                expiry(value)?;
            }
            Self::AtMost(most) => {
                let number = non_negative(value)?;
                if number > most {
                    return Err(format!("{{max_value_exceeded,{number}}}"));
                }
            }
            Self::Bool => _ = value.as_bool().ok_or_else(|| unacceptable(value))?,
            Self::Text => _ = text(value)?,
            Self::RoutingKey => {
                text(value)?;
                if !matches!(table.get("x-dead-letter-exchange"), Ok(Some(_))) {
                    return Err("routing_key_but_no_dlx_defined".to_owned());
                }
            }
            Self::OneOf(known, error) => {
                let text = text(value)?;
                if !known.iter().any(|known| known.as_bytes() == text) {
                    return Err(error.to_owned());
                }
            }
            // Without meaning since RabbitMQ 4, and not looked at there.
            Self::Mode if release == Release::V4 => {}
            Self::Mode => {
                let mode = text(value)?;
                if !matches!(mode, b"default" | b"lazy") {
                    return Err(format!("\"unsupported queue mode '{}'\"", Text(mode)));
                }
            }
            Self::Version => {
                let version = non_negative(value)?;
                if version != 2 && !(version == 1 && release == Release::V3_10) {
                    return Err(format!("\"unsupported queue version '{version}'\""));
                }
            }
        }
        Ok(())
    }
}

fn expiry(value: FieldValue<'_>) -> Result<(), String> {
    let number = non_negative(value)?;
    if number > MAX_EXPIRY {
        return Err(format!("{{value_too_large,{number}}}"));
    }
    Ok(())
}

/// Reads the property `expiration` of a message: its time to live in milliseconds, in decimal digits. `Err` is what the channel is
/// closed with.
pub(crate) fn expiration(text: &[u8]) -> Result<Duration, Refusal> {
    let refused = |why: std::fmt::Arguments<'_>| {
        Refusal::precondition_failed(format_args!("invalid expiration '{}': {why}", Text(text)))
    };
    let (sign, unsigned) = match text.split_first() {
        Some((b'-', rest)) => ("-", rest),
        Some((b'+', rest)) => ("", rest),
        _ => ("", text),
    };
    let end = unsigned
        .iter()
        .position(|octet| !octet.is_ascii_digit())
        .unwrap_or(unsigned.len());
    let (digits, leftover) = unsigned.split_at_checked(end).unwrap_or_default();
    if digits.is_empty() {
        return Err(refused(format_args!("no_integer")));
    }
    if !leftover.is_empty() {
        return Err(refused(format_args!(
            "{{leftover_string,\"{}\"}}",
            Text(leftover)
        )));
    }
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let significant = digits.get(zeros..).unwrap_or_default();
    // What does not fit is too large whatever it is.
    let number = significant.iter().fold(0_i64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(i64::from(digit.saturating_sub(b'0')))
    });
    if sign == "-" && number > 0 {
        return Err(refused(format_args!("{{value_negative,-{}}}", Text(significant))));
    }
    if number > MAX_EXPIRY {
        return Err(refused(format_args!("{{value_too_large,{}}}", Text(significant))));
    }
    Ok(Duration::from_millis(number.unsigned_abs()))
}
