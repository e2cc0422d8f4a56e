//! The records of an export as a graph.

use std::collections::BTreeMap;

use oci2bk::inspect::{Export, ExportLayer, ExportStep, StepInput};
use oci2bk::text::{short_digest, size};

use super::model::{Edge, Graph, Node};

impl From<&Export> for Graph {
    /// Returns the graph of the records and their inputs.
    fn from(export: &Export) -> Self {
        let index: BTreeMap<_, _> =
            export.steps.iter().map(|step| (step.source, step.number)).zip(0..).collect();
        let edges = export.steps.iter().zip(0..).flat_map(|(step, to)| {
            let from = |input: &StepInput| index.get(&(step.source, input.step)).copied();
            step.inputs.iter().filter_map(from).map(move |from| Edge { from, to })
        });
        let references: Vec<_> = export.sources.iter().map(|s| s.reference.as_str()).collect();
        Self {
            title: references.join(" "),
            nodes: export.steps.iter().map(|step| node(export, step)).collect(),
            edges: edges.collect(),
        }
    }
}

fn node(export: &Export, step: &ExportStep) -> Node {
    let result = step.results.first();
    let layer = result.and_then(|result| export.layer(step.source, result.layer));
    let digest = step.digest.to_string();
    // Without a name, the digest replaces it.
    let mut detail: Vec<_> = step.name.iter().map(|_| short_digest(&digest)).collect();
    if let Some(layer) = layer {
        detail.extend(layer.bytes.map(size));
        detail.extend(layer.compression_word().map(str::to_owned));
    }
    if let Some(result) = result {
        detail.push(match result.depth {
            1 => "1 layer".to_owned(),
            depth => format!("{depth} layers"),
        });
    }
    Node {
        name: step.name.clone().unwrap_or_else(|| short_digest(&digest)),
        id: digest,
        detail: detail.join(" · "),
        warmth: step.warmth,
        bytes: layer.and_then(|layer: &ExportLayer| layer.bytes),
        count: 1,
    }
}

#[cfg(test)]
mod tests {
    use oci2bk::{CacheExport, Keyring, Limits, Target};

    use super::*;

    #[test]
    fn what_is_left_of_an_export_is_drawn_with_nothing_pointing_at_what_is_not_there() {
        let limits = Limits::default();
        let source = "fixtures/index/cache".parse().unwrap();
        let exports = CacheExport::read_sources(&[source], &limits).unwrap();
        let keyring = Keyring::for_exports(&exports);
        let export = Export::new(&exports, &keyring, Target::NEWEST).unwrap();
        let whole = Graph::from(&export);
        assert_eq!(whole.nodes.len(), export.steps.len());
        // Somewhere in the middle: it has inputs, and others build on it.
        let edges = &whole.edges;
        let is_inner = |at: usize| {
            edges.iter().any(|edge| edge.from == at) && edges.iter().any(|edge| edge.to == at)
        };
        let inner = (0..whole.nodes.len()).find(|&at| is_inner(at)).unwrap();
        let near = Graph::from(&export.only(&whole.nodes[inner].id).unwrap());
        assert!(near.nodes.len() < whole.nodes.len() && !near.edges.is_empty());
        assert!(near.edges.iter().all(|edge| edge.from.max(edge.to) < near.nodes.len()));
        let layer = near.nodes.iter().find(|node| node.bytes.is_some()).unwrap();
        assert!(layer.detail.contains(" · gzip · "), "{}", layer.detail);
    }
}
