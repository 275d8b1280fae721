//! TLS that must not come about, and certificates in place of passwords.

use std::time::{Duration, Instant};

use amqp_async::proto::wire::ReplyCode;
use amqp_async::proto::{CloseReason, Config, Credentials, ServerName, TlsParameters};

use super::connecting::only_failure;
use super::operator::variable;
use super::{World, close};
use crate::runtime::{AttemptError, ConnectError, connect_with};

/// What comes of connecting with other settings of TLS, or of the protocol.
async fn attempt(
    world: &World,
    change: impl FnOnce(TlsParameters) -> TlsParameters,
    configure: impl FnOnce(Config) -> Config,
) -> Result<amqp_async::Connection, ConnectError> {
    let mut parameters = world.parameters(configure);
    parameters.tls = parameters.tls.map(change);
    connect_with(parameters).await
}

fn with_client_certificate(tls: TlsParameters) -> TlsParameters {
    tls.client_certificate(
        variable("AMQP_TEST_CLIENT_CERT"),
        variable("AMQP_TEST_CLIENT_KEY"),
    )
}

fn external(config: Config) -> Config {
    config.credentials(Credentials::external())
}

pub(crate) async fn a_server_of_an_unknown_authority_is_not_trusted(world: World) {
    let stranger = World::embedded_over_tls();
    let authority = stranger
        .parameters(|config| config)
        .tls
        .unwrap()
        .ca_certificate
        .unwrap();
    let trusting = |tls: TlsParameters| tls.ca_certificate(authority);
    let error = attempt(&world, trusting, |config| config).await.unwrap_err();
    assert!(error.is_certificate_error(), "{error:?}");
    close(&stranger.connect().await).await;
}

pub(crate) async fn a_server_of_another_name_is_not_trusted(world: World) {
    let name = ServerName::Name("broker.example".into());
    let error = attempt(&world, |tls| tls.server_name(name), |config| config)
        .await
        .unwrap_err();
    assert!(error.is_certificate_error(), "{error:?}");
    assert!(error.to_string().contains("broker.example"), "{error}");
}

pub(crate) async fn an_authority_that_cannot_be_read_is_told_before_anything_is_tried(world: World) {
    let nowhere = |tls: TlsParameters| tls.ca_certificate("/nowhere/ca.pem");
    let error = attempt(&world, nowhere, |config| config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

pub(crate) async fn external_without_a_certificate_is_refused_for_good(world: World) {
    let error = attempt(&world, |tls| tls, external).await.unwrap_err();
    let AttemptError::Closed(reason @ CloseReason::AuthRefused { peer: Some(peer) }) = only_failure(&error)
    else {
        panic!("{error:?}");
    };
    assert!(reason.is_permanent());
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
}

/// The certificate's name is the user's: it may declare.
pub(crate) async fn external_takes_the_name_in_the_certificate(world: World) {
    let connection = attempt(&world, with_client_certificate, external).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let message = amqp_async::Message::new("x").user_id("certuser");
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    channel
        .default_exchange()
        .publish(message, queue.name())
        .await
        .unwrap();
    assert_eq!(queue.purge().await.unwrap(), 1);
    close(&connection).await;
}

/// With TLS 1.3, the server looks at it when the client thinks that all is done.
pub(crate) async fn a_server_that_wants_a_certificate_says_so(world: World) {
    let (port, listener) = world.operator.demand_client_certificates();
    let at_port = |world: &World| {
        let mut parameters = world.parameters(|config| config);
        parameters.hosts = vec![amqp_async::proto::Host::new("127.0.0.1").port(port)];
        parameters
    };
    let begin = Instant::now();
    let error = connect_with(at_port(&world)).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let mut parameters = at_port(&world);
    parameters.tls = parameters.tls.map(with_client_certificate);
    close(&connect_with(parameters).await.unwrap()).await;
    listener.end();
}
