//! A broker that consists of lists: what RabbitMQ does with the methods of one client, spelt out.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::topology::ChannelKey;
use crate::wire::{
    BasicConsume, BasicQos, ExchangeBind, ExchangeDeclare, ExchangeDelete, FieldTableRef, Method, QueueBind,
    QueueDeclare, QueueDelete, ReplyCode, ShortStr,
};

/// Everything a client can see of a virtual host.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    exchanges: Vec<Exchange>,
    queues: Vec<Queue>,
    bindings: Vec<Binding>,
    channels: Vec<Channel>,
    made_up: u32,
}

/// An empty text where nothing was to be named.
pub(crate) type Answer = Result<String, ReplyCode>;

#[derive(Debug, Clone)]
struct Exchange {
    name: String,
    /// How it was declared; `None` if somebody else did.
    declare: Option<String>,
    auto_delete: bool,
}

#[derive(Debug, Clone)]
struct Queue {
    name: String,
    declare: Option<String>,
    auto_delete: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Binding {
    is_to_queue: bool,
    destination: String,
    source: String,
    key: String,
    arguments: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Channel {
    key: ChannelKey,
    mode: &'static str,
    qos: Option<BasicQos>,
    global_qos: Option<BasicQos>,
    consumers: Vec<Consumer>,
    last_queue: String,
}

#[derive(Debug, Clone)]
struct Consumer {
    tag: String,
    queue: String,
    exclusive: bool,
    /// With everything but the queue.
    consume: String,
    qos: Option<BasicQos>,
}

impl Broker {
    /// With what others have declared in it. `made_up` is where it begins to count the names it makes up.
    pub(crate) fn new(made_up: u32) -> Self {
        let exchanges = ["amq.fanout", "amq.topic", "foreign-x"].map(|name| Exchange {
            name: name.into(),
            declare: None,
            auto_delete: false,
        });
        let foreign = Queue {
            name: "foreign-q".into(),
            declare: None,
            auto_delete: false,
        };
        Self {
            exchanges: exchanges.into(),
            queues: vec![foreign],
            bindings: Vec::new(),
            channels: Vec::new(),
            made_up,
        }
    }

    pub(crate) const fn made_up(&self) -> u32 {
        self.made_up
    }

    /// The queues that it named.
    pub(crate) fn server_named(&self) -> Vec<String> {
        let names = self.queues.iter().map(|queue| &queue.name);
        names
            .filter(|name| name.starts_with("amq.gen-"))
            .cloned()
            .collect()
    }

    pub(crate) fn last_queue(&self, key: ChannelKey) -> Option<&str> {
        let channel = self.channels.iter().find(|channel| channel.key == key)?;
        (!channel.last_queue.is_empty()).then_some(channel.last_queue.as_str())
    }

    pub(crate) fn consumer_names(&self) -> Vec<(ChannelKey, String)> {
        let channels = self.channels.iter();
        let mut names: Vec<_> = channels
            .flat_map(|channel| {
                channel
                    .consumers
                    .iter()
                    .map(|consumer| (channel.key, consumer.tag.clone()))
            })
            .collect();
        names.sort();
        names
    }

    /// Everything that this client made, one line each, sorted.
    pub(crate) fn lines(&self) -> Vec<String> {
        let exchanges = self
            .exchanges
            .iter()
            .filter_map(|exchange| exchange.declare.clone());
        let queues = self.queues.iter().filter_map(|queue| {
            let declare = queue.declare.as_ref()?;
            Some(format!("{} is {declare}", queue.name))
        });
        let bindings = self.bindings.iter().map(|binding| {
            let Binding {
                is_to_queue,
                destination,
                source,
                key,
                arguments,
            } = binding;
            format!("{source} to {destination} (a queue: {is_to_queue}) by {key}, {arguments:?}")
        });
        let channels = self.channels.iter().map(|channel| {
            let Channel {
                key,
                mode,
                qos,
                global_qos,
                ..
            } = channel;
            format!("{key:?} {mode} {qos:?} {global_qos:?}")
        });
        let consumers = self.channels.iter().flat_map(|channel| {
            channel.consumers.iter().map(|consumer| {
                let Consumer {
                    queue, consume, qos, ..
                } = consumer;
                format!("{:?} {queue} {consume} {qos:?}", channel.key)
            })
        });
        let mut lines: Vec<_> = exchanges
            .chain(queues)
            .chain(bindings)
            .chain(channels)
            .chain(consumers)
            .collect();
        lines.sort();
        lines
    }

    /// The answer, or the code with which the channel is closed; closing it is left to the caller.
    pub(crate) fn handle(&mut self, key: ChannelKey, method: &Method<'_>) -> Answer {
        match method {
            Method::ExchangeDeclare(method) => self.exchange_declare(method),
            Method::ExchangeDelete(method) => self.exchange_delete(method),
            Method::ExchangeBind(method) => self.exchange_bind(method),
            Method::ExchangeUnbind(method) => {
                let binding = Binding::new(false, text(method.destination), method.source, method.arguments);
                self.unbind(&binding.by(text(method.routing_key)));
                done()
            }
            Method::QueueDeclare(method) => self.queue_declare(key, method),
            Method::QueueDelete(method) => self.queue_delete(key, method),
            Method::QueueBind(method) => self.queue_bind(key, method),
            Method::QueueUnbind(method) => {
                let queue = self.resolve(key, method.queue);
                let binding = Binding::new(true, queue.clone(), method.exchange, method.arguments);
                self.unbind(&binding.by(queue_key(&queue, method.queue, method.routing_key)));
                done()
            }
            Method::ChannelOpen(_) => {
                self.channel(key);
                done()
            }
            Method::BasicQos(qos) => {
                let channel = self.channel(key);
                let limit = if qos.global {
                    &mut channel.global_qos
                } else {
                    &mut channel.qos
                };
                *limit = Some(*qos);
                done()
            }
            Method::ConfirmSelect(_) => self.select(key, "confirms"),
            Method::TxSelect(_) => self.select(key, "transactions"),
            Method::BasicConsume(method) => self.consume(key, method),
            Method::BasicCancel(method) => {
                self.cancel(key, &text(method.consumer_tag));
                done()
            }
            other => panic!("the model has no {other:?}"),
        }
    }

    pub(crate) fn close_channel(&mut self, key: ChannelKey) {
        let Some(place) = self.channels.iter().position(|channel| channel.key == key) else {
            return;
        };
        for consumer in self.channels.remove(place).consumers {
            self.after_consumer(&consumer.queue);
        }
    }

    /// Deletes it, whoever asks.
    pub(crate) fn delete_queue(&mut self, name: &str) {
        self.queues.retain(|queue| queue.name != name);
        for channel in &mut self.channels {
            channel.consumers.retain(|consumer| consumer.queue != name);
        }
        self.remove_bindings(|binding| binding.is_to_queue && binding.destination == name);
    }

    /// Deletes it, whoever asks.
    pub(crate) fn delete_exchange(&mut self, name: &str) {
        self.exchanges.retain(|exchange| exchange.name != name);
        self.bindings.retain(|binding| binding.source != name);
        self.remove_bindings(|binding| !binding.is_to_queue && binding.destination == name);
    }

    fn exchange_declare(&mut self, method: &ExchangeDeclare<'_>) -> Answer {
        let (name, declare) = (text(method.exchange), Method::from(*method).to_string());
        let auto_delete = method.auto_delete;
        match self.exchanges.iter_mut().find(|exchange| exchange.name == name) {
            Some(_) if method.passive || name.starts_with("amq.") => {}
            Some(exchange) => {
                let known = exchange.declare.get_or_insert_with(|| declare.clone());
                if *known != declare {
                    return Err(ReplyCode::PRECONDITION_FAILED);
                }
                exchange.auto_delete = auto_delete;
            }
            None if method.passive => return Err(ReplyCode::NOT_FOUND),
            None if name.is_empty() || name.starts_with("amq.") => return Err(ReplyCode::ACCESS_REFUSED),
            None => {
                let declare = Some(declare);
                self.exchanges.push(Exchange {
                    name,
                    declare,
                    auto_delete,
                });
            }
        }
        done()
    }

    fn exchange_delete(&mut self, method: &ExchangeDelete<'_>) -> Answer {
        let name = text(method.exchange);
        let is_used = self.bindings.iter().any(|binding| binding.source == name);
        if name.starts_with("amq.") {
            return Err(ReplyCode::ACCESS_REFUSED);
        }
        if method.if_unused && is_used {
            return Err(ReplyCode::PRECONDITION_FAILED);
        }
        self.delete_exchange(&name);
        done()
    }

    fn exchange_bind(&mut self, method: &ExchangeBind<'_>) -> Answer {
        let destination = text(method.destination);
        self.has_exchange(&destination)?;
        let binding = Binding::new(false, destination, method.source, method.arguments);
        self.bind(binding.by(text(method.routing_key)))
    }

    fn queue_declare(&mut self, key: ChannelKey, method: &QueueDeclare<'_>) -> Answer {
        let mut name = text(method.queue);
        let (declare, auto_delete) = (Method::from(*method).to_string(), method.auto_delete);
        if name.is_empty() && !method.passive {
            self.made_up += 1;
            name = format!("amq.gen-{}", self.made_up);
        } else if name.starts_with("amq.") && !method.passive {
            return Err(ReplyCode::ACCESS_REFUSED);
        }
        match self.queues.iter_mut().find(|queue| queue.name == name) {
            Some(_) if method.passive => {}
            Some(queue) => {
                let known = queue.declare.get_or_insert_with(|| declare.clone());
                if *known != declare {
                    return Err(ReplyCode::PRECONDITION_FAILED);
                }
                queue.auto_delete = auto_delete;
            }
            None if method.passive => return Err(ReplyCode::NOT_FOUND),
            None => {
                let (name, declare) = (name.clone(), Some(declare));
                self.queues.push(Queue {
                    name,
                    declare,
                    auto_delete,
                });
            }
        }
        self.channel(key).last_queue.clone_from(&name);
        Ok(name)
    }

    fn queue_delete(&mut self, key: ChannelKey, method: &QueueDelete<'_>) -> Answer {
        let name = self.resolve(key, method.queue);
        if method.if_unused && self.has_consumer(&name) {
            return Err(ReplyCode::PRECONDITION_FAILED);
        }
        self.delete_queue(&name);
        done()
    }

    fn queue_bind(&mut self, key: ChannelKey, method: &QueueBind<'_>) -> Answer {
        let queue = self.resolve(key, method.queue);
        self.has_queue(&queue)?;
        let binding = Binding::new(true, queue.clone(), method.exchange, method.arguments);
        self.bind(binding.by(queue_key(&queue, method.queue, method.routing_key)))
    }

    fn bind(&mut self, binding: Binding) -> Answer {
        self.has_exchange(&binding.source)?;
        if !self.bindings.contains(&binding) {
            self.bindings.push(binding);
        }
        done()
    }

    fn unbind(&mut self, binding: &Binding) {
        self.remove_bindings(|other| other == binding);
    }

    fn select(&mut self, key: ChannelKey, mode: &'static str) -> Answer {
        let channel = self.channel(key);
        if !["plain", mode].contains(&channel.mode) {
            return Err(ReplyCode::PRECONDITION_FAILED);
        }
        channel.mode = mode;
        done()
    }

    fn consume(&mut self, key: ChannelKey, method: &BasicConsume<'_>) -> Answer {
        let queue = self.resolve(key, method.queue);
        self.has_queue(&queue)?;
        let rivals = self.channels.iter().flat_map(|channel| &channel.consumers);
        let mut rivals = rivals.filter(|consumer| consumer.queue == queue);
        if rivals.any(|rival| rival.exclusive || method.exclusive) {
            return Err(ReplyCode::ACCESS_REFUSED);
        }
        let mut tag = text(method.consumer_tag);
        if tag.is_empty() {
            self.made_up += 1;
            tag = format!("amq.ctag-{}", self.made_up);
        }
        let channel = self.channel(key);
        if channel.consumers.iter().any(|consumer| consumer.tag == tag) {
            return Err(ReplyCode::NOT_ALLOWED);
        }
        let consume = consume_line(method, &tag);
        let (exclusive, qos) = (method.exclusive, channel.qos);
        channel.consumers.push(Consumer {
            tag: tag.clone(),
            queue,
            exclusive,
            consume,
            qos,
        });
        Ok(tag)
    }

    fn cancel(&mut self, key: ChannelKey, tag: &str) {
        let channel = self.channel(key);
        if let Some(place) = channel.consumers.iter().position(|consumer| consumer.tag == tag) {
            let consumer = channel.consumers.remove(place);
            self.after_consumer(&consumer.queue);
        }
    }

    fn after_consumer(&mut self, queue: &str) {
        let is_auto_delete = self
            .queues
            .iter()
            .any(|known| known.name == queue && known.auto_delete);
        if is_auto_delete && !self.has_consumer(queue) {
            self.delete_queue(queue);
        }
    }

    fn remove_bindings(&mut self, is_removed: impl Fn(&Binding) -> bool) {
        let removed: Vec<_> = self
            .bindings
            .iter()
            .filter(|binding| is_removed(binding))
            .cloned()
            .collect();
        self.bindings.retain(|binding| !is_removed(binding));
        for Binding { source, .. } in removed {
            let is_auto_delete = self
                .exchanges
                .iter()
                .any(|exchange| exchange.name == source && exchange.auto_delete);
            if is_auto_delete && !self.bindings.iter().any(|binding| binding.source == source) {
                self.delete_exchange(&source);
            }
        }
    }

    fn has_consumer(&self, queue: &str) -> bool {
        let mut consumers = self.channels.iter().flat_map(|channel| &channel.consumers);
        consumers.any(|consumer| consumer.queue == queue)
    }

    fn has_queue(&self, name: &str) -> Result<(), ReplyCode> {
        let exists = self.queues.iter().any(|queue| queue.name == name);
        if exists { Ok(()) } else { Err(ReplyCode::NOT_FOUND) }
    }

    fn has_exchange(&self, name: &str) -> Result<(), ReplyCode> {
        let exists = self.exchanges.iter().any(|exchange| exchange.name == name);
        if exists { Ok(()) } else { Err(ReplyCode::NOT_FOUND) }
    }

    fn resolve(&self, key: ChannelKey, queue: ShortStr<'_>) -> String {
        match self.last_queue(key) {
            Some(last) if queue.is_empty() => last.into(),
            _ => text(queue),
        }
    }

    fn channel(&mut self, key: ChannelKey) -> &mut Channel {
        let place = self
            .channels
            .iter()
            .position(|channel| channel.key == key)
            .unwrap_or_else(|| {
                self.channels.push(Channel {
                    key,
                    mode: "plain",
                    qos: None,
                    global_qos: None,
                    consumers: Vec::new(),
                    last_queue: String::new(),
                });
                self.channels.len() - 1
            });
        &mut self.channels[place]
    }
}

impl Binding {
    fn new(
        is_to_queue: bool,
        destination: String,
        source: ShortStr<'_>,
        arguments: FieldTableRef<'_>,
    ) -> Self {
        Self {
            is_to_queue,
            destination,
            source: text(source),
            key: String::new(),
            arguments: arguments.as_encoded().into(),
        }
    }

    fn by(self, key: String) -> Self {
        Self { key, ..self }
    }
}

/// A consumer with everything but its queue.
pub(crate) fn consume_line(method: &BasicConsume<'_>, tag: &str) -> String {
    let BasicConsume {
        no_local,
        no_ack,
        exclusive,
        arguments,
        ..
    } = method;
    format!("{tag} {no_local} {no_ack} {exclusive} {arguments:?}")
}

/// The routing key of a binding: that of a queue nobody named is the queue.
fn queue_key(name: &str, queue: ShortStr<'_>, key: ShortStr<'_>) -> String {
    if queue.is_empty() && key.is_empty() {
        name.into()
    } else {
        text(key)
    }
}

fn text(name: ShortStr<'_>) -> String {
    name.to_string()
}

fn done() -> Answer {
    Ok(String::new())
}
