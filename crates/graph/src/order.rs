//! Orders the vertices of each row so that few lines cross.

use super::rank::Neighbours;

/// Number of passes in each direction. More passes make no visible difference.
const SWEEPS: usize = 8;

/// Orders each of `rows`. All neighbours of a vertex are in the adjacent rows.
pub(super) fn order(rows: &mut Vec<Vec<usize>>, neighbours: &Neighbours) {
    let mut places = vec![0; neighbours.above.len()];
    note(rows, &mut places);
    let mut best = (crossings(rows, neighbours, &places), rows.clone());
    as_first_reached(rows, neighbours);
    note(rows, &mut places);
    for _ in 0..SWEEPS {
        for row in rows.iter_mut() {
            sort(row, &neighbours.above, &mut places);
        }
        for row in rows.iter_mut().rev() {
            sort(row, &neighbours.below, &mut places);
        }
        let count = crossings(rows, neighbours, &places);
        if count < best.0 {
            best = (count, rows.clone());
        }
    }
    *rows = best.1;
}

/// Orders the vertices of each row as a walk from the top reaches them, so that related vertices start close
/// together.
fn as_first_reached(rows: &mut [Vec<usize>], neighbours: &Neighbours) {
    let mut row_of = vec![0; neighbours.above.len()];
    for (number, row) in rows.iter().enumerate() {
        row.iter().for_each(|&vertex| row_of[vertex] = number);
    }
    let starts: Vec<_> = rows.iter().flatten().copied().collect();
    let mut reached = vec![false; row_of.len()];
    let mut ordered = vec![Vec::new(); rows.len()];
    let mut pending = Vec::new();
    for start in starts {
        pending.push(start);
        while let Some(vertex) = pending.pop() {
            if std::mem::replace(&mut reached[vertex], true) {
                continue;
            }
            ordered[row_of[vertex]].push(vertex);
            pending.extend(neighbours.above[vertex].iter().rev());
            pending.extend(neighbours.below[vertex].iter().rev());
        }
    }
    rows.clone_from_slice(&ordered);
}

fn note(rows: &[Vec<usize>], places: &mut [usize]) {
    for row in rows {
        row.iter().enumerate().for_each(|(place, &vertex)| places[vertex] = place);
    }
}

/// Sorts `row` by the mean position of each vertex's neighbours; a vertex without neighbours keeps its
/// position.
fn sort(row: &mut [usize], neighbours: &[Vec<usize>], places: &mut [usize]) {
    let mut keyed: Vec<_> = row
        .iter()
        .map(|&vertex| {
            let of = &neighbours[vertex];
            let sum: usize = of.iter().map(|&neighbour| places[neighbour]).sum();
            let mean =
                if of.is_empty() { places[vertex] as f64 } else { sum as f64 / of.len() as f64 };
            (mean, vertex)
        })
        .collect();
    // The sort is stable, so equals keep their order.
    keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (place, (slot, (_, vertex))) in row.iter_mut().zip(keyed).enumerate() {
        *slot = vertex;
        places[vertex] = place;
    }
}

/// Counts the pairs of crossing lines between adjacent rows.
pub(super) fn crossings(rows: &[Vec<usize>], neighbours: &Neighbours, places: &[usize]) -> u64 {
    let widest = rows.iter().map(Vec::len).max().unwrap_or_default();
    let mut ends = Fenwick::new(widest);
    let mut crossings = 0;
    for row in rows {
        ends.clear();
        for &vertex in row {
            let below = &neighbours.below[vertex];
            // Earlier lines that end further right cross this one.
            crossings += below.iter().map(|&to| ends.behind(places[to])).sum::<u64>();
            below.iter().for_each(|&to| ends.add(places[to]));
        }
    }
    crossings
}

/// Counts by position, with range sums in logarithmic time.
struct Fenwick {
    sums: Vec<u64>,
    total: u64,
}

impl Fenwick {
    fn new(places: usize) -> Self {
        Self { sums: vec![0; places + 1], total: 0 }
    }

    fn clear(&mut self) {
        if self.total > 0 {
            self.sums.fill(0);
            self.total = 0;
        }
    }

    fn add(&mut self, place: usize) {
        self.total += 1;
        let mut at = place + 1;
        while let Some(sum) = self.sums.get_mut(at) {
            *sum += 1;
            at += at & at.wrapping_neg();
        }
    }

    /// Returns the count after `place`.
    fn behind(&self, place: usize) -> u64 {
        let mut up_to = 0;
        let mut at = place + 1;
        while at > 0 {
            up_to += self.sums[at];
            at &= at - 1;
        }
        self.total - up_to
    }
}
