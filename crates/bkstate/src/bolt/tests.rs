//! The reader, the writer and the checker against each other, and against damage.
//!
//! `tests/bolt_interop.rs` compares them with Go's bbolt.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::format::{BRANCH, LEAF, META_PAGE, Meta, NO_FREELIST, PAGE_HEADER, PageHeader};
use super::*;

const PAGE: u64 = 4096;

fn value(byte: u8, length: usize) -> Node {
    Node::Value(vec![byte; length])
}

fn tree(entries: impl IntoIterator<Item = (Vec<u8>, Node)>) -> Tree {
    Tree { sequence: 0, entries: entries.into_iter().collect() }
}

/// A tree with everything that the format knows: several levels of branch pages, values with
/// overflow pages, buckets inline and not, empty and nested, keys of the greatest length.
fn rich() -> Tree {
    let small = |n: u32| {
        let mut bucket = tree((0..n % 60).map(|i| (i.to_be_bytes().to_vec(), value(1, 8))));
        bucket.sequence = u64::from(n);
        Node::Bucket(bucket)
    };
    let many = (0..300_u32).map(|n| (format!("bucket {n:05}").into_bytes(), small(n)));
    let long = (0..9_u8).map(|n| (vec![b'a' + n; MAX_KEY_BYTES], value(n, 3)));
    let large = (1..30_usize).map(|n| (format!("v{n:03}").into_bytes(), value(7, n * 997)));
    let nested = Node::Bucket(tree([(b"inner".to_vec(), Node::Bucket(Tree::default()))]));
    let mut rich = tree([
        (b"empty".to_vec(), Node::Bucket(Tree::default())),
        (b"large".to_vec(), Node::Bucket(tree(large))),
        (b"long".to_vec(), Node::Bucket(tree(long))),
        (b"many".to_vec(), Node::Bucket(tree(many))),
        (b"nested".to_vec(), nested),
        (b"value".to_vec(), Node::Value(Vec::new())),
    ]);
    rich.sequence = u64::MAX;
    rich
}

fn write_tree(tree: &Tree) -> File {
    let file = tempfile::tempfile().unwrap();
    write(&file, |root| tree.write(root)).unwrap();
    file
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn file_of(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read_tree(bytes: &[u8]) -> Result<Tree, ReadError> {
    Tree::read(&Db::open(file_of(bytes))?.root())
}

fn problems(bytes: &[u8]) -> Vec<String> {
    let db = Db::open(file_of(bytes)).unwrap();
    check(&db).iter().map(ToString::to_string).collect()
}

/// Replaces the header of `page`.
fn set_header(bytes: &mut [u8], page: usize, header: PageHeader) {
    bytes[page * 4096..][..PAGE_HEADER].copy_from_slice(&header.encode());
}

/// Changes both meta pages, checksums included.
fn set_meta(bytes: &mut [u8], change: impl Fn(&mut Meta)) {
    for page in 0..2 {
        let at = page * 4096 + PAGE_HEADER;
        let mut meta = Meta::decode(&bytes[at..]).unwrap();
        change(&mut meta);
        bytes[at..at + 64].copy_from_slice(&meta.encode());
    }
}

/// A database of hand-made pages from page 3 on; page 3 is the root.
fn hand_made(pages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = contents(&write_tree(&Tree::default()));
    bytes.truncate(3 * 4096);
    for page in pages {
        assert!(page.len() <= 4096);
        bytes.extend_from_slice(page);
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
    }
    set_meta(&mut bytes, |meta| {
        meta.root = 3;
        meta.high_water = 3 + pages.len() as u64;
    });
    bytes
}

fn page_of(id: u64, fill: impl FnOnce(&mut pack::Packer), packer: pack::Packer) -> Vec<u8> {
    let (mut packer, mut bytes) = (packer, Vec::new());
    fill(&mut packer);
    packer.encode(id, 0, &mut bytes);
    bytes
}

fn leaf(id: u64, fill: impl FnOnce(&mut pack::Packer)) -> Vec<u8> {
    page_of(id, fill, pack::Packer::leaf())
}

fn branch(id: u64, fill: impl FnOnce(&mut pack::Packer)) -> Vec<u8> {
    page_of(id, fill, pack::Packer::branch())
}

/// The value of a bucket with this root page.
fn bucket_at(root: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&root.to_le_bytes());
    value
}

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

#[test]
fn keys_that_bbolt_does_not_allow_are_refused() {
    let put = |keys: &[&[u8]]| {
        let file = tempfile::tempfile().unwrap();
        write(&file, |root| keys.iter().try_for_each(|key| root.put(key, b"")))
    };
    assert!(put(&[&[1; MAX_KEY_BYTES]]).is_ok());
    assert!(matches!(put(&[&[1; MAX_KEY_BYTES + 1]]), Err(WriteError::KeyLength { .. })));
    assert!(matches!(put(&[b""]), Err(WriteError::KeyLength { .. })));
    assert!(matches!(put(&[b"b", b"a"]), Err(WriteError::KeyOrder { .. })));
    let error = put(&[b"b", b"b"]).unwrap_err();
    assert_eq!(error.to_string(), "the key \"b\" was written after \"b\"; keys must ascend");
}

#[test]
fn values_that_could_not_be_read_again_are_refused() {
    let longest = usize::try_from(MAX_NODE_BYTES).unwrap() - 4096 - 1;
    let put = |length| {
        let file = tempfile::tempfile().unwrap();
        write(&file, |root| root.put(b"k", &vec![0; length])).map(|()| file)
    };
    let db = Db::open(put(longest).unwrap()).unwrap();
    assert_eq!(db.root().get(b"k").unwrap().map(|value| value.len()), Some(longest));
    assert!(matches!(put(longest + 1), Err(WriteError::ValueLength { .. })));
}

#[test]
fn buckets_nest_to_the_limit_and_no_further() {
    let nested = |depth| {
        (0..depth).fold(Tree::default(), |inner, _| tree([(b"b".to_vec(), Node::Bucket(inner))]))
    };
    let deepest = nested(MAX_BUCKET_DEPTH);
    assert!(Tree::read(&Db::open(write_tree(&deepest)).unwrap().root()).unwrap() == deepest);
    let file = tempfile::tempfile().unwrap();
    let error = write(&file, |root| nested(MAX_BUCKET_DEPTH + 1).write(root)).unwrap_err();
    assert!(matches!(error, WriteError::BucketsTooDeep { .. }));
}

#[test]
fn a_failure_that_is_ignored_leaves_no_database() {
    let file = tempfile::tempfile().unwrap();
    let error = write(&file, |root| {
        let _ignored = root.bucket(b"b", |bucket| bucket.put(b"", b""));
        root.put(b"c", b"")
    });
    assert!(matches!(error, Err(WriteError::Incomplete)));
    assert!(matches!(Db::open(file), Err(ReadError::NoMeta { .. })));
}

#[test]
fn a_file_with_something_in_it_is_not_overwritten() {
    let file = write_tree(&Tree::default());
    let before = contents(&file);
    let error = write(&file, |_| Ok::<(), WriteError>(())).unwrap_err();
    assert!(matches!(error, WriteError::NotEmpty { length: 16_384 }));
    assert!(contents(&file) == before);
}

#[test]
fn either_meta_page_is_enough() {
    let rich = rich();
    let sound = contents(&write_tree(&rich));
    for page in 0..2 {
        let mut torn = sound.clone();
        torn[page * 4096 + PAGE_HEADER + 50] ^= 1;
        assert!(read_tree(&torn).unwrap() == rich);
        assert_eq!(
            problems(&torn),
            [format!("meta page {page} is damaged: its checksum is wrong")]
        );
        torn[page * 4096..(page + 1) * 4096].fill(0);
        assert!(read_tree(&torn).unwrap() == rich);
    }
    let mut none = sound;
    none[..2 * 4096].fill(0);
    assert!(matches!(Db::open(file_of(&none)), Err(ReadError::NoMeta { .. })));
}

#[test]
fn the_meta_page_of_the_later_transaction_counts() {
    let mut bytes = contents(&write_tree(&tree([(b"k".to_vec(), value(0, 1))])));
    let at = PAGE_HEADER;
    let mut meta = Meta::decode(&bytes[at..]).unwrap();
    (meta.txid, meta.sequence) = (2, 77);
    bytes[at..at + 64].copy_from_slice(&meta.encode());
    let db = Db::open(file_of(&bytes)).unwrap();
    assert_eq!((db.txid(), db.root().sequence()), (2, 77));
}

#[test]
fn a_file_that_was_cut_off_is_an_error_wherever_the_cut_is() {
    let bytes = contents(&write_tree(&tree([(b"k".to_vec(), value(0, 9000))])));
    for length in (0..bytes.len()).step_by(64).chain([79, 80, 4095, bytes.len() - 1]) {
        assert!(Db::open(file_of(&bytes[..length])).is_err(), "{length}");
    }
    // What bbolt appends in advance is no damage.
    let mut longer = bytes;
    longer.resize(longer.len() + 32_768 + 100, 0);
    assert!(read_tree(&longer).is_ok());
    assert!(problems(&longer).is_empty());
}

#[test]
fn a_bucket_that_contains_itself_is_an_error() {
    let cycle = hand_made(&[leaf(3, |page| page.bucket(b"b", &bucket_at(3)))]);
    let error = read_tree(&cycle).unwrap_err();
    assert_eq!(
        error.to_string(),
        "page 3 is referred to by the meta page as the root and again by element 0 of page 3"
    );
    assert_eq!(problems(&cycle), [error.to_string()]);
}

#[test]
fn a_branch_page_that_leads_to_itself_is_an_error() {
    let cycle = hand_made(&[branch(3, |page| page.child(b"a", 3))]);
    assert!(matches!(read_tree(&cycle), Err(ReadError::PageShared { page: 3, .. })));
    let db = Db::open(file_of(&cycle)).unwrap();
    assert!(matches!(db.root().get(b"a"), Err(ReadError::PageShared { page: 3, .. })));
}

#[test]
fn pages_that_fan_out_to_the_same_children_do_not_multiply() {
    // Each page has 100 buckets, all with the next page as root: 100^60 ways through 60 pages.
    let pages: Vec<_> = (3..63)
        .map(|id| {
            leaf(id, |page| {
                for n in 0..100_u8 {
                    page.bucket(&[n], &bucket_at(id + 1));
                }
            })
        })
        .collect();
    assert!(matches!(read_tree(&hand_made(&pages)), Err(ReadError::PageOutside { page: 63, .. })));
    assert!(problems(&hand_made(&pages)).len() < 60 * 100 + 2);
}

#[test]
fn overflow_pages_that_overlap_other_pages_are_an_error() {
    let mut bytes = hand_made(&[
        leaf(3, |page| {
            page.bucket(b"a", &bucket_at(4));
            page.bucket(b"b", &bucket_at(5));
        }),
        leaf(4, |page| page.value(b"k", b"v")),
        leaf(5, |page| page.value(b"k", b"v")),
    ]);
    assert!(problems(&bytes).is_empty());
    set_header(&mut bytes, 4, PageHeader { id: 4, flags: LEAF, count: 1, overflow: 1 });
    assert!(matches!(read_tree(&bytes), Err(ReadError::PageShared { page: 5, .. })));
    set_header(&mut bytes, 4, PageHeader { id: 4, flags: LEAF, count: 1, overflow: u32::MAX });
    assert!(matches!(read_tree(&bytes), Err(ReadError::PageOutside { .. })));
}

#[test]
fn a_sparse_file_does_not_make_us_allocate_its_size() {
    let mut bytes = hand_made(&[leaf(3, |page| page.value(b"k", b"v"))]);
    let pages = 1 << 24;
    set_meta(&mut bytes, |meta| meta.high_water = pages);
    set_header(&mut bytes, 3, PageHeader { id: 3, flags: LEAF, count: 1, overflow: 1 << 23 });
    let file = file_of(&bytes);
    file.set_len(pages * PAGE).unwrap();
    let db = Db::open(file).unwrap();
    assert!(matches!(Tree::read(&db.root()), Err(ReadError::PageTooLarge { page: 3, .. })));
    assert_eq!(check(&db).len(), 2);
}

#[test]
fn buckets_and_branch_pages_beyond_the_limits_are_errors() {
    let buckets: Vec<_> =
        (3..103).map(|id| leaf(id, |page| page.bucket(b"b", &bucket_at(id + 1)))).collect();
    assert!(matches!(read_tree(&hand_made(&buckets)), Err(ReadError::BucketsTooDeep { .. })));
    assert!(problems(&hand_made(&buckets))[0].contains("nested more than 64 deep"));
    let branches: Vec<_> = (3..103).map(|id| branch(id, |page| page.child(b"a", id + 1))).collect();
    let bytes = hand_made(&branches);
    assert!(matches!(read_tree(&bytes), Err(ReadError::TreeTooHigh { .. })));
    assert!(problems(&bytes)[0].contains("more than 32 pages below"));
    let db = Db::open(file_of(&bytes)).unwrap();
    assert!(matches!(db.root().get(b"a"), Err(ReadError::TreeTooHigh { .. })));
}

#[test]
fn damaged_elements_are_errors() {
    let sound = hand_made(&[leaf(3, |page| {
        page.value(b"a", b"1234");
        page.value(b"b", b"5678");
    })]);
    let with = |at: usize, bytes: [u8; 4]| {
        let mut damaged = sound.clone();
        damaged[3 * 4096 + at..][..4].copy_from_slice(&bytes);
        read_tree(&damaged).unwrap_err()
    };
    // Element 0 is at 16: flags, position, key length, value length.
    assert!(matches!(with(20, [0xFF; 4]), ReadError::ElementOutside { index: 0, .. }));
    assert!(matches!(with(24, [0xFF; 4]), ReadError::ElementOutside { index: 0, .. }));
    assert!(matches!(with(28, [0xFF; 4]), ReadError::ElementOutside { index: 0, .. }));
    assert!(matches!(with(28, 4045_u32.to_le_bytes()), ReadError::ElementOutside { index: 1, .. }));
    assert!(matches!(with(24, [0; 4]), ReadError::KeyLength { index: 0, length: 0, .. }));
    assert!(matches!(with(48, *b"bbbb"), ReadError::KeyOrder { index: 1, .. }));
    // A bucket whose value is 4 bytes long; more elements than the page has.
    assert!(matches!(with(16, [1, 0, 0, 0]), ReadError::ShortBucket { index: 0, .. }));
    assert!(matches!(with(8, [2, 0, 0xFF, 0xFF]), ReadError::ElementOutside { .. }));
    assert!(matches!(with(8, [1, 0, 0, 0]), ReadError::EmptyBranch { .. }));
    assert!(matches!(with(8, [4, 0, 0, 0]), ReadError::PageType { flags: META_PAGE, .. }));
    assert!(matches!(with(0, [9, 0, 0, 0]), ReadError::PageNumber { found: 9, .. }));
}

#[test]
fn a_key_longer_than_bbolts_is_an_error() {
    let mut bytes = contents(&write_tree(&tree([(b"k".to_vec(), value(1, 40_000))])));
    for (at, length) in [(24, 32_769_u32), (28, 1)] {
        bytes[3 * 4096 + at..][..4].copy_from_slice(&length.to_le_bytes());
    }
    assert!(matches!(read_tree(&bytes), Err(ReadError::KeyLength { length: 32_769, .. })));
}

#[test]
fn a_freelist_full_of_nonsense_does_not_give_millions_of_problems() {
    let mut bytes = contents(&write_tree(&Tree::default()));
    let pages = 1 << 14;
    set_meta(&mut bytes, |meta| (meta.freelist, meta.high_water) = (4, pages));
    bytes.resize(5 * 4096, 0);
    let header = PageHeader { id: 4, flags: 0x10, count: 0xFFFF, overflow: (1 << 13) - 1 };
    set_header(&mut bytes, 4, header);
    bytes[4 * 4096 + 16..][..8].copy_from_slice(&4_000_000_u64.to_le_bytes());
    let file = file_of(&bytes);
    file.set_len(pages * PAGE).unwrap();
    let problems = check(&Db::open(file).unwrap());
    assert!((1..=1001).contains(&problems.len()), "{}", problems.len());
}

#[test]
fn damaged_inline_buckets_are_errors() {
    let with = |value: &[u8]| {
        read_tree(&hand_made(&[leaf(3, |page| page.bucket(b"b", value))])).unwrap_err()
    };
    let inline = |page: Vec<u8>| [[0; 16].as_slice(), &page].concat();
    assert!(matches!(with(&[0; 15]), ReadError::ShortBucket { .. }));
    assert!(matches!(with(&[0; 31]), ReadError::ShortInline { .. }));
    let nested = inline(leaf(0, |page| page.bucket(b"b", &bucket_at(3))));
    assert!(matches!(with(&nested), ReadError::BucketInInline { .. }));
    let branching = inline(branch(0, |page| page.child(b"b", 3)));
    assert!(matches!(with(&branching), ReadError::PageType { .. }));
    let error = with(&inline(leaf(0, |page| page.value(b"", b"")))).to_string();
    assert_eq!(
        error,
        "element 0 of the inline bucket in element 0 of page 3 has a key of 0 bytes; keys have 1 to 32768"
    );
}

#[test]
fn keys_on_the_wrong_page_are_found() {
    let bytes = hand_made(&[
        branch(3, |page| {
            page.child(b"b", 4);
            page.child(b"d", 5);
        }),
        leaf(4, |page| {
            page.value(b"a", b"");
            page.value(b"d", b"");
        }),
        leaf(5, |page| page.value(b"d", b"")),
    ]);
    assert_eq!(
        problems(&bytes),
        [
            "the key \"a\" on page 4 belongs on another page",
            "the key \"d\" on page 4 belongs on another page"
        ]
    );
    let keys: Vec<_> =
        Db::open(file_of(&bytes)).unwrap().root().entries().map(|e| e.is_ok()).collect();
    assert_eq!(keys, [true, true, false], "the walk ends at the key that does not ascend");
}

#[test]
fn pages_that_nothing_accounts_for_are_found() {
    let pages = [leaf(3, |_| {}), leaf(4, |_| {}), leaf(5, |_| {})];
    let bytes = hand_made(&pages);
    assert_eq!(problems(&bytes), ["pages 4 to 5 are neither in use nor listed as free"]);
    let mut without_freelist = bytes;
    set_meta(&mut without_freelist, |meta| meta.freelist = NO_FREELIST);
    assert!(problems(&without_freelist).is_empty());
}

#[test]
fn the_freelist_is_compared_with_the_pages_in_use() {
    let mut bytes = hand_made(&[leaf(3, |_| {}), leaf(4, |_| {}), leaf(5, |_| {})]);
    let set_freelist = |bytes: &mut Vec<u8>, count: u16, ids: &[u64]| {
        set_header(bytes, 2, PageHeader { id: 2, flags: 0x10, count, overflow: 0 });
        let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        bytes[2 * 4096 + 16..][..ids.len()].copy_from_slice(&ids);
    };
    set_freelist(&mut bytes, 2, &[5, 4]);
    assert!(problems(&bytes).is_empty());
    set_freelist(&mut bytes, 0xFFFF, &[2, 4, 5]);
    assert!(problems(&bytes).is_empty(), "the long form");
    set_freelist(&mut bytes, 6, &[1, 3, 4, 4, 6, 2]);
    assert_eq!(
        problems(&bytes),
        [
            "page 1 is listed as free, but pages run from 2 to below 6",
            "page 2 is in use but listed as free",
            "page 3 is in use but listed as free",
            "page 4 is listed as free more than once",
            "page 6 is listed as free, but pages run from 2 to below 6",
            "pages 5 to 5 are neither in use nor listed as free",
        ]
    );
    set_freelist(&mut bytes, 0xFFFF, &[u64::MAX]);
    let too_long =
        format!("the freelist on page 2 has {} entries, more than fit into the page", u64::MAX);
    assert_eq!(problems(&bytes), [too_long]);
    set_header(&mut bytes, 2, PageHeader { id: 2, flags: LEAF, count: 0, overflow: 0 });
    assert_eq!(problems(&bytes), ["page 2 has the type 0x2, which cannot be there"]);
}

#[test]
fn a_meta_page_with_the_wrong_header_is_found() {
    let mut bytes = contents(&write_tree(&Tree::default()));
    set_header(&mut bytes, 0, PageHeader { id: 1, flags: META_PAGE, count: 0, overflow: 0 });
    assert_eq!(problems(&bytes), ["meta page 0 does not have the header of a meta page"]);
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

/// Reads all that can be read. That it returns is the test.
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
    fn any_tree_is_read_as_it_was_written(tree in trees()) {
        let db = Db::open(write_tree(&tree)).unwrap();
        prop_assert!(Tree::read(&db.root()).unwrap() == tree);
        let problems = check(&db);
        prop_assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn damage_anywhere_is_survived(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..20),
        cut in prop::option::of(any::<prop::sample::Index>()),
        in_headers in any::<bool>(),
    ) {
        let mut bytes = contents(&write_tree(&rich()));
        for (at, flip) in flips {
            // Page headers and element tables decide where a walk goes next, so half of the cases
            // damage nothing else, and leave the meta pages alone.
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
    // Zero padding says nothing; what is not zero is flipped in three ways, also with valid metas.
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

/// Gives a meta page whose fields were changed the checksum that fits them.
fn reseal(bytes: &mut [u8], page: usize) {
    let at = page * 4096 + PAGE_HEADER;
    let checksum = format::fnv1a(&bytes[at..at + 56]);
    bytes[at + 56..at + 64].copy_from_slice(&checksum.to_le_bytes());
}
