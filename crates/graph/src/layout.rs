//! Boxes in rows, and the lines between them.

use std::collections::{BTreeMap, BTreeSet};

use super::order::order;
use super::place::place;
use super::rank::{Neighbours, backward, rows};

/// Maximum number of boxes in a row. More of the same rank take several rows.
const MOST_IN_ROW: usize = 24;

/// Maximum number of places that all long lines together pass in rows. Lines beyond that are straight, since
/// they could not be followed anyway.
const MOST_BENDS: usize = 40_000;

/// The space between boxes, and between lines that pass a row.
const GAP: f64 = 18.0;
const LANE: f64 = 12.0;

/// A box; `x` and `y` are the position of its upper left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// Distance from the left.
    pub x: f64,
    /// Distance from the top.
    pub y: f64,
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
}

/// An edge as points from the bottom of one box to the top of another.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Line {
    /// Index of the edge.
    pub edge: usize,
    /// The points, from top to bottom.
    pub points: Vec<(f64, f64)>,
    /// Whether the edge leads upwards, because it is part of a loop.
    pub backward: bool,
}

/// The positions of boxes and lines.
///
/// No two boxes touch. A line leads from a box to one in a lower row and crosses no other box, unless there
/// are too many lines.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Layout {
    /// The boxes.
    pub boxes: Vec<Rect>,
    /// The lines, except those from a box to itself.
    pub lines: Vec<Line>,
    /// The total width.
    pub width: f64,
    /// The total height.
    pub height: f64,
}

impl Layout {
    /// Lays out boxes of the given widths and heights in rows with `gap` between them, and edges given as
    /// indexes of boxes. The same input gives the same layout. An edge with an invalid index is omitted.
    pub fn new(sizes: &[(f64, f64)], edges: &[(usize, usize)], gap: f64) -> Self {
        let boxes = sizes.len();
        let known = |&(from, to): &(usize, usize)| from < boxes && to < boxes && from != to;
        let numbered: Vec<_> = edges.iter().enumerate().filter(|(_, edge)| known(edge)).collect();
        let numbers: Vec<usize> = numbered.iter().map(|(number, _)| *number).collect();
        let mut edges: Vec<(usize, usize)> = numbered.iter().map(|(_, edge)| **edge).collect();
        let backward = backward(boxes, &edges);
        for ((from, to), _) in edges.iter_mut().zip(&backward).filter(|(_, backward)| **backward) {
            std::mem::swap(from, to);
        }

        let row_of = rows(&Neighbours::new(boxes, edges.iter().copied()), MOST_IN_ROW);
        let routes = Routes::new(&row_of, &edges);
        let mut rows = routes.rows.clone();
        order(&mut rows, &routes.neighbours);
        let mut widths: Vec<f64> = sizes.iter().map(|(width, _)| width + GAP).collect();
        widths.resize(routes.neighbours.above.len(), LANE);
        let middles = place(&rows, &routes.neighbours, &widths, boxes);

        let nowhere = Rect { x: 0.0, y: 0.0, width: 0.0, height: 0.0 };
        let mut layout = Self { boxes: vec![nowhere; boxes], ..Self::default() };
        let mut spans = Vec::with_capacity(rows.len());
        let mut top = 0.0;
        for row in &rows {
            let here = row.iter().filter(|vertex| **vertex < boxes);
            let height = here.clone().map(|&vertex| sizes[vertex].1).fold(0.0, f64::max);
            for &vertex in here {
                let (width, own) = sizes[vertex];
                let x = (middles[vertex] - width / 2.0).round();
                layout.boxes[vertex] =
                    Rect { x, y: top + (height - own) / 2.0, width, height: own };
                layout.width = layout.width.max(x + width);
            }
            spans.push((top, top + height));
            top += height + gap;
        }
        layout.height = (top - gap).max(0.0);
        for (index, &(from, to)) in edges.iter().enumerate() {
            let (upper, lower) = (layout.boxes[from], layout.boxes[to]);
            let (start, end) = (upper.x + upper.width / 2.0, lower.x + lower.width / 2.0);
            // Straight down through rows, so that all curves are between rows.
            let mut points = vec![(start, upper.y + upper.height), (start, spans[row_of[from]].1)];
            for (bend, row) in routes.bends(index) {
                let x = middles[bend].round();
                points.extend([(x, spans[row].0), (x, spans[row].1)]);
            }
            points.extend([(end, spans[row_of[to]].0), (end, lower.y)]);
            points.dedup();
            layout.width = points.iter().map(|(x, _)| *x).fold(layout.width, f64::max);
            layout.lines.push(Line { edge: numbers[index], points, backward: backward[index] });
        }
        layout
    }
}

/// The vertices of all rows: boxes, followed by the places where long lines pass a row.
///
/// Lines from one box, or to one box, pass a row in the same place: many lines form one trunk with branches.
struct Routes {
    rows: Vec<Vec<usize>>,
    neighbours: Neighbours,
    /// For each edge, the places that it passes and the row of the first.
    bends: Vec<(Vec<usize>, usize)>,
}

impl Routes {
    fn new(row_of: &[usize], edges: &[(usize, usize)]) -> Self {
        let mut rows = vec![Vec::new(); row_of.iter().max().map_or(0, |max| max + 1)];
        for (vertex, &row) in row_of.iter().enumerate() {
            rows[row].push(vertex);
        }
        let ends = Neighbours::new(row_of.len(), edges.iter().copied());
        let mut next = row_of.len();
        let mut left = MOST_BENDS;
        let mut trunks: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let mut steps = BTreeSet::new();
        let mut bends = Vec::with_capacity(edges.len());
        for &(from, to) in edges {
            let (first, passed) = (row_of[from] + 1, row_of[to] - row_of[from] - 1);
            if passed > left {
                bends.push((Vec::new(), first));
                continue;
            }
            left -= passed;
            let trunk = if ends.above[to].len() > ends.below[from].len() { to } else { from };
            let mut before = from;
            let mut passes = Vec::with_capacity(passed);
            for (row, vertices) in rows.iter_mut().enumerate().skip(first).take(passed) {
                let place = *trunks.entry((trunk, row)).or_insert_with(|| {
                    vertices.push(next);
                    next += 1;
                    next - 1
                });
                passes.push(place);
                steps.insert((before, place));
                before = place;
            }
            steps.insert((before, to));
            bends.push((passes, first));
        }
        Self { rows, neighbours: Neighbours::new(next, steps), bends }
    }

    /// Returns the places that the edge passes, each with its row.
    fn bends(&self, edge: usize) -> impl Iterator<Item = (usize, usize)> {
        let (places, row) = &self.bends[edge];
        places.iter().copied().zip(*row..)
    }
}
