//! Any damage: reading ends without a panic.

use proptest::prelude::*;

use super::*;

/// Reads everything that can be read. The test is that it returns.
fn exercise(bytes: &[u8]) {
    let Ok(db) = Db::open(file_of(bytes)) else { return };
    let _tree = Tree::read(&db.root());
    let _problems: Vec<_> = check(&db).iter().map(ToString::to_string).collect();
    for key in [b"".as_slice(), b"empty", b"large", b"long", b"many", b"nested"] {
        let _value = db.root().get(key);
        if let Ok(Some(bucket)) = db.root().bucket(key) {
            let _value = bucket.get(b"bucket 00150");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn damage_anywhere_is_survived(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..20),
        cut in prop::option::of(any::<prop::sample::Index>()),
        in_headers in any::<bool>(),
    ) {
        let mut bytes = contents(&write_tree(&rich()));
        for (at, flip) in flips {
            // Page headers and element tables determine where a walk goes next, so half of the cases damage
            // only those, and leave the meta pages alone.
            let at = if in_headers {
                at.index(bytes.len() / 4096 - 2) * 4096 + 2 * 4096 + at.index(64)
            } else {
                at.index(bytes.len())
            };
            bytes[at] ^= flip;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(&bytes);
    }
}

#[test]
fn each_byte_of_a_small_database_may_be_damaged() {
    let inner = |n: u8| Node::Bucket(tree([(vec![n], value(n, 3))]));
    let entries = (0..4).map(|n| (vec![b'a' + n], if n % 2 == 0 { inner(n) } else { value(n, 3) }));
    let mut nested = tree(entries);
    nested.entries.insert(b"e".to_vec(), Node::Bucket(nested.clone()));
    let bytes = contents(&write_tree(&nested));
    // Zero padding has no effect; bytes that are not zero are flipped in three ways, also with valid meta
    // pages.
    let used: Vec<usize> =
        (0..bytes.len()).filter(|at| at % 4096 < 512 || bytes[*at] != 0).collect();
    for at in used {
        for flip in [0x01, 0x80, 0xFF] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let in_meta = at < 2 * 4096 && (PAGE_HEADER..PAGE_HEADER + 56).contains(&(at % 4096));
            exercise(&damaged);
            if in_meta {
                reseal(&mut damaged, at / 4096);
                exercise(&damaged);
            }
        }
    }
}

/// Gives a changed meta page a valid checksum.
fn reseal(bytes: &mut [u8], page: usize) {
    let at = page * 4096 + PAGE_HEADER;
    let checksum = format::fnv1a(&bytes[at..at + 56]);
    bytes[at + 56..at + 64].copy_from_slice(&checksum.to_le_bytes());
}
