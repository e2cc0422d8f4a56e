//! Drawing what depends on what: a graph of steps as SVG or in the language of Graphviz.
//!
//! The graph of a cache is a matter of [`inspect`](crate::inspect). Here it is data with names, sizes
//! and colours: [`Graph`] is folded if it is large ([`fold()`]), laid out in rows ([`Layout`]) and
//! written ([`svg()`], [`dot()`]).
//!
//! Names come from whoever made the cache, and a damaged root may have any graph at all, loops
//! included. So every text is escaped and shortened, nothing recurses, and the work is about linear in
//! nodes and edges; of what is too much to be looked at, a part is drawn and the rest counted.

mod dot;
mod fold;
mod layout;
mod model;
mod order;
mod place;
mod rank;
mod svg;
#[cfg(test)]
mod tests;
mod text;

pub use dot::dot;
pub use fold::{Folded, MOST_BOXES, MOST_LINES, SPARSE, UNFOLDED, fold};
pub use layout::{Layout, Line, Rect};
pub use model::{Edge, Graph, Node, Warmth};
pub use svg::svg;
pub use text::{one_line, short_digest, shortened, size};
