//! Calls and answers.

use std::time::Duration;

use amqp_async::Message;
use amqp_async::rpc::{RpcClient, RpcClientOptions, RpcError, serve};

use super::{World, close};

/// Doubles numbers, and knows no others.
async fn double(message: amqp_async::proto::Message) -> Result<Message, amqp_async::HandlerError> {
    let number: u64 = std::str::from_utf8(&message.body())?.parse()?;
    Ok(Message::new((number * 2).to_string()))
}

pub(crate) async fn every_call_gets_its_own_answer(world: World) {
    let channel = world.channel().await;
    let queue = channel
        .declare_queue(world.name("rpc"))
        .exclusive(true)
        .await
        .unwrap();
    let serving = serve(&queue, 8, double).await.unwrap();
    for options in [
        RpcClientOptions::default(),
        RpcClientOptions::default().exclusive_queue(true),
    ] {
        let caller = channel.connection().channel().await.unwrap();
        let client = RpcClient::with_options(&caller, options).await.unwrap();
        let mut calls = Vec::new();
        for number in 0..200_u64 {
            let (client, name) = (client.clone(), queue.name().to_owned());
            calls.push(crate::runtime::thread(async move {
                let answer = client.call(&name, number.to_string()).await.unwrap();
                assert_eq!(*answer.body(), *(number * 2).to_string().as_bytes());
            }));
        }
        for call in calls {
            call.await;
        }
        assert_eq!(client.dropped_replies(), 0);
    }
    serving.stop().await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn a_server_s_failure_reaches_the_caller(world: World) {
    let queue = world.queue().await;
    let _serving = serve(&queue, 1, double).await.unwrap();
    let caller = queue.channel().connection().channel().await.unwrap();
    let client = RpcClient::new(&caller).await.unwrap();
    let error = client.call(&queue.name(), "no number").await.unwrap_err();
    assert!(matches!(error, RpcError::Server(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the server failed: invalid digit found in string"
    );
    let answer = client.call(&queue.name(), "21").await.unwrap();
    assert_eq!(&*answer.body(), b"42");
    close(caller.connection()).await;
}

pub(crate) async fn a_call_that_nobody_takes_says_so(world: World) {
    let queue = world.queue().await;
    let caller = queue.channel().connection().channel().await.unwrap();
    let client = RpcClient::new(&caller).await.unwrap();
    let error = client.call(&world.name("nowhere"), "1").await.unwrap_err();
    assert_eq!(error, RpcError::NoServer);
    // A queue without a server keeps the call, but not for ever.
    let limit = Duration::from_millis(50);
    let error = client.call_within(&queue.name(), "1", limit).await.unwrap_err();
    assert_eq!(error, RpcError::Timeout(limit));
    close(caller.connection()).await;
}

pub(crate) async fn a_call_ends_with_its_connection(world: World) {
    let queue = world.queue().await;
    let other = world.channel().await;
    let client = RpcClient::new(&other).await.unwrap();
    let name = queue.name().to_owned();
    let call = crate::runtime::thread({
        let client = client.clone();
        async move { client.call(&name, "1").await.unwrap_err() }
    });
    let call_is_there = async {
        while queue
            .channel()
            .declare_queue(queue.name())
            .passive(true)
            .await
            .unwrap()
            .message_count()
            != Some(1)
        {}
    };
    call_is_there.await;
    close(other.connection()).await;
    let error = call.await;
    assert!(matches!(error, RpcError::Ended(_)), "{error:?}");
    close(queue.channel().connection()).await;
}
