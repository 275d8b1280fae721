//! What one seed stands for: settings, links, and a list of what the program and the faults do. Any part of it can be left
//! out, and what is left still means the same.

use std::fmt;
use std::time::Duration;

use amqp_proto::wire::{ExchangeDeclare, QueueDeclare};
use amqp_proto::{AckCoalescing, Channel, SendError};
use amqp_testbroker::{Ending, LinkConfig, Random, Release, Side};

use crate::short;

/// How many channels a program has at most.
pub(crate) const SLOTS: u8 = 3;

/// A queue that programs use, always declared in the same way.
#[derive(Debug)]
pub(crate) struct QueueKind {
    /// Empty: the server makes one.
    pub(crate) name: &'static str,
    pub(crate) durable: bool,
    exclusive: bool,
    auto_delete: bool,
}

/// Only the first three live by themselves.
pub(crate) const QUEUES: [QueueKind; 6] = [
    queue("durable", true, false, false),
    queue("other", true, false, false),
    queue("transient", false, false, false),
    queue("shared", false, false, true),
    queue("own", false, true, false),
    queue("", false, true, false),
];

/// The queue that the server names.
pub(crate) const SERVER_NAMED: u8 = 5;

/// An exchange that programs use, and its type.
pub(crate) const EXCHANGES: [(&str, &str); 4] = [
    ("direct", "direct"),
    ("fanout", "fanout"),
    ("passing", "direct"),
    ("amq.topic", "topic"),
];

pub(crate) const KEYS: [&str; 3] = ["a", "b", "a.b"];

/// One run, from its seed or from a part of what the seed gave.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) settings: Settings,
    /// Of the first connections; those behind them are perfect.
    pub(crate) links: Vec<LinkConfig>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) release: Release,
    pub(crate) joins_confirms: bool,
    /// Seconds.
    pub(crate) heartbeat: u16,
    /// The broker's, in octets.
    pub(crate) max_memory: u64,
    /// The client's, in octets.
    pub(crate) high_water: usize,
    pub(crate) frame_max: u32,
    /// All steps of the plan that are ready are sent at once.
    pub(crate) pipelines_plan: bool,
    /// A channel that the broker closed is opened again.
    pub(crate) reopens_channels: bool,
    pub(crate) numbers_publishes: bool,
    /// How many acknowledgements a channel joins; 0 is none.
    pub(crate) joins_acks: u16,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// How many rounds of the simulation come before it.
    pub(crate) after: u64,
    pub(crate) act: Act,
}

#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Waits until the connection is there, and is left out if it cannot be done.
    Do(Op),
    /// Comes whatever the program is doing.
    Fault(Fault),
}

/// What a program does. Channels, queues, exchanges and keys are given by their places in the lists above.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Open {
        slot: u8,
        mode: Mode,
    },
    Close {
        slot: u8,
    },
    DeclareExchange {
        slot: u8,
        exchange: u8,
    },
    DeleteExchange {
        slot: u8,
        exchange: u8,
    },
    BindExchange {
        slot: u8,
        from: u8,
        to: u8,
        key: u8,
    },
    DeclareQueue {
        slot: u8,
        queue: u8,
    },
    DeleteQueue {
        slot: u8,
        queue: u8,
    },
    Purge {
        slot: u8,
        queue: u8,
    },
    Bind {
        slot: u8,
        queue: u8,
        exchange: u8,
        key: u8,
    },
    Unbind {
        slot: u8,
        queue: u8,
        exchange: u8,
        key: u8,
    },
    Publish(Publish),
    Consume {
        slot: u8,
        queue: u8,
        no_ack: bool,
    },
    Cancel {
        slot: u8,
        nth: u8,
    },
    Get {
        slot: u8,
        queue: u8,
        no_ack: bool,
    },
    Settle(Settle),
    Qos {
        slot: u8,
        count: u16,
        global: bool,
    },
    Recover {
        slot: u8,
    },
    Commit {
        slot: u8,
    },
    Rollback {
        slot: u8,
    },
    /// Acknowledges what came on a channel that ended.
    SettleStale {
        slot: u8,
    },
    Wait {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Confirm,
    Transaction,
}

#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) slot: u8,
    pub(crate) route: Route,
    pub(crate) mandatory: bool,
    pub(crate) persistent: bool,
    pub(crate) size: usize,
    /// How many messages, one behind the other.
    pub(crate) count: u8,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    /// By the default exchange.
    Queue(u8),
    Exchange(u8, u8),
}

#[derive(Debug, Clone)]
pub(crate) struct Settle {
    pub(crate) slot: u8,
    /// Which of those that are open.
    pub(crate) nth: u8,
    pub(crate) multiple: bool,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Ack,
    Nack { requeue: bool },
    Reject { requeue: bool },
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Restart,
    Block { ms: u64 },
    Refuse { count: u32 },
    Nack { count: u32 },
    DelayConfirms { by: u64, ms: u64 },
    ReverseConfirms { ms: u64 },
    CancelConsumer { slot: u8, nth: u8 },
    CloseChannel { slot: u8 },
    CloseConnection,
    Mute { ms: u64 },
    Deaf { ms: u64 },
    HangUp { octets: usize },
    Stall { from: Side, ms: u64 },
    Reset { by: Side },
    EndServer,
}

const fn queue(name: &'static str, durable: bool, exclusive: bool, auto_delete: bool) -> QueueKind {
    QueueKind {
        name,
        durable,
        exclusive,
        auto_delete,
    }
}

/// What declares that queue.
pub(crate) fn queue_declare(queue: u8) -> QueueDeclare<'static> {
    let kind = &QUEUES[usize::from(queue)];
    QueueDeclare {
        queue: short(kind.name),
        durable: kind.durable,
        exclusive: kind.exclusive,
        auto_delete: kind.auto_delete,
        ..Default::default()
    }
}

/// What declares that exchange.
pub(crate) fn exchange_declare(exchange: u8) -> ExchangeDeclare<'static> {
    let (name, exchange_type) = EXCHANGES[usize::from(exchange)];
    ExchangeDeclare {
        exchange: short(name),
        exchange_type: short(exchange_type),
        durable: name != "passing",
        auto_delete: name == "passing",
        ..Default::default()
    }
}

impl Settings {
    /// The most usual ones.
    pub(crate) const PLAIN: Self = Self {
        release: Release::V4,
        joins_confirms: true,
        heartbeat: 60,
        max_memory: 256 << 20,
        high_water: 1 << 20,
        frame_max: 128 << 10,
        pipelines_plan: false,
        reopens_channels: true,
        numbers_publishes: true,
        joins_acks: 0,
    };

    /// Tells a channel that begins.
    pub(crate) fn apply(&self, channel: &mut Channel<'_>) -> Result<(), SendError> {
        channel.number_publishes(self.numbers_publishes);
        let delay = Duration::from_millis(300);
        let joins = (self.joins_acks > 0).then(|| AckCoalescing::new(self.joins_acks, delay));
        channel.set_ack_coalescing(joins)
    }
}

/// Draws a case.
struct Draw(Random);

impl Case {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds in a row are far from each other in SplitMix64's sequence only after they were mixed once.
        let mut draw = Draw(Random::new(Random::new(seed).next_u64()));
        let settings = draw.settings();
        let links = (0..draw.up_to(5)).map(|_| draw.link()).collect();
        let length = 10 + draw.up_to(90);
        let mut steps = draw.beginning();
        let faults = draw.up_to(8);
        for _ in 0..length {
            let act = if draw.up_to(length) < faults {
                Act::Fault(draw.fault())
            } else {
                Act::Do(draw.op())
            };
            let after = if draw.one_in(4) {
                draw.up_to(30)
            } else {
                draw.up_to(3)
            };
            steps.push(Step { after, act });
        }
        Self {
            seed,
            settings,
            links,
            steps,
        }
    }
}

impl Draw {
    fn up_to(&mut self, last: u64) -> u64 {
        self.0.up_to(last)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.up_to(count - 1) == 0
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        let last = items.len() as u64 - 1;
        items[usize::try_from(self.up_to(last)).unwrap()]
    }

    fn place(&mut self, count: usize) -> u8 {
        u8::try_from(self.up_to(count as u64 - 1)).unwrap()
    }

    fn settings(&mut self) -> Settings {
        Settings {
            release: self.of(&[Release::V3_10, Release::V4]),
            joins_confirms: !self.one_in(4),
            heartbeat: self.of(&[0, 5, 60]),
            max_memory: if self.one_in(8) { 30_000 } else { 256 << 20 },
            high_water: if self.one_in(4) { 4_000 } else { 1 << 20 },
            frame_max: self.of(&[8192, 128 << 10]),
            pipelines_plan: self.one_in(2),
            reopens_channels: self.one_in(2),
            numbers_publishes: self.one_in(2),
            joins_acks: self.of(&[0, 0, 3, 100]),
        }
    }

    fn link(&mut self) -> LinkConfig {
        let mut link = LinkConfig::perfect().seed(self.0.next_u64());
        if self.one_in(2) {
            link = link.segment(self.of(&[1, 20, 500, usize::MAX]));
        }
        if self.one_in(2) {
            link = link.latency(Duration::from_millis(self.up_to(200)));
        }
        if self.one_in(4) {
            link = link.jitter(Duration::from_millis(self.up_to(100)));
        }
        if self.one_in(6) {
            link = link.bandwidth(2_000 + self.up_to(200_000));
        }
        if self.one_in(6) {
            link = link.window(1 + usize::try_from(self.up_to(3_000)).unwrap());
        }
        if self.one_in(2) {
            let most = self.of(&[600, 2_000, 10_000]);
            let ending = self.of(&[Ending::Ended, Ending::Reset]);
            let from = self.side();
            let after = self.up_to(most);
            link = link.cut(from, after, ending);
        }
        link
    }

    fn side(&mut self) -> Side {
        self.of(&[Side::Client, Side::Server])
    }

    /// Without this, most programs would begin with errors only.
    fn beginning(&mut self) -> Vec<Step> {
        let mode = self.of(&[
            Mode::Plain,
            Mode::Confirm,
            Mode::Confirm,
            Mode::Confirm,
            Mode::Transaction,
        ]);
        let mut ops = vec![Op::Open { slot: 0, mode }];
        ops.push(Op::Open {
            slot: 1,
            mode: Mode::Confirm,
        });
        for queue in [0, 1, 2, 3, 4, SERVER_NAMED] {
            if !self.one_in(6) {
                ops.push(Op::DeclareQueue { slot: 1, queue });
            }
        }
        ops.push(Op::Open {
            slot: 2,
            mode: Mode::Plain,
        });
        if self.one_in(2) {
            ops.push(Op::Qos {
                slot: 2,
                count: self.of(&[1, 2]),
                global: false,
            });
        }
        for _ in 0..self.up_to(3) {
            ops.push(Op::Consume {
                slot: self.of(&[1, 2]),
                queue: self.queue(),
                no_ack: false,
            });
        }
        for exchange in 0..3 {
            if !self.one_in(3) {
                ops.push(Op::DeclareExchange { slot: 1, exchange });
            }
        }
        for _ in 0..self.up_to(3) {
            let op = self.bind();
            ops.push(op);
        }
        let step = |op| Step {
            after: self.up_to(2),
            act: Act::Do(op),
        };
        ops.into_iter().map(step).collect()
    }

    fn slot(&mut self) -> u8 {
        self.place(usize::from(SLOTS))
    }

    fn queue(&mut self) -> u8 {
        if self.one_in(3) {
            0
        } else {
            self.place(QUEUES.len())
        }
    }

    fn exchange(&mut self) -> u8 {
        self.place(EXCHANGES.len())
    }

    fn key(&mut self) -> u8 {
        self.place(KEYS.len())
    }

    fn bind(&mut self) -> Op {
        Op::Bind {
            slot: self.slot(),
            queue: self.queue(),
            exchange: self.exchange(),
            key: self.key(),
        }
    }

    fn op(&mut self) -> Op {
        let slot = self.slot();
        match self.up_to(99) {
            0..=5 => Op::Open {
                slot,
                mode: self.of(&[Mode::Plain, Mode::Confirm, Mode::Confirm, Mode::Transaction]),
            },
            6 => Op::Close { slot },
            7..=8 => Op::DeclareExchange {
                slot,
                exchange: self.place(EXCHANGES.len() - 1),
            },
            9 => Op::DeleteExchange {
                slot,
                exchange: self.place(EXCHANGES.len() - 1),
            },
            10..=11 => Op::BindExchange {
                slot,
                from: self.exchange(),
                to: self.exchange(),
                key: self.key(),
            },
            12..=16 => Op::DeclareQueue {
                slot,
                queue: self.queue(),
            },
            17..=18 => Op::DeleteQueue {
                slot,
                queue: self.queue(),
            },
            19 => Op::Purge {
                slot,
                queue: self.queue(),
            },
            20..=24 => self.bind(),
            25..=26 => Op::Unbind {
                slot,
                queue: self.queue(),
                exchange: self.exchange(),
                key: self.key(),
            },
            27..=51 => self.publish(),
            52..=59 => Op::Consume {
                slot,
                queue: self.queue(),
                no_ack: self.one_in(12),
            },
            60..=61 => Op::Cancel {
                slot,
                nth: self.place(4),
            },
            62..=67 => Op::Get {
                slot,
                queue: self.queue(),
                no_ack: self.one_in(12),
            },
            68..=87 => self.settle(),
            88..=91 => Op::Qos {
                slot,
                count: self.of(&[0, 1, 2, 10]),
                global: self.one_in(3),
            },
            92 => Op::Recover { slot },
            93..=95 => Op::Commit { slot },
            96 => Op::Rollback { slot },
            97 => Op::SettleStale { slot },
            _ => Op::Wait { ms: self.ms() },
        }
    }

    fn publish(&mut self) -> Op {
        let route = if self.one_in(3) {
            Route::Exchange(self.exchange(), self.key())
        } else {
            Route::Queue(self.queue())
        };
        let most = self.of(&[0, 20, 200, 200, 5_000, 20_000]);
        Op::Publish(Publish {
            slot: self.slot(),
            route,
            mandatory: self.one_in(2),
            persistent: !self.one_in(3),
            size: usize::try_from(self.up_to(most)).unwrap(),
            count: if self.one_in(3) { 1 + self.place(9) } else { 1 },
        })
    }

    fn settle(&mut self) -> Op {
        let requeue = self.one_in(2);
        Op::Settle(Settle {
            slot: self.slot(),
            nth: self.place(6),
            multiple: self.one_in(3),
            how: self.of(&[How::Ack, How::Ack, How::Nack { requeue }, How::Reject { requeue }]),
        })
    }

    fn ms(&mut self) -> u64 {
        let most = self.of(&[10, 300, 3_000]);
        self.up_to(most)
    }

    /// Most last for seconds, some for longer than anybody waits for an answer.
    fn long(&mut self) -> u64 {
        if self.one_in(6) {
            200_000
        } else {
            100 + self.up_to(8_000)
        }
    }

    fn fault(&mut self) -> Fault {
        match self.up_to(16) {
            0..=1 => Fault::Restart,
            2 => Fault::Block { ms: self.long() },
            3 => Fault::Refuse {
                count: 1 + u32::from(self.place(4)),
            },
            4 => Fault::Nack {
                count: 1 + u32::from(self.place(5)),
            },
            5 => Fault::DelayConfirms {
                by: self.ms(),
                ms: self.long(),
            },
            6 => Fault::ReverseConfirms { ms: self.long() },
            7..=8 => Fault::CancelConsumer {
                slot: self.slot(),
                nth: self.place(3),
            },
            9..=10 => Fault::CloseChannel { slot: self.slot() },
            11 => Fault::CloseConnection,
            12 => Fault::Mute { ms: self.long() },
            13 => Fault::Deaf { ms: self.long() },
            14 => Fault::HangUp {
                octets: usize::try_from(self.up_to(500)).unwrap(),
            },
            15 => Fault::Stall {
                from: self.side(),
                ms: self.long(),
            },
            _ if self.one_in(3) => Fault::EndServer,
            _ => Fault::Reset { by: self.side() },
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}", self.seed, self.settings)?;
        for (number, link) in self.links.iter().enumerate() {
            if *link != LinkConfig::perfect() {
                writeln!(f, "  connection {number}: {link:?}")?;
            }
        }
        for Step { after, act } in &self.steps {
            match act {
                Act::Do(op) => writeln!(f, "  +{after:<2} {op:?}")?,
                Act::Fault(fault) => writeln!(f, "  +{after:<2} FAULT {fault:?}")?,
            }
        }
        Ok(())
    }
}
