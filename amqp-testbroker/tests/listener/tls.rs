//! Over TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use amqp_testbroker::TestBroker;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Client, socket};

fn start() -> TestBroker {
    let any = ([127, 0, 0, 1], 0).into();
    TestBroker::builder().tls_address(any).start().unwrap()
}

/// A stream that trusts the broker's authority alone.
fn stream(broker: &TestBroker, name: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(broker.ca_pem().unwrap().as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, socket(&broker.tls_uri().unwrap()))
}

#[test]
fn messages_small_and_large_go_through_under_each_name() {
    let broker = start();
    let body: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    for name in ["localhost", "127.0.0.1", "::1"] {
        let mut client = Client::over(stream(&broker, name), &broker.tls_uri().unwrap());
        let channel = client.open_channel();
        client.declare(channel, "q");
        client.select_confirms(channel);
        client.publish(channel, "q", b"small");
        client.publish(channel, "q", &body);
        client.await_acks(2);
        assert_eq!(client.get(channel, "q"), b"small");
        assert!(client.get(channel, "q") == body, "another body came");
    }
    broker.shutdown().unwrap();
}

#[test]
fn plain_tcp_goes_on_beside_it() {
    let broker = start();
    let mut client = Client::connect(&broker.uri());
    client.open_channel();
}

#[test]
fn who_does_not_speak_tls_is_hung_up_on() {
    let broker = start();
    let mut stranger = socket(&broker.tls_uri().unwrap());
    stranger.write_all(b"AMQP\0\0\x09\x01").unwrap();
    let mut octets = Vec::new();
    // The end may be a reset.
    let _ = stranger.read_to_end(&mut octets);
    assert!(!octets.starts_with(b"AMQP"), "{octets:?}");
    // A TLS alert, or nothing; and the broker lives.
    Client::over(stream(&broker, "localhost"), &broker.tls_uri().unwrap());
    broker.shutdown().unwrap();
}

#[test]
fn a_broker_without_tls_has_no_address_for_it() {
    let broker = TestBroker::start().unwrap();
    assert_eq!((broker.tls_uri(), broker.ca_pem()), (None, None));
}
