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
