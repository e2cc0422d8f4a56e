//! What is written is read back, from the same pages that bbolt would make.

use proptest::prelude::*;

use super::format::BRANCH;
use super::*;

#[test]
fn everything_that_is_written_is_read_again() {
    let rich = rich();
    let db = Db::open(write_tree(&rich)).unwrap();
    assert_eq!((db.page_size(), db.txid()), (4096, 1));
    assert!(Tree::read(&db.root()).unwrap() == rich);
    assert!(check(&db).is_empty());
}

#[test]
fn lookups_find_each_key_and_nothing_else() {
    let db = Db::open(write_tree(&rich())).unwrap();
    let root = db.root();
    assert_eq!(root.sequence(), u64::MAX);
    assert_eq!(root.get(b"value").unwrap(), Some(vec![]));
    assert!(root.bucket(b"value").unwrap().is_none());
    assert_eq!(root.get(b"many").unwrap(), None);
    let many = root.bucket(b"many").unwrap().unwrap();
    for n in 0..300 {
        let bucket = many.bucket(format!("bucket {n:05}").as_bytes()).unwrap().unwrap();
        assert_eq!(bucket.sequence(), n);
        assert_eq!(bucket.entries().count() as u64, n % 60);
        assert!(many.bucket(format!("bucket {n:05}x").as_bytes()).unwrap().is_none());
    }
    for absent in [b"".as_slice(), b"a", b"bucket", b"z"] {
        assert!(many.get(absent).unwrap().is_none() && many.bucket(absent).unwrap().is_none());
    }
    let large = root.bucket(b"large").unwrap().unwrap();
    assert_eq!(large.get(b"v029").unwrap(), Some(vec![7; 29 * 997]));
}

#[test]
fn an_empty_database_has_four_pages_as_bbolts() {
    let db = Db::open(write_tree(&Tree::default())).unwrap();
    assert_eq!(db.page_count(), 4);
    assert_eq!(db.root().entries().count(), 0);
    assert_eq!(db.root().get(b"a").unwrap(), None);
    assert!(check(&db).is_empty());
}

#[test]
fn small_buckets_are_inline_exactly_up_to_a_quarter_of_a_page() {
    // Page header 16, element 16, key 1: 991 bytes of value make 1,024.
    for (length, pages) in [(991, 4), (992, 5)] {
        let inner = Node::Bucket(tree([(b"k".to_vec(), value(0, length))]));
        let db = Db::open(write_tree(&tree([(b"b".to_vec(), inner)]))).unwrap();
        assert_eq!(db.page_count(), pages, "{length}");
    }
}

#[test]
fn pages_are_packed_full() {
    // 16 + 51 * (16 + 4 + 60) = 4,096.
    let entries = (0..51_u32).map(|n| (n.to_be_bytes().to_vec(), value(0, 60)));
    assert_eq!(Db::open(write_tree(&tree(entries))).unwrap().page_count(), 4);
}

#[test]
fn branch_pages_have_two_children_or_more() {
    for count in 1..40_u32 {
        let entries =
            (0..count).map(|n| ([n.to_be_bytes().as_slice(), &[0; 3000]].concat(), value(0, 0)));
        let bytes = contents(&write_tree(&tree(entries)));
        for page in bytes.chunks(4096) {
            let header = PageHeader::decode(page).unwrap();
            assert!(header.flags != BRANCH || header.count >= 2, "{count}: {header:?}");
        }
    }
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    assert!(contents(&write_tree(&rich())) == contents(&write_tree(&rich())));
}

#[test]
fn a_million_entries_are_written_without_holding_them() {
    let file = tempfile::tempfile().unwrap();
    write(&file, |root| {
        root.bucket(b"all", |all| {
            (0..1_200_000_u32).try_for_each(|n| all.put(&n.to_be_bytes(), b"value"))?;
            assert!(all.held_bytes() < 1 << 20, "{}", all.held_bytes());
            Ok::<(), WriteError>(())
        })
    })
    .unwrap();
    let db = Db::open(file).unwrap();
    let all = db.root().bucket(b"all").unwrap().unwrap();
    assert_eq!(all.entries().filter(Result::is_ok).count(), 1_200_000);
    assert_eq!(all.get(&1_199_999_u32.to_be_bytes()).unwrap().as_deref(), Some(&b"value"[..]));
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 1..12),
        1 => (any::<u8>(), 1..=MAX_KEY_BYTES).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn trees() -> impl Strategy<Value = Tree> {
    let value = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..80),
        1 => (any::<u8>(), 0..20_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
    .prop_map(Node::Value);
    let of = |node: BoxedStrategy<Node>| {
        (any::<u64>(), prop::collection::btree_map(keys(), node, 0..40))
            .prop_map(|(sequence, entries): (u64, BTreeMap<_, _>)| Tree { sequence, entries })
    };
    let leaf = of(value.clone().boxed());
    leaf.prop_recursive(4, 400, 40, move |inner| {
        of(prop_oneof![3 => value.clone(), 1 => inner.prop_map(Node::Bucket)].boxed())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_is_read_as_it_was_written(tree in trees()) {
        let db = Db::open(write_tree(&tree)).unwrap();
        prop_assert!(Tree::read(&db.root()).unwrap() == tree);
        let problems = check(&db);
        prop_assert!(problems.is_empty(), "{problems:?}");
    }
}
