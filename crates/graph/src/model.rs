//! The graph of a cache, as far as it is drawn.

use oci2bk::inspect::Warmth;

/// Steps and what they build on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// What the graph is of.
    pub title: String,
    /// The steps.
    pub nodes: Vec<Node>,
    /// What they build on. An edge that names no node counts for nothing.
    pub edges: Vec<Edge>,
}

impl Graph {
    /// The indexes of the nodes, each after what it builds on and as near to that as can be. Loops do
    /// no harm; somewhere in one is a node that comes before what it builds on.
    pub fn in_order(&self) -> Vec<usize> {
        let count = self.nodes.len();
        let mut above = vec![Vec::new(); count];
        for edge in self.edges.iter().filter(|edge| edge.from < count && edge.to < count) {
            above[edge.to].push(edge.from);
        }
        let mut order = Vec::with_capacity(count);
        let mut reached = vec![false; count];
        for start in 0..count {
            let mut way = Vec::new();
            if !std::mem::replace(&mut reached[start], true) {
                way.push((start, 0));
            }
            while let Some((node, next)) = way.last_mut() {
                match above[*node].get(*next) {
                    Some(&before) => {
                        *next += 1;
                        if !std::mem::replace(&mut reached[before], true) {
                            way.push((before, 0));
                        }
                    }
                    None => {
                        order.push(*node);
                        way.pop();
                    }
                }
            }
        }
        order
    }
}

/// A step, or what it starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Names it among the nodes.
    pub id: String,
    /// The step in the words of a Dockerfile, where known.
    pub name: String,
    /// More about it, in a few words.
    pub detail: String,
    /// What a build will find of it.
    pub warmth: Warmth,
    /// The bytes of its own layer, if it has one.
    pub bytes: Option<u64>,
    /// How many steps it stands for.
    pub count: usize,
}

/// One node builds on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Index of what is built on.
    pub from: usize,
    /// Index of what builds on it.
    pub to: usize,
}
