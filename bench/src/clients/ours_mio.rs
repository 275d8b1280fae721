//! amqp-mio: a `MioConnection` in a poll of its own.

use amqp_mio::proto::wire::{
    BasicConsume, BasicPublish, BasicQos, ConfirmSelect, Properties, QueueDeclare, ReplyCode, ShortStr,
};
use amqp_mio::proto::{
    Channel, ChannelId, CloseReason, ConfirmOutcome, Delivery, Reply, Request, RequestId, SendError,
};
use amqp_mio::{Connector, Event, MioConnection};
use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use mio::{Events, Interest, Poll, Token};

use super::round_trips::RoundTrips;
use super::{Ack, Client, PREFETCH, SMALL};
use crate::{ECHO_QUEUE, QueueName, samples};

const BROKER: Token = Token(0);

/// A connection and the loop around it.
pub(crate) struct OursMio {
    poll: Poll,
    ready: Events,
    connection: MioConnection,
}

impl Client for OursMio {
    async fn connect(port: u16) -> Result<Self> {
        let uri = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let mut connection = Connector::from_uri(&uri)?.connect()?;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut connection, BROKER, Interest::READABLE)?;
        let mut client = Self {
            poll,
            ready: Events::with_capacity(8),
            connection,
        };
        while client.next()? != Event::Connected {}
        Ok(client)
    }

    async fn publish(&mut self, body: &Bytes, count: u64) -> Result<()> {
        let channel = self.connection.open_channel()?;
        for _ in 0..count {
            self.publish_one(channel, body)?;
        }
        let swallowed = self.swallowed(channel)?;
        ensure!(swallowed == count, "the broker has {swallowed} of {count}");
        Ok(())
    }

    async fn confirm(&mut self, body: &Bytes, outstanding: usize, count: u64) -> Result<()> {
        let channel = self.connection.open_channel()?;
        self.request(channel, &ConfirmSelect::default())?;
        let outstanding = outstanding as u64;
        let (mut published, mut confirmed) = (0, 0);
        while confirmed < count {
            while published < count.min(confirmed + outstanding) {
                self.publish_one(channel, body)?;
                published += 1;
            }
            if let Event::Confirmed { tags, outcome } = self.next()? {
                ensure!(outcome == ConfirmOutcome::Acked, "not confirmed: {outcome:?}");
                confirmed += tags.count();
            }
        }
        Ok(())
    }

    async fn consume(&mut self, queue: QueueName, ack: Ack) -> Result<()> {
        let channel = self.connection.open_channel()?;
        let qos = BasicQos {
            prefetch_count: PREFETCH,
            ..BasicQos::default()
        };
        self.request(channel, &qos)?;
        self.start_consumer(channel, &queue.to_string(), ack == Ack::None)?;
        for number in 1..=queue.messages {
            let delivery = self.next_delivery()?;
            ensure!(delivery.message.body_len() == queue.size);
            match ack {
                Ack::Every(1) => self.channel(channel)?.ack(delivery.tag)?,
                Ack::Every(interval) if number % interval == 0 => {
                    self.channel(channel)?.ack_multiple(delivery.tag)?;
                }
                Ack::None | Ack::Every(_) => {}
            }
        }
        self.swallowed(channel)?;
        Ok(())
    }

    async fn echo(&mut self, body: &Bytes, count: u64) -> Result<RoundTrips> {
        let channel = self.connection.open_channel()?;
        self.start_consumer(channel, ECHO_QUEUE, true)?;
        let mut trips = RoundTrips::begin(count);
        for _ in 0..count {
            self.publish_one(channel, body)?;
            ensure!(self.next_delivery()?.message.body_len() == SMALL);
            trips.end_one();
        }
        Ok(trips)
    }

    async fn visit(port: u16) -> Result<()> {
        let mut client = Self::connect(port).await?;
        let channel = client.connection.open_channel()?;
        client.swallowed(channel)?;
        client.connection.close(ReplyCode::REPLY_SUCCESS, "Goodbye");
        loop {
            match client.poll_event()? {
                Event::Closed(CloseReason::Requested { .. }) => return Ok(()),
                Event::Closed(reason) => return Err(reason.into()),
                _ => {}
            }
        }
    }
}

impl OursMio {
    /// Waits for what happens next.
    fn poll_event(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.connection.poll_event()? {
                return Ok(event);
            }
            self.poll.poll(&mut self.ready, self.connection.next_timeout())?;
            for event in &self.ready {
                self.connection.on_ready(event);
            }
            self.connection.on_timeout();
        }
    }

    /// The same; neither channel nor connection may end.
    fn next(&mut self) -> Result<Event> {
        match self.poll_event()? {
            Event::Closed(reason) => Err(reason.into()),
            Event::ChannelClosed { reason, .. } => bail!("the channel is closed: {reason:?}"),
            event => Ok(event),
        }
    }

    fn next_delivery(&mut self) -> Result<Delivery> {
        loop {
            if let Event::Delivery(delivery) = self.next()? {
                return Ok(delivery);
            }
        }
    }

    fn channel(&mut self, id: ChannelId) -> Result<Channel<'_>> {
        Ok(self.connection.channel(id)?)
    }

    /// Does it, as soon as there is room for it.
    fn command<T>(
        &mut self,
        channel: ChannelId,
        command: impl Fn(&mut Channel<'_>) -> Result<T, SendError>,
    ) -> Result<T> {
        loop {
            match command(&mut self.channel(channel)?) {
                Err(SendError::Full { .. }) => while self.next()? != Event::Writable {},
                done => return Ok(done?),
            }
        }
    }

    fn publish_one(&mut self, channel: ChannelId, body: &Bytes) -> Result<()> {
        let method = BasicPublish {
            routing_key: ShortStr::new(samples::ROUTING_KEY)?,
            ..BasicPublish::default()
        };
        let properties = Properties::default();
        self.command(channel, |channel| {
            channel.publish(&method, &properties, body.clone())
        })?;
        Ok(())
    }

    /// Waits for the answer.
    fn request<R: Request>(
        &mut self,
        channel: ChannelId,
        method: &R,
    ) -> Result<(RequestId<R::Method>, Reply)> {
        let request = self.command(channel, |channel| channel.request(method))?;
        loop {
            match self.next()? {
                Event::Reply(reply) if reply.request() == request.untyped() => return Ok((request, reply)),
                Event::RequestFailed { cause, .. } => return Err(cause.into()),
                _ => {}
            }
        }
    }

    fn start_consumer(&mut self, channel: ChannelId, queue: &str, no_ack: bool) -> Result<()> {
        let consume = BasicConsume {
            queue: ShortStr::new(queue)?,
            consumer_tag: ShortStr::new(samples::CONSUMER_TAG)?,
            no_ack,
            ..BasicConsume::default()
        };
        self.channel(channel)?.consume(&consume)?;
        Ok(())
    }

    /// How many messages of this channel the null broker has.
    fn swallowed(&mut self, channel: ChannelId) -> Result<u64> {
        let (request, reply) = self.request(channel, &QueueDeclare::default())?;
        match reply.read(request) {
            Some(ok) => Ok(ok.message_count.into()),
            None => bail!("another answer than queue.declare-ok"),
        }
    }
}
