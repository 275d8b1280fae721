//! The method table, the properties and the reply codes against the official definition: RabbitMQ's JSON, which
//! `amq-protocol-codegen` carries. What that does not say (who sends, what answers, which strings are secret) is compared
//! with lists in this file, written from the specification's XML and RabbitMQ's pages.
//!
//! All differences are collected and printed together: `-` is the definition, `+` is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use amq_protocol_codegen::{AMQPArgument, AMQPMethod, AMQProtocolDefinition};
use amqp_proto::wire::*;

/// What an argument of the definition is called here. `ticket` is a field of access.request-ok, and reserved elsewhere.
fn our_name(method: &str, name: &str) -> String {
    const RESERVED: [&str; 6] = [
        "capabilities",
        "insist",
        "known-hosts",
        "out-of-band",
        "channel-id",
        "cluster-id",
    ];
    match (method, name) {
        (method, "ticket") if method != "access.request-ok" => "reserved".to_owned(),
        _ if RESERVED.contains(&name) => "reserved".to_owned(),
        (_, "nowait") => "no_wait".to_owned(),
        ("exchange.declare", "type") => "exchange_type".to_owned(),
        _ => name.replace('-', "_"),
    }
}

/// The long strings that must not be printed: the definition knows nothing of that.
const SECRETS: [(&str, &str); 3] = [
    ("connection.start-ok", "response"),
    ("connection.secure-ok", "response"),
    ("connection.update-secret", "new-secret"),
];

/// A type of the definition in the specification's words. `kind` is how its crate calls it.
fn our_domain(method: &str, name: &str, kind: &dyn Debug) -> &'static str {
    match format!("{kind:?}").as_str() {
        "ShortShortUInt" => "octet",
        "ShortUInt" if name == "reply-code" => "reply_code",
        "ShortUInt" => "short",
        "LongUInt" => "long",
        "LongLongUInt" | "Timestamp" => "longlong",
        "ShortString" => "shortstr",
        "LongString" if SECRETS.contains(&(method, name)) => "secret",
        "LongString" => "longstr",
        "FieldTable" => "table",
        other => panic!("the test does not know {other}"),
    }
}

/// The bits whose default is true: the definition's crate loses them (it takes only numbers for defaults of bits).
const TRUE_BITS: [(&str, &str); 6] = [
    ("access.request", "passive"),
    ("access.request", "active"),
    ("access.request", "write"),
    ("access.request", "read"),
    ("basic.reject", "requeue"),
    ("basic.nack", "requeue"),
];

/// An argument of the definition: its name here, its domain, and its default unless that is zero, empty or false.
fn their_arguments(method: &str, definition: &AMQPMethod) -> Vec<String> {
    let mut rows = Vec::new();
    for argument in &definition.arguments {
        match argument {
            AMQPArgument::Value(value) => {
                let name = our_name(method, &value.name);
                let domain = our_domain(method, &value.name, &value.amqp_type);
                let default = value.default_value.as_ref().map(|value| format!("{value:?}"));
                let default = default.filter(|_| name != "reserved").unwrap_or_default();
                rows.push(format!("{name}: {domain}{}", default_text(&default)));
            }
            AMQPArgument::Flags(flags) => {
                for flag in &flags.flags {
                    let name = our_name(method, &flag.name);
                    let is_true = TRUE_BITS.contains(&(method, flag.name.as_str())) || flag.default_value;
                    rows.push(format!("{name}: bit{}", if is_true { " = true" } else { "" }));
                }
            }
        }
    }
    rows
}

/// `ShortString(ShortString("x"))`, `LongString(LongString([120]))`, `ShortShortUInt(9)`, `FieldTable(…)` → ` = "x"`,
/// ` = "x"`, ` = 9`, nothing.
fn default_text(debug: &str) -> String {
    let inner = debug.rsplit('(').next().unwrap_or_default().trim_end_matches(')');
    let text = match inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(octets) => {
            let octets = octets
                .split(", ")
                .filter_map(|octet| octet.parse().ok())
                .collect();
            format!("{:?}", String::from_utf8(octets).unwrap())
        }
        None => inner.to_owned(),
    };
    match text.as_str() {
        "" | "0" | "\"\"" | "{}" => String::new(),
        text => format!(" = {text}"),
    }
}

/// The same of ours, from the row and from what `Default` makes.
fn our_arguments(default: &Method<'_>) -> Vec<String> {
    let mut defaults = BTreeMap::new();
    default.for_each_argument(&mut |name, argument| {
        let text = match argument {
            Argument::Bit(value) => value.to_string(),
            Argument::Octet(value) => value.to_string(),
            Argument::Short(value) => value.to_string(),
            Argument::Long(value) => value.to_string(),
            Argument::LongLong(value) => value.to_string(),
            Argument::ReplyCode(value) => value.0.to_string(),
            Argument::ShortStr(value) => format!("{value:?}"),
            Argument::LongStr(value) => format!("{value:?}"),
            Argument::Secret(value) => format!("{:?}", value.to_str().unwrap()),
            Argument::Table(value) => format!("{value:?}"),
            other => panic!("the test does not know {other:?}"),
        };
        defaults.insert(name, text);
    });
    let rows = default.spec().arguments.iter();
    rows.map(|argument| {
        let default = defaults.get(argument.name).map_or("", String::as_str);
        let default = if default == "false" { "" } else { default };
        format!(
            "{}: {:?}{}",
            argument.name,
            argument.domain,
            default_text(default)
        )
    })
    .collect()
}

macro_rules! defaults {
    ($($name:ident)+) => { vec![$(Method::from($name::default())),+] };
}

/// `Default` of every method.
fn every_default() -> Vec<Method<'static>> {
    defaults! {
        ConnectionStart ConnectionStartOk ConnectionSecure ConnectionSecureOk ConnectionTune ConnectionTuneOk
        ConnectionOpen ConnectionOpenOk ConnectionClose ConnectionCloseOk ConnectionBlocked ConnectionUnblocked
        ConnectionUpdateSecret ConnectionUpdateSecretOk
        ChannelOpen ChannelOpenOk ChannelFlow ChannelFlowOk ChannelClose ChannelCloseOk
        AccessRequest AccessRequestOk
        ExchangeDeclare ExchangeDeclareOk ExchangeDelete ExchangeDeleteOk ExchangeBind ExchangeBindOk
        ExchangeUnbind ExchangeUnbindOk
        QueueDeclare QueueDeclareOk QueueBind QueueBindOk QueuePurge QueuePurgeOk QueueDelete QueueDeleteOk
        QueueUnbind QueueUnbindOk
        BasicQos BasicQosOk BasicConsume BasicConsumeOk BasicCancel BasicCancelOk BasicPublish BasicReturn
        BasicDeliver BasicGet BasicGetOk BasicGetEmpty BasicAck BasicReject BasicRecoverAsync BasicRecover
        BasicRecoverOk BasicNack
        ConfirmSelect ConfirmSelectOk
        TxSelect TxSelectOk TxCommit TxCommitOk TxRollback TxRollbackOk
    }
}

/// What one side has and the other has not, line by line.
fn differences(what: &str, theirs: &[String], ours: &[String]) -> Vec<String> {
    if theirs == ours {
        return Vec::new();
    }
    let mut lines = vec![format!("{what}:")];
    let longest = theirs.len().max(ours.len());
    for i in 0..longest {
        let (their, our) = (theirs.get(i), ours.get(i));
        if their == our {
            // What is the same helps to find the place in a method, and hides it in a long list.
            if longest < 20 {
                lines.push(format!("    {}", their.map_or("", String::as_str)));
            }
            continue;
        }
        lines.extend(their.map(|line| format!("  - {line}")));
        lines.extend(our.map(|line| format!("  + {line}")));
    }
    lines
}

fn no_differences(lines: &[String]) {
    assert!(
        lines.is_empty(),
        "not as the definition has it (- definition, + ours):\n{}",
        lines.join("\n")
    );
}

#[test]
fn every_method_is_as_the_definition_has_it() {
    let definition = AMQProtocolDefinition::load(None);
    let mut theirs = BTreeMap::new();
    for class in &definition.classes {
        for method in &class.methods {
            let name = format!("{}.{}", class.name, method.name);
            let mut lines = vec![
                format!("id {}.{}", class.id, method.id),
                format!("content {}", method.content),
                format!("is answered {}", method.synchronous),
            ];
            lines.extend(their_arguments(&name, method));
            theirs.insert(name, lines);
        }
    }
    let mut ours = BTreeMap::new();
    for default in every_default() {
        let spec = default.spec();
        let mut lines = vec![
            format!("id {}.{}", spec.id.class, spec.id.method),
            format!("content {}", spec.has_content),
            format!("is answered {}", !spec.replies.is_empty()),
        ];
        lines.extend(our_arguments(&default));
        ours.insert(spec.name.to_owned(), lines);
    }
    let names: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let lines: Vec<_> = names
        .iter()
        .flat_map(|name| {
            let side =
                |methods: &BTreeMap<String, Vec<String>>| methods.get(*name).cloned().unwrap_or_default();
            differences(name, &side(&theirs), &side(&ours))
        })
        .collect();
    no_differences(&lines);
    assert_eq!((theirs.len(), ours.len(), METHODS.len()), (66, 66, 66));
    let table: BTreeSet<_> = METHODS.iter().map(|spec| spec.name).collect();
    assert_eq!(table.len(), 66);
    assert!(table.iter().all(|name| ours.contains_key(*name)));
    assert!(
        METHODS.is_sorted_by_key(|spec| spec.id.class),
        "class by class, as the specification"
    );
}

/// Who sends each method (Client, Server or Both) and what answers it.
const FLOWS: &str = "
    S connection.start > connection.start-ok
    C connection.start-ok
    S connection.secure > connection.secure-ok
    C connection.secure-ok
    S connection.tune > connection.tune-ok
    C connection.tune-ok
    C connection.open > connection.open-ok
    S connection.open-ok
    B connection.close > connection.close-ok
    B connection.close-ok
    S connection.blocked
    S connection.unblocked
    C connection.update-secret > connection.update-secret-ok
    S connection.update-secret-ok
    C channel.open > channel.open-ok
    S channel.open-ok
    B channel.flow > channel.flow-ok
    B channel.flow-ok
    B channel.close > channel.close-ok
    B channel.close-ok
    C access.request > access.request-ok
    S access.request-ok
    C exchange.declare > exchange.declare-ok
    S exchange.declare-ok
    C exchange.delete > exchange.delete-ok
    S exchange.delete-ok
    C exchange.bind > exchange.bind-ok
    S exchange.bind-ok
    C exchange.unbind > exchange.unbind-ok
    S exchange.unbind-ok
    C queue.declare > queue.declare-ok
    S queue.declare-ok
    C queue.bind > queue.bind-ok
    S queue.bind-ok
    C queue.purge > queue.purge-ok
    S queue.purge-ok
    C queue.delete > queue.delete-ok
    S queue.delete-ok
    C queue.unbind > queue.unbind-ok
    S queue.unbind-ok
    C basic.qos > basic.qos-ok
    S basic.qos-ok
    C basic.consume > basic.consume-ok
    S basic.consume-ok
    B basic.cancel > basic.cancel-ok
    B basic.cancel-ok
    C basic.publish
    S basic.return
    S basic.deliver
    C basic.get > basic.get-ok basic.get-empty
    S basic.get-ok
    S basic.get-empty
    B basic.ack
    C basic.reject
    C basic.recover-async
    C basic.recover > basic.recover-ok
    S basic.recover-ok
    B basic.nack
    C confirm.select > confirm.select-ok
    S confirm.select-ok
    C tx.select > tx.select-ok
    S tx.select-ok
    C tx.commit > tx.commit-ok
    S tx.commit-ok
    C tx.rollback > tx.rollback-ok
    S tx.rollback-ok
";

#[test]
fn senders_and_replies_are_as_the_specification_has_them() {
    let theirs: Vec<_> = FLOWS.trim().lines().map(|line| line.trim().to_owned()).collect();
    let ours: Vec<_> = METHODS
        .iter()
        .map(|spec| {
            let sender = match spec.sender {
                Sender::Client => "C",
                Sender::Server => "S",
                Sender::Both => "B",
            };
            let replies: String = spec.replies.iter().map(|reply| format!(" {reply}")).collect();
            let arrow = if replies.is_empty() { "" } else { " >" };
            format!("{sender} {}{arrow}{replies}", spec.name)
        })
        .collect();
    no_differences(&differences("senders and replies", &theirs, &ours));
    assert_eq!(theirs.len(), 66);
}

#[test]
fn reply_codes_are_as_the_definition_has_them() {
    let definition = AMQProtocolDefinition::load(None);
    let success = definition
        .constants
        .iter()
        .filter(|constant| constant.name == "REPLY-SUCCESS");
    let mut theirs: Vec<_> = success
        .map(|constant| (constant, None))
        .chain(definition.soft_errors.iter().map(|error| (error, Some(false))))
        .chain(definition.hard_errors.iter().map(|error| (error, Some(true))))
        .map(|(constant, ends_connection)| {
            let name = constant.name.replace('-', "_");
            format!(
                "{} {name}, ends the connection: {ends_connection:?}",
                constant.value
            )
        })
        .collect();
    theirs.sort();
    let ours: Vec<_> = (0..=u16::MAX)
        .map(ReplyCode)
        .filter_map(|code| {
            let name = code.name()?;
            Some(format!(
                "{} {name}, ends the connection: {:?}",
                code.0,
                code.is_connection_error()
            ))
        })
        .collect();
    no_differences(&differences("reply codes", &theirs, &ours));
    assert_eq!(ours.len(), 19);
    let nameless = (0..=u16::MAX).map(ReplyCode).filter(|code| code.name().is_none());
    assert!(
        nameless
            .into_iter()
            .all(|code| code.is_connection_error().is_none())
    );
}

/// Each property alone, in the order of the struct.
fn each_property() -> Vec<Properties<'static>> {
    let text = Some(ShortStr::new("x").unwrap());
    let none = Properties::default();
    vec![
        Properties {
            content_type: text,
            ..none
        },
        Properties {
            content_encoding: text,
            ..none
        },
        Properties {
            headers: Some(FieldTableRef::EMPTY),
            ..none
        },
        Properties {
            delivery_mode: Some(1),
            ..none
        },
        Properties {
            priority: Some(1),
            ..none
        },
        Properties {
            correlation_id: text,
            ..none
        },
        Properties {
            reply_to: text,
            ..none
        },
        Properties {
            expiration: text,
            ..none
        },
        Properties {
            message_id: text,
            ..none
        },
        Properties {
            timestamp: Some(1),
            ..none
        },
        Properties {
            message_type: text,
            ..none
        },
        Properties {
            user_id: text,
            ..none
        },
        Properties { app_id: text, ..none },
        Properties {
            cluster_id: text,
            ..none
        },
    ]
}

#[test]
fn properties_are_as_the_definition_has_them() {
    let definition = AMQProtocolDefinition::load(None);
    let basic = definition
        .classes
        .iter()
        .find(|class| class.name == "basic")
        .unwrap();
    let theirs: Vec<_> = basic
        .properties
        .iter()
        .enumerate()
        .map(|(i, property)| {
            let name = match property.name.as_str() {
                "type" => "message_type".to_owned(),
                name => name.replace('-', "_"),
            };
            let domain = our_domain("", &property.name, &property.amqp_type);
            // The first property has the highest bit (specification 4.2.6.1).
            format!("{name}: {domain}, flags {:#018b}", 1_u16 << (15 - i))
        })
        .collect();
    let ours: Vec<_> = each_property()
        .into_iter()
        .map(|properties| {
            let mut octets = Vec::new();
            let header = ContentHeader {
                body_size: 0,
                properties,
            };
            Frame::Header { channel: 1, header }
                .encode(&mut octets, 4096)
                .unwrap();
            let flags = u16::from_be_bytes([octets[19], octets[20]]);
            let mut line = String::new();
            properties.for_each(&mut |name, value| {
                let domain = match value {
                    Argument::Octet(_) => "octet",
                    Argument::LongLong(_) => "longlong",
                    Argument::ShortStr(_) => "shortstr",
                    Argument::Table(_) => "table",
                    _ => "?",
                };
                line += &format!("{name}: {domain}, flags {flags:#018b}");
            });
            line
        })
        .collect();
    no_differences(&differences("properties", &theirs, &ours));
    assert_eq!(ours.len(), 14);
}

#[test]
fn frame_constants_are_as_the_definition_has_them() {
    let definition = AMQProtocolDefinition::load(None);
    let theirs: Vec<_> = definition
        .constants
        .iter()
        .map(|constant| (constant.name.as_str(), constant.value))
        .collect();
    assert_eq!(
        theirs,
        [
            ("FRAME-METHOD", FrameType::Method as u32),
            ("FRAME-HEADER", FrameType::Header as u32),
            ("FRAME-BODY", FrameType::Body as u32),
            ("FRAME-HEARTBEAT", FrameType::Heartbeat as u32),
            // What RabbitMQ 4.1 and later want; the specification's is ours, which is what all of them send before tune.
            ("FRAME-MIN-SIZE", 2 * FRAME_MIN_SIZE),
            ("FRAME-END", HEARTBEAT[7].into()),
            ("REPLY-SUCCESS", ReplyCode::REPLY_SUCCESS.0.into()),
        ]
    );
    assert_eq!(FRAME_MIN_SIZE, 4096);
    assert_eq!(HEADER_SIZE + 1, FRAME_OVERHEAD as usize);
    let version = [
        definition.major_version,
        definition.minor_version,
        definition.revision,
    ];
    assert_eq!(PROTOCOL_HEADER[5..], version);
    assert_eq!(PROTOCOL_HEADER[..5], *b"AMQP\0");
}
