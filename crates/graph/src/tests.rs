use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use oci2bk::inspect::Warmth;
use proptest::prelude::*;

use super::layout::{Layout, Line, Rect};
use super::model::{Edge, Graph, Node};
use super::order::{crossings, order};
use super::rank::Neighbours;
use super::svg::LEGEND_COLUMN;
use super::{MOST_BOXES, MOST_LINES, SPARSE, UNFOLDED, dot, fold, svg};

fn node(number: usize, warmth: Warmth) -> Node {
    Node {
        id: format!("id {number}"),
        name: format!("RUN step {number}"),
        detail: format!("layer {number}"),
        warmth,
        bytes: Some(number as u64),
        count: 1,
    }
}

fn graph(warmths: impl IntoIterator<Item = Warmth>, edges: &[(usize, usize)]) -> Graph {
    let nodes = warmths.into_iter().enumerate().map(|(number, warmth)| node(number, warmth));
    Graph {
        title: "a graph".to_owned(),
        nodes: nodes.collect(),
        edges: edges.iter().map(|&(from, to)| Edge { from, to }).collect(),
    }
}

type Boxes = Vec<(f64, f64)>;
type Edges = Vec<(usize, usize)>;

/// Boxes of both sizes, and arbitrary edges: loops, duplicates, invalid indexes.
fn any_graph() -> impl Strategy<Value = (Boxes, Edges)> {
    (1..40_usize).prop_flat_map(|nodes| {
        let size = prop_oneof![Just((248.0, 44.0)), Just((140.0, 22.0))];
        let edge = (0..nodes + 1, 0..nodes + 1);
        (prop::collection::vec(size, nodes), prop::collection::vec(edge, 0..80))
    })
}

fn touch(a: &Rect, b: &Rect) -> bool {
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

fn is_in(rect: &Rect, (x, y): (f64, f64)) -> bool {
    x > rect.x && x < rect.x + rect.width && y > rect.y && y < rect.y + rect.height
}

#[test]
fn what_hangs_together_loosely_does_not_drift_apart() {
    // Many small trees, which meet far below.
    let edges: Vec<_> =
        (1..1200).map(|to| (if to % 7 == 0 { to / 2 } else { to - 1 }, to)).collect();
    let edges: Vec<_> = edges.into_iter().filter(|(_, to)| to % 5 != 0).collect();
    let sizes = vec![(276.0, 20.0); 1200];
    let layout = Layout::new(&sizes, &edges, 12.0);
    let mut rows: BTreeMap<i64, f64> = BTreeMap::new();
    for place in &layout.boxes {
        *rows.entry(place.y as i64).or_default() += place.width;
    }
    let widest = rows.values().fold(0.0, |a: f64, b| a.max(*b));
    assert!(layout.width < 3.0 * widest, "{} of {widest}", layout.width);
}

#[test]
fn every_entry_of_the_legend_fits_into_its_column() {
    // In the requested fonts, with some reserve.
    const WIDTH_OF_A_CHARACTER: f64 = 6.3;
    for warmth in Warmth::ALL {
        let mut graph = graph([warmth], &[]);
        // Those have no layers.
        let bytes = Some(100_000_000).filter(|_| !matches!(warmth, Warmth::KeyOnly));
        graph.nodes[0] = Node { bytes, count: 1000, ..node(0, warmth) };
        let picture = svg(&graph);
        let document = roxmltree::Document::parse(&picture).unwrap();
        let texts = document.descendants().filter(|node| node.has_tag_name("text"));
        let whole = |text: roxmltree::Node<'_, '_>| -> String {
            let parts = text.descendants().filter(|part| part.is_text());
            parts.filter_map(|part| part.text()).collect()
        };
        let entry = texts.map(whole).find(|text| text.ends_with(warmth.meaning())).unwrap();
        let width = 24.0 + entry.chars().count() as f64 * WIDTH_OF_A_CHARACTER;
        assert!(width < LEGEND_COLUMN, "{width}: {entry}");
    }
}

proptest! {
    #[test]
    fn no_two_boxes_touch_and_all_are_inside((sizes, edges) in any_graph()) {
        let layout = Layout::new(&sizes, &edges, 20.0);
        for (index, a) in layout.boxes.iter().enumerate() {
            prop_assert!(a.x >= -0.5 && a.y >= 0.0, "{a:?}");
            prop_assert!(a.x + a.width <= layout.width && a.y + a.height <= layout.height, "{a:?}");
            prop_assert!(!layout.boxes[..index].iter().any(|b| touch(a, b)), "{layout:?}");
        }
    }

    #[test]
    fn lines_lead_downwards_past_all_boxes_and_only_those_of_loops_are_turned((sizes, edges) in any_graph()) {
        let layout = Layout::new(&sizes, &edges, 20.0);
        let known = |&&(from, to): &&(usize, usize)| from < sizes.len() && to < sizes.len() && from != to;
        prop_assert_eq!(layout.lines.len(), edges.iter().filter(known).count());
        for Line { edge, points, backward } in &layout.lines {
            let (from, to) = edges[*edge];
            let (upper, lower) = if *backward { (to, from) } else { (from, to) };
            prop_assert!(points.is_sorted_by(|a, b| a.1 < b.1), "{points:?}");
            prop_assert_eq!(points[0].1, layout.boxes[upper].y + layout.boxes[upper].height);
            prop_assert_eq!(points[points.len() - 1].1, layout.boxes[lower].y);
            for pair in points.windows(2) {
                let [(x, top), (other, bottom)] = [pair[0], pair[1]];
                let in_the_way = |rect: &&Rect| {
                    let (left, right) = (x.min(other), x.max(other));
                    rect.x < right && left < rect.x + rect.width && rect.y < bottom && top < rect.y + rect.height
                        || x == other && is_in(rect, (x, (top + bottom) / 2.0))
                };
                prop_assert!(!layout.boxes.iter().any(|rect| in_the_way(&rect)), "{points:?}");
            }
        }
        let has_no_loops = edges.iter().all(|(from, to)| from < to);
        prop_assert!(!has_no_loops || layout.lines.iter().all(|line| !line.backward));
    }

    #[test]
    fn the_same_graph_gives_the_same_layout((sizes, edges) in any_graph()) {
        prop_assert_eq!(Layout::new(&sizes, &edges, 20.0), Layout::new(&sizes, &edges, 20.0));
    }

    #[test]
    fn ordering_never_makes_more_lines_cross(pairs in prop::collection::vec((0..12_usize, 0..12_usize), 0..40)) {
        let edges: Vec<_> = pairs.iter().map(|(from, to)| (*from, to + 12)).collect();
        let neighbours = Neighbours::new(24, edges.iter().copied());
        let places: Vec<_> = (0..24).map(|vertex| vertex % 12).collect();
        let rows = vec![(0..12).collect::<Vec<_>>(), (12..24).collect()];
        let crossed = |a: &(usize, usize), b: &(usize, usize)| a.0 < b.0 && a.1 > b.1;
        let pairs = edges.iter().map(|a| edges.iter().filter(|b| crossed(a, b)).count());
        prop_assert_eq!(crossings(&rows, &neighbours, &places), pairs.sum::<usize>() as u64);
        let before = crossings(&rows, &neighbours, &places);
        let mut ordered = rows;
        order(&mut ordered, &neighbours);
        let mut places = vec![0; 24];
        for row in &ordered {
            row.iter().enumerate().for_each(|(place, &vertex)| places[vertex] = place);
        }
        prop_assert!(crossings(&ordered, &neighbours, &places) <= before);
    }
}

#[test]
fn what_crosses_needlessly_is_untangled() {
    // Two pairs of stages, side by side, given in the wrong order.
    let edges = [(0, 5), (1, 4), (2, 7), (3, 6), (0, 4), (2, 6)];
    let neighbours = Neighbours::new(8, edges);
    let mut rows = vec![vec![0, 2, 1, 3], vec![4, 6, 5, 7]];
    order(&mut rows, &neighbours);
    let mut places = vec![0; 8];
    for row in &rows {
        row.iter().enumerate().for_each(|(place, &vertex)| places[vertex] = place);
    }
    assert_eq!(crossings(&rows, &neighbours, &places), 0, "{rows:?}");
}

#[test]
fn a_source_is_just_above_the_step_that_starts_from_it() {
    let sizes = [(100.0, 20.0); 5];
    let layout = Layout::new(&sizes, &[(0, 1), (1, 2), (2, 3), (4, 3)], 20.0);
    assert_eq!(layout.boxes[4].y, layout.boxes[2].y);
    assert!(layout.lines.iter().all(|line| line.points.len() == 2));
}

#[test]
fn a_chain_is_a_straight_line() {
    let edges: Vec<_> = (1..9).map(|to| (to - 1, to)).collect();
    let layout = Layout::new(&[(100.0, 20.0); 9], &edges, 20.0);
    assert!(layout.boxes.iter().all(|rect| rect.x == layout.boxes[0].x), "{layout:?}");
}

#[test]
fn many_of_one_rank_are_in_several_rows() {
    let edges: Vec<_> = (0..500).map(|from| (from, 500)).collect();
    let layout = Layout::new(&[(100.0, 20.0); 501], &edges, 20.0);
    assert!(layout.width < 60.0 * 118.0, "{}", layout.width);
    assert!(layout.boxes[..500].iter().all(|rect| rect.y < layout.boxes[500].y));
}

#[test]
fn of_a_large_graph_what_only_follows_is_one_box_and_nothing_is_lost() {
    // 100 stages of 20 steps, each with its own source, all copied into one last step; the steps of one stage
    // have no keys from the tenth on.
    let mut warmths = vec![Warmth::Warm];
    let mut edges = Vec::new();
    for stage in 0..100 {
        for step in 0..21 {
            let number = warmths.len();
            warmths.push(match (stage, step) {
                (_, 0) => Warmth::Source,
                (50, 10..) => Warmth::NoKey,
                _ => Warmth::Warm,
            });
            edges.push((number, if step == 20 { 0 } else { number + 1 }));
        }
    }
    let whole = graph(warmths, &edges);
    assert!(whole.nodes.len() > UNFOLDED);
    let folded = fold(&whole);
    assert_eq!(folded.graph.nodes.len(), 102);
    assert_eq!(folded.graph.nodes.iter().map(|node| node.count).sum::<usize>(), whole.nodes.len());
    let bytes = |graph: &Graph| graph.nodes.iter().filter_map(|node| node.bytes).sum::<u64>();
    assert_eq!(bytes(&folded.graph), bytes(&whole));
    assert_eq!((folded.hidden_steps, folded.hidden_edges), (0, 0));
    let cold: Vec<_> = folded.graph.nodes.iter().filter(|n| n.warmth == Warmth::NoKey).collect();
    assert_eq!((cold.len(), cold[0].count), (1, 11));
}

#[test]
fn a_graph_that_is_not_large_is_drawn_as_it_is_and_only_sources_go_into_boxes_at_first() {
    let edges: Vec<_> = (1..UNFOLDED).map(|to| (to - 1, to)).collect();
    let whole = graph(vec![Warmth::Warm; UNFOLDED], &edges);
    assert_eq!(fold(&whole).graph, whole);
    let warmths = |number| if number == 0 { Warmth::Source } else { Warmth::Warm };
    let edges: Vec<_> = (1..SPARSE).map(|to| (to - 1, to)).collect();
    let small = graph((0..SPARSE).map(warmths), &edges);
    assert_eq!(fold(&small).graph, small);
    let more = graph((0..SPARSE + 1).map(warmths), &edges);
    let folded = fold(&more).graph;
    assert_eq!(folded.nodes.len(), SPARSE);
    assert_eq!(folded.nodes[0].count, 2);
}

#[test]
fn the_order_of_a_graph_has_what_a_step_builds_on_just_before_it() {
    let whole = graph(vec![Warmth::Warm; 6], &[(5, 0), (4, 0), (3, 4), (2, 1), (1, 2)]);
    assert_eq!(whole.in_order(), [5, 3, 4, 0, 2, 1]);
}

#[test]
fn of_too_large_a_graph_what_runs_again_is_drawn() {
    let warmth = |number| if number % 10_000 == 7 { Warmth::NoKey } else { Warmth::Warm };
    // Every step has two dependents, so nothing folds.
    let edges: Vec<_> = (0..30_000).flat_map(|n| [(n, n + 1), (n, n + 2)]).collect();
    let whole = graph((0..30_002).map(warmth), &edges);
    let folded = fold(&whole);
    assert_eq!(folded.graph.nodes.len(), MOST_BOXES);
    assert_eq!(folded.hidden_steps, 30_002 - MOST_BOXES);
    let cold = folded.graph.nodes.iter().filter(|node| node.warmth == Warmth::NoKey);
    assert_eq!(cold.count(), 3);
    assert!(svg(&whole).contains("28802 more records are not drawn"));
}

/// 100,000 nodes of any shape take negligible time: these are the worst known shapes.
#[test]
fn large_graphs_take_bounded_time() {
    const MANY: usize = 100_000;
    let sink = (1..MANY).map(|from| (from, 0)).collect();
    let loops = (0..MANY).map(|from| (from, (from * 7 + 1) % MANY)).collect();
    let ladder = (2..MANY).flat_map(|to| [(to - 1, to), (to - 2, to), (0, to)]).collect();
    let edges: [Vec<_>; 3] = [sink, loops, ladder];
    for edges in edges {
        let whole = graph(vec![Warmth::Warm; MANY], &edges);
        let started = Instant::now();
        let picture = svg(&whole);
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        assert!(picture.len() < 8 << 20, "{}", picture.len());
    }
    // As many lines as possible between the drawn boxes.
    let all: Vec<_> = (0..1_200).flat_map(|to| (0..to).map(move |from| (from, to))).collect();
    let whole = graph(vec![Warmth::Warm; 1_200], &all);
    let folded = fold(&whole);
    assert_eq!(folded.graph.edges.len(), MOST_LINES);
    assert!(svg(&whole).contains("lines more are not drawn"));
}

/// A malicious name of a step.
const HOSTILE: &str =
    "</title><script>alert(\"1\")</script>&'\u{0}\u{1b}[2J\u{202e}\u{fffe}\n\\N\\\" ]]>";

#[test]
fn nothing_that_a_step_is_called_gets_out_of_its_place() {
    let mut whole = graph([Warmth::Warm, Warmth::Source], &[(1, 0), (0, 0), (0, 9)]);
    whole.title = HOSTILE.to_owned();
    for node in &mut whole.nodes {
        node.name = HOSTILE.to_owned() + &"y".repeat(1 << 20);
        node.detail = HOSTILE.to_owned();
        node.id = HOSTILE.to_owned();
    }
    let picture = svg(&whole);
    assert!(picture.len() < 20_000, "{}", picture.len());
    let document = roxmltree::Document::parse(&picture).unwrap();
    assert!(!document.descendants().any(|element| element.has_tag_name("script")));
    let shown = document.descendants().filter_map(|element| element.text());
    assert!(shown.into_iter().any(|text| text.starts_with("</title><script>alert(\"1\")")));
    let text = dot(&whole);
    assert!(text.len() < 20_000, "{}", text.len());
    assert!(!text.contains(['\u{0}', '\u{1b}', '\u{202e}']));
    // Every quote that is part of a text is escaped, and so is every backslash before it.
    for line in text.lines().filter(|line| line.contains("label=")) {
        let bare = line.replace("\\\\", "").replace("\\\"", "");
        assert_eq!(bare.matches('"').count() % 2, 0, "{line}");
        assert!(!bare.contains("\\N"), "{line}");
    }
}

#[test]
fn a_picture_says_how_much_is_warm() {
    let whole = graph(
        [Warmth::Source, Warmth::Warm, Warmth::KeyOnly, Warmth::NoKey, Warmth::NoInput],
        &[(0, 1), (1, 2), (2, 3), (3, 4)],
    );
    let picture = svg(&whole);
    assert!(picture.contains("2 of 4 steps are warm, on 1 sources; 10 B"), "{picture}");
    for warmth in [Warmth::Source, Warmth::Warm, Warmth::NoKey] {
        assert!(picture.contains(warmth.meaning()));
    }
    assert!(!picture.contains(Warmth::Packed.meaning()));
    assert!(svg(&Graph::default()).contains("0 of 0 steps"));
}
