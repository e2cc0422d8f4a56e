//! Draws the graph as a picture.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use oci2bk::inspect::Warmth;
use oci2bk::text::{shortened, size};

use super::fold::{Folded, SPARSE, UNFOLDED, fold};
use super::layout::{Layout, Line, Rect};
use super::model::{Graph, Node};

/// Visible columns of a step's name. The full name is in the title of its box, which browsers show under the
/// pointer.
pub(super) const NAME_COLUMNS: usize = 36;
const DETAIL_COLUMNS: usize = 42;
const SOURCE_COLUMNS: usize = 18;

const STEP: (f64, f64) = (276.0, 44.0);
const SOURCE: (f64, f64) = (120.0, 20.0);
/// The space between rows.
const GAP: f64 = 30.0;
/// Size of a box in a graph that is not sparse.
const DENSE_STEP: (f64, f64) = (276.0, 20.0);
const DENSE_GAP: f64 = 12.0;
/// With the size on the same line, the name has less space.
const DENSE_COLUMNS: usize = 28;
const MARGIN: f64 = 28.0;
/// The header has the title, a bar of all steps and the legend, in columns of this width.
pub(super) const LEGEND_COLUMN: f64 = 430.0;
const LEGEND_ROW: f64 = 20.0;
const HEAD_WIDTH: f64 = 2.0 * LEGEND_COLUMN;
const BAR_TOP: f64 = 58.0;
const BAR_HEIGHT: f64 = 12.0;

const STYLE: &str = "text{font-family:system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif;fill:#1f2328}\
    .h{font-size:17px;font-weight:600}.s{font-size:12px;fill:#59636e}.m{font-size:12px;font-weight:700}\
    .n,.d{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:11px}\
    .d{font-size:9.5px;fill:#59636e}\
    .e{fill:none;stroke:#9aa4af;stroke-width:1.2}.b{stroke:#c62828;stroke-dasharray:5 3}";

/// Returns the fill and line colours of a box of that warmth. The dark ones have a contrast of more than 4.5
/// to white, and no two of them differ only in red and green.
pub(super) fn colours(warmth: Warmth) -> (&'static str, &'static str) {
    match warmth {
        Warmth::Warm => ("#dcf3e3", "#1a7f37"),
        Warmth::Packed => ("#dbeafe", "#0b5cad"),
        Warmth::KeyOnly => ("#f3f8ee", "#5f7d3a"),
        Warmth::Source => ("#f1f3f5", "#6b7480"),
        Warmth::MayMiss => ("#fff3cd", "#8a6100"),
        Warmth::WillMiss => ("#ffe3cf", "#b34700"),
        Warmth::NoLayers => ("#f1e3fa", "#7b2fa6"),
        Warmth::NoKey => ("#ffdcdc", "#b3121d"),
        Warmth::NoInput => ("#fbeaf0", "#a13a63"),
    }
}

/// Returns a mark that distinguishes the kinds without colour.
fn mark(warmth: Warmth) -> &'static str {
    match warmth {
        Warmth::Warm => "✓",
        Warmth::Packed => "▣",
        Warmth::KeyOnly => "○",
        Warmth::Source => "·",
        Warmth::MayMiss => "?",
        Warmth::WillMiss => "≠",
        Warmth::NoLayers => "∅",
        Warmth::NoKey => "✗",
        Warmth::NoInput => "↯",
    }
}

/// Draws `graph` as an SVG document: a header that shows at a glance how much of it is warm, and below it the
/// steps from top to bottom, each with its warmth, its name and the size of its layer. A large graph is
/// folded first.
pub fn svg(graph: &Graph) -> String {
    let folded = fold(graph);
    let drawn = &folded.graph;
    let dense = graph.nodes.len() > SPARSE;
    let sizes: Vec<_> = drawn.nodes.iter().map(|node| box_size(node, dense)).collect();
    let edges: Vec<_> = drawn.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let layout = Layout::new(&sizes, &edges, if dense { DENSE_GAP } else { GAP });
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_to(&mut text, graph, &folded, &layout);
    text
}

fn box_size(node: &Node, dense: bool) -> (f64, f64) {
    match node.warmth {
        Warmth::Source => SOURCE,
        _ if dense => DENSE_STEP,
        _ => STEP,
    }
}

fn write_to(text: &mut String, whole: &Graph, folded: &Folded, layout: &Layout) -> fmt::Result {
    let head = Head::of(whole, folded);
    let top = head.height() + MARGIN;
    let width = layout.width.max(HEAD_WIDTH) + 2.0 * MARGIN;
    let height = top + layout.height + MARGIN;
    writeln!(
        text,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">"#
    )?;
    writeln!(text, "<title>{}</title>", escaped(&shortened(&whole.title, 200)))?;
    writeln!(text, "<style>{STYLE}</style>")?;
    writeln!(text, r##"<rect width="{width}" height="{height}" fill="#fff"/>"##)?;
    head.write_to(text, width - 2.0 * MARGIN)?;
    let left = (MARGIN + (width - 2.0 * MARGIN - layout.width) / 2.0).round();
    writeln!(text, r#"<g transform="translate({left} {top})">"#)?;
    layout.lines.iter().try_for_each(|line| write_line(text, line))?;
    let largest = folded.graph.nodes.iter().filter_map(|node| node.bytes).max().unwrap_or_default();
    for (node, place) in folded.graph.nodes.iter().zip(&layout.boxes) {
        write_node(text, node, place, largest)?;
    }
    writeln!(text, "</g>\n</svg>")
}

/// The part above the graph.
struct Head<'g> {
    title: &'g str,
    /// Steps and bytes by warmth.
    counts: BTreeMap<Warmth, (usize, u64)>,
    notes: Vec<String>,
}

impl<'g> Head<'g> {
    fn of(whole: &'g Graph, folded: &Folded) -> Self {
        let mut counts: BTreeMap<Warmth, (usize, u64)> = BTreeMap::new();
        for node in &whole.nodes {
            let (steps, bytes) = counts.entry(node.warmth).or_default();
            *steps += node.count;
            *bytes = bytes.saturating_add(node.bytes.unwrap_or_default());
        }
        let mut notes = Vec::new();
        let boxes = folded.graph.nodes.len();
        if whole.nodes.len() > boxes {
            let records = whole.nodes.len() - folded.hidden_steps;
            let why = if whole.nodes.len() > UNFOLDED {
                "steps of a kind that only follow each other are one box, with what they start from"
            } else {
                "what only one step starts from is part of its box"
            };
            notes.push(format!("{records} records in {boxes} boxes: {why}"));
        }
        if folded.hidden_steps > 0 {
            notes.push(format!(
                "{} more records are not drawn: first come those that run again, then the last ones",
                folded.hidden_steps
            ));
        }
        if folded.hidden_edges > 0 {
            notes.push(format!("{} lines more are not drawn", folded.hidden_edges));
        }
        Self { title: &whole.title, counts, notes }
    }

    fn legend_top(&self) -> f64 {
        BAR_TOP + BAR_HEIGHT + 14.0
    }

    fn height(&self) -> f64 {
        let rows = self.counts.len().div_ceil(2) + self.notes.len();
        self.legend_top() + LEGEND_ROW * rows as f64
    }

    fn write_to(&self, text: &mut String, width: f64) -> fmt::Result {
        let title = escaped(&shortened(self.title, 84));
        writeln!(text, r#"<text class="h" x="{MARGIN}" y="30">{title}</text>"#)?;
        writeln!(text, r#"<text class="s" x="{MARGIN}" y="48">{}</text>"#, self.summary())?;
        // Sources are neither warm nor cold.
        let steps = || self.counts.iter().filter(|(warmth, _)| **warmth != Warmth::Source);
        let all: usize = steps().map(|(_, (count, _))| count).sum();
        let mut x = MARGIN;
        for (warmth, (count, _)) in steps() {
            let share = width * *count as f64 / all.max(1) as f64;
            let (_, colour) = colours(*warmth);
            writeln!(
                text,
                r#"<rect x="{x:.1}" y="{BAR_TOP}" width="{share:.1}" height="{BAR_HEIGHT}" fill="{colour}"/>"#
            )?;
            x += share;
        }
        let rows = self.counts.len().div_ceil(2);
        for (place, (warmth, (count, bytes))) in self.counts.iter().enumerate() {
            let x = MARGIN + LEGEND_COLUMN * (place / rows.max(1)) as f64;
            let y = self.legend_top() + LEGEND_ROW * (place % rows.max(1)) as f64;
            self.write_entry(text, (x, y), *warmth, *count, *bytes)?;
        }
        for (row, note) in (rows..).zip(&self.notes) {
            let y = self.legend_top() + LEGEND_ROW * row as f64 + 12.0;
            writeln!(text, r#"<text class="s" x="{MARGIN}" y="{y}">{}</text>"#, escaped(note))?;
        }
        Ok(())
    }

    fn write_entry(
        &self,
        text: &mut String,
        (x, y): (f64, f64),
        warmth: Warmth,
        count: usize,
        bytes: u64,
    ) -> fmt::Result {
        let (fill, line) = colours(warmth);
        let (middle, base, after) = (x + 8.0, y + 12.0, x + 24.0);
        let bytes = if bytes > 0 { format!(" ({})", size(bytes)) } else { String::new() };
        writeln!(
            text,
            r#"<rect x="{x}" y="{y}" width="16" height="16" rx="3" fill="{fill}" stroke="{line}"/><text class="m" x="{middle}" y="{base}" text-anchor="middle" style="fill:{line}">{}</text><text class="s" x="{after}" y="{base}"><tspan font-weight="600">{count}</tspan>{bytes} {}</text>"#,
            mark(warmth),
            warmth.meaning()
        )
    }

    /// Returns a one-line summary.
    fn summary(&self) -> String {
        let count = |warmth: Warmth| self.counts.get(&warmth).map_or(0, |(count, _)| *count);
        let all: usize = self.counts.values().map(|(count, _)| count).sum();
        let steps = all - count(Warmth::Source);
        let cold: usize = Warmth::ALL.into_iter().filter(|w| w.is_cold()).map(count).sum();
        let bytes = self.counts.values().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes));
        let warm = steps - cold;
        let sources = count(Warmth::Source);
        format!("{warm} of {steps} steps are warm, on {sources} sources; {}", size(bytes))
    }
}

/// Writes a line whose ends and bends are vertical.
fn write_line(text: &mut String, line: &Line) -> fmt::Result {
    let class = if line.backward { "e b" } else { "e" };
    write!(text, r#"<path class="{class}" d=""#)?;
    let mut before: Option<(f64, f64)> = None;
    for &(x, y) in &line.points {
        match before {
            None => write!(text, "M{x} {y}")?,
            Some((from, _)) if from == x => write!(text, "V{y}")?,
            Some((from, above)) => {
                let middle = (above + y) / 2.0;
                write!(text, "C{from} {middle} {x} {middle} {x} {y}")?;
            }
        }
        before = Some((x, y));
    }
    writeln!(text, r#""/>"#)
}

fn write_node(text: &mut String, node: &Node, place: &Rect, largest: u64) -> fmt::Result {
    let (fill, line) = colours(node.warmth);
    let Rect { x, y, width, height } = *place;
    let mut hover = vec![shortened(&node.name, 400), shortened(&node.detail, 400)];
    hover.extend([shortened(&node.id, 200), node.warmth.meaning().to_owned()]);
    hover.retain(|line| !line.is_empty());
    let hover = hover.join("\n");
    let dashed = if node.warmth == Warmth::KeyOnly { r#" stroke-dasharray="4 2""# } else { "" };
    writeln!(
        text,
        r#"<g><title>{}</title><rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{fill}" stroke="{line}"{dashed}/>"#,
        escaped(&hover)
    )?;
    if node.warmth == Warmth::Source {
        let name = escaped(&shortened(&node.name, SOURCE_COLUMNS));
        let (middle, base) = (x + width / 2.0, y + 13.5);
        return writeln!(
            text,
            r#"<text class="d" x="{middle}" y="{base}" text-anchor="middle">{name}</text></g>"#
        );
    }
    let dense = height < STEP.1;
    let (inside, base) = (x + 26.0, y + if dense { 14.0 } else { 17.0 });
    let columns = if dense { DENSE_COLUMNS } else { NAME_COLUMNS };
    write!(
        text,
        r#"<text class="m" x="{}" y="{base}" text-anchor="middle" style="fill:{line}">{}</text><text class="n" x="{inside}" y="{base}">{}</text>"#,
        x + 14.0,
        mark(node.warmth),
        escaped(&shortened(&node.name, columns))
    )?;
    let right = x + width - 6.0;
    match node.bytes {
        Some(bytes) if dense => {
            writeln!(
                text,
                r#"<text class="d" x="{right}" y="{base}" text-anchor="end">{}</text>"#,
                size(bytes)
            )?;
        }
        _ if dense => {}
        _ => {
            let detail = escaped(&shortened(&node.detail, DETAIL_COLUMNS));
            writeln!(text, r#"<text class="d" x="{inside}" y="{}">{detail}</text>"#, y + 31.0)?;
        }
    }
    if let Some(bytes) = node.bytes.filter(|_| largest > 0) {
        // Square roots keep small layers visible beside ones that are a thousand times larger.
        let share = (bytes as f64 / largest as f64).sqrt() * (right - inside);
        let (top, thick) = if dense { (y + height - 3.0, 2) } else { (y + 37.0, 3) };
        writeln!(
            text,
            r#"<rect x="{inside}" y="{top}" width="{:.1}" height="{thick}" fill="{line}"/>"#,
            share.max(1.0)
        )?;
    }
    writeln!(text, "</g>")
}

/// Escapes text as character data. Characters that XML does not allow were escaped before ([`shortened`]).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
