//! Where in its row each vertex is: as near to its neighbours as the others in the row let it.

use super::rank::Neighbours;

/// How often the rows are gone through in each direction.
const SWEEPS: usize = 10;

/// How much the place of a vertex counts for those beside, above and below it. What has nothing above
/// it and one box below is moved out of the way, so that the steps below each other make a straight line.
const BOX: f64 = 2.0;
const LINE: f64 = 1.0;
const LEAF: f64 = 0.001;

/// How far from the middle of all a vertex may be, in widths of the widest row. Without an end to it,
/// what hangs together loosely would drift apart row by row.
const REACH: f64 = 0.8;
/// So far it may be in any case.
const SHORTEST_REACH: f64 = 1200.0;

/// The middle of each vertex. `widths` has what each takes, the distance to the next included; those
/// from `boxes` on are lines.
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
            // At last both sides count.
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

/// Moves the vertices of a row as near to the mean of their neighbours as can be without one passing
/// or touching another, or leaving `reach`: the least sum of weighted squares, by pooling those that
/// would.
fn settle<'n>(
    row: &[usize],
    middles: &mut [f64],
    widths: &[f64],
    reach: f64,
    weight: impl Fn(usize) -> f64,
    neighbours: impl Fn(usize) -> [&'n [usize]; 2],
) {
    struct Pool {
        /// Where its first vertex wants to be, if all before had no width.
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
        // Without neighbours there is nothing to come nearer to, and little reason to stay.
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
    // The row is in reach if its first and its last are.
    let (Some(&first), Some(&last)) = (row.first(), row.last()) else { return };
    let (least, most) = (widths[first] / 2.0 - reach, reach - offset - widths[last] / 2.0);
    let at = pools
        .iter()
        .flat_map(|pool| std::iter::repeat_n(pool.at.clamp(least, most.max(least)), pool.count));
    for ((&vertex, offset), at) in row.iter().zip(offsets).zip(at) {
        middles[vertex] = at + offset;
    }
}
