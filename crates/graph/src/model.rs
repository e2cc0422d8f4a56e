//! The graph of a cache.

use oci2bk::inspect::Warmth;

/// Steps and their dependencies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// The title of the drawing.
    pub title: String,
    /// The steps.
    pub nodes: Vec<Node>,
    /// The dependencies. An edge with an invalid index is ignored.
    pub edges: Vec<Edge>,
}

impl Graph {
    /// Returns the indexes of the nodes, each after its dependencies and as close to them as possible. Loops
    /// are allowed; in each loop some node comes before one of its dependencies.
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

/// A step, or a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its unique id.
    pub id: String,
    /// The step in the words of a Dockerfile, if known.
    pub name: String,
    /// More about it, in a few words.
    pub detail: String,
    /// Its warmth.
    pub warmth: Warmth,
    /// The size of its own layer in bytes, if it has one.
    pub bytes: Option<u64>,
    /// The number of steps that it represents.
    pub count: usize,
}

/// A dependency between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Index of the dependency.
    pub from: usize,
    /// Index of the dependent node.
    pub to: usize,
}
