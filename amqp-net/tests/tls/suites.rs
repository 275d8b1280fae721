//! Versions and cipher suites.

use amqp_net::rustls::version::{TLS12, TLS13};
use amqp_net::rustls::{CipherSuite, Error, PeerIncompatible, ProtocolVersion};
use amqp_net::{TlsConfig, TlsError, TlsVersion};

use crate::authority::{Authority, RSA_KEY};
use crate::handshake::{Failure, Server, trusting};

const HOST: &str = "broker.example";

/// An authority, and a server with an RSA key, which `ECDHE_RSA` needs.
fn rsa() -> (Authority, Server) {
    let authority = Authority::new("A");
    let server = Server::new(&authority.identity_with_key(&[HOST], RSA_KEY));
    (authority, server)
}

#[test]
fn versions_are_those_between_min_and_max() {
    let (authority, server) = rsa();
    let any = trusting(&authority);
    for (config, version) in [
        (any.clone(), ProtocolVersion::TLSv1_3),
        (
            any.clone().max_version(TlsVersion::Tls12),
            ProtocolVersion::TLSv1_2,
        ),
        (
            any.clone().max_version(TlsVersion::Tls13),
            ProtocolVersion::TLSv1_3,
        ),
        (any.min_version(TlsVersion::Tls13), ProtocolVersion::TLSv1_3),
    ] {
        let session = server.meets(&config, HOST).unwrap();
        assert_eq!((session.version, session.alpn), (version, None));
    }
}

#[test]
fn an_older_or_newer_server_is_met_where_the_versions_allow_it() {
    let authority = Authority::new("A");
    let identity = authority.identity(&[HOST]);
    let old = Server::with_versions(&identity, &[&TLS12]);
    let new = Server::with_versions(&identity, &[&TLS13]);
    let any = trusting(&authority);
    assert_eq!(old.meets(&any, HOST).unwrap().version, ProtocolVersion::TLSv1_2);
    assert_eq!(new.meets(&any, HOST).unwrap().version, ProtocolVersion::TLSv1_3);

    let incompatible = Err(Failure::AtServer(Error::PeerIncompatible(
        PeerIncompatible::Tls12NotOfferedOrEnabled,
    )));
    let only_new = any.clone().min_version(TlsVersion::Tls13);
    assert_eq!(old.meets(&only_new, HOST), incompatible);
    let only_old = any.max_version(TlsVersion::Tls12);
    assert_eq!(new.meets(&only_old, HOST), incompatible);
}

#[test]
fn suites_are_those_that_are_named() {
    let (authority, server) = rsa();
    for (name, suite) in [
        (
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
        ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
        (
            "TLS_CHACHA20_POLY1305_SHA256",
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ),
    ] {
        let session = server
            .meets(&trusting(&authority).cipher_suites([name]), HOST)
            .unwrap();
        assert_eq!(session.suite, suite);
    }
}

#[test]
fn a_server_without_the_suites_refuses() {
    let authority = Authority::new("A");
    let server = Server::new(&authority.identity(&[HOST])); // An ECDSA key.
    let config = trusting(&authority).cipher_suites(["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(
        server.meets(&config, HOST),
        Err(Failure::AtServer(Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
        )))
    );
}

#[test]
fn amazon_mq_is_ecdhe_rsa_with_aes_gcm_and_tls_1_3() {
    let (authority, server) = rsa();
    let preset = TlsConfig::amazon_mq().trust_only(authority.material());
    assert_eq!(
        server.meets(&preset, HOST).unwrap().version,
        ProtocolVersion::TLSv1_3
    );

    let exact = preset.clone().max_version(TlsVersion::Tls12);
    let session = server.meets(&exact, HOST).unwrap();
    assert_eq!(session.version, ProtocolVersion::TLSv1_2);
    assert!(matches!(
        session.suite,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    ));

    let built = exact.build().unwrap();
    let suites: Vec<_> = built
        .crypto_provider()
        .cipher_suites
        .iter()
        .filter(|suite| suite.tls13().is_none())
        .map(|suite| suite.suite())
        .collect();
    assert_eq!(
        suites,
        [
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        ]
    );

    let ecdsa = Server::with_versions(&authority.identity(&[HOST]), &[&TLS12]);
    assert_eq!(
        ecdsa.meets(&preset, HOST),
        Err(Failure::AtServer(Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
        )))
    );
}

#[test]
fn sessions_are_resumed() {
    let (authority, server) = rsa();
    let config = trusting(&authority);
    let built = config.build().unwrap();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let session = server.meets_built(&built, &config, HOST).unwrap();
        kinds.push(format!("{:?}", session.kind));
    }
    assert_eq!(kinds, ["Full", "Resumed"]);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_tried() {
    let config = TlsConfig::new();
    let unknown = config
        .clone()
        .cipher_suites(["ECDHE+AESGCM"])
        .build()
        .unwrap_err();
    let text = unknown.to_string();
    assert!(
        text.starts_with("cipher suite \"ECDHE+AESGCM\" is not available; there are "),
        "{text}"
    );
    assert!(
        text.contains("TLS_AES_128_GCM_SHA256, ") && text.contains("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    );

    let versions = config
        .clone()
        .min_version(TlsVersion::Tls13)
        .max_version(TlsVersion::Tls12)
        .build()
        .unwrap_err();
    assert_eq!(
        versions.to_string(),
        "min_version TLS 1.3 is above max_version TLS 1.2"
    );

    let none = config.clone().cipher_suites([""; 0]).build().unwrap_err();
    assert_eq!(none, TlsError::NoCipherSuite);
    let other_version = config
        .min_version(TlsVersion::Tls13)
        .cipher_suites(["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(other_version.build().unwrap_err(), TlsError::NoCipherSuite);
}

#[test]
fn every_suite_in_the_list_of_an_error_is_one_that_can_be_named() {
    let Err(TlsError::UnknownCipherSuite { available, .. }) = TlsConfig::new().cipher_suites(["?"]).build()
    else {
        panic!("accepted");
    };
    assert_eq!(available.len(), 9);
    let authority = Authority::new("A");
    trusting(&authority).cipher_suites(available).build().unwrap();
}
