//! A map that remembers the order in which its keys came.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeFrom;

/// Looked up by key, listed in the order of insertion.
#[derive(Debug, Clone)]
pub(super) struct Ordered<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    next_place: u64,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    place: u64,
    value: V,
}

impl<K: Ord, V> Ordered<K, V> {
    /// Sets a key's value. A key that is there keeps its place, a new one goes to the end.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.value = value;
            return;
        }
        let place = self.next_place;
        self.next_place = place.saturating_add(1);
        self.entries.insert(key, Entry { place, value });
    }

    /// Gives an entry another key, in its old place. An entry of the new key is replaced.
    pub(super) fn rekey(&mut self, old: &K, new: K) {
        if let Some(entry) = self.entries.remove(old) {
            self.entries.insert(new, entry);
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|entry| entry.value)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.entries.retain(|key, entry| keep(key, &entry.value));
    }

    /// The keys in the order of keys, from this one on.
    pub(super) fn keys_from(&self, first: RangeFrom<K>) -> impl Iterator<Item = &K> {
        self.entries.range(first).map(|(key, _)| key)
    }

    /// The keys in the order of keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    /// The values in the order of keys.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// The values in the order of keys, to change.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|entry| &mut entry.value)
    }

    /// Keys and values in the order of insertion.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(_, entry)| entry.place);
        entries.into_iter().map(|(key, entry)| (key, &entry.value))
    }
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            next_place: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_first_insertions() {
        let mut map = Ordered::default();
        for (key, value) in [("b", 1), ("a", 2), ("c", 3), ("b", 4)] {
            map.insert(key, value);
        }
        let listed =
            |map: &Ordered<&'static str, i32>| map.in_order().map(|(k, v)| (*k, *v)).collect::<Vec<_>>();
        assert_eq!(listed(&map), [("b", 4), ("a", 2), ("c", 3)]);
        map.rekey(&"a", "z");
        map.rekey(&"nothing", "y");
        assert_eq!(listed(&map), [("b", 4), ("z", 2), ("c", 3)]);
        assert_eq!(map.remove(&"b"), Some(4));
        map.insert("b", 5);
        assert_eq!(listed(&map), [("z", 2), ("c", 3), ("b", 5)]);
        map.rekey(&"c", "b");
        assert_eq!(listed(&map), [("z", 2), ("b", 3)]);
    }
}
