//! The keys of a root as a graph.

use std::collections::BTreeMap;

use oci2bk::inspect::{Key, Record, Root};
use oci2bk::text::{short_digest, size};

use super::model::{Edge, Graph, Node};

impl From<&Root> for Graph {
    /// Returns the graph of the solver's keys and their links. It can have loops, if the root is damaged.
    fn from(root: &Root) -> Self {
        let index: BTreeMap<_, _> = root.keys.iter().map(|key| &key.id).zip(0..).collect();
        let edges = root.keys.iter().zip(0..).flat_map(|(key, to)| {
            let from = key.inputs.iter().filter_map(|input| index.get(&input.from).copied());
            from.map(move |from| Edge { from, to })
        });
        Self {
            title: root.path.display().to_string(),
            edges: edges.collect(),
            nodes: root.keys.iter().map(|key| node(root, key)).collect(),
        }
    }
}

fn node(root: &Root, key: &Key) -> Node {
    let there = key.results.iter().find(|result| result.is_there);
    let record = there.and_then(|result| root.record(result.id.record.as_ref()?.as_str()));
    let mut detail = vec![short_digest(&key.id.text())];
    if let Some(record) = record {
        detail = vec![format!("record {}", short_digest(record.id.as_str()))];
        detail.extend(record.bytes().map(size));
        detail.extend(record.stored.usage_count.map(|count| format!("used {count} times")));
    }
    let id = &*key.id.text();
    Node {
        id: id.to_owned(),
        name: key.name.clone().unwrap_or_else(|| short_digest(id)),
        detail: detail.join(" · "),
        warmth: key.warmth,
        bytes: record.and_then(Record::bytes),
        count: 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use bkstate::ids::KeyId;
    use bkstate::solver::Link;
    use oci2bk::inspect::{KeyLink, Warmth};

    use super::*;
    use crate::{dot, svg};

    /// Returns a root that has only keys with these links.
    fn with_links(links: impl IntoIterator<Item = (usize, usize)>) -> Root {
        let id = |number: usize| KeyId::derive(&number.to_string());
        let mut inputs: BTreeMap<usize, Vec<KeyLink>> = BTreeMap::new();
        for (from, to) in links {
            inputs.entry(from).or_default();
            let from = id(from);
            inputs.entry(to).or_default().push(KeyLink { from, link: Link::default() });
        }
        let key = |(number, inputs)| Key {
            id: id(number),
            name: None,
            warmth: Warmth::KeyOnly,
            results: Vec::new(),
            inputs,
        };
        Root {
            path: "/var/lib/buildkit".into(),
            degree: None,
            workers: Vec::new(),
            keys: inputs.into_iter().map(key).collect(),
            records: Vec::new(),
            legacy: 0,
            leases: Vec::new(),
            snapshots: Vec::new(),
            blobs: Vec::new(),
            builds: Vec::new(),
            damage: Vec::new(),
            unread: Vec::new(),
        }
    }

    #[test]
    fn loops_in_the_links_of_a_damaged_root_are_shown_and_do_no_harm() {
        let graph = Graph::from(&with_links([(0, 1), (1, 2), (2, 0), (3, 3), (2, 4)]));
        let order: BTreeSet<_> = graph.in_order().into_iter().collect();
        assert_eq!(order.len(), 5);
        let picture = svg(&graph);
        roxmltree::Document::parse(&picture).unwrap();
        assert_eq!(picture.matches(r#"class="e b""#).count(), 1);
    }

    #[test]
    fn a_link_from_a_key_that_is_not_there_is_not_drawn() {
        let mut root = with_links([(0, 1), (1, 2)]);
        root.keys.remove(0);
        let graph = Graph::from(&root);
        assert_eq!((graph.nodes.len(), &*graph.edges), (2, &[Edge { from: 0, to: 1 }][..]));
        assert_eq!(graph.title, "/var/lib/buildkit");
    }

    #[test]
    fn a_hundred_thousand_keys_are_drawn_in_bounded_time() {
        const MANY: usize = 100_000;
        let root = with_links((1..MANY).flat_map(|to| [(to - 1, to), (0, to)]));
        let started = Instant::now();
        let graph = Graph::from(&root);
        assert_eq!(graph.in_order().len(), MANY);
        assert!(svg(&graph).len() < 8 << 20);
        assert!(dot(&graph).len() > MANY);
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    }
}
