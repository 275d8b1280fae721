//! Who is trusted, for which name, and who we say we are.

use std::sync::Arc;

use amqp_net::rustls::crypto::ring;
use amqp_net::rustls::pki_types::ServerName as PkiName;
use amqp_net::rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use amqp_net::{AttemptError, TlsConfig, TlsError, TlsMaterial, TlsVersion};
use amqp_proto::{PeerVerification, ServerName, TlsParameters};

use crate::authority::{Authority, Identity};
use crate::handshake::{Failure, Server, trusting};

const HOST: &str = "broker.example";

fn server(authority: &Authority) -> Server {
    Server::new(&authority.identity(&[HOST, "10.0.0.1", "fe80::1"]))
}

/// That the client refuses a certificate, and why.
#[track_caller]
fn refusal<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> CertificateError {
    match outcome {
        Err(Failure::AtClient(Error::InvalidCertificate(why))) => {
            assert!(AttemptError::from(Error::InvalidCertificate(why.clone())).is_certificate_error());
            why
        }
        other => panic!("{other:?}"),
    }
}

fn is_wrong_name(error: &CertificateError) -> bool {
    matches!(error, CertificateError::NotValidForNameContext { .. })
}

#[test]
fn only_who_is_trusted_is_accepted() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = server(&ours);
    server.meets(&trusting(&ours), HOST).unwrap();
    assert_eq!(
        refusal(server.meets(&trusting(&other), HOST)),
        CertificateError::UnknownIssuer
    );

    let also = trusting(&other).also_trust(ours.material());
    server.meets(&also, HOST).unwrap();
    let only = also.trust_only(other.material());
    assert_eq!(
        refusal(server.meets(&only, HOST)),
        CertificateError::UnknownIssuer
    );
    let bundle = TlsMaterial::memory(format!("{}{}", other.pem(), ours.pem()));
    server.meets(&TlsConfig::new().trust_only(bundle), HOST).unwrap();
    let der = TlsMaterial::memory(ours.der().to_vec());
    server.meets(&TlsConfig::new().trust_only(der), HOST).unwrap();
}

#[test]
fn whoever_trusts_nobody_learns_it_at_once() {
    let ours = Authority::new("ours");
    let nobody = trusting(&ours).trust_none();
    assert_eq!(nobody.build().unwrap_err(), TlsError::NoRoots);
    server(&ours)
        .meets(&nobody.also_trust(ours.material()), HOST)
        .unwrap();
}

#[test]
fn the_certificate_has_to_be_for_the_host() {
    let ours = Authority::new("ours");
    let (server, config) = (server(&ours), trusting(&ours));
    for host in ["BROKER.example", "broker.example."] {
        server.meets(&config, host).unwrap();
    }
    for host in ["other.example", "10.0.0.2", "fe80::2"] {
        assert!(is_wrong_name(&refusal(server.meets(&config, host))), "{host}");
    }
}

#[test]
fn addresses_are_verified_and_not_indicated() {
    let ours = Authority::new("ours");
    for host in ["10.0.0.1", "fe80::1", "fe80::1%eth0", "FE80:0::1%2"] {
        let session = server(&ours).meets(&trusting(&ours), host).unwrap();
        assert_eq!(session.indicated, None, "{host}");
    }
}

#[test]
fn the_name_indicated_is_the_hosts_or_another_or_none() {
    let ours = Authority::new("ours");
    let (server, config) = (server(&ours), trusting(&ours));
    let session = server.meets(&config, HOST).unwrap();
    assert_eq!(session.indicated.as_deref(), Some(HOST));

    // As through a tunnel: neither the name nor the address connected to counts.
    let named = config.clone().server_name(ServerName::Name(HOST.into()));
    for host in ["localhost", "192.0.2.1"] {
        let session = server.meets(&named, host).unwrap();
        assert_eq!(session.indicated.as_deref(), Some(HOST));
    }
    let wrong = config
        .clone()
        .server_name(ServerName::Name("other.example".into()));
    assert!(is_wrong_name(&refusal(server.meets(&wrong, HOST))));
    let address = config.clone().server_name(ServerName::Name("10.0.0.1".into()));
    assert_eq!(server.meets(&address, HOST).unwrap().indicated, None);

    let silent = config.server_name(ServerName::Disable);
    assert_eq!(server.meets(&silent, HOST).unwrap().indicated, None);
    assert!(is_wrong_name(&refusal(server.meets(&silent, "other.example"))));
}

#[test]
fn what_is_no_name_is_an_error_that_shows_it() {
    let config = TlsConfig::new();
    for host in [
        "",
        "a b",
        "bröker.example",
        "broker.example%eth0",
        "[::1]",
        "a..b",
    ] {
        let error = config.server_name_for(host).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("server name {host:?} is neither an IP address nor a DNS name")
        );
    }
    let named = config.clone().server_name(ServerName::Name("a b".into()));
    assert!(named.server_name_for(HOST).is_err());
    for host in [HOST, "xn--brker-jua.example", "under_score", "localhost"] {
        assert_eq!(
            config.server_name_for(host),
            Ok(PkiName::try_from(host).unwrap()),
            "{host}"
        );
    }
}

#[test]
fn verification_can_be_off_and_then_needs_no_roots() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let off = TlsConfig::new()
        .trust_none()
        .verification(PeerVerification::VerifyNone);
    server(&ours).meets(&off, "other.example").unwrap();
    let old = off.clone().max_version(TlsVersion::Tls12);
    let session = server(&other).meets(&old, "10.9.9.9").unwrap();
    assert_eq!(session.client_certificates, 0);
    let missing = TlsConfig::new()
        .trust_only(TlsMaterial::file("/no/such/file"))
        .verification(PeerVerification::VerifyNone);
    server(&ours).meets(&missing, HOST).unwrap();
}

#[test]
fn a_server_needs_its_certificates_key_however_it_is_verified() {
    let ours = Authority::new("ours");
    let pretender = Server::pretending(&ours.identity(&[HOST]), &ours.identity(&[HOST]));
    let off = TlsConfig::new().verification(PeerVerification::VerifyNone);
    for config in [trusting(&ours), trusting(&ours).depth(3), off] {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let outcome = pretender.meets(&config.clone().max_version(version), HOST);
            assert_eq!(refusal(outcome), CertificateError::BadSignature);
        }
    }
}

#[test]
fn a_client_certificate_is_shown_to_whoever_demands_it() {
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let identity = ours.identity(&[HOST]);
    let demanding = Server::demanding(&identity, &clients);
    let nobody = trusting(&ours);
    assert_eq!(
        demanding.meets(&nobody, HOST),
        Err(Failure::AtServer(Error::NoCertificatesPresented))
    );

    let between = clients.intermediate("between");
    let ann = between.identity(&["ann"]).with(&between);
    let known = with_client(&nobody, &ann);
    for config in [known.clone(), known.clone().max_version(TlsVersion::Tls12)] {
        assert_eq!(demanding.meets(&config, HOST).unwrap().client_certificates, 2);
    }
    // Nobody who does not ask is told.
    assert_eq!(
        Server::new(&identity)
            .meets(&known, HOST)
            .unwrap()
            .client_certificates,
        0
    );
    // Without verification too.
    let off = known.verification(PeerVerification::VerifyNone);
    assert_eq!(demanding.meets(&off, HOST).unwrap().client_certificates, 2);

    let stranger = with_client(&nobody, &ours.identity(&["mallory"]));
    assert_eq!(
        demanding.meets(&stranger, HOST),
        Err(Failure::AtServer(Error::InvalidCertificate(
            CertificateError::UnknownIssuer
        )))
    );
}

fn with_client(config: &TlsConfig, client: &Identity) -> TlsConfig {
    let [chain, key] = [&client.pem, &client.key].map(|pem| TlsMaterial::memory(pem.as_str()));
    config.clone().client_certificate(chain, key)
}

#[test]
fn depth_limits_the_chain() {
    let root = Authority::new("root");
    let outer = root.intermediate("outer");
    let inner = outer.intermediate("inner");
    let server = Server::new(&inner.identity(&[HOST]).with(&inner).with(&outer));
    for (depth, is_enough) in [(0, false), (1, false), (2, true), (3, true), (u32::MAX, true)] {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let config = trusting(&root).depth(depth).max_version(version);
            let outcome = server.meets(&config, HOST);
            if is_enough {
                outcome.unwrap();
            } else {
                assert_eq!(refusal(outcome), CertificateError::UnknownIssuer);
            }
        }
    }
    // A root that is sent as well does not count, and the name is still checked.
    let direct = Server::new(&root.identity(&[HOST]).with(&root));
    direct.meets(&trusting(&root).depth(0), HOST).unwrap();
    assert!(is_wrong_name(&refusal(
        direct.meets(&trusting(&root).depth(0), "other.example")
    )));
}

#[test]
fn parameters_and_uris_say_the_same() {
    let ours = Authority::new("ours");
    let off = TlsParameters::default()
        .verification(PeerVerification::VerifyNone)
        .server_name(ServerName::Disable);
    let session = server(&ours)
        .meets(&TlsConfig::from_parameters(&off), "other.example")
        .unwrap();
    assert_eq!(session.indicated, None);
    let named = TlsParameters::default().server_name(ServerName::Name(HOST.into()));
    let name = TlsConfig::from(&named).server_name_for("localhost").unwrap();
    assert_eq!(name, PkiName::try_from(HOST).unwrap());
}

#[test]
fn a_configuration_of_the_users_own_is_used_as_it_is() {
    let ours = Authority::new("ours");
    let mut roots = RootCertStore::empty();
    roots.add(ours.der()).unwrap();
    let own = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let own = Arc::new(own);
    let config = TlsConfig::from_rustls(Arc::clone(&own));
    assert!(Arc::ptr_eq(&config.build().unwrap(), &own));
    let session = server(&ours).meets(&config, HOST).unwrap();
    assert_eq!(session.indicated.as_deref(), Some(HOST));

    let silent = config.clone().server_name(ServerName::Disable);
    assert_eq!(server(&ours).meets(&silent, HOST).unwrap().indicated, None);
    assert!(own.enable_sni);

    for (changed, option) in [
        (config.clone().trust_none(), "trusted roots"),
        (config.clone().also_trust(ours.material()), "trusted roots"),
        (
            config
                .clone()
                .client_certificate(ours.material(), ours.material()),
            "client_certificate",
        ),
        (config.clone().min_version(TlsVersion::Tls12), "min_version"),
        (config.clone().max_version(TlsVersion::Tls13), "max_version"),
        (config.clone().cipher_suites([""; 0]), "cipher_suites"),
        (
            config.clone().verification(PeerVerification::VerifyNone),
            "verification",
        ),
        (config.depth(1), "depth"),
    ] {
        assert_eq!(changed.build().unwrap_err(), TlsError::NotForRustls { option });
    }
}
