//! Messages that fail again and again.

use amqp_proto::Message as Received;
use amqp_proto::wire::{ConfirmSelect, FieldTableRef, FieldValue};

use crate::channel::Channel;
use crate::delivery::Delivery;
use crate::error::{Error, PublishError};
use crate::exchange::Exchange;
use crate::message::Message;

/// What is done with a message that was delivered too often. It is rejected for good, so that its queue's dead-letter exchange
/// gets it if it has one, unless it is to be [parked](Self::parked_in).
///
/// Brokers count deliveries in several ways, and all that is there counts: `x-delivery-count` or `x-acquired-count`, which quorum
/// queues tell; what `x-death` tells of rejections, in a cycle of dead-letter exchanges; otherwise one, if the message says that
/// it was delivered before.
/// A classic queue that messages are given back to does not count: there a limit over 2 is never reached.
///
/// ```no_run
/// # async fn example(queue: amqp_async::Queue) -> Result<(), Box<dyn std::error::Error>> {
/// use amqp_async::PoisonPolicy;
/// let policy = PoisonPolicy::after(5).parked_in("tasks.parked");
/// let mut consumer = queue.consume().await?;
/// while let Some(delivery) = consumer.next().await {
///     let Some(delivery) = policy.sift(delivery?).await? else {
///         continue; // It is in `tasks.parked` now.
///     };
///     delivery.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoisonPolicy {
    /// How often a message may be delivered; 0 counts as 1.
    pub deliveries: u64,
    /// Of what `x-death` tells, only rejections in this queue count. Default: those in all queues.
    pub queue: Option<String>,
    /// Where the message goes instead of being rejected.
    pub parking: Option<Parking>,
}

/// Where poisonous messages go. They are published there, and confirmed, before the original is acknowledged: a failure in between
/// leaves two of them, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parking {
    /// The exchange; empty for the default exchange.
    pub exchange: String,
    /// The routing key; with the default exchange the name of a queue.
    pub routing_key: String,
}

impl PoisonPolicy {
    /// A message may be delivered so often.
    #[must_use]
    pub const fn after(deliveries: u64) -> Self {
        Self {
            deliveries,
            queue: None,
            parking: None,
        }
    }

    /// Sets [`queue`](Self#structfield.queue).
    #[must_use]
    pub fn counting_in(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// The message goes to that queue, which must be there.
    #[must_use]
    pub fn parked_in(self, queue: impl Into<String>) -> Self {
        self.parked_by("", queue)
    }

    /// The message goes to that exchange, which must have a queue for it.
    #[must_use]
    pub fn parked_by(mut self, exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        self.parking = Some(Parking {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
        });
        self
    }

    /// Whether it was delivered often enough before.
    #[must_use]
    pub fn is_poison(&self, delivery: &Delivery) -> bool {
        self.earlier(delivery) >= self.deliveries.max(1)
    }

    /// Whether it will have been delivered often enough if it fails this time.
    pub(crate) fn is_last(&self, delivery: &Delivery) -> bool {
        self.earlier(delivery).saturating_add(1) >= self.deliveries
    }

    fn earlier(&self, delivery: &Delivery) -> u64 {
        let counted = delivery
            .delivery_count()
            .max(delivery.acquired_count())
            .unwrap_or(0);
        let deaths = deaths(delivery.message(), self.queue.as_deref());
        let told = counted.saturating_add(deaths);
        told.max(u64::from(delivery.is_redelivered()))
    }

    /// Gives the delivery back unless it is poison; then it is put away.
    ///
    /// # Errors
    /// As [`put_away`](Self::put_away).
    pub async fn sift(&self, delivery: Delivery) -> Result<Option<Delivery>, PublishError> {
        if !self.is_poison(&delivery) {
            return Ok(Some(delivery));
        }
        self.put_away(delivery).await.map(|()| None)
    }

    /// Rejects the delivery for good (one from a stream, which keeps it, is acknowledged), or parks it. To park it, its own channel is made to confirm if it does not, and may not
    /// be in a transaction.
    ///
    /// A parked message has its properties and headers, but for what would keep it from being parked: `expiration`, `user_id`, the header
    /// `CC`. The headers `x-original-exchange` and `x-original-routing-key` say where it was published to.
    ///
    /// # Errors
    /// Why it could not be parked: then it goes back to its queue. If the exchange is not there, the broker closes the channel.
    pub async fn put_away(&self, delivery: Delivery) -> Result<(), PublishError> {
        let Some(parking) = &self.parking else {
            return Ok(delivery.discard().await?);
        };
        let channel = delivery.channel().clone();
        ensure_confirms(&channel).await?;
        let exchange = Exchange::new(channel, parking.exchange.clone());
        exchange
            .publish(to_be_parked(delivery.message()), &parking.routing_key)
            .await?;
        Ok(delivery.ack().await?)
    }
}

impl Delivery {
    /// How often its queue says that it came back before, if the queue counts that: quorum queues do (`x-delivery-count`), from
    /// the second delivery on.
    #[must_use]
    pub fn delivery_count(&self) -> Option<u64> {
        count(self.message(), "x-delivery-count")
    }

    /// How often its queue says that it was given to a consumer before, for whatever reason it came back: quorum queues of
    /// RabbitMQ 4 do (`x-acquired-count`), from the second delivery on.
    #[must_use]
    pub fn acquired_count(&self) -> Option<u64> {
        count(self.message(), "x-acquired-count")
    }

    /// How often it was rejected, or given back too often, in any queue, and came here by dead-letter exchanges (`x-death`).
    #[must_use]
    pub fn death_count(&self) -> u64 {
        deaths(self.message(), None)
    }

    /// The same for one queue.
    #[must_use]
    pub fn death_count_in(&self, queue: &str) -> u64 {
        deaths(self.message(), Some(queue))
    }
}

fn count(message: &Received, header: &str) -> Option<u64> {
    let count = message.properties().headers?.get(header).ok()??;
    u64::try_from(count.as_i64()?).ok()
}

/// How often it died of having failed, in that queue or in all; what cannot be read counts for nothing.
fn deaths(message: &Received, queue: Option<&str>) -> u64 {
    let headers = message.properties().headers.unwrap_or_default();
    let Ok(Some(FieldValue::Array(deaths))) = headers.get("x-death") else {
        return 0;
    };
    let counts = deaths.iter().flatten().filter_map(|death| {
        let death = death.as_table()?;
        let is_failure = matches!(text(death, "reason")?, b"rejected" | b"delivery_limit");
        let is_here = match queue {
            Some(queue) => text(death, "queue")? == queue.as_bytes(),
            None => true,
        };
        let count = death.get("count").ok()??.as_i64()?;
        u64::try_from(count).ok().filter(|_| is_failure && is_here)
    });
    counts.fold(0, u64::saturating_add)
}

fn text<'t>(table: FieldTableRef<'t>, key: &str) -> Option<&'t [u8]> {
    table.get(key).ok()??.as_bytes()
}

/// It is harmless to ask a second time.
async fn ensure_confirms(channel: &Channel) -> Result<(), Error> {
    let is_confirming = {
        let mut state = channel.shared().lock();
        let core = state.core(channel.place());
        core.is_ok_and(|core| core.is_confirming())
    };
    if !is_confirming {
        channel.request(&ConfirmSelect::default()).await?;
    }
    Ok(())
}

fn to_be_parked(received: &Received) -> Message {
    let (exchange, routing_key) = (received.exchange(), received.routing_key());
    Message::from_received(received)
        .for_keeping()
        .header("x-original-exchange", FieldValue::LongStr(exchange.as_bytes()))
        .header(
            "x-original-routing-key",
            FieldValue::LongStr(routing_key.as_bytes()),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_proto::wire::{FieldArray, FieldTable, Properties, ShortStr};

    fn received(headers: &FieldTable) -> Received {
        let properties = Properties {
            headers: Some(headers.as_ref()),
            expiration: Some(ShortStr::new("60000").unwrap()),
            user_id: Some(ShortStr::new("ann").unwrap()),
            app_id: Some(ShortStr::new("shop").unwrap()),
            delivery_mode: Some(Properties::PERSISTENT),
            ..Properties::default()
        };
        let (exchange, key) = (ShortStr::new("orders").unwrap(), ShortStr::new("new").unwrap());
        Received::new(exchange, key, &properties, b"body".to_vec()).unwrap()
    }

    fn death(queue: &str, reason: &str, count: i64) -> FieldTable {
        let mut death = FieldTable::new();
        death.insert("count", count).unwrap();
        death.insert("queue", queue).unwrap();
        death.insert("reason", reason).unwrap();
        death
    }

    #[test]
    fn deaths_of_failures_count_and_no_others() {
        let mut all = FieldArray::new();
        for entry in [
            death("work", "rejected", 3),
            death("retry", "expired", 3),
            death("work", "delivery_limit", 1),
            death("other", "rejected", 2),
            death("work", "rejected", -7),
            FieldTable::new(),
        ] {
            all.push(&entry).unwrap();
        }
        all.push("no table").unwrap();
        let mut headers = FieldTable::new();
        headers.insert("x-death", &all).unwrap();
        let message = received(&headers);
        assert_eq!(deaths(&message, None), 6);
        assert_eq!(deaths(&message, Some("work")), 4);
        assert_eq!(deaths(&message, Some("nowhere")), 0);
    }

    #[test]
    fn counts_that_make_no_sense_count_for_nothing() {
        let mut headers = FieldTable::new();
        headers.insert("x-death", "none").unwrap();
        headers.insert("x-delivery-count", -1_i64).unwrap();
        headers.insert("x-acquired-count", 2_i64).unwrap();
        let message = received(&headers);
        assert_eq!(deaths(&message, None), 0);
        assert_eq!(count(&message, "x-delivery-count"), None);
        assert_eq!(count(&message, "x-acquired-count"), Some(2));
        assert_eq!(count(&message, "x-other"), None);
        let message = received(&FieldTable::new());
        assert_eq!(count(&message, "x-delivery-count"), None);
    }

    #[test]
    fn what_is_parked_can_be_kept_and_says_where_it_was() {
        let mut headers = FieldTable::new();
        headers.insert("CC", &FieldArray::new()).unwrap();
        headers.insert("x-delivery-count", 4_i64).unwrap();
        headers.insert("x-acquired-count", 4_i64).unwrap();
        headers.insert("mine", 1_i64).unwrap();
        let parked = to_be_parked(&received(&headers));
        let expiration = parked.expiration_digits();
        let properties = parked.properties(expiration.as_deref()).unwrap();
        assert_eq!(properties.expiration, None);
        assert_eq!(properties.user_id, None);
        assert_eq!(properties.app_id.unwrap().to_str(), Ok("shop"));
        assert_eq!(properties.delivery_mode, Some(Properties::PERSISTENT));
        assert_eq!(parked.body(), b"body");
        let headers = properties.headers.unwrap();
        let names: Vec<_> = headers.iter().map(|entry| entry.unwrap().0.to_string()).collect();
        assert_eq!(names, ["mine", "x-original-exchange", "x-original-routing-key"]);
        let exchange = headers.get("x-original-exchange").unwrap().unwrap();
        let routing_key = headers.get("x-original-routing-key").unwrap().unwrap();
        assert_eq!(
            (exchange.as_str(), routing_key.as_str()),
            (Some("orders"), Some("new"))
        );
    }
}
