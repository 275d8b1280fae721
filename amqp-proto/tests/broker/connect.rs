//! Ways to reach the broker.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::{Arguments, Frame, FrameLimits, Method, ProtocolError, QueueDeclare, RawFrame};
use amqp_proto::{Config, ConnectionParameters, RecvBuf};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Client, Direction, Error};

/// Longer than any broker here takes for anything, shorter than anybody waits for a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Watch = fn(Direction, &Frame<'_>);

/// Looks away.
pub(crate) const SILENT: Watch = |_, _| {};

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

pub(crate) fn parameters() -> ConnectionParameters {
    ConnectionParameters::from_uri(&variable("AMQP_TEST_URL")).unwrap()
}

pub(crate) fn tls_parameters() -> ConnectionParameters {
    ConnectionParameters::from_uri(&variable("AMQP_TEST_TLS_URL")).unwrap()
}

pub(crate) fn tcp(parameters: &ConnectionParameters) -> TcpStream {
    let stream = TcpStream::connect(parameters.addresses().next().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A session of `config` over plain TCP.
pub(crate) fn session(config: &Config) -> Result<Client<TcpStream, Watch>, Error> {
    Client::connect(tcp(&parameters()), config, SILENT)
}

/// The usual session: guest on `/`.
pub(crate) fn guest() -> Client<TcpStream, Watch> {
    session(&parameters().config).unwrap()
}

/// A TLS stream, with the client's certificate if wanted.
pub(crate) fn tls(
    parameters: &ConnectionParameters,
    with_certificate: bool,
) -> StreamOwned<ClientConnection, TcpStream> {
    let ca = parameters
        .tls
        .as_ref()
        .unwrap()
        .ca_certificate
        .as_deref()
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let config = if with_certificate {
        let chain = vec![CertificateDer::from_pem_file(variable("AMQP_TEST_CLIENT_CERT")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(variable("AMQP_TEST_CLIENT_KEY")).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let name = ServerName::try_from(parameters.addresses().next().unwrap().0.to_owned()).unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).unwrap(),
        tcp(parameters),
    )
}

/// A queue that only this session sees; its name.
pub(crate) fn declare<S: Read + Write>(client: &mut Client<S, Watch>) -> String {
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    client.request(&declare, "queue.declare-ok", queue_name).unwrap()
}

pub(crate) fn queue_name(method: &Method<'_>) -> Option<String> {
    match method {
        Method::QueueDeclareOk(ok) => Some(ok.queue.to_str().unwrap().to_owned()),
        _ => None,
    }
}

/// Accepts a method by its type.
pub(crate) fn is<A: Arguments>(method: &Method<'_>) -> Option<()> {
    (method.spec().id == A::SPEC.id).then_some(())
}

/// Runs one of the broker's own commands; what it prints.
pub(crate) fn ctl(arguments: &str) -> String {
    let command = format!("{} {arguments}", variable("AMQP_TEST_CTL"));
    let output = Command::new("sh").arg("-c").arg(&command).output().unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Sends octets to a fresh connection and gives the first frame of the answer, as text, or why there is none.
pub(crate) fn answer_to(parameters: &ConnectionParameters, octets: &[u8]) -> Result<String, ProtocolError> {
    let mut stream = tcp(parameters);
    stream.write_all(octets).unwrap();
    let mut input = RecvBuf::new();
    loop {
        if let Some(raw) = RawFrame::parse(input.unread(), &FrameLimits::default())? {
            return Ok(raw.decode()?.to_string());
        }
        let count = stream.read(input.spare_mut()).unwrap();
        assert_ne!(count, 0, "hung up after {:?}", input.unread());
        input.advance(count);
    }
}
