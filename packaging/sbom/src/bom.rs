//! A bill of materials in the form of CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>). It has neither a time nor
//! a serial number, so the same lock file gives the same document.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::metadata::{Metadata, Node, Package};

/// Lists the content of the program `name`, which the package `main` builds.
pub(crate) fn bom(metadata: &Metadata, main: &str, name: &str) -> Result<Value> {
    let packages: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let root =
        metadata.packages.iter().find(|package| package.name == main).context("no such package")?;

    let mut linked = BTreeSet::from([root.id.as_str()]);
    let mut pending = vec![root.id.as_str()];
    while let Some(id) = pending.pop() {
        for below in linked_below(&nodes, id)? {
            if linked.insert(below) {
                pending.push(below);
            }
        }
    }

    // Cargo's identifiers contain paths, so the order is that of names.
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::new();
    for id in &linked {
        let package = packages.get(id).with_context(|| format!("no package {id}"))?;
        let below = linked_below(&nodes, id)?;
        let below =
            below.iter().filter_map(|id| packages.get(id)).map(|package| reference(package));
        let below: BTreeSet<_> = below.collect();
        dependencies
            .insert(reference(package), json!({"ref": reference(package), "dependsOn": below}));
        if package.id != root.id {
            components.insert(reference(package), component(package));
        }
    }
    let mut program = component(root);
    program["type"] = "application".into();
    program["name"] = name.into();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": program},
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies.into_values().collect::<Vec<_>>(),
    }))
}

fn linked_below<'a>(nodes: &BTreeMap<&str, &'a Node>, id: &str) -> Result<Vec<&'a str>> {
    let node = nodes.get(id).with_context(|| format!("no node {id}"))?;
    Ok(node.deps.iter().filter(|dep| dep.is_linked()).map(|dep| dep.pkg.as_str()).collect())
}

/// A package URL, also for those of the workspace, which have the same version.
fn reference(package: &Package) -> String {
    // The only character of a version that a package URL encodes.
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}

fn component(package: &Package) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
    });
    if package.source.is_some() {
        component["purl"] = reference(package).into();
    }
    if let Some(description) = &package.description {
        component["description"] = description.trim().into();
    }
    if let Some(license) = &package.license {
        // Before SPDX expressions, crates separated alternatives in this way.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}
