//! The user namespace of this process.

use std::fs;

use crate::worker::{IdMap, OwnerMap};

/// The table of the namespace in which all users have the same numbers as outside, such as the initial one.
const EVERYBODY: [&str; 3] = ["0", "0", "4294967295"];

/// Returns whether all users have the same number in a user namespace with this `uid_map` as outside.
pub(crate) fn is_everybody(map: &str) -> bool {
    map.split_ascii_whitespace().eq(EVERYBODY)
}

/// Returns the owners that exist in the user namespace of this process; `None` in the initial one. Daemons
/// recognise their namespace in the same way (moby/sys userns v0.1.0 `userns_linux.go` `inUserNS`), also that
/// without `/proc` it counts as the initial one.
pub(crate) fn owners() -> Option<OwnerMap> {
    let users = fs::read_to_string("/proc/self/uid_map").ok()?;
    let groups = fs::read_to_string("/proc/self/gid_map").ok()?;
    of(&users, &groups)
}

fn of(users: &str, groups: &str) -> Option<OwnerMap> {
    if is_everybody(users) {
        return None;
    }
    Some(OwnerMap::new(IdMap::of_proc(users).ok()?, IdMap::of_proc(groups).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_namespace_numbers_everybody() {
        assert!(is_everybody("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 100000 65536\n", "0 0 1\n1 1 4294967294\n"] {
            assert!(!is_everybody(map), "{map:?}");
        }
    }

    #[test]
    fn the_owners_are_those_of_both_tables() {
        assert_eq!(of("0 0 4294967295\n", "0 0 4294967295\n"), None);
        let map = of("0 1000 1\n1 100000 65536\n", "0 985 1\n").unwrap();
        assert_eq!(map.to_string(), "0:1000:1,1:100000:65536, groups 0:985:1");
        // A namespace whose tables were not written yet has no root.
        assert_eq!(of("", ""), None);
    }
}
