//! `cargo xtask demo`: the example session, with nothing to set up.

use std::env;

use anyhow::Result;

use crate::broker::Lease;
use crate::process::{cargo, run};

/// Runs the example on AMQP_URL, or on the private RabbitMQ.
pub(crate) fn main() -> Result<()> {
    if let Ok(url) = env::var("AMQP_URL") {
        eprintln!("using the broker of AMQP_URL");
        return session(&url);
    }
    let broker = Lease::take()?;
    eprintln!("using the private RabbitMQ: {}", broker.endpoint.url);
    session(&broker.endpoint.url)
}

fn session(url: &str) -> Result<()> {
    run(cargo(["run", "-q", "-p", "amqp-proto", "--example", "session"]).env("AMQP_URL", url))
}
