//! Ordered maps and sets that usually have one or two entries.
//!
//! Nearly all keys in `cache.db` have one link, one result and one key that links to them. A node of a
//! [`BTreeMap`] has room for eleven entries, so a map with one link would take a kilobyte. These maps take
//! only the memory of their entries. Beyond a few entries they become a [`BTreeMap`], so filling a key with a
//! million links takes no longer.
//!
//! ```
//! use bkstate::small_map::{SmallMap, SmallSet, Items, Iter};
//!
//! let mut set: SmallSet<&str> = ["b", "a"].into_iter().collect();
//! assert!(set.insert("c") && !set.insert("a"));
//! assert!(set.contains(&"c"));
//! assert_eq!(set.iter().collect::<Vec<_>>(), [&"a", &"b", &"c"]);
//! let items: Items<'_, &str> = set.range_from(&"b");
//! assert_eq!(items.collect::<Vec<_>>(), [&"b", &"c"]);
//! set.retain(|item| *item == "b");
//! assert_eq!((set.len(), set.is_empty(), set.first()), (1, false, Some(&"b")));
//! assert_eq!(set, SmallSet::from_iter(["b"]));
//!
//! let mut map = SmallMap::from_iter([("a", 1)]);
//! assert_eq!((map.insert("a", 2), map.insert("b", 3)), (Some(1), None));
//! assert_eq!((map.get(&"a"), map.contains_key(&"c")), (Some(&2), false));
//! assert_eq!(map.keys().collect::<Vec<_>>(), [&"a", &"b"]);
//! let mut entries: Iter<'_, &str, i32> = map.iter();
//! assert_eq!(entries.next(), Some((&"a", &2)));
//! assert_eq!((map.len(), map.is_empty()), (2, false));
//! ```

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::slice;

/// Maximum length of the sorted list, in which an insertion moves at most this many entries.
const MOST: usize = 16;

/// An ordered map for few entries.
#[derive(Clone)]
pub struct SmallMap<K, V>(Entries<K, V>);

#[derive(Clone)]
enum Entries<K, V> {
    /// Sorted by key, without duplicates.
    Few(Vec<(K, V)>),
    /// More than [`MOST`] entries, now or before.
    #[expect(clippy::box_collection, reason = "without the box every list takes 8 bytes more")]
    Many(Box<BTreeMap<K, V>>),
}

impl<K: Ord, V> SmallMap<K, V> {
    /// Sets the value of `key`. Returns the previous value.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let list = match &mut self.0 {
            Entries::Few(list) => list,
            Entries::Many(map) => return map.insert(key, value),
        };
        match search(list, &key) {
            Ok(at) => list.get_mut(at).map(|entry| std::mem::replace(&mut entry.1, value)),
            Err(_) if list.len() == MOST => {
                let mut map: BTreeMap<K, V> = std::mem::take(list).into_iter().collect();
                map.insert(key, value);
                self.0 = Entries::Many(Box::new(map));
                None
            }
            Err(at) => {
                if list.len() == list.capacity() {
                    // A list that grows by itself starts with room for four.
                    list.reserve_exact(list.len().max(1));
                }
                list.insert(at, (key, value));
                None
            }
        }
    }

    /// Returns the value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        match &self.0 {
            Entries::Few(list) => {
                let at = search(list, key).ok()?;
                list.get(at).map(|(_, value)| value)
            }
            Entries::Many(map) => map.get(key),
        }
    }

    /// Returns whether `key` has a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Returns the keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// Returns the entries, in key order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(match &self.0 {
            Entries::Few(list) => Part::Few(list.iter()),
            Entries::Many(map) => Part::Many(map.range(..)),
        })
    }

    /// Returns the entries from `first` on, in key order.
    fn range_from(&self, first: &K) -> Iter<'_, K, V> {
        Iter(match &self.0 {
            Entries::Few(list) => {
                let (Ok(at) | Err(at)) = search(list, first);
                Part::Few(list.get(at..).unwrap_or_default().iter())
            }
            Entries::Many(map) => Part::Many(map.range(first..)),
        })
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Few(list) => list.len(),
            Entries::Many(map) => map.len(),
        }
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn search<K: Ord, V>(list: &[(K, V)], key: &K) -> Result<usize, usize> {
    list.binary_search_by(|(known, _)| known.cmp(key))
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self(Entries::Few(Vec::new()))
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SmallMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other)
    }
}

impl<K: Ord, V: Eq> Eq for SmallMap<K, V> {}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for SmallMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SmallMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<'m, K: Ord, V> IntoIterator for &'m SmallMap<K, V> {
    type Item = (&'m K, &'m V);
    type IntoIter = Iter<'m, K, V>;

    fn into_iter(self) -> Iter<'m, K, V> {
        self.iter()
    }
}

/// Iterator over the entries of a [`SmallMap`], in key order.
pub struct Iter<'m, K, V>(Part<'m, K, V>);

enum Part<'m, K, V> {
    Few(slice::Iter<'m, (K, V)>),
    Many(btree_map::Range<'m, K, V>),
}

impl<'m, K, V> Iterator for Iter<'m, K, V> {
    type Item = (&'m K, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Part::Few(list) => list.next().map(|(key, value)| (key, value)),
            Part::Many(map) => map.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Part::Few(list) => list.size_hint(),
            Part::Many(map) => map.size_hint(),
        }
    }
}

/// An ordered set for few items.
#[derive(Clone, PartialEq, Eq)]
pub struct SmallSet<T: Ord>(SmallMap<T, ()>);

impl<T: Ord> SmallSet<T> {
    /// Adds `item`. Returns whether it is new.
    pub fn insert(&mut self, item: T) -> bool {
        self.0.insert(item, ()).is_none()
    }

    /// Returns whether the set contains `item`.
    pub fn contains(&self, item: &T) -> bool {
        self.0.contains_key(item)
    }

    /// Returns the items, in order.
    pub fn iter(&self) -> Items<'_, T> {
        Items(self.0.iter())
    }

    /// Returns the items from `first` on, in order.
    pub fn range_from(&self, first: &T) -> Items<'_, T> {
        Items(self.0.range_from(first))
    }

    /// Returns the smallest item.
    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the items for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        match &mut self.0.0 {
            Entries::Few(list) => list.retain(|(item, ())| keep(item)),
            Entries::Many(map) => map.retain(|item, ()| keep(item)),
        }
    }
}

impl<T: Ord> Default for SmallSet<T> {
    fn default() -> Self {
        Self(SmallMap::default())
    }
}

impl<T: Ord + fmt::Debug> fmt::Debug for SmallSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

impl<T: Ord> FromIterator<T> for SmallSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().map(|item| (item, ())).collect())
    }
}

impl<'s, T: Ord> IntoIterator for &'s SmallSet<T> {
    type Item = &'s T;
    type IntoIter = Items<'s, T>;

    fn into_iter(self) -> Items<'s, T> {
        self.iter()
    }
}

/// Iterator over the items of a [`SmallSet`], in order.
pub struct Items<'s, T>(Iter<'s, T, ()>);

impl<'s, T> Iterator for Items<'s, T> {
    type Item = &'s T;

    fn next(&mut self) -> Option<&'s T> {
        self.0.next().map(|(item, ())| item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests;
