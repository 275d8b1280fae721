//! Where the tests happen, and what they note.

use amqp_mio::proto::wire::{BasicConsume, BasicPublish, QueueDeclare, ReplyCode, ShortStr};
use amqp_mio::{ChannelRef, ConnectionId, Connector, Ctx, EventLoop, RunError, TlsConfig, TlsMaterial};
use amqp_testbroker::TestBroker;

/// A broker, perhaps our own.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) connector: Connector,
    _broker: Option<TestBroker>,
}

impl World {
    pub(crate) fn embedded() -> Self {
        let broker = TestBroker::start().unwrap();
        Self {
            connector: connector(&broker),
            _broker: Some(broker),
        }
    }

    pub(crate) fn embedded_over_tls() -> Self {
        let builder = TestBroker::builder().tls_address(([127, 0, 0, 1], 0).into());
        let broker = builder.start().unwrap();
        let tls = TlsConfig::new().trust_only(TlsMaterial::memory(broker.ca_pem().unwrap()));
        let connector = Connector::from_uri(&broker.tls_uri().unwrap()).unwrap();
        Self {
            connector: connector.tls(tls),
            _broker: Some(broker),
        }
    }

    /// The broker that this variable names.
    pub(crate) fn rabbitmq(variable: &str) -> Self {
        let url = std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"));
        Self {
            connector: Connector::from_uri(&url).unwrap(),
            _broker: None,
        }
    }

    /// A loop with a connection and a channel, where `job` is done when that is open. Runs until the connection is closed.
    pub(crate) fn run(
        &self,
        job: impl FnOnce(&mut Ctx<'_, Log>, ChannelRef) + Clone + 'static,
    ) -> (Log, Result<(), RunError>) {
        let mut event_loop = EventLoop::new(Log::new()).unwrap();
        let connection = event_loop.connect(&self.connector).unwrap();
        let mut ctx = event_loop.context();
        let mut view = ctx.connection(connection).unwrap();
        view.on_open(move |ctx, connection| {
            let mut view = ctx.connection(connection).unwrap();
            view.open_channel(job.clone()).unwrap();
        });
        view.on_close(|ctx, _, reason| note(ctx, format!("closed: {reason}")));
        let result = event_loop.run();
        (event_loop.state().clone(), result)
    }
}

pub(crate) fn connector(broker: &TestBroker) -> Connector {
    Connector::from_uri(&broker.uri()).unwrap()
}

/// What happened, in its order.
pub(crate) type Log = Vec<String>;

pub(crate) const CLOSED: &str = "closed: closed on request";

pub(crate) fn note(ctx: &mut Ctx<'_, Log>, what: impl Into<String>) {
    ctx.state().push(what.into());
}

pub(crate) fn close(ctx: &mut Ctx<'_, Log>, connection: ConnectionId) {
    ctx.connection(connection)
        .unwrap()
        .close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
}

/// A name that no other test has, nor this one in another process, for as long as it is a different word in each test.
pub(crate) fn unique(word: &str) -> String {
    format!(
        "mio.{word}.{}.{:?}",
        std::process::id(),
        std::thread::current().id()
    )
}

pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

/// It goes with its connection.
pub(crate) fn queue(name: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(name),
        exclusive: true,
        ..Default::default()
    }
}

/// Only looks at it.
pub(crate) fn passive(name: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        passive: true,
        ..queue(name)
    }
}

pub(crate) fn to(queue: &str) -> BasicPublish<'_> {
    BasicPublish {
        routing_key: short(queue),
        ..Default::default()
    }
}

pub(crate) fn from(queue: &str) -> BasicConsume<'_> {
    BasicConsume {
        queue: short(queue),
        ..Default::default()
    }
}

/// Makes tests of them, on every kind of broker.
macro_rules! everywhere {
    ($($name:ident)+) => {
        mod embedded {
            $(#[test]
            fn $name() {
                super::$name(&crate::world::World::embedded());
            })+
        }

        mod embedded_over_tls {
            $(#[test]
            fn $name() {
                super::$name(&crate::world::World::embedded_over_tls());
            })+
        }

        mod rabbitmq {
            $(#[test]
            #[ignore = "needs a broker: cargo xtask test"]
            fn $name() {
                super::$name(&crate::world::World::rabbitmq("AMQP_TEST_URL"));
            })+
        }

        mod rabbitmq_over_tls {
            $(#[test]
            #[ignore = "needs a broker: cargo xtask test"]
            fn $name() {
                super::$name(&crate::world::World::rabbitmq("AMQP_TEST_TLS_URL"));
            })+
        }
    };
}
