//! Damage to the leases in `containerdmeta.db`.

use super::*;
use crate::metadata::{LABEL_GC_EXPIRE, LABEL_TEMPORARY};

pub(super) const CASES: &[Case] = &[
    (
        "a lease without the snapshot",
        &["unleased"],
        Model(|state| {
            namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap().snapshots.clear();
        }),
    ),
    (
        "a lease without the snapshot to come",
        &["unleased"],
        Model(|state| {
            namespace_mut(state).leases.get_mut(id("packed").as_str()).unwrap().snapshots.clear();
        }),
    ),
    (
        "a lease without the blob",
        &["unleased"],
        Model(|state| {
            namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap().content.clear();
        }),
    ),
    (
        "no lease",
        &["unleased"; 2],
        Model(|state| {
            namespace_mut(state).leases.remove(id("top").as_str());
        }),
    ),
    (
        "a temporary lease",
        &["temporary-lease"],
        Model(|state| {
            let lease = namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap();
            lease.labels.insert(LABEL_TEMPORARY.to_owned(), String::new());
        }),
    ),
    (
        "a lease that expires",
        &["expiring-lease"],
        Model(|state| {
            let lease = namespace_mut(state).leases.get_mut(id("top").as_str()).unwrap();
            lease.labels.insert(LABEL_GC_EXPIRE.to_owned(), NOW.to_string());
        }),
    ),
    (
        "a lease of no record",
        &["stray-lease"],
        Model(|state| {
            let lease = namespace(state).leases[id("top").as_str()].clone();
            namespace_mut(state).leases.insert(id("gone").to_string(), lease);
        }),
    ),
];
