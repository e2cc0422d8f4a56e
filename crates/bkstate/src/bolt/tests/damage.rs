//! Each kind of damage that a reader can meet has its own error.

use super::format::{LEAF, META_PAGE};
use super::*;

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
    let error = Db::open(file_of(&none)).unwrap_err();
    assert!(matches!(error, ReadError::NoMeta { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the file is not a usable BoltDB file: of meta page 0, it has the magic number \
         0x00000000 instead of 0xed0cdaed; of meta page 1, it has the magic number \
         0x00000000 instead of 0xed0cdaed"
    );
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
        let error = Db::open(file_of(&bytes[..length])).unwrap_err();
        let message = error.to_string();
        match error {
            ReadError::NoMeta { .. } => {
                assert!(length < 2 * 4096, "{length}");
                assert!(message.starts_with("the file is not a usable BoltDB file: "), "{message}");
            }
            ReadError::Truncated { length: found, .. } => {
                assert_eq!(found, length as u64);
                assert!(message.starts_with(&format!("the file has {length} bytes ")), "{message}");
                assert!(message.ends_with("; it was cut off"), "{message}");
            }
            _ => panic!("{length}: {message}"),
        }
    }
    // Space that bbolt appends in advance is not damage.
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
    let error = read_tree(&cycle).unwrap_err();
    assert!(matches!(error, ReadError::PageShared { page: 3, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "page 3 is referred to by the meta page as the root and again by element 0 of \
         page 3"
    );
    let db = Db::open(file_of(&cycle)).unwrap();
    let error = db.root().get(b"a").unwrap_err();
    assert!(matches!(error, ReadError::PageShared { page: 3, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "page 3 is referred to by the meta page as the root and again by element 0 of \
         page 3"
    );
}

#[test]
fn pages_that_fan_out_to_the_same_children_do_not_multiply() {
    // Each page has 100 buckets, all with the next page as root: 100^60 paths through 60 pages.
    let pages: Vec<_> = (3..63)
        .map(|id| {
            leaf(id, |page| {
                for n in 0..100_u8 {
                    page.bucket(&[n], &bucket_at(id + 1));
                }
            })
        })
        .collect();
    let error = read_tree(&hand_made(&pages)).unwrap_err();
    assert!(matches!(error, ReadError::PageOutside { page: 63, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "element 0 of page 62 refers to page 63, but pages run from 2 to below 63"
    );
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
    let error = read_tree(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::PageShared { page: 5, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "page 5 is referred to by element 0 of page 3 and again by element 1 of page 3"
    );
    set_header(&mut bytes, 4, PageHeader { id: 4, flags: LEAF, count: 1, overflow: u32::MAX });
    let error = read_tree(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::PageOutside { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "element 0 of page 3 refers to page 4294967299, but pages run from 2 to below 6"
    );
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
    let error = Tree::read(&db.root()).unwrap_err();
    assert!(matches!(error, ReadError::PageTooLarge { page: 3, .. }), "{error}");
    assert_eq!(error.to_string(), "page 3 is 34359742464 bytes long, more than 67108864");
    assert_eq!(check(&db).len(), 2);
}

#[test]
fn buckets_and_branch_pages_beyond_the_limits_are_errors() {
    let buckets: Vec<_> =
        (3..103).map(|id| leaf(id, |page| page.bucket(b"b", &bucket_at(id + 1)))).collect();
    let error = read_tree(&hand_made(&buckets)).unwrap_err();
    assert!(matches!(error, ReadError::BucketsTooDeep { .. }), "{error}");
    assert_eq!(error.to_string(), "the bucket in element 0 of page 67 is nested more than 64 deep");
    assert!(problems(&hand_made(&buckets))[0].contains("nested more than 64 deep"));
    let branches: Vec<_> = (3..103).map(|id| branch(id, |page| page.child(b"a", id + 1))).collect();
    let bytes = hand_made(&branches);
    let error = read_tree(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::TreeTooHigh { .. }), "{error}");
    assert_eq!(error.to_string(), "page 35 is more than 32 pages below the root of its bucket");
    assert!(problems(&bytes)[0].contains("more than 32 pages below"));
    let db = Db::open(file_of(&bytes)).unwrap();
    let error = db.root().get(b"a").unwrap_err();
    assert!(matches!(error, ReadError::TreeTooHigh { .. }), "{error}");
    assert_eq!(error.to_string(), "page 35 is more than 32 pages below the root of its bucket");
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
    let error = with(20, [0xFF; 4]);
    assert!(matches!(error, ReadError::ElementOutside { index: 0, .. }), "{error}");
    assert_eq!(error.to_string(), "element 0 of page 3 does not fit into the page");
    let error = with(24, [0xFF; 4]);
    assert!(matches!(error, ReadError::ElementOutside { index: 0, .. }), "{error}");
    assert_eq!(error.to_string(), "element 0 of page 3 does not fit into the page");
    let error = with(28, [0xFF; 4]);
    assert!(matches!(error, ReadError::ElementOutside { index: 0, .. }), "{error}");
    assert_eq!(error.to_string(), "element 0 of page 3 does not fit into the page");
    let error = with(28, 4045_u32.to_le_bytes());
    assert!(matches!(error, ReadError::ElementOutside { index: 1, .. }), "{error}");
    assert_eq!(error.to_string(), "element 1 of page 3 does not fit into the page");
    let error = with(24, [0; 4]);
    assert!(matches!(error, ReadError::KeyLength { index: 0, length: 0, .. }), "{error}");
    assert_eq!(error.to_string(), "element 0 of page 3 has a key of 0 bytes; keys have 1 to 32768");
    let error = with(48, *b"bbbb");
    assert!(matches!(error, ReadError::KeyOrder { index: 1, .. }), "{error}");
    assert_eq!(error.to_string(), "the key of element 1 of page 3 is not above the key before it");
    // A bucket whose value is 4 bytes long; more elements than the page has.
    let error = with(16, [1, 0, 0, 0]);
    assert!(matches!(error, ReadError::ShortBucket { index: 0, .. }), "{error}");
    assert_eq!(error.to_string(), "the bucket in element 0 of page 3 is too short");
    let error = with(8, [2, 0, 0xFF, 0xFF]);
    assert!(matches!(error, ReadError::ElementOutside { .. }), "{error}");
    assert_eq!(error.to_string(), "element 65535 of page 3 does not fit into the page");
    let error = with(8, [1, 0, 0, 0]);
    assert!(matches!(error, ReadError::EmptyBranch { .. }), "{error}");
    assert_eq!(error.to_string(), "branch page 3 has no children");
    let error = with(8, [4, 0, 0, 0]);
    assert!(matches!(error, ReadError::PageType { flags: META_PAGE, .. }), "{error}");
    assert_eq!(error.to_string(), "page 3 has the type 0x4, which cannot be there");
    let error = with(0, [9, 0, 0, 0]);
    assert!(matches!(error, ReadError::PageNumber { found: 9, .. }), "{error}");
    assert_eq!(error.to_string(), "page 3 says that it is page 9");
}

#[test]
fn a_key_longer_than_bbolts_is_an_error() {
    let mut bytes = contents(&write_tree(&tree([(b"k".to_vec(), value(1, 40_000))])));
    for (at, length) in [(24, 32_769_u32), (28, 1)] {
        bytes[3 * 4096 + at..][..4].copy_from_slice(&length.to_le_bytes());
    }
    let error = read_tree(&bytes).unwrap_err();
    assert!(matches!(error, ReadError::KeyLength { length: 32_769, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "element 0 of page 3 has a key of 32769 bytes; keys have 1 to 32768"
    );
}

#[test]
fn damaged_inline_buckets_are_errors() {
    let with = |value: &[u8]| {
        read_tree(&hand_made(&[leaf(3, |page| page.bucket(b"b", value))])).unwrap_err()
    };
    let inline = |page: Vec<u8>| [[0; 16].as_slice(), &page].concat();
    let error = with(&[0; 15]);
    assert!(matches!(error, ReadError::ShortBucket { .. }), "{error}");
    assert_eq!(error.to_string(), "the bucket in element 0 of page 3 is too short");
    let error = with(&[0; 31]);
    assert!(matches!(error, ReadError::ShortInline { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the inline bucket in element 0 of page 3 is too short to be a page"
    );
    let nested = inline(leaf(0, |page| page.bucket(b"b", &bucket_at(3))));
    let error = with(&nested);
    assert!(matches!(error, ReadError::BucketInInline { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "element 0 of the inline bucket in element 0 of page 3 is a bucket, which an \
         inline bucket cannot hold"
    );
    let branching = inline(branch(0, |page| page.child(b"b", 3)));
    let error = with(&branching);
    assert!(matches!(error, ReadError::PageType { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the inline bucket in element 0 of page 3 has the type 0x1, which cannot be there"
    );
    let error = with(&inline(leaf(0, |page| page.value(b"", b"")))).to_string();
    assert_eq!(
        error,
        "element 0 of the inline bucket in element 0 of page 3 has a key of 0 bytes; keys have 1 to 32768"
    );
}
