//! The window once more, as naive as can be, and both side by side: whatever is done to the two, they must agree.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{ConfirmLimits, ConfirmWindow, Settled};
use crate::wire::Problem;

/// An exchange and a routing key.
pub(crate) type Route = (&'static str, &'static str);

/// Few, so that equal ones are often in flight together; the first two differ only in where one name ends.
pub(crate) const ROUTES: [Route; 4] = [("a", "bc"), ("ab", "c"), ("", "queue"), ("", "")];

/// Everything ever published, never forgotten.
#[derive(Debug)]
struct Model {
    published: BTreeMap<u64, Published>,
    last_returned: u64,
    limits: ConfirmLimits,
}

#[derive(Debug)]
struct Published {
    size: usize,
    route: Option<Route>,
    is_returned: bool,
    is_outstanding: bool,
}

/// A window and its model.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) window: ConfirmWindow,
    model: Model,
}

impl Pair {
    pub(crate) fn new(limits: ConfirmLimits, key: u64) -> Self {
        Self {
            window: ConfirmWindow::new(limits, key),
            model: Model {
                published: BTreeMap::new(),
                last_returned: 0,
                limits,
            },
        }
    }

    pub(crate) fn set_limits(&mut self, limits: ConfirmLimits) {
        self.window.set_limits(limits);
        self.model.limits = limits;
    }

    pub(crate) fn publish(&mut self, size: usize, route: Option<Route>) -> u64 {
        let hash = route
            .map(|(exchange, routing_key)| self.window.route(exchange.as_bytes(), routing_key.as_bytes()));
        let tag = self.window.push(size, hash);
        assert_eq!(tag, self.model.published.len() as u64 + 1);
        let published = Published {
            size,
            route,
            is_returned: false,
            is_outstanding: true,
        };
        self.model.published.insert(tag, published);
        tag
    }

    /// What the window reports, checked.
    pub(crate) fn confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        nack: bool,
    ) -> Result<Vec<(u64, u64, Settled)>, Problem> {
        let mut ranges = Vec::new();
        let result = self.window.confirm(tag, multiple, nack, |first, last, settled| {
            ranges.push((first, last, settled));
        });
        let expected = self.model.confirm(tag, multiple, nack);
        assert_eq!(result.is_ok(), expected.is_some());
        assert_eq!(each_of(&ranges), expected.unwrap_or_default());
        result.map(|()| ranges)
    }

    pub(crate) fn returned(&mut self, (exchange, routing_key): Route, sequence: Option<u64>) -> Option<u64> {
        let found = (self.window).returned(exchange.as_bytes(), routing_key.as_bytes(), sequence);
        assert_eq!(found, self.model.returned((exchange, routing_key), sequence));
        found
    }

    pub(crate) fn lose(&mut self) -> Vec<(u64, u64, ())> {
        let mut ranges = Vec::new();
        self.window.lose(|first, last| ranges.push((first, last, ())));
        assert_eq!(each_of(&ranges), self.model.lose());
        ranges
    }

    /// What can be asked of a window at any time.
    pub(crate) fn check(&self) {
        let (mut count, mut octets, mut oldest) = (0, 0, None);
        for (tag, published) in &self.model.published {
            assert_eq!(self.window.is_outstanding(*tag), published.is_outstanding);
            if published.is_outstanding {
                count += 1;
                octets += published.size;
                oldest = oldest.or(Some(*tag));
            }
        }
        let last = self.model.published.len() as u64;
        for tag in [0, last + 1, u64::MAX] {
            assert!(!self.window.is_outstanding(tag));
        }
        assert_eq!(self.window.outstanding(), count);
        assert_eq!(self.window.octets(), octets);
        assert_eq!(self.window.oldest(), oldest);
        assert_eq!(self.window.last_tag(), last);
        let limits = self.model.limits;
        for size in [0, 1, 100, 10_000] {
            let is_within = count < limits.count && octets + size <= limits.octets;
            assert_eq!(self.window.admits(size), count == 0 || is_within);
        }
        assert!(count > 0 || self.window.slots.capacity() <= super::KEPT_SLOTS);
    }
}

impl Model {
    /// `None` for what was never published.
    fn confirm(&mut self, tag: u64, multiple: bool, nack: bool) -> Option<Vec<(u64, Settled)>> {
        let is_all = tag == 0 && multiple;
        if !is_all && !self.published.contains_key(&tag) {
            return None;
        }
        let mut settled = Vec::new();
        for (number, published) in &mut self.published {
            let is_meant = is_all || *number == tag || (multiple && *number < tag);
            if is_meant && published.is_outstanding {
                published.is_outstanding = false;
                settled.push(match (nack, published.is_returned) {
                    (true, _) => (*number, Settled::Nacked),
                    (false, true) => (*number, Settled::Returned),
                    (false, false) => (*number, Settled::Acked),
                });
            }
        }
        Some(settled)
    }

    fn returned(&mut self, route: Route, sequence: Option<u64>) -> Option<u64> {
        let last_returned = self.last_returned;
        let (tag, published) = self.published.iter_mut().find(|(tag, published)| {
            let is_meant = match sequence {
                Some(sequence) => **tag == sequence && published.route.is_some(),
                None => **tag > last_returned && published.route == Some(route),
            };
            is_meant && published.is_outstanding && !published.is_returned
        })?;
        published.is_returned = true;
        self.last_returned = last_returned.max(*tag);
        Some(*tag)
    }

    fn lose(&mut self) -> Vec<(u64, ())> {
        let mut lost = Vec::new();
        for (tag, published) in &mut self.published {
            if published.is_outstanding {
                published.is_outstanding = false;
                lost.push((*tag, ()));
            }
        }
        lost
    }
}

/// The tags of ranges, which must be as few as possible and in order.
pub(crate) fn each_of<T: Copy + PartialEq>(ranges: &[(u64, u64, T)]) -> Vec<(u64, T)> {
    for pair in ranges.windows(2) {
        let [(_, last, before), (first, _, after)] = *pair else {
            continue;
        };
        assert!(last < first && (last + 1 < first || before != after));
    }
    let mut each = Vec::new();
    for (first, last, outcome) in ranges {
        assert!(first <= last);
        each.extend((*first..=*last).map(|tag| (tag, *outcome)));
    }
    each
}

pub(crate) fn tags_of<T>(ranges: &[(u64, u64, T)]) -> impl Iterator<Item = u64> {
    ranges.iter().flat_map(|(first, last, _)| *first..=*last)
}
