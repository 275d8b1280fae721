//! The loop that an application would have, which counts.

use std::time::{Duration, Instant};

use amqp_mio::{ConnectError, Event, MioConnection, TlsConfig, TlsMaterial};
use amqp_testbroker::TestBroker;
use mio::{Events, Interest, Poll, Token};

const BROKER: Token = Token(7);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Round {
    pub(crate) connection: MioConnection,
    poll: Poll,
    token: Token,
    ready: Events,
    /// How often the poll returned.
    pub(crate) wakes: u32,
    /// How many events are told before the next poll.
    pub(crate) budget: usize,
}

impl Round {
    pub(crate) fn new(mut connection: MioConnection) -> Self {
        let poll = Poll::new().unwrap();
        poll.registry()
            .register(&mut connection, BROKER, Interest::READABLE)
            .unwrap();
        Self {
            connection,
            poll,
            token: BROKER,
            ready: Events::with_capacity(8),
            wakes: 0,
            budget: usize::MAX,
        }
    }

    /// Goes on with another poll.
    pub(crate) fn move_house(&mut self) {
        let old = self.poll.registry();
        old.deregister(&mut self.connection).unwrap();
        self.poll = Poll::new().unwrap();
        let new = self.poll.registry();
        new.register(&mut self.connection, self.token, Interest::READABLE)
            .unwrap();
    }

    /// Goes on under another token.
    pub(crate) fn rename(&mut self) {
        self.token = Token(self.token.0 + 1);
        let registry = self.poll.registry();
        registry
            .reregister(&mut self.connection, self.token, Interest::READABLE)
            .unwrap();
    }

    /// Waits once, as long as the connection says, but not forever.
    pub(crate) fn wait(&mut self) {
        let limit = self
            .connection
            .next_timeout()
            .map_or(PATIENCE, |timeout| timeout.min(PATIENCE));
        self.poll.poll(&mut self.ready, Some(limit)).unwrap();
        self.wakes += 1;
        for event in &self.ready {
            assert_eq!(event.token(), self.token);
            self.connection.on_ready(event);
        }
        self.connection.on_timeout();
    }

    /// Goes round until `done` has something to say of an event.
    pub(crate) fn until<T>(
        &mut self,
        mut done: impl FnMut(&mut MioConnection, Event) -> Option<T>,
    ) -> Result<T, ConnectError> {
        let start = Instant::now();
        loop {
            let mut told = 0;
            while told < self.budget
                && let Some(event) = self.connection.poll_event()?
            {
                told += 1;
                if let Some(result) = done(&mut self.connection, event) {
                    return Ok(result);
                }
            }
            assert!(
                start.elapsed() < PATIENCE,
                "it takes too long: {:?}",
                self.connection
            );
            self.wait();
        }
    }

    /// Up to the event of that kind.
    pub(crate) fn until_event(&mut self, is_it: impl Fn(&Event) -> bool) -> Event {
        self.until(|_, event| is_it(&event).then_some(event)).unwrap()
    }

    pub(crate) fn connected(mut self) -> Self {
        self.until_event(|event| *event == Event::Connected);
        self
    }
}

/// A name that no other test has, nor this one in another process.
pub(crate) fn unique(word: &str) -> String {
    format!(
        "mio.{word}.{}.{:?}",
        std::process::id(),
        std::thread::current().id()
    )
}

/// The URL of the RabbitMQ to test with.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

pub(crate) fn tls_broker() -> TestBroker {
    TestBroker::builder()
        .tls_address(([127, 0, 0, 1], 0).into())
        .start()
        .unwrap()
}

pub(crate) fn trusting(broker: &TestBroker) -> TlsConfig {
    TlsConfig::new().trust_only(TlsMaterial::memory(broker.ca_pem().unwrap()))
}
