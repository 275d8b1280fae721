//! The scenarios of amqp-async on async-std.

#[macro_use]
#[path = "../../amqp-async/scenarios/mod.rs"]
mod scenarios;

all_scenarios!();

mod runtime {
    use std::future::Future;
    use std::time::Duration;

    use amqp_async_std::proto::ConnectionParameters;
    pub(crate) use amqp_async_std::{AttemptError, ConnectError, Stage};
    use amqp_async_std::{Connection, Connector, CredentialsSource, Recovery};
    use async_std::{future, task};

    use crate::scenarios::World;

    /// Longer than any of them takes.
    const DEADLINE: Duration = Duration::from_secs(120);

    pub(crate) async fn connect(url: &str) -> Result<Connection, ConnectError> {
        amqp_async_std::connect(url).await
    }

    pub(crate) async fn connect_with(parameters: ConnectionParameters) -> Result<Connection, ConnectError> {
        Connector::new(parameters).connect().await
    }

    pub(crate) async fn connect_recovering(
        parameters: ConnectionParameters,
    ) -> Result<Connection, ConnectError> {
        Connector::new(parameters)
            .recovery(Recovery::default())
            .connect()
            .await
    }

    pub(crate) async fn connect_recovering_as(
        parameters: ConnectionParameters,
        recovery: Recovery,
        source: Option<CredentialsSource>,
    ) -> Result<Connection, ConnectError> {
        let mut connector = Connector::new(parameters).recovery(recovery);
        if let Some(source) = source {
            connector = connector.credentials_source(source);
        }
        connector.connect().await
    }

    pub(crate) async fn connect_as(
        parameters: ConnectionParameters,
        source: CredentialsSource,
    ) -> Result<Connection, ConnectError> {
        let connector = Connector::new(parameters).credentials_source(source);
        connector.connect().await
    }

    /// Runs it at the same time, perhaps on another thread.
    pub(crate) fn thread<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> {
        task::spawn(future)
    }

    pub(crate) fn on_embedded<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
        run(scenario(World::embedded()));
    }

    /// On the broker that this variable names.
    pub(crate) fn on_rabbitmq<F: Future<Output = ()>>(variable: &str, scenario: impl FnOnce(World) -> F) {
        let url = std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"));
        run(scenario(World::new(url)));
    }

    pub(crate) fn run(scenario: impl Future<Output = ()>) {
        let finished = task::block_on(future::timeout(DEADLINE, scenario));
        finished.expect("it takes too long");
    }
}
