//! What the ways to leave a connection need of tokio.

use std::future::Future;

use amqp_tokio::{ConnectError, Connection};

pub(crate) async fn connect(url: &str) -> Result<Connection, ConnectError> {
    amqp_tokio::connect(url).await
}

/// Starts a task, and aborts it when the other one is done.
pub(crate) async fn abort_after(
    task: impl Future<Output = ()> + Send + 'static,
    other: impl Future<Output = ()>,
) {
    let task = tokio::spawn(task);
    other.await;
    task.abort();
    // It was aborted, or had ended.
    drop(task.await);
}
