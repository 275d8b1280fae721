//! What can be said of queues and exchanges when they are declared.

use amqp_async::FieldTable;

/// How a queue is to be. By default it is neither durable nor anything else.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct QueueOptions {
    /// Only looks whether it is there; nothing else counts then.
    pub passive: bool,
    /// It survives a restart of the broker. RabbitMQ from 4.3 on refuses a queue that is neither this nor exclusive.
    pub durable: bool,
    /// It is this connection's only, and goes with it.
    pub exclusive: bool,
    /// It goes when its last consumer does.
    pub auto_delete: bool,
    /// Arguments, such as `x-queue-type`.
    pub arguments: FieldTable,
}

impl QueueOptions {
    /// Sets [`passive`](Self#structfield.passive).
    #[must_use]
    pub const fn passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// Sets [`durable`](Self#structfield.durable).
    #[must_use]
    pub const fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets [`exclusive`](Self#structfield.exclusive).
    #[must_use]
    pub const fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Sets [`auto_delete`](Self#structfield.auto_delete).
    #[must_use]
    pub const fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Sets [`arguments`](Self#structfield.arguments).
    #[must_use]
    pub fn arguments(mut self, arguments: FieldTable) -> Self {
        self.arguments = arguments;
        self
    }
}

/// How an exchange is to be. By default it is neither durable nor anything else.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ExchangeOptions {
    /// Only looks whether it is there; nothing else counts then.
    pub passive: bool,
    /// It survives a restart of the broker.
    pub durable: bool,
    /// It goes when the last binding to it does.
    pub auto_delete: bool,
    /// Only other exchanges publish to it.
    pub internal: bool,
    /// Arguments, such as `alternate-exchange`.
    pub arguments: FieldTable,
}

impl ExchangeOptions {
    /// Sets [`passive`](Self#structfield.passive).
    #[must_use]
    pub const fn passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// Sets [`durable`](Self#structfield.durable).
    #[must_use]
    pub const fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets [`auto_delete`](Self#structfield.auto_delete).
    #[must_use]
    pub const fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Sets [`internal`](Self#structfield.internal).
    #[must_use]
    pub const fn internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }

    /// Sets [`arguments`](Self#structfield.arguments).
    #[must_use]
    pub fn arguments(mut self, arguments: FieldTable) -> Self {
        self.arguments = arguments;
        self
    }
}

/// What the broker says of a queue that was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeclaredQueue {
    /// Its name, which may be the broker's choice.
    pub name: String,
    /// How many messages were ready.
    pub message_count: u32,
    /// How many consumers it had.
    pub consumer_count: u32,
}
