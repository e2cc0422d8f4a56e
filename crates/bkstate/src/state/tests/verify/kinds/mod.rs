//! One test for the list of all kinds of damage: each breaks a sound state in one way.

mod access;
mod content;
pub(in crate::state::tests) mod databases;
mod directories;
mod leases;
mod packed;
mod records;
mod snapshots;
mod solver;

use super::*;

/// How a sound state is broken.
enum Break {
    /// In the state that is written.
    State(fn(&mut State)),
    /// In a written database.
    Entries(&'static str, fn(&mut Tree)),
    /// In the files.
    Files(fn(&Root)),
}
use Break::{Entries, Files, State as Model};

const METADATA: &str = "runc-overlayfs/containerdmeta.db";

/// What is done, what must be found, and how often.
type Case = (&'static str, &'static [&'static str], Break);

const CASES: &[&[Case]] = &[
    solver::CASES,
    records::CASES,
    leases::CASES,
    content::CASES,
    snapshots::CASES,
    directories::CASES,
    packed::CASES,
    databases::CASES,
    access::CASES,
];

#[test]
fn each_kind_of_damage_is_found_and_no_other() {
    let cases = CASES.iter().copied().flatten();
    let as_root = rustix::process::geteuid().is_root();
    let of_owners = access::OF_OWNERS.iter().filter(|_| as_root);
    let mut wrong = Vec::new();
    for (what, expected, how) in cases.chain(of_owners) {
        let mut state = sound();
        if let Model(change) = how {
            change(&mut state);
        }
        let root = Root::with(&state);
        match how {
            Model(_) => {}
            Entries(database, change) => edit(&root.path().join(database), change),
            Files(change) => change(&root),
        }
        let damage = damage_of(&root);
        let mut expected = expected.to_vec();
        let mut found = kinds_of(&damage);
        expected.sort_unstable();
        found.sort_unstable();
        if found != expected {
            wrong.push(format!("{what}: {expected:?}, not {damage:#?}"));
        }
        for damage in damage {
            assert!(!damage.to_string().is_empty() && damage.consequence().len() > 20);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_has_enough_kinds() {
    let kinds: BTreeSet<_> =
        CASES.iter().copied().flatten().flat_map(|(_, kinds, _)| *kinds).collect();
    assert!(kinds.len() >= 40, "{}: {kinds:#?}", kinds.len());
}
