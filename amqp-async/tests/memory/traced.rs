//! What the feature `tracing` tells.

use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use amqp_async::{CredentialsSource, Message, ProcessOptions, Qos};
use amqp_proto::{Backoff, Credentials, RefreshPolicy};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::world::{World, config};

/// Keeps each event and each span as a line: its level, its name or message, its fields.
#[derive(Debug, Clone)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    level: Level,
}

/// Writes fields behind each other; the message first.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => write!(self.fields, " {name}={value:?}").unwrap(),
        }
    }
}

impl Lines {
    fn push(&self, metadata: &Metadata<'_>, text: &Text) {
        let Text { message, fields } = text;
        let line = format!("{} {message}{fields}", metadata.level());
        self.lines.lock().unwrap().push(line);
    }

    /// Those from now on whose beginning is one of these.
    fn take(&self, beginnings: &[&str]) -> Vec<String> {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        let is_wanted = |line: &String| beginnings.iter().any(|beginning| line.starts_with(beginning));
        lines.into_iter().filter(is_wanted).collect()
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("amqp_async") && *metadata.level() <= self.level
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text::default();
        span.record(&mut text);
        text.message = span.metadata().name().to_owned();
        self.push(span.metadata(), &text);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut text = Text::default();
        values.record(&mut text);
        self.lines
            .lock()
            .unwrap()
            .push(format!("recorded{}", text.fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.push(event.metadata(), &text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// For the threads of other tests. Without it `tracing` asks one of those, where nobody listens, whether an event is wanted that is
/// new to it, and forgets the event for all threads.
struct Nobody;

impl Subscriber for Nobody {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs a test that looks at what was told.
fn traced(level: Level, test: impl AsyncFn(&World, &Lines)) {
    static NOBODY: Once = Once::new();
    NOBODY.call_once(|| tracing::subscriber::set_global_default(Nobody).unwrap());
    let lines = Lines {
        lines: Arc::default(),
        level,
    };
    tracing::subscriber::with_default(lines.clone(), || {
        let world = World::new();
        world.run(test(&world, &lines));
        world.wind_up();
    });
}

#[test]
fn a_connection_tells_of_its_life() {
    traced(Level::INFO, async |world, lines| {
        let connection = world.connect().await;
        let told = lines.take(&["INFO", "WARN"]);
        assert!(
            told[0].starts_with("INFO connected product=\"amqp-testbroker\" version="),
            "{told:?}"
        );
        assert_eq!(told.len(), 1);

        world.broker(|broker, _| broker.block("low on memory"));
        world.idle().await;
        let channel = connection.channel().await.unwrap();
        let exchange = channel.default_exchange();
        assert!(world.poll_once(exchange.publish("x", "q")).await.is_none());
        world.idle().await;
        world.broker(|broker, now| broker.unblock(now));
        world.idle().await;
        let told = lines.take(&["INFO", "WARN"]);
        assert_eq!(
            told,
            [
                "WARN the broker takes no publishes reason=low on memory",
                "INFO the broker takes publishes again"
            ]
        );

        let error = channel.queue("nowhere").purge().await.unwrap_err();
        world.idle().await;
        let told = lines.take(&["INFO", "WARN"]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("WARN channel closed channel=1 reason="),
            "{told:?}"
        );
        assert!(told[0].contains("no queue 'nowhere'"), "{told:?} {error}");

        connection.close().await;
        world.idle().await;
        let told = lines.take(&["INFO", "WARN"]);
        assert!(told[0].starts_with("INFO connection closed reason="), "{told:?}");
        assert_eq!(told.len(), 1);
    });
}

#[test]
fn an_end_that_nobody_asked_for_is_a_warning() {
    traced(Level::WARN, async |world, lines| {
        let connection = world.connect().await;
        let key = world.key();
        world.broker(|broker, now| broker.handle_disconnect(key, now));
        connection.closed().await;
        world.idle().await;
        let told = lines.take(&["WARN connection closed"]);
        assert_eq!(told.len(), 1, "{told:?}");
    });
}

#[test]
fn secrets_that_are_renewed_or_not_are_told_but_not_shown() {
    traced(Level::INFO, async |world, lines| {
        let connection = world.connect().await;
        let calls = AtomicU32::new(0);
        let source = CredentialsSource::new(move || {
            let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                match is_first {
                    true => Err("no route".into()),
                    false => Ok(Credentials::token("s3cret").into()),
                }
            }
        });
        let pause = Backoff::new(1).initial(Duration::from_secs(4)).jitter(0.0);
        let source = source.policy(RefreshPolicy::new(pause).jitter(0.0));
        let mut events = connection.events();
        lines.take(&["INFO", "WARN"]);
        connection.refresh_credentials(source, Some(Duration::from_secs(10)));
        for _ in 0..3 {
            events.next().await.unwrap();
        }
        world.idle().await;
        let told = lines.take(&["INFO", "WARN"]);
        assert_eq!(
            told,
            [
                "WARN the secret is not renewed error=the provider of credentials failed: no route retry_in=Some(4s)",
                "WARN the secret has run out",
                "INFO the broker has a new secret valid_for=None",
            ]
        );
    });
}

#[test]
fn back_pressure_is_told_once_on_each_edge() {
    traced(Level::INFO, async |world, lines| {
        let connection = world.connect_with(config()).await;
        let channel = connection.channel().await.unwrap();
        channel.declare_queue("q").await.unwrap();
        world.set_deaf(true);
        let mut confirms = Vec::new();
        for _ in 0..200 {
            let body = vec![0; 4000];
            let publish = channel.default_exchange();
            confirms.push(publish.publish_deferred(body, "q").await.unwrap());
            world.idle().await;
        }
        let told = lines.take(&["WARN more", "INFO less"]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("WARN more waits to be written than should queued="));
        world.set_deaf(false);
        for confirm in confirms {
            confirm.await.unwrap();
        }
        let told = lines.take(&["WARN more", "INFO less"]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("INFO less waits to be written again queued="));
    });
}

#[test]
fn what_is_done_without_care_is_warned_of() {
    traced(Level::WARN, async |world, lines| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("x", "q").await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        let told = lines.take(&["WARN a consumer without a prefetch limit"]);
        assert_eq!(told.len(), 1);

        drop(consumer.next().await.unwrap().unwrap());
        let told = lines.take(&["WARN a delivery"]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].ends_with(" delivery_tag=1 exchange= routing_key=q"),
            "{told:?}"
        );
        // It came again; and now it is settled, or goes with its connection.
        let delivery = consumer.next().await.unwrap().unwrap();
        delivery.reject(true).await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        drop(consumer);
        channel.set_qos(Qos::prefetch(1)).await.unwrap();
        let consumer = queue.consume().await.unwrap();
        connection.close().await;
        drop((delivery, consumer));
        assert_eq!(lines.take(&["WARN"]), [""; 0]);
    });
}

#[test]
fn publishes_and_handlers_have_spans() {
    traced(Level::DEBUG, async |world, lines| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let message = Message::new("four").message_id("m1").correlation_id("c1");
        let message = message.header("traceparent", "of-somebody");
        channel.default_exchange().publish(message, "q").await.unwrap();
        let told = lines.take(&["DEBUG publish"]);
        assert_eq!(told.len(), 1);
        for attribute in [
            "otel.kind=\"producer\"",
            "messaging.system=\"rabbitmq\"",
            "messaging.destination.name=\"\"",
            "messaging.rabbitmq.destination.routing_key=\"q\"",
            "messaging.message.body.size=4",
        ] {
            assert!(told[0].contains(attribute), "{told:?}");
        }
        let delivery = queue.get().await.unwrap().unwrap();
        let done = delivery
            .process(
                ProcessOptions::default(),
                async |_| Ok::<_, amqp_async::Error>(()),
            )
            .await;
        assert_eq!(done, Ok(()));
        let told = lines.take(&["DEBUG process", "recorded"]);
        assert!(
            told[0].contains("messaging.operation.type=\"process\""),
            "{told:?}"
        );
        assert!(told[0].contains("messaging.message.body.size=4"), "{told:?}");
        let recorded = [
            "recorded messaging.message.id=m1",
            "recorded messaging.message.conversation_id=c1",
            "recorded traceparent=\"of-somebody\"",
        ];
        assert_eq!(told[1..], recorded);
    });
}
