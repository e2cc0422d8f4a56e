//! Iteration over a bucket in key order.

use std::sync::Arc;

use super::MAX_TREE_HEIGHT;
use super::bucket::{Bucket, child};
use super::node::{Content, Node};
use super::reader::ReadError;

/// The entry of a key.
#[derive(Debug, Clone)]
pub enum Entry<'db> {
    /// A value.
    Value(Vec<u8>),
    /// A bucket within the bucket.
    Bucket(Bucket<'db>),
}

/// Iterator over a bucket, from [`Bucket::entries`]. Keys are strictly ascending. It ends after the first
/// error.
#[derive(Debug)]
pub struct Entries<'db> {
    bucket: Bucket<'db>,
    started: bool,
    /// Path from the root page to the leaf page being read.
    path: Vec<Frame>,
    /// Last key of the leaf page before the current one.
    previous: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Frame {
    node: Arc<Node>,
    /// The element to read next.
    next: usize,
}

impl<'db> Entries<'db> {
    pub(super) fn new(bucket: Bucket<'db>) -> Self {
        Self { bucket, started: false, path: Vec::new(), previous: None }
    }

    fn advance(&mut self) -> Result<Option<(Vec<u8>, Entry<'db>)>, ReadError> {
        if !self.started {
            self.started = true;
            let top = self.bucket.top()?;
            self.enter(top)?;
        }
        while let Some(frame) = self.path.last_mut() {
            let (node, index) = (Arc::clone(&frame.node), frame.next);
            if index == node.len() {
                self.path.pop();
                continue;
            }
            frame.next += 1;
            let entry = match node.content(index) {
                Content::Child(page) => {
                    let child = child(self.bucket.db, &node, index, page)?;
                    self.enter(Arc::new(child))?;
                    continue;
                }
                Content::Value(value) => Entry::Value(value.to_vec()),
                Content::Bucket(value) => {
                    let depth = self.bucket.depth();
                    Entry::Bucket(Bucket::open(self.bucket.db, &node, index, value, depth)?)
                }
            };
            return Ok(Some((node.key(index).to_vec(), entry)));
        }
        Ok(None)
    }

    fn enter(&mut self, node: Arc<Node>) -> Result<(), ReadError> {
        if self.path.len() >= MAX_TREE_HEIGHT {
            return Err(ReadError::TreeTooHigh { place: node.place() });
        }
        let is_leaf = node.len() > 0 && !matches!(node.content(0), Content::Child(_));
        if let (true, Some(first), Some(last)) = (is_leaf, node.first_key(), node.last_key()) {
            // The keys within a page have been compared already.
            if self.previous.as_deref().is_some_and(|previous| previous >= first) {
                return Err(ReadError::KeyOrder { place: node.place(), index: 0 });
            }
            self.previous = Some(last.to_vec());
        }
        self.path.push(Frame { node, next: 0 });
        Ok(())
    }
}

impl<'db> Iterator for Entries<'db> {
    type Item = Result<(Vec<u8>, Entry<'db>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if matches!(item, Some(Err(_))) {
            self.path.clear();
        }
        item
    }
}

impl std::iter::FusedIterator for Entries<'_> {}
