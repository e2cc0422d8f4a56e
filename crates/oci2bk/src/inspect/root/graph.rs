//! The keys of a root as a graph.

use std::collections::BTreeMap;

use super::{Key, Record, Root};
use crate::graph::{Edge, Graph, Node};
use crate::text::{short_digest, size};

impl Root {
    /// The record of this id.
    pub fn record(&self, id: &str) -> Option<&Record> {
        let at = self.records.binary_search_by(|record| record.id.as_str().cmp(id)).ok()?;
        self.records.get(at)
    }

    /// The solver's keys and what leads to them. It can have loops, if the root is damaged.
    pub fn graph(&self) -> Graph {
        let index: BTreeMap<_, _> = self.keys.iter().map(|key| &key.id).zip(0..).collect();
        let edges = self.keys.iter().zip(0..).flat_map(|(key, to)| {
            let from = key.inputs.iter().filter_map(|input| index.get(&input.from).copied());
            from.map(move |from| Edge { from, to })
        });
        Graph {
            title: self.path.display().to_string(),
            edges: edges.collect(),
            nodes: self.keys.iter().map(|key| self.node(key)).collect(),
        }
    }

    fn node(&self, key: &Key) -> Node {
        let there = key.results.iter().find(|result| result.is_there);
        let record = there.and_then(|result| self.record(result.id.record.as_ref()?.as_str()));
        let mut detail = vec![short_digest(&key.id.text())];
        if let Some(record) = record {
            detail = vec![format!("record {}", short_digest(record.id.as_str()))];
            detail.extend(record.bytes().map(size));
            detail.extend(record.stored.usage_count.map(|count| format!("used {count} times")));
        }
        let id = &*key.id.text();
        Node {
            id: id.to_owned(),
            name: key.name.clone().unwrap_or_else(|| short_digest(id)),
            detail: detail.join(" · "),
            warmth: key.warmth,
            bytes: record.and_then(Record::bytes),
            count: 1,
        }
    }
}

impl Record {
    /// The bytes of its files on disk, or if they are not known those of its blob.
    pub fn bytes(&self) -> Option<u64> {
        let known = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
        known(self.stored.size).or_else(|| known(self.stored.blob_size))
    }
}
