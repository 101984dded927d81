//! A bounded map that drops its oldest entries.

use std::collections::HashMap;
use std::hash::Hash;

/// A map of two generations. When the young one is full, it becomes the old one, whose entries are
/// dropped. An entry stays for at least as many insertions as one generation holds, and dropping
/// costs nothing.
#[derive(Debug)]
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// The most entries of each.
    entries_max: usize,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    /// Creates an empty map of at most `2 * entries_max` entries.
    pub(super) fn new(entries_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), entries_max }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.entries_max {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_the_oldest_go() {
        let mut map = Generations::new(3);
        for number in 0..100 {
            map.insert(number, number);
            for recent in (number - 2).max(0)..=number {
                assert_eq!(map.get(&recent), Some(&recent));
            }
            assert_eq!(map.get(&(number - 6)), None);
        }
    }

    #[test]
    fn an_entry_is_there_once() {
        let mut map = Generations::new(1);
        map.insert(1, "old");
        map.insert(2, "other");
        map.insert(1, "new");
        assert_eq!(map.get(&1), Some(&"new"));
        map.remove(&1);
        assert_eq!(map.get(&1), None);
    }
}
