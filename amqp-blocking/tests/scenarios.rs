//! The scenarios of amqp-async on the asynchronous handles below the blocking ones: the I/O thread drives them.

#[macro_use]
#[path = "../../amqp-async/scenarios/mod.rs"]
mod scenarios;

all_scenarios!();

mod runtime {
    use std::future::{Future, poll_fn};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::{Pin, pin};
    use std::sync::mpsc::{TryRecvError, channel};
    use std::sync::{Arc, Condvar, Mutex, PoisonError};
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread;
    use std::time::{Duration, Instant};

    use amqp_blocking::asynchronous::Connection;
    use amqp_blocking::proto::ConnectionParameters;
    pub(crate) use amqp_blocking::{AttemptError, ConnectError, Stage};
    use amqp_blocking::{BlockingConnection, Connector, CredentialsSource, Recovery};

    use crate::scenarios::World;

    /// Longer than any of them takes.
    const DEADLINE: Duration = Duration::from_secs(120);

    pub(crate) async fn connect(url: &str) -> Result<Connection, ConnectError> {
        let connection = BlockingConnection::connect(url)?;
        Ok(connection.asynchronous().clone())
    }

    pub(crate) async fn connect_with(parameters: ConnectionParameters) -> Result<Connection, ConnectError> {
        let connection = Connector::new(parameters).connect()?;
        Ok(connection.asynchronous().clone())
    }

    pub(crate) async fn connect_recovering(
        parameters: ConnectionParameters,
    ) -> Result<Connection, ConnectError> {
        let connector = Connector::new(parameters).recovery(Recovery::default());
        Ok(connector.connect()?.asynchronous().clone())
    }

    pub(crate) async fn connect_recovering_as(
        parameters: ConnectionParameters,
        recovery: Recovery,
        source: Option<CredentialsSource>,
    ) -> Result<Connection, ConnectError> {
        let mut connector = Connector::new(parameters).recovery(recovery);
        if let Some(source) = source {
            connector = connector.credentials_source(source);
        }
        Ok(connector.connect()?.asynchronous().clone())
    }

    pub(crate) async fn connect_as(
        parameters: ConnectionParameters,
        source: CredentialsSource,
    ) -> Result<Connection, ConnectError> {
        let connector = Connector::new(parameters).credentials_source(source);
        Ok(connector.connect()?.asynchronous().clone())
    }

    /// Runs it at the same time, on another thread.
    pub(crate) fn thread<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> {
        let waiting = Arc::new(Mutex::new(None::<Waker>));
        let (sender, result) = channel();
        let waiter = Arc::clone(&waiting);
        thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| run(future)));
            let _ = result.map(|value| sender.send(value));
            // Whoever waits is told of a panic too: there is no sender any more when it is woken.
            drop(sender);
            let waker = waiter.lock().unwrap().take();
            waker.into_iter().for_each(Waker::wake);
        });
        poll_fn(move |cx| {
            // Before looking: the other thread sends before it takes this.
            *waiting.lock().unwrap() = Some(cx.waker().clone());
            match result.try_recv() {
                Ok(value) => Poll::Ready(value),
                Err(TryRecvError::Empty) => Poll::Pending,
                Err(TryRecvError::Disconnected) => panic!("the other thread panicked"),
            }
        })
    }

    pub(crate) fn on_embedded<F: Future<Output = ()>>(scenario: impl FnOnce(World) -> F) {
        run(scenario(World::embedded()));
    }

    /// On the broker that this variable names.
    pub(crate) fn on_rabbitmq<F: Future<Output = ()>>(variable: &str, scenario: impl FnOnce(World) -> F) {
        let url = std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"));
        run(scenario(World::new(url)));
    }

    #[derive(Default)]
    struct Alarm {
        is_ringing: Mutex<bool>,
        bell: Condvar,
    }

    impl Wake for Alarm {
        fn wake(self: Arc<Self>) {
            *self.is_ringing.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.bell.notify_one();
        }
    }

    impl Alarm {
        /// Waits until it rings, or that moment has come: then it is false.
        fn wait(&self, late: Instant) -> bool {
            let is_ringing = self.is_ringing.lock().unwrap_or_else(PoisonError::into_inner);
            let left = late.saturating_duration_since(Instant::now());
            let waited = self
                .bell
                .wait_timeout_while(is_ringing, left, |ringing| !*ringing);
            let (mut is_ringing, _) = waited.unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *is_ringing)
        }
    }

    pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
        run_within(DEADLINE, future)
    }

    fn run_within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let alarm = Arc::new(Alarm::default());
        let waker = Waker::from(Arc::clone(&alarm));
        let late = Instant::now() + limit;
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            // No lock is held: what is dropped with the future may wake.
            assert!(alarm.wait(late), "it takes too long");
        }
    }

    /// Is never done, and wakes when it is dropped, as calls under way do.
    struct WakesAtTheEnd(Option<Waker>);

    impl Future for WakesAtTheEnd {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.0 = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    impl Drop for WakesAtTheEnd {
        fn drop(&mut self) {
            self.0.take().into_iter().for_each(Waker::wake);
        }
    }

    #[test]
    #[should_panic(expected = "it takes too long")]
    fn what_takes_too_long_fails_and_lets_the_others_go_on() {
        run_within(Duration::from_millis(1), WakesAtTheEnd(None));
    }

    #[test]
    #[should_panic(expected = "the other thread panicked")]
    fn a_panic_of_another_thread_is_told_at_once() {
        run(thread(async { panic!("on purpose") }));
    }
}
