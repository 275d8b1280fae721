//! Exchanges: what they are, their bindings, and which of these a message takes.

use std::collections::BTreeMap;

use amqp_proto::wire::{ExchangeDeclare, FieldTable, FieldTableRef, ReplyCode, ShortStr};

use super::letter::Letter;
use super::value::{Resource, Text, type_name};
use super::{Name, arguments, headers, topic};
use crate::config::Release;
use crate::refusal::Refusal;

/// How an exchange reads its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    Queue(Name),
    Exchange(Name),
}

/// A binding, without its exchange and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Binding {
    destination: Destination,
    /// Sorted by name: the order is no difference.
    arguments: FieldTable,
}

#[derive(Debug)]
pub(super) struct Exchange {
    kind: Kind,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    alternate: Option<Name>,
    /// By routing key. No list is empty.
    bindings: BTreeMap<Name, Vec<Binding>>,
}

const ALTERNATE: &str = "alternate-exchange";

impl Kind {
    const ALL: [Self; 4] = [Self::Direct, Self::Fanout, Self::Topic, Self::Headers];

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    /// The type of that name. 3.10 ends the connection where there is none, 4 the channel.
    pub(super) fn named(name: ShortStr<'_>, release: Release) -> Result<Self, Refusal> {
        Self::ALL
            .into_iter()
            .find(|kind| name == kind.name())
            .ok_or_else(|| {
                let name = Text(name.as_bytes());
                match release {
                    Release::V3_10 => Refusal::connection(
                        ReplyCode::COMMAND_INVALID,
                        format_args!("unknown exchange type '{name}'"),
                    ),
                    Release::V4 => {
                        Refusal::precondition_failed(format_args!("unknown exchange type '{name}'"))
                    }
                }
            })
    }
}

impl Exchange {
    /// One that the broker has from its start.
    pub(super) const fn predeclared(kind: Kind, internal: bool) -> Self {
        Self {
            kind,
            durable: true,
            auto_delete: false,
            internal,
            alternate: None,
            bindings: BTreeMap::new(),
        }
    }

    pub(super) fn new(
        method: &ExchangeDeclare<'_>,
        kind: Kind,
        resource: Resource<'_>,
    ) -> Result<Self, Refusal> {
        let alternate = method.arguments.get(ALTERNATE).ok().flatten();
        if let Some(value) = alternate
            && type_name(&value) != "longstr"
        {
            let of = type_name(&value);
            return Err(Refusal::precondition_failed(format_args!(
                "invalid type '{of}' for arg '{ALTERNATE}' in {resource}"
            )));
        }
        Ok(Self {
            kind,
            durable: method.durable,
            auto_delete: method.auto_delete,
            internal: method.internal,
            alternate: alternate.and_then(|value| value.as_bytes().map(Name::copy_from_slice)),
            bindings: BTreeMap::new(),
        })
    }

    /// Whether it may be declared so again.
    pub(super) fn check_equivalence(
        &self,
        method: &ExchangeDeclare<'_>,
        kind: Kind,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        let (current, received) = (self.kind.name().into(), kind.name().into());
        arguments::equivalent("type", Some(current), Some(received), resource)?;
        for (key, current, received) in [
            ("durable", self.durable, method.durable),
            ("auto_delete", self.auto_delete, method.auto_delete),
            ("internal", self.internal, method.internal),
        ] {
            arguments::equivalent_property(key, current, received, resource)?;
        }
        let current = self
            .alternate
            .as_deref()
            .map(amqp_proto::wire::FieldValue::LongStr);
        let received = method.arguments.get(ALTERNATE).ok().flatten();
        arguments::equivalent(ALTERNATE, current, received, resource)
    }

    /// Whether bindings with these arguments can be.
    pub(super) fn check_binding(&self, arguments: FieldTableRef<'_>) -> Result<(), Refusal> {
        match self.kind {
            Kind::Headers => headers::check(arguments),
            _ => Ok(()),
        }
    }

    /// Adds a binding, if it is not there.
    pub(super) fn bind(&mut self, key: Name, destination: Destination, arguments: FieldTableRef<'_>) {
        let binding = Binding {
            destination,
            arguments: sorted(arguments),
        };
        let bindings = self.bindings.entry(key).or_default();
        if !bindings.contains(&binding) {
            bindings.push(binding);
        }
    }

    /// Removes a binding, and says whether that was the last one.
    pub(super) fn unbind(
        &mut self,
        key: &[u8],
        destination: Destination,
        arguments: FieldTableRef<'_>,
    ) -> bool {
        let binding = Binding {
            destination,
            arguments: sorted(arguments),
        };
        let Some(bindings) = self.bindings.get_mut(key) else {
            return false;
        };
        bindings.retain(|other| *other != binding);
        if bindings.is_empty() {
            self.bindings.remove(key);
        }
        self.is_unused()
    }

    /// Keeps the bindings that lead to one of these, and says whether it lost the last one.
    pub(super) fn retain_bindings(&mut self, keep: impl Fn(&Destination) -> bool) -> bool {
        let was_unused = self.is_unused();
        self.bindings.retain(|_, bindings| {
            bindings.retain(|binding| keep(&binding.destination));
            !bindings.is_empty()
        });
        !was_unused && self.is_unused()
    }

    /// Each binding's key and where it leads.
    pub(super) fn bindings(&self) -> impl Iterator<Item = (&Name, &Destination)> {
        let bindings = self.bindings.iter();
        bindings.flat_map(|(key, bound)| bound.iter().map(move |binding| (key, &binding.destination)))
    }

    /// Whether nothing is bound to it.
    pub(super) fn is_unused(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Where a message goes from here; to the alternate exchange if that is nowhere.
    pub(super) fn route(&self, letter: &Letter, release: Release, mut to: impl FnMut(Destination)) {
        let mut is_routed = false;
        let mut to_all = |bindings: &[Binding]| {
            for binding in bindings {
                is_routed = true;
                to(binding.destination.clone());
            }
        };
        match self.kind {
            Kind::Direct => {
                for key in letter.routing_keys() {
                    self.bindings
                        .get(key)
                        .into_iter()
                        .for_each(|bindings| to_all(bindings));
                }
            }
            Kind::Fanout => self.bindings.values().for_each(|bindings| to_all(bindings)),
            Kind::Topic => {
                for (pattern, bindings) in &self.bindings {
                    if letter.routing_keys().any(|key| topic::matches(pattern, key)) {
                        to_all(bindings);
                    }
                }
            }
            Kind::Headers => {
                let headers = letter.message.properties().headers.unwrap_or_default();
                for binding in self.bindings.values().flatten() {
                    if headers::matches(binding.arguments.as_ref(), headers, release) {
                        to_all(std::slice::from_ref(binding));
                    }
                }
            }
        }
        if let Some(alternate) = &self.alternate
            && !is_routed
        {
            to(Destination::Exchange(alternate.clone()));
        }
    }
}

/// The same entries by name; what cannot be read is left out.
fn sorted(table: FieldTableRef<'_>) -> FieldTable {
    let mut entries: Vec<_> = table.iter().flatten().collect();
    if entries.is_sorted_by_key(|(key, _)| *key) {
        return table.to_owned().unwrap_or_default();
    }
    entries.sort_by_key(|(key, _)| *key);
    let mut encoded = Vec::with_capacity(table.as_encoded().len());
    for (key, value) in entries {
        let mut entry = FieldTable::new();
        // A name that is not UTF-8 or a number that is not finite cannot be told apart by its place anyway.
        if let Ok(key) = key.to_str()
            && entry.insert(key, value).is_ok()
        {
            encoded.extend_from_slice(entry.as_ref().as_encoded());
        }
    }
    FieldTableRef::from_encoded(&encoded)
        .to_owned()
        .unwrap_or_default()
}
