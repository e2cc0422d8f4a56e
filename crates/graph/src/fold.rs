//! Makes large graphs small enough to view.

use std::collections::BTreeSet;

use oci2bk::inspect::Warmth;

use super::model::{Edge, Graph, Node};
use super::rank::{Neighbours, backward, in_order};

/// Maximum number of nodes of a graph that is drawn as it is, with much space.
pub const SPARSE: usize = 100;

/// Maximum number of nodes of a graph in which every step has its own box.
pub const UNFOLDED: usize = 600;

/// Maximum number of boxes.
pub const MOST_BOXES: usize = 1_200;

/// Maximum number of lines.
pub const MOST_LINES: usize = 5_000;

/// A graph small enough to draw completely, and counts of what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Folded {
    /// The graph to draw. It has no duplicate edges, and no edges to missing nodes.
    pub graph: Graph,
    /// Number of steps of the whole graph that are in none of its nodes.
    pub hidden_steps: usize,
    /// Number of edges between drawn nodes that are not drawn.
    pub hidden_edges: usize,
}

/// Makes `graph` small enough to draw.
///
/// In graphs of more than [`SPARSE`] nodes, a source that only one step uses becomes part of the step. In
/// graphs of more than [`UNFOLDED`] nodes, chains of steps of the same warmth become one box, too. If there
/// are still too many boxes, those remain that a build runs again, with their inputs, and then the last ones.
pub fn fold(graph: &Graph) -> Folded {
    let nodes = graph.nodes.len();
    let known = |edge: &&Edge| edge.from < nodes && edge.to < nodes;
    let edges: BTreeSet<Edge> = graph.edges.iter().filter(known).copied().collect();
    let (boxes, edges) = if nodes > SPARSE {
        merged(&graph.nodes, &edges, nodes > UNFOLDED)
    } else {
        (graph.nodes.clone(), edges)
    };
    let kept = most_telling(&boxes, &edges);
    let steps = |boxes: &[Node]| boxes.iter().map(|node| node.count).sum::<usize>();
    let all = steps(&boxes);
    let mut place = vec![None; boxes.len()];
    let mut drawn = Vec::with_capacity(kept.len());
    for (node, slot) in boxes
        .into_iter()
        .zip(&mut place)
        .zip(0..)
        .filter_map(|((node, slot), index)| kept.contains(&index).then_some((node, slot)))
    {
        *slot = Some(drawn.len());
        drawn.push(node);
    }
    let between: Vec<Edge> = edges
        .iter()
        .filter_map(|edge| Some(Edge { from: place[edge.from]?, to: place[edge.to]? }))
        .collect();
    Folded {
        hidden_steps: all - steps(&drawn),
        hidden_edges: between.len().saturating_sub(MOST_LINES),
        graph: Graph {
            title: graph.title.clone(),
            nodes: drawn,
            edges: between.into_iter().take(MOST_LINES).collect(),
        },
    }
}

/// Merges sources into the only step that uses them, and `chains` into one box.
fn merged(nodes: &[Node], edges: &BTreeSet<Edge>, chains: bool) -> (Vec<Node>, BTreeSet<Edge>) {
    let whole = Neighbours::new(nodes.len(), edges.iter().map(|edge| (edge.from, edge.to)));
    // A source that only one step uses goes into the box of that step.
    let owner: Vec<Option<usize>> = (0..nodes.len())
        .map(|node| match whole.below[node][..] {
            [only] if nodes[node].warmth == Warmth::Source && whole.above[node].is_empty() => {
                Some(only)
            }
            _ => None,
        })
        .collect();
    let above = |node: usize| {
        let mut others = whole.above[node].iter().filter(|&&above| owner[above].is_none());
        others.next().filter(|_| others.next().is_none()).copied()
    };
    let follows = |node: usize| {
        let before = above(node)?;
        let only = chains && whole.below[before].len() == 1 && before != node;
        (only && nodes[before].warmth == nodes[node].warmth).then_some(before)
    };
    // In a loop every node has a predecessor; there is no first one, and its nodes stay as they are.
    let mut box_of: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut boxes: Vec<Node> = Vec::new();
    for start in 0..nodes.len() {
        if owner[start].is_some() || follows(start).is_some() {
            continue;
        }
        let mut merged = nodes[start].clone();
        let (mut last, mut links) = (start, 1);
        box_of[start] = Some(boxes.len());
        while let [next] = whole.below[last][..]
            && follows(next) == Some(last)
            && box_of[next].is_none()
        {
            box_of[next] = Some(boxes.len());
            merged.count += nodes[next].count;
            merged.bytes = sum(merged.bytes, nodes[next].bytes);
            (last, links) = (next, links + 1);
        }
        if links > 1 {
            merged.name = format!("{links} steps, the last: {}", nodes[last].name);
            merged.detail = format!("the first: {}", nodes[start].name);
        }
        boxes.push(merged);
    }
    for node in 0..nodes.len() {
        if owner[node].is_none() && box_of[node].is_none() {
            box_of[node] = Some(boxes.len());
            boxes.push(nodes[node].clone());
        }
    }
    for (node, only) in owner.iter().enumerate() {
        if let Some(of) = only.and_then(|only| box_of[only]) {
            boxes[of].count += nodes[node].count;
            boxes[of].bytes = sum(boxes[of].bytes, nodes[node].bytes);
        }
    }
    let between = edges.iter().filter_map(|edge| {
        let (from, to) = (box_of[edge.from]?, box_of[edge.to]?);
        (from != to || edge.from == edge.to).then_some(Edge { from, to })
    });
    (boxes, between.collect())
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    }
}

/// Returns as many nodes as can be drawn: those that a build runs again, their inputs, the last ones.
fn most_telling(nodes: &[Node], edges: &BTreeSet<Edge>) -> BTreeSet<usize> {
    if nodes.len() <= MOST_BOXES {
        return (0..nodes.len()).collect();
    }
    let pairs: Vec<_> = edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let backward = backward(nodes.len(), &pairs);
    let forward =
        pairs.iter().zip(&backward).filter(|((from, to), backward)| !**backward && from != to);
    let neighbours = Neighbours::new(nodes.len(), forward.map(|(pair, _)| *pair));
    let order = in_order(&neighbours);
    let is_cold = |node: &&usize| nodes[**node].warmth.is_cold();
    let cold = || order.iter().filter(is_cold);
    let below_cold = cold().flat_map(|&node| &neighbours.above[node]);
    let mut kept = BTreeSet::new();
    for &node in cold().chain(below_cold).chain(order.iter().rev()) {
        if kept.len() == MOST_BOXES {
            break;
        }
        kept.insert(node);
    }
    kept
}
