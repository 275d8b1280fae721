//! Many publishes that are waited for together.

use amqp_proto::{ConfirmTag, Returned};

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

/// What became of a [`Batch`].
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
        self.nacked.is_empty() && self.returned.is_empty() && self.lost.is_empty()
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
