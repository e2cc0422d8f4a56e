//! Exports of daemons of BuildKit v0.32.2, treated as exports of an unknown release.

use oci2bk::llb::Selectors;
use oci2bk::plan::Plan;
use oci2bk::release::Target;

use crate::fixture::{self, ALL, Fixture};

/// Returns the fixtures whose keys include the ops.
fn with_ops() -> impl Iterator<Item = &'static Fixture> {
    ALL.iter().filter(|fixture| fixture.keys != "keys/cache.db")
}

#[test]
fn selectors_computed_from_the_ops_are_those_that_were_exported() {
    let mut compared = 0;
    for fixture in with_ops() {
        let export = fixture.export();
        let keyring = fixture::keyring(std::slice::from_ref(&export), &[fixture]);
        for record in &export.config.records {
            let vertex = keyring.get(&record.digest).and_then(|key| key.vertex.as_ref());
            let Some(vertex) = vertex else { continue };
            for (number, alternatives) in record.inputs.iter().enumerate() {
                let Some(computed) = vertex.selector(number, Selectors::V0_15_2) else { continue };
                for alternative in alternatives {
                    let contents =
                        alternative.selector.is_empty() && vertex.hashes_contents(number);
                    assert!(contents || alternative.selector == computed, "{vertex:#?}");
                    compared += usize::from(!contents);
                }
            }
        }
    }
    assert!(compared > 5, "{compared}");
}

#[test]
fn the_exporter_is_recognised_and_its_links_are_kept() {
    for fixture in with_ops() {
        let exports = [fixture.export()];
        let keyring = fixture::keyring(&exports, &[fixture]);
        let plan = Plan::new(&exports, &keyring).unwrap();
        let exporter = plan.sources[0].exporter.unwrap();
        assert!(exporter.contains(&Target::NEWEST), "{}: {exporter}", fixture.name);
        let digests = keyring.iter().map(|(_, key)| key.op_digest.as_str());
        let known: std::collections::BTreeSet<_> = digests.collect();
        let links = plan.steps.iter().flat_map(|step| &step.links);
        assert!(links.into_iter().all(|edge| known.contains(&*edge.link.digest.text())));

        let older = Plan::for_target(&exports, &keyring, "v0.12.5".parse().unwrap()).unwrap();
        assert_eq!(older.steps.len(), plan.steps.len());
        if !exporter.contains(&older.target) {
            let keys = |plan: &Plan| plan.steps.iter().map(|s| s.key.clone()).collect::<Vec<_>>();
            assert_ne!(keys(&older), keys(&plan));
        }
    }
}
