//! Every kind of damage is found, and nothing else is taken for damage.

mod files;
mod graph;
mod kinds;
mod states;

use std::fs::File;

use super::*;
use crate::bolt::{self, Db, Node, Tree};

/// What is found in `root`, which no daemon has used: leftovers are damage there.
fn damage_of(root: &Root) -> Vec<Damage> {
    let verified = verify(&root.dir).unwrap();
    assert!(verified.leftovers.is_empty(), "{:#?}", verified.leftovers);
    verified.damage
}

fn kinds_of(damage: &[Damage]) -> Vec<&'static str> {
    damage.iter().map(Damage::kind).collect()
}

/// Rewrites a database with other entries.
fn edit(path: &Path, change: impl FnOnce(&mut Tree)) {
    let mut tree = Tree::read(&Db::open(File::open(path).unwrap()).unwrap().root()).unwrap();
    change(&mut tree);
    fs::remove_file(path).unwrap();
    let file = File::create_new(path).unwrap();
    bolt::write(&file, |root| tree.write(root)).unwrap();
}

/// The bucket at `path`, whose names are joined by `/`.
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

/// Takes the value of the only entry of a bucket.
fn only_key(tree: &mut Tree, path: &[&str]) -> Vec<u8> {
    let keys: Vec<_> = bucket(tree, path).entries.keys().cloned().collect();
    assert_eq!(keys.len(), 1);
    keys.into_iter().next().unwrap()
}
