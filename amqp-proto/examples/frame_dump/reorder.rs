//! One direction of a TCP connection: segments in any order become octets in the right one.

use std::collections::BTreeMap;

use amqp_proto::RecvBuf;

/// How much is held because something before it is missing: octets, and an estimate of what keeping a segment costs.
const HELD_LIMIT: usize = 4 * 1024 * 1024;
const SEGMENT_COST: usize = 64;

/// The most that one segment can bring into order at once.
pub(crate) const LARGEST_STEP: usize = HELD_LIMIT + 64 * 1024;

/// Puts segments into order. Positions are octets from the direction's first one.
#[derive(Debug, Default)]
pub(crate) struct Reorder {
    /// The sequence number of octet 0.
    start: Option<u32>,
    /// The octet that comes next.
    next: u64,
    /// Where the direction ends.
    end: Option<u64>,
    /// Octets that came too early, by position.
    held: BTreeMap<u64, Vec<u8>>,
    cost: usize,
}

/// More came after a missing piece than is held.
#[derive(Debug)]
pub(crate) struct Overflow;

impl Reorder {
    /// Says which sequence number octet 0 has, unless that is known.
    pub(crate) fn begin(&mut self, sequence: u32) {
        self.start.get_or_insert(sequence);
    }

    /// Which sequence number octet 0 has.
    pub(crate) const fn start(&self) -> Option<u32> {
        self.start
    }

    /// Appends to `output` what is in order now. Nothing happens before [`begin`](Self::begin).
    pub(crate) fn accept(
        &mut self,
        sequence: u32,
        payload: &[u8],
        fin: bool,
        output: &mut RecvBuf,
    ) -> Result<(), Overflow> {
        let Some(position) = self.position(sequence) else {
            return Ok(());
        };
        let end = position + payload.len() as i64;
        let Ok(end) = u64::try_from(end) else {
            return Ok(());
        };
        if fin {
            self.end.get_or_insert(end);
        }
        if end <= self.next {
            return Ok(());
        }
        match u64::try_from(position) {
            Ok(position) if position > self.next => return self.hold(position, payload),
            _ => self.deliver(&payload[payload.len() - tail(end, self.next)..], output),
        }
        while let Some(entry) = self.held.first_entry()
            && *entry.key() <= self.next
        {
            let (position, octets) = entry.remove_entry();
            self.cost -= octets.len() + SEGMENT_COST;
            let end = position + octets.len() as u64;
            if end > self.next {
                self.deliver(&octets[octets.len() - tail(end, self.next)..], output);
            }
        }
        Ok(())
    }

    /// Whether everything up to the end has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// The octets that are missing before something that is there, or before the end.
    pub(crate) fn gap(&self) -> Option<(u64, u64)> {
        let behind = self.held.first_key_value().map(|(position, _)| *position);
        let behind = behind.or_else(|| self.end.filter(|end| *end > self.next))?;
        Some((self.next, behind))
    }

    /// Where `sequence` is: numbers wrap around, and no two that are in flight are 2^31 apart.
    fn position(&self, sequence: u32) -> Option<i64> {
        let [.., a, b, c, d] = self.next.to_be_bytes();
        let expected = self.start?.wrapping_add(u32::from_be_bytes([a, b, c, d]));
        let distance = sequence.wrapping_sub(expected).cast_signed();
        Some(self.next.cast_signed() + i64::from(distance))
    }

    fn deliver(&mut self, octets: &[u8], output: &mut RecvBuf) {
        self.next += output.extend(octets) as u64;
    }

    fn hold(&mut self, position: u64, payload: &[u8]) -> Result<(), Overflow> {
        match self.held.get_mut(&position) {
            Some(octets) if octets.len() >= payload.len() => {}
            Some(octets) => {
                self.cost += payload.len() - octets.len();
                *octets = payload.to_vec();
            }
            None => {
                self.cost += payload.len() + SEGMENT_COST;
                self.held.insert(position, payload.to_vec());
            }
        }
        if self.cost > HELD_LIMIT {
            Err(Overflow)
        } else {
            Ok(())
        }
    }
}

/// How many octets of something that ends at `end` are not before `next`.
fn tail(end: u64, next: u64) -> usize {
    usize::try_from(end - next).unwrap_or(usize::MAX)
}
