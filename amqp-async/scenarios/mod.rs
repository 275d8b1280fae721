//! What the asynchronous client does on a broker, written once: each runtime's crate compiles this into its tests and runs it on the
//! embedded broker and on RabbitMQ. It brings `crate::runtime` (connecting, threads, time) and calls [`scenarios!`].
//!
//! Scenarios share a broker, so each has its own names ([`World::name`]), and waits for events, never for time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use amqp_async::proto::{CloseReason, Config, ConnectionParameters};
use amqp_async::{Channel, Connection, FieldTable, FieldValue, Queue};
use amqp_testbroker::TestBroker;

use self::operator::Operator;
pub(crate) use self::report::passed;

pub(crate) mod ack_timeouts;
pub(crate) mod alarms;
pub(crate) mod connecting;
pub(crate) mod consuming;
pub(crate) mod credentials;
pub(crate) mod failing;
pub(crate) mod flow;
#[macro_use]
mod list;
#[macro_use]
mod macros;
pub(crate) mod misuse;
pub(crate) mod operator;
pub(crate) mod outages;
pub(crate) mod poison;
pub(crate) mod publishing;
pub(crate) mod recovery;
pub(crate) mod refusing;
pub(crate) mod report;
pub(crate) mod republishing;
pub(crate) mod restoring;
pub(crate) mod routing;
pub(crate) mod rpc;
pub(crate) mod securing;
pub(crate) mod shutdown;
pub(crate) mod streams;
pub(crate) mod worker;

/// Where a scenario happens.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) operator: Operator,
    prefix: String,
}

impl World {
    /// RabbitMQ.
    pub(crate) fn new(url: String) -> Self {
        Self::with_operator(url, Operator::RabbitMq)
    }

    /// An embedded broker, which lives as long as this.
    pub(crate) fn embedded() -> Self {
        let broker = TestBroker::builder()
            .config(operator::embedded_config())
            .start()
            .unwrap();
        Self::with_operator(broker.uri(), Operator::Embedded(Arc::new(broker)))
    }

    /// The same, over TLS.
    pub(crate) fn embedded_over_tls() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let builder = TestBroker::builder().config(operator::embedded_config());
        let broker = builder.tls_address(([127, 0, 0, 1], 0).into()).start().unwrap();
        let authority = format!(
            "{}/ca.{}.{number}.pem",
            env!("CARGO_TARGET_TMPDIR"),
            std::process::id()
        );
        std::fs::write(&authority, broker.ca_pem().unwrap()).unwrap();
        let url = format!("{}?cacertfile={authority}", broker.tls_uri().unwrap());
        Self::with_operator(url, Operator::Embedded(Arc::new(broker)))
    }

    fn with_operator(url: String, operator: Operator) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("scenario.{}.{number}", std::process::id());
        Self {
            url,
            operator,
            prefix,
        }
    }

    /// A name that nobody else uses.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(crate) async fn connect(&self) -> Connection {
        crate::runtime::connect(&self.url).await.unwrap()
    }

    /// With another configuration.
    pub(crate) async fn connect_with(&self, change: impl FnOnce(Config) -> Config) -> Connection {
        let parameters = self.parameters(change);
        crate::runtime::connect_with(parameters).await.unwrap()
    }

    pub(crate) fn parameters(&self, change: impl FnOnce(Config) -> Config) -> ConnectionParameters {
        let mut parameters = ConnectionParameters::from_uri(&self.url).unwrap();
        parameters.config = change(parameters.config);
        parameters
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.connect().await.channel().await.unwrap()
    }

    /// A queue of its own, on a channel of its own.
    pub(crate) async fn queue(&self) -> Queue {
        self.channel()
            .await
            .declare_queue("")
            .exclusive(true)
            .await
            .unwrap()
    }
}

/// A table of these entries.
pub(crate) fn table(entries: &[(&str, FieldValue<'_>)]) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in entries {
        table.insert(key, *value).unwrap();
    }
    table
}

/// Ends the connection, and is sure that nothing was wrong with it.
pub(crate) async fn close(connection: &Connection) {
    let report = connection.close().await;
    assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
    assert_eq!(report.unconfirmed, 0);
}
