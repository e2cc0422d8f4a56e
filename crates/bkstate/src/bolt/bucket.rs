//! Lookups in a bucket.

use std::sync::Arc;

use super::entries::Entries;
use super::node::{BucketValue, Content, Node, Place};
use super::owners::Owner;
use super::reader::{Db, ReadError};
use super::{MAX_BUCKET_DEPTH, MAX_TREE_HEIGHT};

/// A bucket of an open database: a sorted map from keys to values and buckets.
#[derive(Debug, Clone)]
pub struct Bucket<'db> {
    pub(super) db: &'db Db,
    sequence: u64,
    store: Store,
    /// Number of buckets that contain this one.
    depth: usize,
}

#[derive(Debug, Clone)]
enum Store {
    Page { root: u64, owner: Owner },
    Inline(Arc<Node>),
}

impl<'db> Bucket<'db> {
    pub(super) fn root(db: &'db Db) -> Self {
        let store = Store::Page { root: db.meta.root, owner: Owner::Root };
        Self { db, sequence: db.meta.sequence, store, depth: 0 }
    }

    /// Opens the bucket in element `index` of `node`. `depth` is the depth of the bucket that `node` belongs
    /// to, `value` the element's value.
    pub(super) fn open(
        db: &'db Db,
        node: &Node,
        index: usize,
        value: &[u8],
        depth: usize,
    ) -> Result<Self, ReadError> {
        let place = node.place();
        let Place::Page(page) = place else {
            return Err(ReadError::BucketInInline { place, index });
        };
        if depth >= MAX_BUCKET_DEPTH {
            return Err(ReadError::BucketsTooDeep { place, index });
        }
        let value = BucketValue::parse(value).ok_or(ReadError::ShortBucket { place, index })?;
        let store = if value.root == 0 {
            let place = Place::Inline { page, index };
            Store::Inline(Arc::new(Node::parse(place, value.inline.to_vec())?))
        } else {
            Store::Page { root: value.root, owner: Owner::Element { page, index } }
        };
        Ok(Self { db, sequence: value.sequence, store, depth: depth + 1 })
    }

    /// Returns the last number that bbolt's `NextSequence` returned.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the value of `key`; `None` if there is no such key or it is a bucket.
    ///
    /// # Errors
    /// Returns an error if a page on the path to the key is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.find(key)?.and_then(|(node, index)| match node.content(index) {
            Content::Value(value) => Some(value.to_vec()),
            Content::Bucket(_) | Content::Child(_) => None,
        }))
    }

    /// Returns the bucket `key`; `None` if there is no such key or it is a value.
    ///
    /// # Errors
    /// Returns an error if a page on the path to the key, or the bucket's value, is damaged.
    pub fn bucket(&self, key: &[u8]) -> Result<Option<Bucket<'db>>, ReadError> {
        let Some((node, index)) = self.find(key)? else { return Ok(None) };
        match node.content(index) {
            Content::Bucket(value) => {
                Bucket::open(self.db, &node, index, value, self.depth).map(Some)
            }
            Content::Value(_) | Content::Child(_) => Ok(None),
        }
    }

    /// Iterates over all entries of the bucket, in key order. Holds one page per level of the tree in memory.
    pub fn entries(&self) -> Entries<'db> {
        Entries::new(self.clone())
    }

    /// Number of buckets that contain this one.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Returns the root page of the bucket's tree.
    pub(super) fn top(&self) -> Result<Arc<Node>, ReadError> {
        match &self.store {
            Store::Page { root, owner } => Ok(Arc::new(self.db.node(*root, *owner)?)),
            Store::Inline(node) => Ok(Arc::clone(node)),
        }
    }

    /// Finds the leaf page and the position of `key`.
    fn find(&self, key: &[u8]) -> Result<Option<(Arc<Node>, usize)>, ReadError> {
        let mut node = self.top()?;
        for _ in 0..MAX_TREE_HEIGHT {
            let found = node.search(key);
            // A branch element's key is the first key below it.
            let index = found.unwrap_or_else(|after| after.saturating_sub(1));
            match (node.len() > 0).then(|| node.content(index)) {
                Some(Content::Child(page)) => {
                    node = Arc::new(child(self.db, &node, index, page)?);
                }
                _ => return Ok(found.ok().map(|index| (node, index))),
            }
        }
        Err(ReadError::TreeTooHigh { place: node.place() })
    }
}

/// Reads the child page `page` of element `index` of `node`.
pub(super) fn child(db: &Db, node: &Node, index: usize, page: u64) -> Result<Node, ReadError> {
    match node.place() {
        Place::Page(parent) => db.node(page, Owner::Element { page: parent, index }),
        // Unreachable: an inline page is parsed as a leaf, which has no children.
        place @ Place::Inline { .. } => Err(ReadError::ElementOutside { place, index }),
    }
}
