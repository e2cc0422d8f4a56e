//! Draws dependency graphs of steps, as SVG or in the language of Graphviz.
//!
//! [`oci2bk::inspect`] reads the content of a cache export or of a daemon's root. A [`Graph`] is made from
//! either. It has names, sizes and colours, is folded if it is large ([`fold()`]), laid out in rows
//! ([`Layout`]) and written ([`svg()`], [`dot()`]).
//!
//! ```
//! use graph::{Graph, svg};
//! use oci2bk::inspect::Export;
//! use oci2bk::{CacheExport, Keyring, Limits, Target};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/index/cache".parse()?], &limits)?;
//! let mut keyring = Keyring::for_exports(&exports);
//! keyring.read("fixtures/index/keys/provenance.json", &limits)?;
//!
//! let export = Export::new(&exports, &keyring, Target::NEWEST)?;
//! assert!(svg(&Graph::from(&export)).starts_with("<svg"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Names come from an untrusted cache, and a damaged root can have any graph, including loops. So every text
//! is escaped and shortened, nothing is recursive, and the work is about linear in nodes and edges. Of a
//! graph that is too large to view, a part is drawn and the rest counted.
//!
//! ```
//! use graph::{Edge, Folded, Graph, MOST_BOXES, MOST_LINES, Node, dot, fold, svg};
//! use oci2bk::inspect::Warmth;
//!
//! let node = |name: &str, warmth| Node {
//!     id: name.to_owned(),
//!     name: name.to_owned(),
//!     detail: String::new(),
//!     warmth,
//!     bytes: None,
//!     count: 1,
//! };
//! let mut graph = Graph {
//!     title: "a build".to_owned(),
//!     nodes: vec![node("RUN make", Warmth::NoKey), node("FROM debian", Warmth::Source)],
//!     edges: vec![Edge { from: 1, to: 0 }],
//! };
//! // For readers of a list: each step after its inputs.
//! assert_eq!(graph.in_order(), [1, 0]);
//! assert!(graph.nodes[0].warmth.is_cold() && !graph.nodes[1].warmth.is_cold());
//!
//! let picture = svg(&graph);
//! assert!(picture.contains("RUN make") && picture.contains(Warmth::NoKey.meaning()));
//! assert!(dot(&graph).contains(Warmth::NoKey.word()));
//!
//! // A cache of very many steps. The picture has only as many as can be viewed, and says so.
//! graph.nodes.extend((0..10_000).map(|step| node(&step.to_string(), Warmth::Warm)));
//! let Folded { graph: drawn, hidden_steps, .. } = fold(&graph);
//! assert!(drawn.nodes.len() <= MOST_BOXES && drawn.edges.len() <= MOST_LINES);
//! assert!(hidden_steps > 0);
//! ```
//!
//! # Text and layout
//!
//! Names are escaped by [`text`](oci2bk::text). The layout is useful for other drawings too:
//!
//! ```
//! use graph::{Edge, Graph, Layout, Line, Node, Rect, SPARSE, UNFOLDED, fold};
//! use oci2bk::inspect::Warmth;
//!
//! // Three boxes, the first above the other two.
//! let sizes = [(100.0, 20.0); 3];
//! let Layout { boxes, lines, width, height, .. } = Layout::new(&sizes, &[(1, 0), (2, 0)], 30.0);
//! let Rect { y: bottom, .. } = boxes[0];
//! assert!(boxes[1..].iter().all(|&Rect { y, .. }| y < bottom));
//! assert!(lines.iter().all(|Line { points, backward, .. }| points.len() >= 2 && !backward));
//! assert!(boxes.iter().all(|b| b.x + b.width <= width && b.y + b.height <= height));
//!
//! // A source that only one step uses has its own box in small graphs, and the steps of a
//! // chain have theirs in medium ones.
//! let boxes = |count: usize, warmth: fn(usize) -> Warmth| {
//!     let node = |index: usize| Node {
//!         id: index.to_string(),
//!         name: format!("step {index}"),
//!         detail: String::new(),
//!         warmth: warmth(index),
//!         bytes: None,
//!         count: 1,
//!     };
//!     let nodes = (0..count).map(node).collect();
//!     let edges = (1..count).map(|to| Edge { from: to - 1, to }).collect();
//!     fold(&Graph { title: String::new(), nodes, edges }).graph.nodes.len()
//! };
//! let all_warm = |_| Warmth::Warm;
//! assert_eq!(boxes(SPARSE, all_warm), SPARSE);
//! assert_eq!(boxes(UNFOLDED, all_warm), UNFOLDED);
//! assert_eq!(boxes(UNFOLDED + 1, all_warm), 1);
//! let first_is_source = |index| if index == 0 { Warmth::Source } else { Warmth::Warm };
//! assert_eq!(boxes(SPARSE, first_is_source), SPARSE);
//! assert_eq!(boxes(SPARSE + 1, first_is_source), SPARSE);
//! ```
//!
//! [`docs/semver.md`] of the project says what is stable. The crate has no features.
//!
//! [`docs/semver.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/semver.md

mod dot;
mod export;
mod fold;
mod layout;
mod model;
mod order;
mod place;
mod rank;
mod root;
mod svg;
#[cfg(test)]
mod tests;

pub use dot::dot;
pub use fold::{Folded, MOST_BOXES, MOST_LINES, SPARSE, UNFOLDED, fold};
pub use layout::{Layout, Line, Rect};
pub use model::{Edge, Graph, Node};
pub use svg::svg;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
