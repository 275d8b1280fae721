//! The runtime that a connection was made on has ended: whoever has handles of it still learns that at once, anywhere.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use amqp_testbroker::TestBroker;
use amqp_tokio::proto::{ChannelCloseReason, CloseReason};
use amqp_tokio::rpc::{RpcClient, RpcError};
use amqp_tokio::{
    Connection, ConnectionEvent, ConsumerEnd, Error, ProcessOptions, PublishError, Qos, connect,
};
use tokio::runtime::{Builder, Runtime};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Each kind of runtime, and each way to end it.
fn everywhere(scenario: impl Fn(&TestBroker, Runtime, fn(Runtime))) {
    let current_thread = || Builder::new_current_thread().enable_all().build();
    for end in [drop as fn(Runtime), Runtime::shutdown_background] {
        for runtime in [Runtime::new(), current_thread()] {
            let broker = TestBroker::start().unwrap();
            scenario(&broker, runtime.unwrap(), end);
        }
    }
}

/// What there is without waiting: nothing runs that could wake us.
#[track_caller]
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// A runtime in the background may take a moment to drop its tasks.
fn wait_for_end(connection: &Connection) -> CloseReason {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let closed = async { tokio::time::timeout(PATIENCE, connection.closed()).await };
    let reason = runtime.block_on(closed).expect("nobody says that it ended");
    let CloseReason::Transport { error, .. } = &reason else {
        panic!("{reason:?}");
    };
    assert_eq!(
        error.to_string(),
        "the task that drives the connection was dropped"
    );
    reason
}

#[test]
fn calls_end_at_once_with_the_cause() {
    everywhere(|broker, runtime, end| {
        let connection = runtime.block_on(connect(&broker.uri())).unwrap();
        let channel = runtime.block_on(connection.channel()).unwrap();
        let declaring = async { channel.declare_queue("").exclusive(true).await };
        let queue = runtime.block_on(declaring).unwrap();
        let exchange = channel.default_exchange();
        let mut consumer = runtime.block_on(queue.consume()).unwrap();
        runtime.block_on(exchange.publish("taken", queue.name())).unwrap();
        let delivery = runtime.block_on(consumer.next()).unwrap().unwrap();
        broker.with(|broker| broker.delay_confirms(Duration::from_secs(3600)));
        let in_flight = exchange.publish_deferred("in flight", queue.name());
        let in_flight = runtime.block_on(in_flight).unwrap();
        let mut events = connection.events();

        end(runtime);
        let reason = wait_for_end(&connection);
        let error = Error::ConnectionClosed(reason.clone());
        assert_eq!(at_once(in_flight), Err(PublishError::Lost(error.clone())));
        assert_eq!(at_once(delivery.ack()), Err(error.clone()));
        assert_eq!(at_once(queue.purge()).unwrap_err(), error);
        assert_eq!(at_once(queue.get()).unwrap_err(), error);
        assert_eq!(at_once(queue.consume()).unwrap_err(), error);
        assert_eq!(at_once(channel.set_qos(Qos::prefetch(1))).unwrap_err(), error);
        assert_eq!(at_once(connection.channel()).unwrap_err(), error);
        let not_sent = at_once(exchange.publish("late", queue.name()));
        assert_eq!(not_sent, Err(PublishError::NotSent(error.clone())));
        // What had come can still be taken, then follows the end.
        let mut end = at_once(consumer.next());
        if let Some(Ok(delivery)) = end {
            assert_eq!(*delivery.body(), *b"in flight");
            drop(delivery);
            end = at_once(consumer.next());
        }
        let reason_of_channel = ChannelCloseReason::Connection(reason.clone());
        assert_eq!(at_once(channel.closed()), reason_of_channel);
        assert_eq!(end.unwrap().unwrap_err(), ConsumerEnd::Channel(reason_of_channel));
        assert_eq!(at_once(channel.close()).unwrap_err(), error);
        let report = at_once(connection.close());
        assert_eq!((report.reason, report.unconfirmed), (reason.clone(), 0));
        assert_eq!(at_once(events.next()), Some(ConnectionEvent::Closed(reason)));
        assert_eq!(at_once(events.next()), None);
    });
}

#[test]
fn what_another_thread_waits_for_ends() {
    everywhere(|broker, runtime, end| {
        let connection = runtime.block_on(connect(&broker.uri())).unwrap();
        let channel = runtime.block_on(connection.channel()).unwrap();
        let declaring = async { channel.declare_queue("").exclusive(true).await };
        let queue = runtime.block_on(declaring).unwrap();
        let mut consumer = runtime.block_on(queue.consume()).unwrap();
        let (is_waiting, waits) = mpsc::channel();
        let waiting = thread::spawn(move || {
            let other = Builder::new_current_thread().enable_all().build().unwrap();
            other.block_on(async {
                let mut next = pin!(consumer.next());
                let first = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
                assert!(first.is_pending());
                is_waiting.send(()).unwrap();
                tokio::time::timeout(PATIENCE, next)
                    .await
                    .expect("it waits for ever")
            })
        });
        waits.recv().unwrap();
        end(runtime);
        let end = waiting.join().unwrap().unwrap().unwrap_err();
        let reason = ChannelCloseReason::Connection(wait_for_end(&connection));
        assert_eq!(end, ConsumerEnd::Channel(reason));
    });
}

#[test]
fn what_runs_in_the_background_ends() {
    everywhere(|broker, runtime, end| {
        let connection = runtime.block_on(connect(&broker.uri())).unwrap();
        let channel = runtime.block_on(connection.channel()).unwrap();
        let declaring = async { channel.declare_queue("").exclusive(true).await };
        let queue = runtime.block_on(declaring).unwrap();
        let never = || std::future::pending::<Result<(), amqp_tokio::HandlerError>>();
        let consumer = runtime.block_on(queue.consume()).unwrap();
        let handling = consumer.handle(1, ProcessOptions::default(), move |_| never());
        let late = runtime.block_on(queue.consume()).unwrap();

        let nobody = async { channel.declare_queue("").exclusive(true).await };
        let nobody = runtime.block_on(nobody).unwrap();
        let client = runtime.block_on(RpcClient::new(&channel)).unwrap();
        let nobody = nobody.name();
        let call: Pin<Box<dyn Future<Output = _>>> = Box::pin(client.call(&nobody, "anybody?"));
        let mut call = call;
        // The broker has the call, and only the answer is waited for.
        runtime.block_on(async {
            while connection.counters().acked == 0 {
                let poll = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
                assert!(poll.is_pending());
                tokio::task::yield_now().await;
            }
            assert!(
                std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx)))
                    .await
                    .is_pending()
            );
        });

        end(runtime);
        let reason = wait_for_end(&connection);
        let other = Builder::new_current_thread().enable_all().build().unwrap();
        let ended = other.block_on(async { tokio::time::timeout(PATIENCE, call).await });
        let ended = ended.expect("the call waits for ever").unwrap_err();
        assert!(matches!(ended, RpcError::Ended(_)), "{ended:?}");
        let again = other.block_on(client.call(&nobody, "again")).unwrap_err();
        let error = Error::ConnectionClosed(reason);
        assert_eq!(again, RpcError::Publish(PublishError::NotSent(error)));
        // Its tasks are gone; new ones cannot run.
        let ended = other.block_on(async { tokio::time::timeout(PATIENCE, handling.ended()).await });
        drop(ended.expect("the handler is waited for"));
        let handling = late.handle(1, ProcessOptions::default(), move |_| never());
        drop(at_once(handling.ended()));
    });
}
