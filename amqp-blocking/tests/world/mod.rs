//! Where the tests happen.
#![allow(dead_code, reason = "no test needs all of it")]

use std::thread;
use std::time::{Duration, Instant};

use amqp_blocking::proto::CloseReason;
use amqp_blocking::{
    BlockingChannel, BlockingConnection, ConsumeOptions, Delivery, HandlerError, QueueOptions,
};
use amqp_testbroker::TestBroker;

/// Longer than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) broker: TestBroker,
    pub(crate) connection: BlockingConnection,
    pub(crate) channel: BlockingChannel,
}

impl World {
    /// With a queue `q`, and so many messages in it, each with its number.
    pub(crate) fn new(messages: u8) -> Self {
        let broker = TestBroker::start().unwrap();
        let connection = BlockingConnection::connect(&broker.uri()).unwrap();
        let channel = connection.channel().unwrap();
        channel.queue_declare("q", QueueOptions::default()).unwrap();
        let world = Self {
            broker,
            connection,
            channel,
        };
        (0..messages).for_each(|number| world.publish("q", number));
        world
    }

    pub(crate) fn publish(&self, queue: &str, number: u8) {
        self.channel.basic_publish("", queue, vec![number]).unwrap();
    }

    pub(crate) fn consume(
        &self,
        handler: impl FnMut(&BlockingChannel, Delivery) -> Result<(), HandlerError> + Send + 'static,
    ) -> String {
        let options = ConsumeOptions::default();
        self.channel.basic_consume("q", options, handler).unwrap()
    }

    /// How many messages are left when all is over.
    pub(crate) fn left(&self) -> Option<usize> {
        let report = self.connection.close().unwrap();
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
        self.broker.queue_len("/", "q")
    }
}

/// Waits for what another thread does.
pub(crate) fn until(is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_done() {
        assert!(Instant::now() < deadline, "it takes too long");
        thread::yield_now();
    }
}
