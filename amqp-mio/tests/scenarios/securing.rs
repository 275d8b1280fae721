//! TLS that must not come about.

use amqp_mio::proto::wire::ReplyCode;
use amqp_mio::proto::{CloseReason, Config, Credentials, ServerName, TlsParameters};
use amqp_mio::{AttemptError, ConnectError, Connector};

use crate::client::Client;
use crate::connecting::{failure, only_failure};
use crate::world::World;

/// What comes of connecting with other settings of TLS, or of the protocol.
fn attempt(
    world: &World,
    change: impl FnOnce(TlsParameters) -> TlsParameters,
    configure: impl FnOnce(Config) -> Config,
) -> ConnectError {
    let mut parameters = world.parameters(configure);
    parameters.tls = parameters.tls.map(change);
    failure(Client::connect(&Connector::new(parameters)))
}

pub(crate) fn a_server_of_an_unknown_authority_is_not_trusted(world: &World) {
    let stranger = World::embedded_over_tls();
    let tls = stranger.parameters(|config| config).tls.unwrap();
    let authority = tls.ca_certificate.unwrap();
    let error = attempt(world, |tls| tls.ca_certificate(authority), |config| config);
    assert!(error.is_certificate_error(), "{error:?}");
    stranger.connect().close();
}

pub(crate) fn a_server_of_another_name_is_not_trusted(world: &World) {
    let name = ServerName::Name("broker.example".into());
    let error = attempt(world, |tls| tls.server_name(name), |config| config);
    assert!(error.is_certificate_error(), "{error:?}");
    assert!(error.to_string().contains("broker.example"), "{error}");
}

pub(crate) fn an_authority_that_cannot_be_read_is_told_before_anything_is_tried(world: &World) {
    let nowhere = |tls: TlsParameters| tls.ca_certificate("/nowhere/ca.pem");
    let error = attempt(world, nowhere, |config| config);
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

pub(crate) fn external_without_a_certificate_is_refused_for_good(world: &World) {
    let external = |config: Config| config.credentials(Credentials::external());
    let error = attempt(world, |tls| tls, external);
    let AttemptError::Closed(reason @ CloseReason::AuthRefused { peer: Some(peer) }) = only_failure(&error)
    else {
        panic!("{error:?}");
    };
    assert!(reason.is_permanent());
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
}
