//! TLS that must not come about, and certificates in place of passwords.

use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{Properties, ReplyCode};
use amqp_mio::proto::{CloseReason, Config, ConfirmOutcome, Credentials, Host, ServerName, TlsParameters};
use amqp_mio::{AttemptError, ConnectError, Connector};

use super::World;
use super::client::{Client, short, to};
use super::connecting::{failure, only_failure};
use super::operator::variable;

/// What comes of connecting with other settings of TLS, or of the protocol.
fn attempt(
    world: &World,
    change: impl FnOnce(TlsParameters) -> TlsParameters,
    configure: impl FnOnce(Config) -> Config,
) -> ConnectError {
    failure(connect(world, change, configure))
}

fn connect(
    world: &World,
    change: impl FnOnce(TlsParameters) -> TlsParameters,
    configure: impl FnOnce(Config) -> Config,
) -> Result<Client, ConnectError> {
    let mut parameters = world.parameters(configure);
    parameters.tls = parameters.tls.map(change);
    Client::connect(&Connector::new(parameters))
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

pub(crate) fn a_server_of_an_unknown_authority_is_not_trusted(world: World) {
    let stranger = World::embedded_over_tls();
    let tls = stranger.parameters(|config| config).tls.unwrap();
    let authority = tls.ca_certificate.unwrap();
    let error = attempt(&world, |tls| tls.ca_certificate(authority), |config| config);
    assert!(error.is_certificate_error(), "{error:?}");
    stranger.connect().close();
}

pub(crate) fn a_server_of_another_name_is_not_trusted(world: World) {
    let name = ServerName::Name("broker.example".into());
    let error = attempt(&world, |tls| tls.server_name(name), |config| config);
    assert!(error.is_certificate_error(), "{error:?}");
    assert!(error.to_string().contains("broker.example"), "{error}");
}

pub(crate) fn an_authority_that_cannot_be_read_is_told_before_anything_is_tried(world: World) {
    let nowhere = |tls: TlsParameters| tls.ca_certificate("/nowhere/ca.pem");
    let error = attempt(&world, nowhere, |config| config);
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

pub(crate) fn external_without_a_certificate_is_refused_for_good(world: World) {
    let error = attempt(&world, |tls| tls, external);
    let AttemptError::Closed(reason @ CloseReason::AuthRefused { peer: Some(peer) }) = only_failure(&error)
    else {
        panic!("{error:?}");
    };
    assert!(reason.is_permanent());
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
}

/// The certificate's name is the user's: it may declare.
pub(crate) fn external_takes_the_name_in_the_certificate(world: World) {
    let mut client = connect(&world, with_client_certificate, external).unwrap();
    let (channel, queue) = client.queue();
    let properties = Properties {
        user_id: Some(short("certuser")),
        ..Default::default()
    };
    let outcome = client.publish(channel, &to(&queue), &properties, "x");
    assert_eq!(outcome, ConfirmOutcome::Acked);
    assert_eq!(client.purge(channel, &queue), 1);
    client.close();
}

/// With TLS 1.3, the server looks at it when the client thinks that all is done.
pub(crate) fn a_server_that_wants_a_certificate_says_so(world: World) {
    let (port, listener) = world.operator.demand_client_certificates();
    let at_port = || {
        let mut parameters = world.parameters(|config| config);
        parameters.hosts = vec![Host::new("127.0.0.1").port(port)];
        parameters
    };
    let begin = Instant::now();
    let error = failure(Client::connect(&Connector::new(at_port())));
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let mut parameters = at_port();
    parameters.tls = parameters.tls.map(with_client_certificate);
    Client::connect(&Connector::new(parameters)).unwrap().close();
    listener.end();
}
