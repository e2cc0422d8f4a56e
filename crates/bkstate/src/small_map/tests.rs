use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Entries, MOST, SmallMap, SmallSet};

proptest! {
    /// Twice as many keys as the list can have, so that cases end in both forms.
    #[test]
    fn a_map_is_what_a_tree_is(entries in vec((0..2 * MOST, any::<u8>()), 0..4 * MOST)) {
        let (mut map, mut tree) = (SmallMap::default(), BTreeMap::new());
        for (key, value) in entries {
            prop_assert_eq!(map.insert(key, value), tree.insert(key, value));
            prop_assert_eq!(map.len(), tree.len());
            prop_assert!(map.iter().eq(&tree));
            prop_assert_eq!(matches!(map.0, Entries::Many(_)), tree.len() > MOST);
        }
        for key in 0..2 * MOST {
            prop_assert_eq!(map.get(&key), tree.get(&key));
            prop_assert!(map.range_from(&key).eq(tree.range(key..)));
        }
        prop_assert_eq!(map.iter().size_hint().1.unwrap_or(tree.len()), tree.len());
        prop_assert_eq!(format!("{map:?}"), format!("{tree:?}"));
    }

    #[test]
    fn a_set_is_what_a_tree_is(items in vec(0..2 * MOST, 0..4 * MOST), most in 0..2 * MOST) {
        let (mut set, mut tree) = (SmallSet::default(), BTreeSet::new());
        for item in items {
            prop_assert_eq!(set.insert(item), tree.insert(item));
        }
        set.retain(|item| *item < most);
        tree.retain(|item| *item < most);
        prop_assert!(set.iter().eq(&tree));
        prop_assert_eq!(format!("{set:?}"), format!("{tree:?}"));
        prop_assert_eq!(set.first(), tree.first());
        // Equality does not depend on whether it once was a tree.
        prop_assert_eq!(set, tree.into_iter().collect());
    }
}

#[test]
fn a_map_takes_room_for_its_entries_alone() {
    let mut map = SmallMap::default();
    let mut rooms = Vec::new();
    for key in 0..MOST {
        map.insert(key, ());
        if let Entries::Few(list) = &map.0 {
            rooms.push(list.capacity());
        }
    }
    assert_eq!(rooms[..5], [1, 2, 4, 4, 8]);
    assert_eq!(rooms.len(), MOST);
    assert_eq!(size_of::<SmallSet<String>>(), size_of::<Vec<String>>());
}

#[test]
fn other_entries_make_another_map() {
    let map = SmallMap::from_iter([(1, 'a'), (2, 'b')]);
    assert_ne!(map, SmallMap::from_iter([(1, 'a')]));
    assert_ne!(map, SmallMap::from_iter([(1, 'a'), (2, 'c')]));
    assert_ne!(map, SmallMap::from_iter([(1, 'a'), (3, 'b')]));
    assert_eq!(map, SmallMap::from_iter([(2, 'b'), (1, 'a')]));
}
