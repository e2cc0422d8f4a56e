//! The reader, writer and checker, against each other and against damage.
//!
//! `tests/bolt_interop.rs` compares them with Go's bbolt.

mod any_damage;
mod commit;
mod damage;
mod pages;
mod refused;
mod written;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::format::{Meta, PAGE_HEADER, PageHeader};
use super::*;

const PAGE: u64 = 4096;

fn value(byte: u8, length: usize) -> Node {
    Node::Value(vec![byte; length])
}

fn tree(entries: impl IntoIterator<Item = (Vec<u8>, Node)>) -> Tree {
    Tree { sequence: 0, entries: entries.into_iter().collect() }
}

/// A tree with every feature of the format: several levels of branch pages, values with overflow pages,
/// inline and other buckets, empty and nested ones, keys of maximum length.
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

/// A database of hand-made pages, numbered from 3; page 3 is the root.
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

/// The value of a bucket with root page `root`.
fn bucket_at(root: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&root.to_le_bytes());
    value
}
