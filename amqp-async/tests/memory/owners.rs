//! Wakers that own handles of the very connection that they wait for, as a task does that a runtime has given up.

use std::future::{Future, IntoFuture};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use amqp_async::{Channel, Connection};

use crate::world::{World, config};

/// Owns something until it is dropped.
struct Owner<T> {
    _owned: Mutex<T>,
    is_dropped: Arc<AtomicBool>,
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Relaxed);
    }
}

impl<T: Send + 'static> Wake for Owner<T> {
    fn wake(self: Arc<Self>) {}
}

fn owner<T: Send + 'static>(owned: T) -> (Waker, Arc<AtomicBool>) {
    let is_dropped = Arc::new(AtomicBool::new(false));
    let owner = Owner {
        _owned: Mutex::new(owned),
        is_dropped: Arc::clone(&is_dropped),
    };
    (Waker::from(Arc::new(owner)), is_dropped)
}

/// Polls a future with one waker and then with another one, each the only owner of a channel, and drops it.
async fn wait_by_owners(world: &World, connection: &Connection, name: &str, future: impl Future) {
    let before = world.broker_channels();
    let channels = [connection.channel().await, connection.channel().await];
    let [(first, is_first_dropped), (second, is_second_dropped)] =
        channels.map(|channel| owner(channel.unwrap()));
    let mut future = Box::pin(future);
    assert!(
        future
            .as_mut()
            .poll(&mut Context::from_waker(&first))
            .is_pending(),
        "{name}"
    );
    drop(first);
    assert!(!is_first_dropped.load(Ordering::Relaxed), "{name} does not wait");
    assert!(
        future
            .as_mut()
            .poll(&mut Context::from_waker(&second))
            .is_pending(),
        "{name}"
    );
    assert!(is_first_dropped.load(Ordering::Relaxed), "{name} keeps a waker");
    drop(second);
    drop(future);
    assert!(is_second_dropped.load(Ordering::Relaxed), "{name} keeps a waker");
    world.idle().await;
    assert_eq!(world.broker_channels(), before, "{name}");
}

async fn wait_for_everything(world: &World, connection: &Connection, channel: &Channel) {
    let queue = channel.declare_queue("q").await.unwrap();
    let exchange = channel.default_exchange();
    let short = Duration::from_secs(1);
    wait_by_owners(
        world,
        connection,
        "a request",
        channel.declare_queue("q").into_future(),
    )
    .await;
    wait_by_owners(world, connection, "the end", connection.closed()).await;
    wait_by_owners(world, connection, "the end of a channel", channel.closed()).await;
    world.broker(|broker, _| broker.delay_confirms(Duration::from_secs(3600)));
    let confirm = exchange.publish_deferred("x", "nowhere").await.unwrap();
    wait_by_owners(world, connection, "a confirm", confirm).await;
    let mut consumer = queue.consume().await.unwrap();
    let next = async move { consumer.next().await.is_some() };
    wait_by_owners(world, connection, "a delivery", next).await;
    let mut consumer = queue.consume().await.unwrap();
    let next = async move { drop(consumer.next_within(short).await) };
    wait_by_owners(world, connection, "a delivery for a while", next).await;
    let mut events = connection.events();
    let next = async move { events.next().await };
    wait_by_owners(world, connection, "an event", next).await;
    let mut returns = channel.returns();
    let next = async move { returns.next().await };
    wait_by_owners(world, connection, "a return", next).await;
}

/// A lock that is taken twice waits for ever: that must not be the end of the tests.
fn in_a_thread(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    match is_done.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a lock was taken twice"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn a_waker_that_owns_a_channel_is_dropped_where_no_lock_is_held() {
    in_a_thread(|| {
        let world = World::new();
        world.run(async {
            let (connection, channel) = world.channel().await;
            wait_for_everything(&world, &connection, &channel).await;
        });
        world.wind_up();
        assert_eq!(world.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_waker_that_owns_the_last_handle_closes_the_connection_when_it_is_dropped() {
    in_a_thread(|| {
        let world = World::new();
        world.run(async {
            let connection = world.start_unkept(config());
            connection.ready().await.unwrap();
            let mut events = connection.events();
            let (waker, is_dropped) = owner(connection);
            let mut next = Box::pin(events.next());
            assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            assert!(!is_dropped.load(Ordering::Relaxed));
            assert!(
                next.as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
            assert!(is_dropped.load(Ordering::Relaxed));
            world.idle().await;
            assert!(world.driver_end(0).is_some());
        });
        world.wind_up();
    });
}
