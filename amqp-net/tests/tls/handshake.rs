//! A client and a server, with nothing but buffers between.

use std::sync::Arc;

use amqp_net::rustls::crypto::ring;
use amqp_net::rustls::server::WebPkiClientVerifier;
use amqp_net::rustls::sign::{CertifiedKey, SingleCertAndKey};
use amqp_net::rustls::version::{TLS12, TLS13};
use amqp_net::rustls::{
    CipherSuite, ClientConfig, ClientConnection, ConnectionCommon, Error, HandshakeKind, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, SideData, SupportedProtocolVersion,
};
use amqp_net::{TlsConfig, TlsMaterial};

use crate::authority::{Authority, Identity};

pub(crate) const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// A server that waits for clients.
pub(crate) struct Server(Arc<ServerConfig>);

impl Server {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self::with(identity, BOTH, None)
    }

    pub(crate) fn with_versions(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> Self {
        Self::with(identity, versions, None)
    }

    /// One that demands a certificate which that authority has signed.
    pub(crate) fn demanding(identity: &Identity, authority: &Authority) -> Self {
        Self::with(identity, BOTH, Some(authority))
    }

    /// One that shows a certificate without having its key.
    pub(crate) fn pretending(shown: &Identity, own: &Identity) -> Self {
        let provider = ring::default_provider();
        let key = provider.key_provider.load_private_key(own.private_key()).unwrap();
        let both = SingleCertAndKey::from(CertifiedKey::new(shown.chain.clone(), key));
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(BOTH)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(both));
        Self(Arc::new(config))
    }

    fn with(
        identity: &Identity,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> Self {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der()).unwrap();
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                        .build()
                        .unwrap(),
                )
            }
        };
        let config = builder
            .with_single_cert(identity.chain.clone(), identity.private_key())
            .unwrap();
        Self(Arc::new(config))
    }

    /// What comes of a client that connects to this host.
    pub(crate) fn meets(&self, config: &TlsConfig, host: &str) -> Result<Session, Failure> {
        self.meets_built(&config.build().unwrap(), config, host)
    }

    pub(crate) fn meets_built(
        &self,
        built: &Arc<ClientConfig>,
        config: &TlsConfig,
        host: &str,
    ) -> Result<Session, Failure> {
        let name = config.server_name_for(host).unwrap();
        let mut client = ClientConnection::new(Arc::clone(built), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&self.0)).unwrap();
        while client.wants_write() || server.wants_write() {
            let at_server = pass(&mut client, &mut server);
            let at_client = pass(&mut server, &mut client);
            // Whoever fails first tells the other, who fails by that; the first is the client, if it is any.
            at_client.map_err(|error| match at_server.clone() {
                Err(first) => Failure::AtServer(first),
                Ok(()) => Failure::AtClient(error),
            })?;
            at_server.map_err(Failure::AtServer)?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(Session {
            version: client.protocol_version().unwrap(),
            suite: client.negotiated_cipher_suite().unwrap().suite(),
            indicated: server.server_name().map(ToOwned::to_owned),
            client_certificates: server.peer_certificates().map_or(0, <[_]>::len),
            alpn: server.alpn_protocol().map(ToOwned::to_owned),
            kind: client.handshake_kind().unwrap(),
        })
    }
}

fn pass<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), Error> {
    let mut octets = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut octets).unwrap();
    }
    let mut rest = octets.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// What was agreed on.
#[derive(Debug, PartialEq)]
pub(crate) struct Session {
    pub(crate) version: ProtocolVersion,
    pub(crate) suite: CipherSuite,
    /// The name that the client asked for.
    pub(crate) indicated: Option<String>,
    /// How many certificates the client sent.
    pub(crate) client_certificates: usize,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) kind: HandshakeKind,
}

/// Who ended it.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    AtClient(Error),
    AtServer(Error),
}

/// A client that trusts this authority only.
pub(crate) fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().trust_only(TlsMaterial::memory(authority.pem()))
}
