//! The content of a cache as a graph: nodes for the outputs of steps, and edges between them.

use std::collections::{BTreeMap, BTreeSet};

use bkstate::Digest;
use bkstate::ids::KeyId;
use bkstate::state::State;
use typed_index_collections::TiVec;

use crate::config::RecordIndex;
use crate::export::CacheExport;
use crate::index::index;

/// A cache: an export or the state of a daemon.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The steps for each name of an op's output in an export, each with different inputs.
    by_name: BTreeMap<Digest, Vec<Edge>>,
    /// The nodes without inputs, by their keys.
    roots: BTreeMap<String, NodeIndex>,
    nodes: TiVec<NodeIndex, Node>,
}

index! {
    /// The index of a node.
    pub(super) struct NodeIndex of Node;
}

/// A node.
#[derive(Debug, Default)]
struct Node {
    is_root: bool,
    has_result: bool,
}

/// A set of edges to a node: one alternative for each input.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) target: NodeIndex,
    pub(super) inputs: BTreeMap<usize, Vec<Alternative>>,
}

/// One way in which an input can match.
#[derive(Debug)]
pub(super) struct Alternative {
    pub(super) from: NodeIndex,
    pub(super) selector: String,
}

impl Known {
    pub(super) fn of_exports(exports: &[CacheExport]) -> Self {
        let mut known = Self::default();
        for export in exports {
            let records = &export.config.records;
            let mut node_of: TiVec<RecordIndex, _> = TiVec::with_capacity(records.len());
            for record in records {
                // Results that an export omits mostly follow from the steps above them.
                node_of.push(if record.inputs.is_empty() {
                    known.root(record.digest.to_string(), true)
                } else {
                    known.node(Node { is_root: false, has_result: true })
                });
            }
            for (record, &target) in records.iter().zip(&node_of) {
                let alternatives = |inputs: &Vec<crate::config::Input>| {
                    let alternatives = inputs.iter().map(|input| Alternative {
                        from: node_of[input.record],
                        selector: input.selector.clone(),
                    });
                    alternatives.collect()
                };
                let inputs = record.inputs.iter().map(alternatives).enumerate().collect();
                if !record.inputs.is_empty() {
                    known.by_name.entry(record.digest).or_default().push(Edge { target, inputs });
                }
            }
        }
        known
    }

    pub(super) fn of_state(state: &State) -> Self {
        let mut known = Self::default();
        let solver = &state.solver;
        let has_record = |record: &bkstate::ids::RecordId| {
            state.records.by_id.get(record).is_some_and(|record| !record.is_removed())
        };
        let has_result = |key: &KeyId| {
            let results = solver.results.get(key).into_iter().flatten();
            results.into_iter().any(|(result, _)| {
                result.worker == state.worker_id && result.record.as_ref().is_none_or(has_record)
            })
        };
        let targets: BTreeSet<&KeyId> =
            solver.links.values().flatten().map(|(_, target)| target).collect();
        let mut node_of: BTreeMap<&KeyId, NodeIndex> = BTreeMap::new();
        for key in solver.links.keys().chain(targets.iter().copied()) {
            if !node_of.contains_key(key) {
                let has_result = has_result(key);
                let node = if targets.contains(key) {
                    known.node(Node { is_root: false, has_result })
                } else {
                    known.root(key.to_string(), has_result)
                };
                node_of.insert(key, node);
            }
        }
        // Several op digests may lead to one key, each with different inputs.
        let mut edges: BTreeMap<(Digest, NodeIndex), BTreeMap<usize, Vec<Alternative>>> =
            BTreeMap::new();
        for (from, links) in &solver.links {
            for (link, target) in links {
                // No op has an input before the first one.
                let Ok(input) = usize::try_from(link.input) else { continue };
                let name = Digest::of(format!("{}@{}", link.digest, link.output));
                let alternative =
                    Alternative { from: node_of[from], selector: link.selector.clone() };
                let inputs = edges.entry((name, node_of[target])).or_default();
                inputs.entry(input).or_default().push(alternative);
            }
        }
        for ((name, target), inputs) in edges {
            known.by_name.entry(name).or_default().push(Edge { target, inputs });
        }
        known
    }

    fn node(&mut self, node: Node) -> NodeIndex {
        self.nodes.push_and_get_key(node)
    }

    fn root(&mut self, key: String, has_result: bool) -> NodeIndex {
        if let Some(&node) = self.roots.get(&key) {
            self.nodes[node].has_result |= has_result;
            return node;
        }
        let node = self.node(Node { is_root: true, has_result });
        self.roots.insert(key, node);
        node
    }

    /// Returns the names of the outputs of ops.
    pub(super) fn names(&self) -> BTreeSet<Digest> {
        let roots = self.roots.keys().filter_map(|key| key.parse().ok());
        self.by_name.keys().copied().chain(roots).collect()
    }

    /// Returns the steps with a name.
    pub(super) fn edges(&self, name: &Digest) -> &[Edge] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns all steps, with their names.
    pub(super) fn all_edges(&self) -> impl Iterator<Item = (&Digest, &Edge)> {
        self.by_name.iter().flat_map(|(name, edges)| edges.iter().map(move |edge| (name, edge)))
    }

    /// Returns the node of a step without inputs.
    pub(super) fn find_root(&self, key: &Digest) -> Option<NodeIndex> {
        self.roots.get(&key.to_string()).copied()
    }

    pub(super) fn is_root(&self, node: NodeIndex) -> bool {
        self.nodes[node].is_root
    }

    pub(super) fn has_result(&self, node: NodeIndex) -> bool {
        self.nodes[node].has_result
    }
}
