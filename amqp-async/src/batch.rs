//! Many publishes that are waited for together.

use amqp_proto::{ConfirmOutcome, ConfirmTag, ConfirmTags, Returned};

use crate::error::{Error, PublishError};
use crate::publish::Confirm;

/// Publishes that are waited for together. Others on the same channel are no part of it.
///
/// ```no_run
/// # async fn example(exchange: amqp_async::Exchange) -> Result<(), amqp_async::Error> {
/// let mut batch = amqp_async::Batch::new();
/// for number in 0..1000 {
///     batch.push(exchange.publish_deferred(number.to_string(), "numbers").await?);
/// }
/// let report = batch.wait().await;
/// assert!(report.is_complete(), "{report:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "it says whether the broker has the messages"]
pub struct Batch {
    confirms: Vec<Confirm>,
}

/// What became of a [`Batch`], or of all publishes of a channel ([`Channel::wait_for_confirms`](crate::Channel::wait_for_confirms)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchReport {
    /// How many the broker has confirmed.
    pub confirmed: usize,
    /// Those that it refused.
    pub nacked: Vec<ConfirmTag>,
    /// Those that no queue got, each with the message as it came back.
    pub returned: Vec<(ConfirmTag, Box<Returned>)>,
    /// Those of which nothing was heard before the channel or the connection ended.
    pub lost: Vec<(ConfirmTag, Error)>,
    /// How many more failed that are not listed, because nobody had asked when they did: of a channel, the last 1024 failures and
    /// 1 MiB of returned messages are kept.
    pub unlisted: usize,
    /// How many the broker has said nothing of yet: the channel's timeout was over ([`Channel::with_timeout`](crate::Channel::with_timeout)).
    pub unsettled: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more publish.
    pub fn push(&mut self, confirm: Confirm) {
        self.confirms.push(confirm);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.confirms.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.confirms.is_empty()
    }

    /// Waits until all of them are settled.
    pub async fn wait(self) -> BatchReport {
        let mut report = BatchReport::default();
        for confirm in self.confirms {
            let tag = confirm.tag();
            match (confirm.await, tag) {
                (Err(PublishError::Returned(returned)), Some(tag)) => report.returned.push((tag, returned)),
                (Err(PublishError::Lost(error) | PublishError::NotSent(error)), Some(tag)) => {
                    report.lost.push((tag, error));
                }
                (Err(PublishError::Nacked), Some(tag)) => report.nacked.push(tag),
                // Without a number there was nothing to wait for.
                _ => report.confirmed += 1,
            }
        }
        report
    }
}

impl BatchReport {
    /// Whether the broker has confirmed all of them.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        let is_without_failures = self.nacked.is_empty() && self.returned.is_empty() && self.lost.is_empty();
        is_without_failures && self.unlisted == 0 && self.unsettled == 0
    }

    /// These failed.
    pub(crate) fn note(
        &mut self,
        tags: ConfirmTags,
        outcome: &ConfirmOutcome,
        returned: Option<Box<Returned>>,
    ) {
        match (outcome, returned) {
            (ConfirmOutcome::Returned, Some(message)) => {
                self.returned
                    .extend(tags.iter().map(|tag| (tag, message.clone())));
            }
            (ConfirmOutcome::Lost(reason), _) => {
                let error = Error::from(reason.clone());
                self.lost.extend(tags.iter().map(|tag| (tag, error.clone())));
            }
            _ => self.nacked.extend(tags.iter()),
        }
    }
}

impl Extend<Confirm> for Batch {
    fn extend<I: IntoIterator<Item = Confirm>>(&mut self, confirms: I) {
        self.confirms.extend(confirms);
    }
}

impl FromIterator<Confirm> for Batch {
    fn from_iter<I: IntoIterator<Item = Confirm>>(confirms: I) -> Self {
        Self {
            confirms: confirms.into_iter().collect(),
        }
    }
}
