//! All the parts in their order, on sockets: from a URI to the first frame of a broker.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, process};

use amqp_net::rustls::{ClientConnection, StreamOwned};
use amqp_net::{
    Attempt, AttemptError, Attempts, ConnectError, FailedAttempts, Stage, TlsConfig, connect_start, finish,
    order,
};
use amqp_proto::{ConnectionParameters, TcpOptions};
use amqp_testbroker::TestBroker;
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(10);

fn tls_broker() -> TestBroker {
    TestBroker::builder()
        .tls_address(([127, 0, 0, 1], 0).into())
        .start()
        .unwrap()
}

/// The type of the first frame that a broker of these parameters sends, and what failed before.
fn reach(parameters: &ConnectionParameters) -> Result<(u8, FailedAttempts), ConnectError> {
    parameters.validate()?;
    let tls = parameters.tls.as_ref().map(TlsConfig::from_parameters);
    let mut failed = FailedAttempts::new();
    for attempt in Attempts::new(parameters) {
        let Attempt::Host { name, port } = attempt else {
            continue;
        };
        let addresses = match (name.as_str(), port).to_socket_addrs() {
            Ok(addresses) => order(addresses),
            Err(error) => {
                failed.push(&name, port, None, AttemptError::io(Stage::Resolve, &error));
                continue;
            }
        };
        for address in addresses {
            let reached = match connect(address, &parameters.tcp) {
                Ok(stream) => first_frame(stream, tls.as_ref(), &name),
                Err(error) => Err(AttemptError::io(Stage::Tcp, &error)),
            };
            match reached {
                Ok(frame) => return Ok((frame, failed)),
                Err(error) => failed.push(&name, port, Some(address), error),
            }
        }
    }
    Err(failed.into())
}

fn connect(address: SocketAddr, options: &TcpOptions) -> io::Result<TcpStream> {
    let socket = connect_start(address, options)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match finish(&socket) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected && Instant::now() < deadline => {
                thread::yield_now();
            }
            decided => break decided?,
        }
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

fn first_frame(stream: TcpStream, tls: Option<&TlsConfig>, host: &str) -> Result<u8, AttemptError> {
    let Some(config) = tls else {
        return exchange(stream).map_err(|error| AttemptError::io(Stage::Amqp, &error));
    };
    let client = ClientConnection::new(config.build()?, config.server_name_for(host)?)?;
    exchange(StreamOwned::new(client, stream)).map_err(|error| AttemptError::io(Stage::Tls, &error))
}

fn exchange(mut stream: impl Read + Write) -> io::Result<u8> {
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut frame_type = [0];
    stream.read_exact(&mut frame_type)?;
    Ok(frame_type[0])
}

const METHOD_FRAME: u8 = 1;

#[test]
fn over_tcp_past_a_closed_port() {
    let broker = TestBroker::start().unwrap();
    // Bound and not listening: nobody else gets the port, and nobody is there.
    let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    closed
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let dead = closed.local_addr().unwrap().as_socket().unwrap();
    let uri = broker.uri().replace('@', &format!("@{dead},"));
    let (frame, failed) = reach(&ConnectionParameters::from_uri(&uri).unwrap()).unwrap();
    assert_eq!(frame, METHOD_FRAME);
    let text = failed.to_string();
    assert!(
        text.starts_with(&format!("{dead}: connecting failed: ")),
        "{text}"
    );
}

#[test]
fn over_tls_with_the_authority_of_the_uri() {
    let broker = tls_broker();
    let name = format!("way_to_a_broker-{}.pem", process::id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, broker.ca_pem().unwrap()).unwrap();
    let uri = format!("{}?cacertfile={}", broker.tls_uri().unwrap(), file.display());
    let reached = reach(&ConnectionParameters::from_uri(&uri).unwrap());
    fs::remove_file(&file).unwrap();
    assert_eq!(reached, Ok((METHOD_FRAME, FailedAttempts::new())));
}

#[test]
fn over_tls_without_verification() {
    let broker = tls_broker();
    let uri = format!("{}?verify=verify_none", broker.tls_uri().unwrap());
    let reached = reach(&ConnectionParameters::from_uri(&uri).unwrap());
    assert_eq!(reached, Ok((METHOD_FRAME, FailedAttempts::new())));
}

#[test]
fn over_tls_to_somebody_unknown() {
    let (broker, other) = (tls_broker(), tls_broker());
    let name = format!("somebody_unknown-{}.pem", process::id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, other.ca_pem().unwrap()).unwrap();
    let uri = format!(
        "{}?cacertfile={}&connection_attempts=2",
        broker.tls_uri().unwrap(),
        file.display()
    );
    let error = reach(&ConnectionParameters::from_uri(&uri).unwrap()).unwrap_err();
    fs::remove_file(&file).unwrap();
    assert!(error.is_certificate_error(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(": the TLS handshake failed: invalid peer certificate: ")
            && text.ends_with(" (2 times)"),
        "{text}"
    );
}
