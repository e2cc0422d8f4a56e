//! Assigns a row to each node.

/// The dependents and the dependencies of each node, for edges without loops.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    pub(super) above: Vec<Vec<usize>>,
    pub(super) below: Vec<Vec<usize>>,
}

impl Neighbours {
    pub(super) fn new(nodes: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut neighbours =
            Self { above: vec![Vec::new(); nodes], below: vec![Vec::new(); nodes] };
        for (from, to) in edges {
            neighbours.below[from].push(to);
            neighbours.above[to].push(from);
        }
        neighbours
    }
}

/// Returns which of `edges` must be reversed to remove all loops: those that lead back to a node of the
/// current path. Edges from a node to itself are omitted from all later steps.
pub(super) fn backward(nodes: usize, edges: &[(usize, usize)]) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        No,
        OnTheWay,
        Done,
    }
    let mut starts = vec![Vec::new(); nodes];
    for (edge, (from, _)) in edges.iter().enumerate() {
        starts[*from].push(edge);
    }
    let mut backward = vec![false; edges.len()];
    let mut visits = vec![Visit::No; nodes];
    for start in 0..nodes {
        if visits[start] != Visit::No {
            continue;
        }
        visits[start] = Visit::OnTheWay;
        let mut way = vec![(start, 0)];
        while let Some((node, next)) = way.last_mut() {
            let (at, Some(&edge)) = (*node, starts[*node].get(*next)) else {
                visits[*node] = Visit::Done;
                way.pop();
                continue;
            };
            *next += 1;
            let to = edges[edge].1;
            match visits[to] {
                Visit::No => {
                    visits[to] = Visit::OnTheWay;
                    way.push((to, 0));
                }
                Visit::OnTheWay => backward[edge] = to != at,
                Visit::Done => {}
            }
        }
    }
    backward
}

/// Returns the nodes, each after all its dependencies.
pub(super) fn in_order(neighbours: &Neighbours) -> Vec<usize> {
    let mut waits: Vec<_> = neighbours.above.iter().map(Vec::len).collect();
    let mut order: Vec<_> = (0..waits.len()).filter(|&node| waits[node] == 0).collect();
    let mut next = 0;
    while let Some(&node) = order.get(next) {
        next += 1;
        for &below in &neighbours.below[node] {
            waits[below] -= 1;
            if waits[below] == 0 {
                order.push(below);
            }
        }
    }
    order
}

/// Returns the row of each node: below all its dependencies, with at most `most` nodes in a row. A node
/// without anything above it is directly above its first dependent.
pub(super) fn rows(neighbours: &Neighbours, most: usize) -> Vec<usize> {
    let order = in_order(neighbours);
    let mut ranks = vec![0_usize; neighbours.above.len()];
    for &node in &order {
        let below_all = neighbours.above[node].iter().map(|&above| ranks[above] + 1).max();
        ranks[node] = below_all.unwrap_or_default();
    }
    for &node in order.iter().filter(|&&node| neighbours.above[node].is_empty()) {
        let first = neighbours.below[node].iter().map(|&below| ranks[below]).min();
        ranks[node] = first.unwrap_or_default().saturating_sub(1);
    }
    // A rank with too many nodes becomes several rows; the position of a node in its rank selects the row.
    let mut counts: Vec<usize> = vec![0; ranks.iter().max().map_or(0, |max| max + 1)];
    let places: Vec<_> = ranks
        .iter()
        .map(|&rank| {
            counts[rank] += 1;
            counts[rank] - 1
        })
        .collect();
    let mut first = Vec::with_capacity(counts.len());
    let mut rows = 0;
    for count in counts {
        first.push(rows);
        rows += count.div_ceil(most).max(1);
    }
    ranks.iter().zip(places).map(|(&rank, place)| first[rank] + place / most).collect()
}
