//! Connections over streams of one's own. Each leads to the test broker in the end.
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use amqp_testbroker::TestBroker;
use amqp_tokio::proto::Config;
use amqp_tokio::{Connection, connect_over};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn config() -> Arc<Config> {
    Arc::default()
}

/// Passes octets to the broker and back, until either end has had enough.
async fn pass<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, port: u16) {
    let mut broker = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut broker).await;
}

/// There and back, with more than the streams hold at once.
async fn check(connection: &Connection) {
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let body = vec![7; 300_000];
    let exchange = channel.default_exchange();
    exchange.publish(body.clone(), queue.name()).await.unwrap();
    let delivery = queue.get().await.unwrap().unwrap();
    assert_eq!(*delivery.body(), *body);
    delivery.ack().await.unwrap();
    connection.close().await;
}

#[tokio::test]
async fn memory() {
    let broker = TestBroker::start().unwrap();
    let (near, far) = tokio::io::duplex(1000);
    tokio::spawn(pass(far, broker.port()));
    check(&connect_over(near, config()).await.unwrap()).await;
}

#[tokio::test]
async fn the_proxy_protocol() {
    let broker = TestBroker::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let port = broker.port();
    let server = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        pass(stream, port).await;
        line
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 40000 5672\r\n";
    stream.write_all(header.as_bytes()).await.unwrap();
    check(&connect_over(stream, config()).await.unwrap()).await;
    assert_eq!(server.await.unwrap(), header);
}

#[tokio::test]
async fn socks() {
    let broker = TestBroker::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let port = broker.port();
    tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        let mut hello = [0; 3];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [5, 1, 0]);
        stream.write_all(&[5, 0]).await.unwrap();
        let mut connect = [0; 5 + 9 + 2];
        stream.read_exact(&mut connect).await.unwrap();
        assert_eq!(connect[..14], *b"\x05\x01\x00\x03\x09localhost");
        assert_eq!(connect[14..], port.to_be_bytes());
        let granted = [5, 0, 0, 1, 127, 0, 0, 1, 0, 0];
        stream.write_all(&granted).await.unwrap();
        pass(stream, port).await;
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.unwrap();
    let connect = [&b"\x05\x01\x00\x03\x09localhost"[..], &port.to_be_bytes()];
    stream.write_all(&connect.concat()).await.unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[1], 0);
    check(&connect_over(stream, config()).await.unwrap()).await;
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::path::PathBuf;

    use amqp_tokio::proto::CloseReason;
    use amqp_tokio::{Error, connect_unix};
    use tokio::net::UnixListener;

    use super::*;

    /// A path that is free, and free again afterwards.
    struct Socket(PathBuf);

    impl Socket {
        fn new(name: &str) -> Self {
            let name = format!("amqp-tokio-{}-{name}.sock", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[tokio::test]
    async fn a_socket() {
        let broker = TestBroker::start().unwrap();
        let socket = Socket::new("open");
        let listener = UnixListener::bind(&socket.0).unwrap();
        let port = broker.port();
        tokio::spawn(async move { pass(listener.accept().await.unwrap().0, port).await });
        check(&connect_unix(&socket.0, config()).await.unwrap()).await;
    }

    #[tokio::test]
    async fn a_path_without_a_socket() {
        let socket = Socket::new("nobody");
        let error = connect_unix(&socket.0, config()).await.unwrap_err();
        let Error::ConnectionClosed(CloseReason::Transport { .. }) = &error else {
            panic!("{error:?}");
        };
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
