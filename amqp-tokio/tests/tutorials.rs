//! The examples, as programs: they are run as a reader would, given what they need, and asked for what they printed.
//!
//! A receiver prints that it is waiting when it is ready, and is ended with SIGINT, which is Ctrl-C.

#![cfg(unix)]

#[macro_use]
#[path = "tutorials/expected.rs"]
mod expected;
#[path = "tutorials/program.rs"]
mod program;
#[path = "tutorials/vendors.rs"]
mod vendors;

use amqp_testbroker::TestBroker;
use expected::{hello_world, publish_subscribe, remote_procedure_call, routing, topics, work_queues};
use program::run;

mod adapter {
    use std::future::Future;

    use amqp_tokio::Channel;
    pub(crate) use amqp_tokio::proto::ConnectionParameters;
    use tokio::runtime::Runtime;

    pub(crate) const PREFIX: &str = "";

    pub(crate) const UNROUTED_CALL: &str = "no queue takes the call";

    pub(crate) fn delete_if(url: &str, queue: &str, is_settled: bool) {
        with_channel(url, async |channel| {
            let queue = channel.queue(queue);
            queue.delete_if(is_settled, is_settled).await.unwrap();
        });
    }

    pub(crate) fn publish(url: &str, queue: &str, body: &'static str) {
        with_channel(url, async |channel| {
            channel.default_exchange().publish(body, queue).await.unwrap();
        });
    }

    fn with_channel<F: Future<Output = ()>>(url: &str, action: impl FnOnce(Channel) -> F) {
        let acting = async {
            let connection = amqp_tokio::connect(url).await.unwrap();
            action(connection.channel().await.unwrap()).await;
            connection.close().await;
        };
        Runtime::new().unwrap().block_on(acting);
    }
}

fn confirms(url: &str) {
    let expected = [
        "1000 confirmed, 0 refused, 0 returned, 0 lost",
        "returned: to nowhere (NO_ROUTE)",
        "closed on request, 0 unconfirmed",
    ];
    assert_eq!(run(url, "confirms", &[]), expected);
}

fn headers(url: &str) {
    let expected = [
        "all: contract",
        "any: contract",
        "any: manual",
        "any: alarm",
        "closed on request",
    ];
    assert_eq!(run(url, "headers", &[]), expected);
}

programs! {
    hello_world work_queues publish_subscribe routing topics remote_procedure_call confirms headers
}
