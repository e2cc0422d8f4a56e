//! Every kind of damage is found, and nothing else is reported as damage.

mod files;
mod graph;
pub(super) mod kinds;
pub(super) mod states;

use std::fs::File;

use super::*;
use crate::bolt::{self, Db, Node, Tree};

/// Returns the damage in `root`, which no daemon has used: leftovers are damage there.
fn damage_of(root: &Root) -> Vec<Damage> {
    let verified = verify_databases(&root.held).unwrap();
    assert!(verified.leftovers.is_empty(), "{:#?}", verified.leftovers);
    verified.damage
}

pub(super) fn kinds_of(damage: &[Damage]) -> Vec<&'static str> {
    damage.iter().map(Damage::kind).collect()
}

/// Simulates bbolt's next transaction of a database: both meta pages count up by one.
pub(super) fn use_database(path: &Path) {
    use std::os::unix::fs::FileExt as _;
    let file = File::options().read(true).write(true).open(path).unwrap();
    for page in 0..2_u64 {
        let mut meta = [0; 64];
        file.read_exact_at(&mut meta, page * 4096 + 16).unwrap();
        meta[48..56].copy_from_slice(&(page + 2).to_le_bytes());
        let sum = meta[..56].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        meta[56..].copy_from_slice(&sum.to_le_bytes());
        file.write_all_at(&meta, page * 4096 + 16).unwrap();
    }
}

/// Rewrites a database with other entries.
fn edit(path: &Path, change: impl FnOnce(&mut Tree)) {
    let mut tree = Tree::read(&Db::open(File::open(path).unwrap()).unwrap().root()).unwrap();
    change(&mut tree);
    fs::remove_file(path).unwrap();
    let file = File::create_new(path).unwrap();
    bolt::write(&file, |root| tree.write(root)).unwrap();
}

/// Returns the bucket at `path`, a list of names.
fn bucket<'t>(tree: &'t mut Tree, path: &[&str]) -> &'t mut Tree {
    path.iter().fold(tree, |tree, name| match tree.entries.get_mut(name.as_bytes()) {
        Some(Node::Bucket(bucket)) => bucket,
        _ => panic!("no bucket {name} of {path:?}"),
    })
}

fn put(tree: &mut Tree, path: &[&str], key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
    bucket(tree, path).entries.insert(key.into(), Node::Value(value.into()));
}

fn remove(tree: &mut Tree, path: &[&str], key: &str) {
    bucket(tree, path).entries.remove(key.as_bytes()).unwrap();
}

/// Takes the only entry out of a bucket and returns its value.
fn only_key(tree: &mut Tree, path: &[&str]) -> Vec<u8> {
    let keys: Vec<_> = bucket(tree, path).entries.keys().cloned().collect();
    assert_eq!(keys.len(), 1);
    keys.into_iter().next().unwrap()
}
