//! The examples, as programs: they are run as a reader would, given what they need, and asked for what they printed.
//!
//! A receiver prints that it is waiting when it is ready, and is ended with SIGINT, which is Ctrl-C.

#![cfg(unix)]

#[macro_use]
#[path = "tutorials/expected.rs"]
mod expected;
#[path = "tutorials/program.rs"]
mod program;

use amqp_testbroker::TestBroker;
use expected::{hello_world, publish_subscribe, remote_procedure_call, routing, topics, work_queues};
use program::run;

mod adapter {
    use tokio::runtime::Runtime;

    pub(crate) const PREFIX: &str = "";

    pub(crate) const UNROUTED_CALL: &str = "no queue takes the call";

    pub(crate) fn delete_if(url: &str, queue: &str, is_settled: bool) {
        let deleting = async {
            let connection = amqp_tokio::connect(url).await.unwrap();
            let channel = connection.channel().await.unwrap();
            let queue = channel.queue(queue);
            queue.delete_if(is_settled, is_settled).await.unwrap();
            connection.close().await;
        };
        Runtime::new().unwrap().block_on(deleting);
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
