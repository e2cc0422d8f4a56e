//! Damage that only a check of the whole file finds: keys on the wrong page, pages in use twice or not at
//! all.

use super::format::{LEAF, META_PAGE, NO_FREELIST};
use super::*;

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
