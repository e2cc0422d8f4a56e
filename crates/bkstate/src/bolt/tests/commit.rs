//! Commits into existing files.

use std::os::unix::fs::FileExt as _;

use super::super::format::{META_PAGE, Meta, NO_FREELIST, PageHeader};
use super::super::writer::Output;
use super::super::{CommitError, Problem, commit};
use super::*;

/// Returns a tree with `count` buckets of some size, and one long value.
fn content(count: u32, mark: u8) -> Tree {
    let bucket = |number: u32| {
        let values = (0..40_u8).map(|key| (vec![b'k', key], Node::Value(vec![mark; 60])));
        let tree = Tree { sequence: number.into(), entries: values.collect() };
        (format!("bucket {number:06}").into_bytes(), Node::Bucket(tree))
    };
    let long = Tree { sequence: 0, entries: [(vec![1], Node::Value(vec![mark; 20_000]))].into() };
    let entries = (0..count).map(bucket).chain([(b"long".to_vec(), Node::Bucket(long))]);
    Tree { sequence: 0, entries: entries.collect() }
}

fn database(tree: &Tree) -> File {
    let file = tempfile::tempfile().unwrap();
    write(&file, |root| tree.write(root)).unwrap();
    file
}

fn opened(file: &File) -> Db {
    Db::open(file.try_clone().unwrap()).unwrap()
}

fn ensure_content(file: &File, expected: &Tree) {
    let db = opened(file);
    assert_eq!(check(&db).len(), 0, "{:?}", check(&db));
    assert!(Tree::read(&db.root()).unwrap() == *expected);
}

/// Returns a database with pages of `page_size` bytes.
fn with_pages_of(page_size: u32, tree: &Tree) -> File {
    let file = tempfile::tempfile().unwrap();
    let mut output = Output::from(&file, page_size as usize, 2).unwrap();
    let mut writer = BucketWriter::new(&mut output, 0);
    tree.write(&mut writer).unwrap();
    let root = writer.finish().unwrap();
    let high_water = output.end().unwrap();
    for txid in 0..2 {
        let meta = Meta { page_size, root, sequence: 0, freelist: NO_FREELIST, high_water, txid };
        let header = PageHeader { id: txid, flags: META_PAGE, count: 0, overflow: 0 };
        let bytes = [header.encode().as_slice(), &meta.encode()].concat();
        file.write_all_at(&bytes, txid * u64::from(page_size)).unwrap();
    }
    file
}

#[test]
fn the_new_content_takes_the_place_of_the_old_whatever_the_size_of_pages() {
    let (old, new) = (content(50, b'o'), content(70, b'n'));
    let source = opened(&database(&new));
    for page_size in [1024, 4096, 16384, 65536] {
        let file = with_pages_of(page_size, &old);
        ensure_content(&file, &old);
        commit(&file, &source).unwrap();
        ensure_content(&file, &new);
        let db = opened(&file);
        assert_eq!((db.page_size(), db.txid()), (page_size, 2));
    }
}

#[test]
fn a_file_does_not_grow_with_each_commit() {
    let trees = [content(50, b'a'), content(50, b'b')];
    let sources = [0, 1].map(|index| opened(&database(&trees[index])));
    let file = database(&trees[0]);
    let once = file.metadata().unwrap().len();
    for round in 1..20 {
        commit(&file, &sources[round % 2]).unwrap();
        ensure_content(&file, &trees[round % 2]);
    }
    let length = file.metadata().unwrap().len();
    assert!(length <= 2 * once, "{length} bytes, and {once} at first");
}

#[test]
fn until_the_meta_page_is_written_the_old_content_is_in_force() {
    let (old, new) = (content(20, b'o'), content(30, b'n'));
    let source = opened(&database(&new));
    let file = database(&old);
    // A second commit also overwrites pages of the content before the last one.
    for (before, after) in [(&old, &new), (&new, &new)] {
        let page = (opened(&file).txid() + 1) % 2;
        let mut meta = [0; 80];
        file.read_exact_at(&mut meta, page * 4096).unwrap();
        commit(&file, &source).unwrap();
        let mut written = [0; 80];
        file.read_exact_at(&mut written, page * 4096).unwrap();
        for torn in [0, 20, 79] {
            let bytes = [&written[..torn], &meta[torn..]].concat();
            file.write_all_at(&bytes, page * 4096).unwrap();
            let db = opened(&file);
            assert!(Tree::read(&db.root()).unwrap() == *before, "{torn}");
        }
        file.write_all_at(&written, page * 4096).unwrap();
        ensure_content(&file, after);
    }
}

#[test]
fn a_damaged_database_is_not_changed() {
    let file = database(&content(20, b'o'));
    let source = opened(&database(&content(1, b'n')));
    let db = opened(&file);
    let page = 3 * u64::from(db.page_size());
    file.write_all_at(&[0xff; 8], page).unwrap();
    let before = bytes_of(&file);
    let refused = commit(&file, &source).unwrap_err();
    let CommitError::Damaged(problem) = &refused else { panic!("{refused}") };
    assert!(matches!(**problem, Problem::Read(_)), "{refused}");
    assert!(refused.to_string().starts_with("the database is damaged: page 3 "), "{refused}");
    assert!(bytes_of(&file) == before);
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}
