//! What producer and consumer have in common.

use std::env;
use std::error::Error;

use amqp_blocking::proto::{Config, ConnectionParameters, Credentials, Host};
use amqp_blocking::{BlockingConnection, Connector};

pub(crate) const EXCHANGE: &str = "direct_exchange";

/// Connects to the instance that the variables `TDMQ_HOST`, `TDMQ_VHOST`, `TDMQ_ROLE`, `TDMQ_TOKEN` and `TDMQ_PORT` describe; without
/// them, to this machine's broker as guest.
pub(crate) fn connect() -> Result<BlockingConnection, Box<dyn Error>> {
    let variable = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let host = Host::new(variable("TDMQ_HOST", "localhost")).port(variable("TDMQ_PORT", "5672").parse()?);
    // The role's token is its password. Unlike in a URI, nothing has to be escaped here: neither that nor the bar in `amqp-xxx|name`.
    let credentials = Credentials::plain(variable("TDMQ_ROLE", "guest"), variable("TDMQ_TOKEN", "guest"));
    let config = Config::default()
        .credentials(credentials)
        .virtual_host(variable("TDMQ_VHOST", "/"));
    let parameters = ConnectionParameters::default().hosts([host]).config(config);
    Ok(Connector::new(parameters).connect()?)
}
