//! The scenarios of amqp-async on tokio.

#[macro_use]
#[path = "../../amqp-async/scenarios/mod.rs"]
mod scenarios;

all_scenarios!();

mod runtime {
    use std::future::Future;
    use std::sync::Arc;
    use std::time::Duration;

    use amqp_testbroker::TestBroker;
    use amqp_tokio::proto::{AmqpUri, ConnectionParameters};
    use amqp_tokio::{Connection, Error};
    use tokio::net::TcpStream;
    use tokio::runtime::Runtime;

    use crate::scenarios::World;

    /// Longer than any of them takes.
    const DEADLINE: Duration = Duration::from_secs(120);

    pub(crate) async fn connect(url: &str) -> Result<Connection, Error> {
        let uri: AmqpUri = url.parse().unwrap();
        let parameters = ConnectionParameters::from(uri);
        let address = parameters.addresses().next().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        amqp_tokio::connect_over(stream, Arc::new(parameters.config)).await
    }

    /// Runs it at the same time, perhaps on another thread.
    pub(crate) fn thread<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> {
        let task = tokio::spawn(future);
        async { task.await.unwrap() }
    }

    pub(crate) fn on_embedded<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
        let broker = TestBroker::start().unwrap();
        run(scenario(World::new(broker.uri())));
    }

    pub(crate) fn on_rabbitmq<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
        let url = std::env::var("AMQP_TEST_URL").expect("AMQP_TEST_URL is not set: run `cargo xtask test`");
        run(scenario(World::new(url)));
    }

    fn run(scenario: impl Future<Output = ()>) {
        let runtime = Runtime::new().unwrap();
        let scenario = async { tokio::time::timeout(DEADLINE, scenario).await };
        runtime.block_on(scenario).expect("it takes too long");
    }
}
