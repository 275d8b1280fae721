//! The deliveries of a channel that were told and are not settled.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

/// How many words there may be besides the newest: enough for the largest prefetch limit, were each in a word of its own.
const MOST_OLDER: usize = 1 << 16;

/// A set of delivery tags: a bit for each, 64 to a word. The broker counts them up, so the newest word is mostly the one that is asked
/// for. Words without bits are not kept: it takes no more memory than there are unsettled deliveries.
///
/// What it has no room for is not in it: that is not waited for when the connection is left.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// Which word is the newest.
    newest: u64,
    bits: u64,
    older: BTreeMap<u64, u64>,
    /// How many tags are in the older words.
    older_count: usize,
}

impl Unsettled {
    /// A message was told that is to be settled. Says whether there is room for it.
    #[inline]
    pub(crate) fn insert(&mut self, tag: u64) -> bool {
        let (word, bit) = split(tag);
        if word != self.newest {
            return self.insert_elsewhere(word, bit);
        }
        self.bits |= bit;
        true
    }

    #[cold]
    fn insert_elsewhere(&mut self, word: u64, bit: u64) -> bool {
        let is_full = self.older.len() >= MOST_OLDER;
        if word > self.newest {
            if self.bits != 0 {
                if is_full {
                    return false;
                }
                self.older.insert(self.newest, self.bits);
                self.older_count += ones(self.bits);
            }
            (self.newest, self.bits) = (word, bit);
            return true;
        }
        let bits = match self.older.entry(word) {
            Entry::Vacant(_) if is_full => return false,
            entry => entry.or_default(),
        };
        self.older_count += usize::from(*bits & bit == 0);
        *bits |= bit;
        true
    }

    /// Whether it was told and not settled.
    pub(crate) fn contains(&self, tag: u64) -> bool {
        let (word, bit) = split(tag);
        let bits = match word == self.newest {
            true => self.bits,
            false => self.older.get(&word).copied().unwrap_or_default(),
        };
        bits & bit != 0
    }

    /// It was settled. Says whether it had not been.
    #[inline]
    pub(crate) fn remove(&mut self, tag: u64) -> bool {
        let (word, bit) = split(tag);
        if word != self.newest {
            return self.remove_older(word, bit);
        }
        let was_unsettled = self.bits & bit != 0;
        self.bits &= !bit;
        was_unsettled
    }

    /// Says whether one of them had not been settled.
    #[cold]
    fn remove_older(&mut self, word: u64, settled: u64) -> bool {
        let Some(bits) = self.older.get_mut(&word) else {
            return false;
        };
        let unsettled = ones(*bits & settled);
        self.older_count -= unsettled;
        *bits &= !settled;
        if *bits == 0 {
            self.older.remove(&word);
        }
        unsettled > 0
    }

    /// It was settled, and all before it.
    pub(crate) fn remove_up_to(&mut self, tag: u64) {
        let (word, bit) = split(tag);
        while let Some(entry) = self.older.first_entry()
            && *entry.key() < word
        {
            self.older_count -= ones(entry.remove());
        }
        let settled = bit | (bit - 1);
        if word < self.newest {
            self.remove_older(word, settled);
            return;
        }
        let settled = if word == self.newest { settled } else { u64::MAX };
        self.bits &= !settled;
    }

    /// The lowest one.
    pub(crate) fn first(&self) -> Option<u64> {
        let newest = (&self.newest, &self.bits);
        let (word, bits) = self.older.first_key_value().unwrap_or(newest);
        (*bits != 0).then(|| word * 64 + u64::from(bits.trailing_zeros()))
    }

    /// All went back.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            newest: self.newest,
            ..Self::default()
        };
    }

    pub(crate) const fn len(&self) -> usize {
        self.older_count + ones(self.bits)
    }
}

/// The word that a tag is in, and its bit.
#[inline]
const fn split(tag: u64) -> (u64, u64) {
    (tag / 64, 1 << (tag % 64))
}

const fn ones(bits: u64) -> usize {
    bits.count_ones() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn it_is_a_set_of_tags_whatever_is_settled_and_in_whatever_order() {
        let (mut tags, mut model) = (Unsettled::default(), BTreeSet::new());
        let mut random = 7u64;
        let mut next = 1;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (what, some) = (random >> 60, (random >> 32) % (next + 70));
            match what {
                // A peer may skip numbers, or say one twice.
                0 => next += some % 200,
                1 => {
                    assert!(tags.insert(some));
                    model.insert(some);
                }
                2..=8 => {
                    assert!(tags.insert(next));
                    model.insert(next);
                    next += 1;
                }
                9 if random & (1 << 50) == 0 => {
                    tags.remove_up_to(some);
                    model.retain(|tag| *tag > some);
                }
                10 if random & (7 << 50) == 0 => {
                    tags.clear();
                    model.clear();
                }
                _ => {
                    let tag = model.range(some..).next().copied().unwrap_or(some);
                    assert_eq!(tags.contains(tag), model.contains(&tag));
                    assert_eq!(tags.remove(tag), model.remove(&tag));
                }
            }
            assert_eq!(tags.len(), model.len());
            assert_eq!(tags.first(), model.first().copied());
            assert!(tags.older.len() <= model.len());
        }
        tags.remove_up_to(u64::MAX);
        assert_eq!((tags.len(), tags.older.len()), (0, 0));
        assert_eq!(tags.first(), None);
    }

    #[test]
    fn it_takes_what_it_has_room_for() {
        let mut tags = Unsettled::default();
        let most = MOST_OLDER as u64 + 1;
        for word in 1..=most {
            assert!(tags.insert(word * 64));
        }
        // Neither a newer word nor an older one, but all in the words that are there.
        assert!(!tags.insert((most + 1) * 64));
        assert!(!tags.insert(0));
        assert!(tags.insert(64 + 63) && tags.insert(most * 64 + 1));
        assert_eq!(tags.len() as u64, most + 2);
        assert!(!tags.remove((most + 1) * 64));
        assert!(tags.remove(128));
        assert!(tags.insert((most + 1) * 64));
        assert!(!tags.insert(0));
        assert_eq!(tags.first(), Some(64));
    }
}
