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
    assert!(matches!(read_tree(&cycle), Err(ReadError::PageShared { page: 3, .. })));
    let db = Db::open(file_of(&cycle)).unwrap();
    assert!(matches!(db.root().get(b"a"), Err(ReadError::PageShared { page: 3, .. })));
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
