//! What producer and consumer have in common.

use std::env;
use std::error::Error;

use amqp_mio::Connector;
use amqp_mio::proto::wire::ExchangeDeclare;
use amqp_mio::proto::{Config, ConnectionParameters, Credentials, Host};

use crate::common::short;

pub(crate) const EXCHANGE: &str = "direct_exchange";

/// The instance that the variables `TDMQ_HOST`, `TDMQ_VHOST`, `TDMQ_ROLE`, `TDMQ_TOKEN` and `TDMQ_PORT` describe; without them, this machine's
/// broker as guest.
pub(crate) fn connector() -> Result<Connector, Box<dyn Error>> {
    let variable = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let host = Host::new(variable("TDMQ_HOST", "localhost")).port(variable("TDMQ_PORT", "5672").parse()?);
    // The role's token is its password. Unlike in a URI, nothing has to be escaped here: neither that nor the bar in `amqp-xxx|name`.
    let credentials = Credentials::plain(variable("TDMQ_ROLE", "guest"), variable("TDMQ_TOKEN", "guest"));
    let config = Config::default()
        .credentials(credentials)
        .virtual_host(variable("TDMQ_VHOST", "/"));
    let parameters = ConnectionParameters::default().hosts([host]).config(config);
    Ok(Connector::new(parameters))
}

pub(crate) fn exchange() -> ExchangeDeclare<'static> {
    ExchangeDeclare {
        exchange: short(EXCHANGE),
        exchange_type: short("direct"),
        durable: true,
        ..Default::default()
    }
}
