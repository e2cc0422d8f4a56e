//! The language of Graphviz (<https://graphviz.org/doc/info/lang.html>).

use std::fmt::Write as _;

use oci2bk::text::{shortened, size};

use super::model::Graph;
use super::svg::{NAME_COLUMNS, colours};

/// Writes `graph` in the language of Graphviz, completely: the reader decides what can be drawn.
pub fn dot(graph: &Graph) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_to(&mut text, graph);
    text
}

fn write_to(text: &mut String, graph: &Graph) -> std::fmt::Result {
    writeln!(text, "digraph cache {{")?;
    writeln!(text, "  label={};", quoted(&shortened(&graph.title, 200)))?;
    writeln!(text, "  labelloc=t;\n  fontname=\"sans-serif\";")?;
    writeln!(
        text,
        "  node [shape=box, style=\"filled,rounded\", fontname=\"sans-serif\", fontsize=10];"
    )?;
    for (index, node) in graph.nodes.iter().enumerate() {
        let (fill, line) = colours(node.warmth);
        let name = shortened(&node.name, NAME_COLUMNS);
        let mut label = format!("{name}\n{}", node.warmth.word());
        if let Some(bytes) = node.bytes {
            write!(label, ", {}", size(bytes))?;
        }
        let tooltip = format!("{} {}", shortened(&node.name, 400), shortened(&node.id, 200));
        writeln!(
            text,
            "  n{index} [label={}, tooltip={}, fillcolor=\"{fill}\", color=\"{line}\"];",
            quoted(&label),
            quoted(&tooltip)
        )?;
    }
    for edge in &graph.edges {
        if edge.from < graph.nodes.len() && edge.to < graph.nodes.len() {
            writeln!(text, "  n{} -> n{};", edge.from, edge.to)?;
        }
    }
    writeln!(text, "}}")
}

/// Quotes a string. Backslashes start escapes there, such as the one for the name of the node.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}
