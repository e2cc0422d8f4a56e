//! Places each vertex in its row, as close to its neighbours as the other vertices allow.

use super::rank::Neighbours;

/// Number of passes in each direction.
const SWEEPS: usize = 10;

/// Weights of a vertex for its neighbours beside, above and below it. A vertex with nothing above and one box
/// below is moved aside, so that a chain of steps forms a straight line.
const BOX: f64 = 2.0;
const LINE: f64 = 1.0;
const LEAF: f64 = 0.001;

/// Maximum distance of a vertex from the centre, in widths of the widest row. Without a limit, loosely
/// connected parts would drift apart row by row.
const REACH: f64 = 0.8;
/// Minimum of that limit.
const SHORTEST_REACH: f64 = 1200.0;

/// Returns the centre of each vertex. `widths` has the width of each, including the gap to the next; vertices
/// from index `boxes` on are lines.
pub(super) fn place(
    rows: &[Vec<usize>],
    neighbours: &Neighbours,
    widths: &[f64],
    boxes: usize,
) -> Vec<f64> {
    let mut middles = vec![0.0; widths.len()];
    let width = |row: &Vec<usize>| row.iter().map(|&vertex| widths[vertex]).sum::<f64>();
    let widest = rows.iter().map(width).fold(0.0, f64::max);
    let reach = (REACH * widest).max(SHORTEST_REACH);
    for row in rows {
        let whole = width(row);
        let mut left = -whole / 2.0;
        for &vertex in row {
            middles[vertex] = left + widths[vertex] / 2.0;
            left += widths[vertex];
        }
    }
    let weight = |vertex: usize| {
        let leaf = neighbours.above[vertex].is_empty() && neighbours.below[vertex].len() == 1;
        match () {
            () if vertex >= boxes => LINE,
            () if leaf => LEAF,
            () => BOX,
        }
    };
    for sweep in 0..SWEEPS {
        for row in rows {
            settle(row, &mut middles, widths, reach, weight, |vertex| {
                [neighbours.above[vertex].as_slice(), &[]]
            });
        }
        for row in rows.iter().rev() {
            // In the last pass both sides count.
            let above = |vertex: usize| {
                if sweep + 1 == SWEEPS { neighbours.above[vertex].as_slice() } else { &[] }
            };
            settle(row, &mut middles, widths, reach, weight, |vertex| {
                [neighbours.below[vertex].as_slice(), above(vertex)]
            });
        }
    }
    let left = middles.iter().zip(widths).map(|(middle, width)| middle - width / 2.0);
    let left = left.fold(f64::INFINITY, f64::min);
    middles.iter_mut().for_each(|middle| *middle -= left);
    middles
}

/// Moves the vertices of a row as close to the mean of their neighbours as possible, without overlaps and
/// within `reach`: minimises the sum of weighted squares by pooling vertices that would overlap.
fn settle<'n>(
    row: &[usize],
    middles: &mut [f64],
    widths: &[f64],
    reach: f64,
    weight: impl Fn(usize) -> f64,
    neighbours: impl Fn(usize) -> [&'n [usize]; 2],
) {
    struct Pool {
        /// The wanted position of its first vertex, if all before had no width.
        at: f64,
        weight: f64,
        count: usize,
    }
    let mut pools: Vec<Pool> = Vec::with_capacity(row.len());
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(row.len());
    let mut previous: Option<usize> = None;
    for &vertex in row {
        if let Some(previous) = previous {
            offset += (widths[previous] + widths[vertex]) / 2.0;
        }
        previous = Some(vertex);
        offsets.push(offset);
        let (mut sum, mut total) = (0.0, 0.0);
        for &neighbour in neighbours(vertex).into_iter().flatten() {
            sum += middles[neighbour] * weight(neighbour);
            total += weight(neighbour);
        }
        // A vertex without neighbours has no wanted position, and a low weight for staying.
        let (wanted, weight) =
            if total > 0.0 { (sum / total, weight(vertex)) } else { (middles[vertex], LEAF) };
        let mut pool = Pool { at: wanted - offset, weight, count: 1 };
        while let Some(before) = pools.pop_if(|before| before.at >= pool.at) {
            let weight = before.weight + pool.weight;
            pool = Pool {
                at: (before.at * before.weight + pool.at * pool.weight) / weight,
                weight,
                count: before.count + pool.count,
            };
        }
        pools.push(pool);
    }
    // The row is within reach if its first and last vertices are.
    let (Some(&first), Some(&last)) = (row.first(), row.last()) else { return };
    let (least, most) = (widths[first] / 2.0 - reach, reach - offset - widths[last] / 2.0);
    let at = pools
        .iter()
        .flat_map(|pool| std::iter::repeat_n(pool.at.clamp(least, most.max(least)), pool.count));
    for ((&vertex, offset), at) in row.iter().zip(offsets).zip(at) {
        middles[vertex] = at + offset;
    }
}
