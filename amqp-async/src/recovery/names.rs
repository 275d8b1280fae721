//! Names that the broker gave to queues, and gives anew when they are declared again.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use amqp_proto::topology::Topology;
use amqp_proto::wire::{FieldValue, ShortStr};

/// A queue's name as it is at that moment; a `str` that can be kept.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

impl Deref for QueueName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for QueueName {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for QueueName {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq<str> for QueueName {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for QueueName {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl PartialEq<String> for QueueName {
    fn eq(&self, other: &String) -> bool {
        **self == **other
    }
}

impl<'v> From<&'v QueueName> for FieldValue<'v> {
    fn from(name: &'v QueueName) -> Self {
        (&**name).into()
    }
}

impl PartialEq<QueueName> for String {
    fn eq(&self, other: &QueueName) -> bool {
        **self == **other
    }
}

impl From<QueueName> for String {
    fn from(name: QueueName) -> Self {
        (*name).to_owned()
    }
}

impl From<QueueName> for Arc<str> {
    fn from(name: QueueName) -> Self {
        name.0
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

/// What the handles of a queue know it by.
#[derive(Debug, Clone)]
pub(crate) enum NameCell {
    /// The program's choice.
    Fixed(Arc<str>),
    /// The broker's.
    Given(Arc<Given>),
}

/// A name that may change.
#[derive(Debug)]
pub(crate) struct Given(Mutex<Arc<str>>);

/// Those that may change, of handles that are still there.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Weak<Given>>);

impl NameCell {
    pub(crate) const fn may_change(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    pub(crate) fn get(&self) -> QueueName {
        QueueName(match self {
            Self::Fixed(name) => Arc::clone(name),
            Self::Given(given) => given.get(),
        })
    }
}

impl Given {
    fn get(&self) -> Arc<str> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Names {
    /// Follows a name from now on.
    pub(super) fn follow(&mut self, name: &str, topology: &Topology) -> Arc<Given> {
        // It may have changed since it was told.
        let name = present(topology, name).unwrap_or_else(|| name.into());
        let given = Arc::new(Given(Mutex::new(name)));
        if self.0.len() == self.0.capacity() {
            self.0.retain(|given| given.strong_count() > 0);
        }
        self.0.push(Arc::downgrade(&given));
        given
    }

    /// Brings them up to date.
    pub(super) fn update(&mut self, topology: &Topology) {
        for given in self.0.iter().filter_map(Weak::upgrade) {
            let mut name = given.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(present) = present(topology, &name) else {
                continue;
            };
            if **name != *present {
                *name = present;
            }
        }
    }
}

/// What a queue is called now that had that name.
fn present(topology: &Topology, name: &str) -> Option<Arc<str>> {
    let name = ShortStr::new(name).ok()?;
    let present = topology.current_queue_name(&name.into())?;
    Some(present.as_short_str().to_str().ok()?.into())
}
