//! Who waits for which confirm of a channel.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use amqp_proto::{ConfirmOutcome, ConfirmTags, Returned};

use crate::wakers;

/// The publishes of a channel from the first one that somebody still cares for. The broker's numbers count from 1.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    /// The number of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// How many slots wait.
    awaited: usize,
}

/// What is known of a publish, for whoever published it.
#[derive(Debug)]
enum Slot {
    /// Nobody cares.
    Free,
    Waiting {
        waker: Option<Waker>,
        returned: Option<Box<Returned>>,
    },
    Done {
        outcome: ConfirmOutcome,
        returned: Option<Box<Returned>>,
    },
}

/// What became of a publish, with the message if it came back.
pub(crate) type Settled = (ConfirmOutcome, Option<Box<Returned>>);

impl Confirms {
    /// A message was published under that number; whether anybody wants to know what becomes of it.
    #[inline]
    pub(crate) fn push(&mut self, number: u64, is_awaited: bool) {
        if self.slots.is_empty() {
            self.first = number;
        }
        if is_awaited {
            self.awaited += 1;
            self.slots.push_back(Slot::Waiting {
                waker: None,
                returned: None,
            });
        } else if !self.slots.is_empty() {
            self.slots.push_back(Slot::Free);
        }
    }

    /// How many publishes are kept, those included that nobody cares for any more.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) const fn is_awaited(&self) -> bool {
        self.awaited > 0
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let index = number.checked_sub(self.first)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }

    /// It came back; that it is confirmed follows. Gives the message back if nobody waits for it.
    pub(crate) fn returned(&mut self, number: u64, message: Returned) -> Option<Returned> {
        match self.slot(number) {
            Some(Slot::Waiting { returned, .. }) => {
                *returned = Some(Box::new(message));
                None
            }
            _ => Some(message),
        }
    }

    /// The broker told of these.
    pub(crate) fn confirmed(&mut self, tags: ConfirmTags, outcome: &ConfirmOutcome, wakes: &mut Vec<Waker>) {
        for tag in tags.iter() {
            let Some(slot) = self.slot(tag.value()) else {
                continue;
            };
            let Slot::Waiting { waker, returned } = slot else {
                continue;
            };
            wakes.extend(waker.take());
            let returned = returned.take();
            *slot = Slot::Done {
                outcome: outcome.clone(),
                returned,
            };
            self.awaited -= 1;
        }
    }

    /// What became of that publish; told once. A waker that is of no use any more goes to `retired`, to be dropped where no lock is held.
    pub(crate) fn poll(
        &mut self,
        number: u64,
        cx: &Context<'_>,
        retired: &mut Vec<Waker>,
    ) -> Poll<Option<Settled>> {
        let Some(slot) = self.slot(number) else {
            return Poll::Ready(None);
        };
        if let Slot::Waiting { waker, .. } = slot {
            retired.extend(wakers::replace(waker, cx));
            return Poll::Pending;
        }
        let settled = match std::mem::replace(slot, Slot::Free) {
            Slot::Done { outcome, returned } => Some((outcome, returned)),
            _ => None,
        };
        self.drop_free();
        Poll::Ready(settled)
    }

    /// Nobody cares any more. Gives the waker of who did, to be dropped where no lock is held.
    #[must_use = "it is to be dropped where no lock is held"]
    pub(crate) fn abandon(&mut self, number: u64) -> Option<Waker> {
        let mut retired = None;
        if let Slot::Waiting { waker, .. } = std::mem::replace(self.slot(number)?, Slot::Free) {
            self.awaited -= 1;
            retired = waker;
        }
        self.drop_free();
        retired
    }

    fn drop_free(&mut self) {
        while let Some(Slot::Free) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }
}
