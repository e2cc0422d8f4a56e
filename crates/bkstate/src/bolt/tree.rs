//! A bucket as a value in memory.

use std::collections::BTreeMap;

use super::bucket::Bucket;
use super::entries::Entry;
use super::reader::ReadError;
use super::writer::{BucketWriter, WriteError};

/// A bucket with all its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// The last number that bbolt's `NextSequence` returned.
    pub sequence: u64,
    /// The entries of the bucket.
    pub entries: BTreeMap<Vec<u8>, Node>,
}

/// An entry of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A value.
    Value(Vec<u8>),
    /// A bucket within the bucket.
    Bucket(Tree),
}

impl Tree {
    /// Reads `bucket` and all buckets in it.
    ///
    /// # Errors
    /// Returns an error if a page of one of them is damaged.
    pub fn read(bucket: &Bucket<'_>) -> Result<Self, ReadError> {
        // The recursion ends at MAX_BUCKET_DEPTH: deeper entries give an error.
        let entries = bucket.entries().map(|entry| {
            let (key, entry) = entry?;
            let node = match entry {
                Entry::Value(value) => Node::Value(value),
                Entry::Bucket(bucket) => Node::Bucket(Self::read(&bucket)?),
            };
            Ok((key, node))
        });
        Ok(Self { sequence: bucket.sequence(), entries: entries.collect::<Result<_, _>>()? })
    }

    /// Changes in this bucket what differs between `before` and `after`; everything else stays.
    ///
    /// ```
    /// use bkstate::bolt::{Node, Tree};
    ///
    /// fn tree<const N: usize>(entries: [(&str, Node); N]) -> Tree {
    ///     let entries = entries.map(|(key, node)| (key.into(), node));
    ///     Tree { sequence: 0, entries: entries.into() }
    /// }
    /// let value = |text: &str| Node::Value(text.into());
    ///
    /// // A reader that knows only some of the entries wants to change one of them.
    /// let before = tree([("known", Node::Bucket(tree([("a", value("1"))])))]);
    /// let after = tree([("known", Node::Bucket(tree([("a", value("2"))])))]);
    /// let mut stored =
    ///     tree([("known", Node::Bucket(tree([("a", value("1")), ("b", value("3"))]))), ("other", value("4"))]);
    /// stored.change(&before, &after);
    /// let known = Node::Bucket(tree([("a", value("2")), ("b", value("3"))]));
    /// assert_eq!(stored, tree([("known", known), ("other", value("4"))]));
    /// ```
    pub fn change(&mut self, before: &Self, after: &Self) {
        if before.sequence != after.sequence {
            self.sequence = after.sequence;
        }
        for key in before.entries.keys().filter(|key| !after.entries.contains_key(*key)) {
            self.entries.remove(key);
        }
        let nothing = Self::default();
        for (key, new) in &after.entries {
            let old = before.entries.get(key);
            if old == Some(new) {
                continue;
            }
            match (new, self.entries.get_mut(key)) {
                (Node::Bucket(new), Some(Node::Bucket(stored))) => {
                    let old = match old {
                        Some(Node::Bucket(old)) => old,
                        _ => &nothing,
                    };
                    stored.change(old, new);
                }
                _ => drop(self.entries.insert(key.clone(), new.clone())),
            }
        }
    }

    /// Writes everything into the bucket of `writer`, which must be empty.
    ///
    /// # Errors
    /// Returns an error if the length of a key is invalid in bbolt, if buckets are nested too deep, or if
    /// writing fails.
    pub fn write(&self, writer: &mut BucketWriter<'_>) -> Result<(), WriteError> {
        writer.set_sequence(self.sequence);
        for (key, node) in &self.entries {
            match node {
                Node::Value(value) => writer.put(key, value)?,
                Node::Bucket(tree) => writer.bucket(key, |bucket| tree.write(bucket))?,
            }
        }
        Ok(())
    }
}
