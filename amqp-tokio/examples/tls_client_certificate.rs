//! TLS both ways: the broker shows its certificate, and this program its own, which is all it needs to log in (RabbitMQ pages "TLS
//! Support" and "Access Control", mechanism `EXTERNAL`).
//!
//! ```sh
//! export AMQP_URL=amqps://localhost AMQP_CA=ca.pem AMQP_CERTIFICATE=client.pem AMQP_KEY=client.key
//! cargo run -p amqp-tokio --example tls_client_certificate
//! ```
//!
//! The broker needs `ssl_options.verify = verify_peer`, the plugin `rabbitmq_auth_mechanism_ssl`, `EXTERNAL` among its
//! `auth_mechanisms`, and a user of the certificate's name.

use std::env;
use std::error::Error;

use amqp_tokio::proto::{ConnectionParameters, Credentials};
use amqp_tokio::{Connector, TlsConfig, TlsMaterial, TlsVersion};

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut parameters = ConnectionParameters::from_uri(&variable("AMQP_URL")?)?;
    parameters.config = parameters.config.credentials(Credentials::external());

    // The files are PEM. `TlsMaterial::memory` takes what is no file.
    let file = |name| variable(name).map(TlsMaterial::file);
    let tls = TlsConfig::new()
        .trust_only(file("AMQP_CA")?)
        .client_certificate(file("AMQP_CERTIFICATE")?, file("AMQP_KEY")?)
        .min_version(TlsVersion::Tls12);
    let connection = Connector::new(parameters).tls(tls).connect().await?;
    println!("logged in without a password");

    let channel = connection.channel().await?;
    let queue = channel.declare_queue("").exclusive(true).await?;
    let exchange = channel.default_exchange();
    exchange.publish("Hello", queue.name()).await?;
    let delivery = queue.get().await?.ok_or("nothing came")?;
    println!("received {}", String::from_utf8_lossy(&delivery.body()));
    delivery.ack().await?;

    println!("{}", connection.close().await.reason);
    Ok(())
}
