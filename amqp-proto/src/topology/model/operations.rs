//! What the program does, and what is done to it, out of six octets each.

use alloc::string::String;

use super::{Manner, World, short};
use crate::topology::{ChannelKey, Plan};
use crate::wire::{
    BasicCancel, BasicConsume, BasicQos, ChannelOpen, ConfirmSelect, ExchangeBind, ExchangeDeclare,
    ExchangeDelete, ExchangeUnbind, FieldTableRef, Method, QueueBind, QueueDeclare, QueueDelete, QueueUnbind,
    TxSelect,
};

const EXCHANGES: [&str; 8] = ["x1", "x2", "x3", "x4", "x5", "amq.fanout", "foreign-x", ""];
const QUEUES: [&str; 6] = ["", "", "q1", "q2", "q3", "foreign-q"];
const KEYS: [&str; 3] = ["", "k", "a.b"];
const TAGS: [&str; 4] = ["", "t1", "t2", "t3"];
const ARGUMENTS: [&[u8]; 2] = [b"", b"\x01ab\x01"];

/// How many kinds of operations there are, the rare ones twice as rare as the others.
const KINDS: u8 = 26;

impl World {
    /// Does one thing, and sees to it that the record is still what the broker has.
    pub(crate) fn apply(&mut self, octets: [u8; 6]) {
        let [kind, channel, first, second, third, flags] = octets;
        let key = ChannelKey::new(u64::from(channel % 3));
        let queue = self.queue(key, first);
        match kind % KINDS {
            18 => self.lose_connection(flags),
            19 => self.clone().recover_with_faults(Manner {
                is_pipelined: first % 2 == 1,
                faults: flags,
                cut: None,
            }),
            20 => self.lose_connection_twice(first, flags),
            21 => {
                self.broker.close_channel(key);
                self.topology.channel_closed(key);
            }
            22 => self.reopen(key, flags % 2 == 1),
            23 => {
                self.broker.delete_queue(&queue);
                self.topology.forget_queue(short(&queue));
            }
            24 if first % 8 < 5 => {
                self.broker.delete_exchange(pick(&EXCHANGES, first));
                self.topology.forget_exchange(short(pick(&EXCHANGES, first)));
            }
            _ => self.request(key, kind % KINDS, &queue, [first, second, third, flags]),
        }
        self.check();
    }

    /// A queue's name; the channel's last one is written out if the broker does not know it any more.
    fn queue(&self, key: ChannelKey, choice: u8) -> String {
        let named = self.broker.server_named();
        if choice >= 128 && !named.is_empty() {
            return named[usize::from(choice) % named.len()].clone();
        }
        let name: String = pick(&QUEUES, choice).into();
        match self.topology.last_queue(key) {
            Some(last)
                if name.is_empty() && self.broker.last_queue(key) != last.as_short_str().to_str().ok() =>
            {
                alloc::format!("{last}")
            }
            _ => name,
        }
    }

    fn lose_connection(&mut self, flags: u8) {
        self.lose_broker();
        let mut plan = Plan::new(&self.topology);
        self.carry_out(
            &mut plan,
            Manner {
                is_pipelined: flags % 2 == 1,
                ..Manner::PLAIN
            },
        );
        assert!(plan.is_recovered());
    }

    /// The second time in the middle of the plan: half a plan does no harm.
    fn lose_connection_twice(&mut self, cut: u8, flags: u8) {
        self.lose_broker();
        let mut plan = Plan::new(&self.topology);
        let is_cut = usize::from(cut) < plan.outcomes().count();
        let cut = Some(usize::from(cut));
        self.carry_out(
            &mut plan,
            Manner {
                is_pipelined: flags % 2 == 1,
                faults: 0,
                cut,
            },
        );
        assert_eq!(plan.is_recovered(), !is_cut);
        self.lose_connection(flags);
    }

    /// The server closes the channel, and the program goes on as if it had not.
    fn reopen(&mut self, key: ChannelKey, is_pipelined: bool) {
        self.broker.close_channel(key);
        let mut plan = Plan::for_channel(&self.topology, key);
        self.carry_out(
            &mut plan,
            Manner {
                is_pipelined,
                ..Manner::PLAIN
            },
        );
        assert!(plan.is_recovered());
    }

    /// What is refused closes the channel, and the program opens it again.
    fn request(&mut self, key: ChannelKey, kind: u8, queue: &str, octets: [u8; 4]) {
        match kind {
            0..=4 | 24 => self.request_about_exchange(key, kind, octets),
            5..=10 | 25 => self.request_about_queue(key, kind, queue, octets),
            _ => self.request_about_channel(key, kind, queue, octets),
        }
    }

    fn request_about_exchange(&mut self, key: ChannelKey, kind: u8, [first, second, third, flags]: [u8; 4]) {
        let (exchange, source) = (short(pick(&EXCHANGES, first)), short(pick(&EXCHANGES, second)));
        let (routing_key, arguments) = (short(pick(&KEYS, third)), table(flags));
        match kind {
            2 | 3 => {
                let bind = ExchangeBind {
                    destination: exchange,
                    source,
                    routing_key,
                    arguments,
                    no_wait: false,
                };
                self.ask(key, bind.into(), |topology, _| topology.exchange_bound(&bind));
            }
            4 => {
                let unbind = ExchangeUnbind {
                    destination: exchange,
                    source,
                    routing_key,
                    arguments,
                    no_wait: false,
                };
                self.ask(key, unbind.into(), |topology, _| {
                    topology.exchange_unbound(&unbind)
                });
            }
            24 => {
                let delete = ExchangeDelete {
                    exchange,
                    if_unused: flags & 1 != 0,
                    no_wait: false,
                };
                self.ask(key, delete.into(), |topology, _| {
                    topology.exchange_deleted(&delete)
                });
            }
            _ => {
                let declare = ExchangeDeclare {
                    exchange,
                    passive: flags & 0x70 == 0x70,
                    durable: flags & 1 != 0,
                    auto_delete: flags & 2 != 0,
                    internal: flags & 4 != 0,
                    arguments: table(flags),
                    ..Default::default()
                };
                self.ask(key, declare.into(), |topology, _| {
                    topology.exchange_declared(&declare)
                });
            }
        }
    }

    fn request_about_queue(
        &mut self,
        key: ChannelKey,
        kind: u8,
        name: &str,
        [first, second, third, flags]: [u8; 4],
    ) {
        let (queue, exchange) = (short(name), short(pick(&EXCHANGES, second)));
        let (routing_key, arguments) = (short(pick(&KEYS, third)), table(flags));
        match kind {
            7..=9 => {
                let bind = QueueBind {
                    queue,
                    exchange,
                    routing_key,
                    arguments,
                    no_wait: false,
                };
                self.ask(key, bind.into(), |topology, _| topology.queue_bound(key, &bind));
            }
            10 => {
                let unbind = QueueUnbind {
                    queue,
                    exchange,
                    routing_key,
                    arguments,
                };
                self.ask(key, unbind.into(), |topology, _| {
                    topology.queue_unbound(key, &unbind)
                });
            }
            25 => {
                let delete = QueueDelete {
                    queue,
                    if_unused: flags & 1 != 0,
                    if_empty: false,
                    no_wait: false,
                };
                self.ask(key, delete.into(), |topology, _| {
                    topology.queue_deleted(key, &delete)
                });
            }
            _ => {
                let is_passive = flags & 0x70 == 0x70;
                let declare = QueueDeclare {
                    queue: if is_passive {
                        queue
                    } else {
                        short(pick(&QUEUES, first))
                    },
                    passive: is_passive,
                    durable: flags & 1 != 0,
                    auto_delete: flags & 2 != 0,
                    exclusive: flags & 4 != 0,
                    arguments: table(flags),
                    no_wait: false,
                };
                self.ask(key, declare.into(), |topology, name| {
                    topology.queue_declared(key, &declare, short(name));
                });
            }
        }
    }

    fn request_about_channel(
        &mut self,
        key: ChannelKey,
        kind: u8,
        queue: &str,
        [first, second, _, flags]: [u8; 4],
    ) {
        let tag = pick(&TAGS, second);
        match kind {
            11..=13 => {
                let consume = BasicConsume {
                    queue: short(queue),
                    consumer_tag: short(tag),
                    no_local: flags & 1 != 0,
                    no_ack: flags & 2 != 0,
                    exclusive: flags & 0x70 == 0x70,
                    arguments: table(flags),
                    no_wait: false,
                };
                self.ask(key, consume.into(), |topology, tag| {
                    topology.consumer_started(key, &consume, short(tag));
                });
            }
            14 => {
                let cancel = BasicCancel {
                    consumer_tag: short(tag),
                    no_wait: false,
                };
                self.ask(key, cancel.into(), |topology, _| {
                    topology.channel_opened(key);
                    topology.consumer_cancelled(key, short(tag));
                });
            }
            15 => {
                let (prefetch_count, global) = (u16::from(first % 4), flags & 1 != 0);
                let qos = BasicQos {
                    prefetch_size: 0,
                    prefetch_count,
                    global,
                };
                self.ask(key, qos.into(), |topology, _| topology.qos(key, &qos));
            }
            16 if flags & 1 != 0 => {
                let select = ConfirmSelect::default();
                self.ask(key, select.into(), |topology, _| topology.confirm_selected(key));
            }
            16 => {
                self.ask(key, TxSelect::default().into(), |topology, _| {
                    topology.transaction_selected(key);
                });
            }
            _ => {
                self.ask(key, ChannelOpen::default().into(), |topology, _| {
                    topology.channel_opened(key);
                });
            }
        }
    }

    fn ask(
        &mut self,
        key: ChannelKey,
        method: Method<'_>,
        record: impl FnOnce(&mut crate::topology::Topology, &str),
    ) {
        // A method opens its channel, here and there.
        let open = ChannelOpen::default().into();
        assert!(self.broker.handle(key, &open).is_ok());
        self.topology.channel_opened(key);
        match self.broker.handle(key, &method) {
            Ok(name) => record(&mut self.topology, &name),
            Err(_) => self.reopen(key, false),
        }
    }
}

fn pick(from: &[&'static str], choice: u8) -> &'static str {
    from[usize::from(choice) % from.len()]
}

fn table(flags: u8) -> FieldTableRef<'static> {
    FieldTableRef::from_encoded(ARGUMENTS[usize::from(flags >> 7)])
}
