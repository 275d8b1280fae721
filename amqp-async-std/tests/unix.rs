//! A connection over a Unix socket, which leads to the test broker.
#![cfg(unix)]
#![allow(missing_docs, reason = "tests")]

use std::sync::Arc;

use amqp_async_std::proto::{CloseReason, Config};
use amqp_async_std::{Error, connect_unix};
use amqp_testbroker::TestBroker;
use async_std::io;
use async_std::net::TcpStream;
use async_std::os::unix::net::UnixListener;
use async_std::task;

#[test]
fn a_socket() {
    let broker = TestBroker::start().unwrap();
    let name = format!("amqp-async-std-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let config: Arc<Config> = Arc::default();
    task::block_on(async {
        let error = connect_unix(&path, Arc::clone(&config)).await.unwrap_err();
        let is_transport = matches!(error, Error::ConnectionClosed(CloseReason::Transport { .. }));
        assert!(is_transport, "{error:?}");

        let listener = UnixListener::bind(&path).await.unwrap();
        let port = broker.port();
        task::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (there, back) = (near.clone(), far.clone());
            task::spawn(async move { io::copy(&mut &there, &mut &back).await });
            let _ = io::copy(&mut &far, &mut &near).await;
        });
        let connection = connect_unix(&path, config).await.unwrap();
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("").exclusive(true).await.unwrap();
        channel
            .default_exchange()
            .publish("x", queue.name())
            .await
            .unwrap();
        let delivery = queue.get_with(true).await.unwrap().unwrap();
        assert_eq!(&*delivery.body(), b"x");
        connection.close().await;
    });
    std::fs::remove_file(&path).unwrap();
}
