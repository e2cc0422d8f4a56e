//! Damage to the bytes of databases.

use std::os::unix::fs::FileExt as _;

use super::*;

const DATABASES: [&str; 4] = [
    "cache.db",
    "runc-overlayfs/metadata_v2.db",
    "runc-overlayfs/containerdmeta.db",
    "runc-overlayfs/snapshots/metadata.db",
];

#[test]
fn a_page_that_is_overwritten_is_damage_of_its_database() {
    for name in DATABASES {
        let pages = {
            let root = Root::with(&sound());
            fs::metadata(root.path().join(name)).unwrap().len() / 4096
        };
        for page in 2..pages {
            let root = Root::with(&sound());
            let file = File::options().write(true).open(root.path().join(name)).unwrap();
            file.write_all_at(&[0xff; 4096], page * 4096).unwrap();
            let damage = damage_of(&root);
            assert!(!damage.is_empty(), "{name}, page {page}");
            for damage in &damage {
                assert_eq!(damage.kind(), "damaged-page", "{name}, page {page}");
                assert!(damage.to_string().contains(name), "{damage}");
            }
        }
    }
}

#[test]
fn one_torn_meta_page_is_no_damage_but_two_are_no_database() {
    for name in DATABASES {
        let root = Root::with(&sound());
        let file = File::options().write(true).open(root.path().join(name)).unwrap();
        file.write_all_at(&[0xff; 16], 24).unwrap();
        assert!(verify_databases(&root.held).unwrap().damage.is_empty(), "{name}");
        file.write_all_at(&[0xff; 16], 4096 + 24).unwrap();
        assert_eq!(kinds_of(&damage_of(&root)), ["no-database"], "{name}");
    }
}

#[test]
fn any_byte_may_be_wrong_without_a_panic() {
    for name in DATABASES {
        let root = Root::with(&sound());
        let path = root.path().join(name);
        let whole = fs::read(&path).unwrap();
        let in_use: Vec<_> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        for at in in_use.into_iter().step_by(17) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            fs::write(&path, bytes).unwrap();
            let _ = verify_databases(&root.held).unwrap();
        }
    }
}
