//! Where a scenario happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use amqp_mio::Connector;
use amqp_mio::proto::{Config, ConnectionParameters};
use amqp_testbroker::TestBroker;

use super::client::Client;
use super::operator::{self, Operator};

/// A broker, perhaps our own.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) url: String,
    prefix: String,
    pub(crate) operator: Operator,
}

impl World {
    /// An embedded broker, which lives as long as this.
    pub(crate) fn embedded() -> Self {
        let broker = TestBroker::builder()
            .config(operator::embedded_config())
            .start()
            .unwrap();
        Self::new(broker.uri(), Operator::Embedded(Arc::new(broker)))
    }

    /// The same, over TLS.
    pub(crate) fn embedded_over_tls() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let builder = TestBroker::builder().config(operator::embedded_config());
        let broker = builder.tls_address(([127, 0, 0, 1], 0).into()).start().unwrap();
        let authority = format!(
            "{}/mio.{}.{number}.pem",
            env!("CARGO_TARGET_TMPDIR"),
            std::process::id()
        );
        std::fs::write(&authority, broker.ca_pem().unwrap()).unwrap();
        let url = format!("{}?cacertfile={authority}", broker.tls_uri().unwrap());
        Self::new(url, Operator::Embedded(Arc::new(broker)))
    }

    /// The broker that this variable names.
    pub(crate) fn rabbitmq(variable: &str) -> Self {
        let url = std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"));
        Self::new(url, Operator::RabbitMq)
    }

    fn new(url: String, operator: Operator) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            url,
            prefix: format!("mio.scenario.{}.{number}", std::process::id()),
            operator,
        }
    }

    /// A name that nobody else uses.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(crate) fn parameters(&self, change: impl FnOnce(Config) -> Config) -> ConnectionParameters {
        let mut parameters = ConnectionParameters::from_uri(&self.url).unwrap();
        parameters.config = change(parameters.config);
        parameters
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect_uri(&self.url).unwrap()
    }

    /// With another configuration.
    pub(crate) fn connect_with(&self, change: impl FnOnce(Config) -> Config) -> Client {
        Client::connect(&Connector::new(self.parameters(change))).unwrap()
    }

    pub(crate) fn as_user(&self, name: &str) -> String {
        self.url.replacen("guest:guest@", &format!("{name}:{name}@"), 1)
    }
}
