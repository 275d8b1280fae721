//! RabbitMQ's tutorial 6, "Remote procedure call": asks `rpc_server` for a Fibonacci number, the 30th or that of the argument.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::rpc::RpcClient;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let number = env::args().nth(1).unwrap_or_else(|| "30".into());

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;

    // It sees to `reply_to` and `correlation_id`, and to the answers.
    let client = RpcClient::new(&channel).await?;
    let answer = client.call("rpc_queue", number.as_str()).await;
    connection.close().await;

    // There may be no server, or one that cannot do it.
    let answer = answer.map_err(|error| format!("fib({number}): {error}"))?;
    println!("fib({number}) = {}", String::from_utf8_lossy(&answer.body()));
    Ok(())
}
