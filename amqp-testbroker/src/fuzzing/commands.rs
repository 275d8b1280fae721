//! What the client of [`both_ends`](super::both_ends()) is told to do.

use amqp_proto::fuzzing::Asked;
use amqp_proto::wire::*;
use amqp_proto::{Channel, Request, SendError};
use arbitrary::Arbitrary;

use super::both_ends::{Session, pick};
use super::short;

/// A command, and where.
#[derive(Debug, Arbitrary)]
pub(super) struct Command {
    channel: u8,
    queue: u8,
    action: Action,
}

#[derive(Debug, Arbitrary)]
enum Action {
    Open,
    Declare,
    Bind,
    Purge,
    Delete,
    Qos(u8, bool),
    Recover,
    ConfirmSelect,
    TxSelect,
    TxCommit,
    TxRollback,
    Publish {
        is_fanned_out: bool,
        size: u16,
        mandatory: bool,
    },
    Consume(bool, bool),
    Cancel(u8),
    Get(bool),
    Settle(How, u8),
    CloseChannel,
    Close,
}

#[derive(Debug, Arbitrary)]
enum How {
    Ack,
    AckMultiple,
    Nack,
    NackMultiple,
    Reject,
}

impl Session {
    /// Gives it, and notes what must come of it.
    pub(super) fn command(&mut self, command: &Command) -> Result<(), SendError> {
        let queue = name(command.queue);
        let at = command.channel;
        match command.action {
            Action::Open => self.open()?,
            Action::Declare => self.declare(at, command.queue)?,
            Action::Bind => self.ask(
                at,
                &QueueBind {
                    queue,
                    exchange: short(b"amq.fanout"),
                    ..<_>::default()
                },
            )?,
            Action::Purge => self.ask(
                at,
                &QueuePurge {
                    queue,
                    ..<_>::default()
                },
            )?,
            Action::Delete => self.ask(
                at,
                &QueueDelete {
                    queue,
                    ..<_>::default()
                },
            )?,
            Action::Qos(count, global) => {
                let prefetch_count = u16::from(count % 4);
                self.ask(
                    at,
                    &BasicQos {
                        prefetch_count,
                        global,
                        ..<_>::default()
                    },
                )?;
            }
            Action::Recover => self.ask(at, &BasicRecover { requeue: true })?,
            Action::ConfirmSelect => self.ask(at, &ConfirmSelect::default())?,
            Action::TxSelect => self.ask(at, &TxSelect {})?,
            Action::TxCommit => self.ask(at, &TxCommit {})?,
            Action::TxRollback => self.ask(at, &TxRollback {})?,
            Action::Publish {
                is_fanned_out,
                size,
                mandatory,
            } => {
                let exchange = short(if is_fanned_out { b"amq.fanout" } else { b"" });
                let publish = BasicPublish {
                    exchange,
                    routing_key: queue,
                    mandatory,
                    ..<_>::default()
                };
                self.publish(at, &publish, size)?;
            }
            Action::Consume(no_ack, exclusive) => {
                let consume = BasicConsume {
                    queue,
                    no_ack,
                    exclusive,
                    ..<_>::default()
                };
                let (consumer, request) = self.channel(at)?.consume(&consume)?;
                self.ledger.asked(request.untyped(), Asked::Consume(consumer));
                self.consumers.push(consumer);
            }
            Action::Cancel(which) => {
                let consumer = pick(&self.consumers, which);
                let request = self.channel(at)?.cancel(consumer)?;
                self.ledger.asked(request.untyped(), Asked::Cancel(consumer));
            }
            Action::Get(no_ack) => {
                let request = self.channel(at)?.get(&BasicGet { queue, no_ack })?;
                self.ledger.asked(request.untyped(), Asked::Get);
            }
            Action::Settle(ref how, which) => self.settle(at, how, which)?,
            Action::CloseChannel => self.channel(at)?.close(ReplyCode::REPLY_SUCCESS, "bye")?,
            Action::Close => self.pair.client.close(ReplyCode::REPLY_SUCCESS, "bye"),
        }
        Ok(())
    }

    /// A channel that publishes to a queue and consumes it.
    pub(super) fn start(&mut self) -> Result<(), SendError> {
        let actions = [
            Action::Open,
            Action::ConfirmSelect,
            Action::Declare,
            Action::Consume(false, false),
        ];
        for action in actions {
            self.command(&Command {
                channel: 0,
                queue: 0,
                action,
            })?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), SendError> {
        let channel = self.pair.client.open_channel()?;
        self.ledger.opened(channel);
        self.channels.push(channel);
        Ok(())
    }

    /// A queue has always the same flags and arguments.
    fn declare(&mut self, at: u8, queue: u8) -> Result<(), SendError> {
        let arguments = arguments(queue);
        let declare = QueueDeclare {
            queue: name(queue),
            durable: queue.is_multiple_of(2),
            exclusive: queue % 8 == 5,
            auto_delete: queue % 8 == 7,
            arguments: arguments.as_ref(),
            ..QueueDeclare::default()
        };
        self.ask(at, &declare)
    }

    fn ask<R: Request>(&mut self, at: u8, method: &R) -> Result<(), SendError> {
        let request = self.channel(at)?.request(method)?;
        self.ledger.asked(request.untyped(), Asked::Plain(R::SPEC));
        Ok(())
    }

    fn publish(&mut self, at: u8, publish: &BasicPublish<'_>, size: u16) -> Result<(), SendError> {
        let number = u8::try_from(self.bodies.len()).expect("there are not so many operations");
        let body = vec![number; usize::from(size) % 21_000 + 1];
        self.bodies.push(body.len());
        let properties = Properties {
            delivery_mode: number.is_multiple_of(2).then_some(2),
            ..Properties::default()
        };
        let tag = self.channel(at)?.publish(publish, &properties, body)?;
        if let Some(tag) = tag {
            self.ledger.published(tag);
        }
        Ok(())
    }

    fn settle(&mut self, at: u8, how: &How, which: u8) -> Result<(), SendError> {
        let tag = pick(&self.deliveries, which);
        let mut channel = self.channel(at)?;
        match how {
            How::Ack => channel.ack(tag),
            How::AckMultiple => channel.ack_multiple(tag),
            How::Nack => channel.nack(tag, true),
            How::NackMultiple => channel.nack_multiple(tag, false),
            How::Reject => channel.reject(tag, true),
        }
    }

    fn channel(&mut self, which: u8) -> Result<Channel<'_>, SendError> {
        self.pair.client.channel(pick(&self.channels, which))
    }
}

fn name(queue: u8) -> ShortStr<'static> {
    let names = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"];
    short(names[usize::from(queue) % names.len()])
}

fn arguments(queue: u8) -> FieldTable {
    let mut table = FieldTable::new();
    let mut set = |key, value: FieldValue<'_>| table.insert(key, value).expect("it is short");
    match queue % 8 {
        1 => set("x-message-ttl", 1000.into()),
        2 => {
            set("x-max-length", 2.into());
            set("x-dead-letter-exchange", "".into());
            set("x-dead-letter-routing-key", "a".into());
        }
        3 => {
            set("x-max-length", 2.into());
            set("x-overflow", "reject-publish".into());
        }
        4 => set("x-max-priority", 3.into()),
        6 => set("x-single-active-consumer", true.into()),
        7 => set("x-expires", 5000.into()),
        _ => {}
    }
    table
}
