//! Finds types of dependencies in the interface of a library.
//!
//! A caller who names such a type has the same release of the dependency, so a new one of the dependency
//! would break the caller. Only the traits of `serde` may be there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::{Item, UseTree, parse_quote as quoted};

use super::modules::Module;
use super::surface;

/// Returns the names by which code refers to the dependencies that must not be seen: all but `serde` and the
/// libraries of the project.
pub(super) fn dependencies(manifest: &Path) -> BTreeSet<String> {
    const SEEN: [&str; 7] = ["bkstate", "codec", "dockerfile", "graph", "llb", "oci2bk", "serde"];
    let text = fs::read_to_string(manifest).unwrap();
    let lines = text.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ']).next().filter(|name| !name.is_empty()))
        .map(|name| name.replace('-', "_"))
        .filter(|name| !SEEN.contains(&name.as_str()))
        .collect()
}

/// Returns what is wrong: an item, and the name of a dependency in it.
pub(super) fn types(root: &Module, dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    surface::for_each_module(root, &mut |module, items| {
        let mut imported = BTreeSet::new();
        for item in &module.items {
            if let Item::Use(item) = item {
                collect_imports(&item.tree, dependencies, None, &mut imported);
            }
        }
        for item in items {
            let mut names = Vec::new();
            let mut item = item.clone();
            if let Item::Enum(item) = &mut item {
                // A variant may have the name of a type.
                let unnamed = |variant: &mut syn::Variant| variant.ident = quoted!(Variant);
                item.variants.iter_mut().for_each(unnamed);
            }
            let text = surface::print(&[item]);
            collect_foreign(text.parse().unwrap(), dependencies, &imported, &mut names);
            let shown: String = text.chars().take(80).collect();
            found.extend(names.into_iter().map(|name| format!("{name} in {shown}")));
        }
    });
    found
}

/// Collects the names that an import from a dependency brings; `within` is the part of its path before `tree`.
fn collect_imports(
    tree: &UseTree,
    dependencies: &BTreeSet<String>,
    within: Option<&str>,
    imported: &mut BTreeSet<String>,
) {
    match tree {
        UseTree::Path(path) => {
            let name = path.ident.to_string();
            let is_foreign = within.is_some() || dependencies.contains(&name);
            collect_imports(&path.tree, dependencies, is_foreign.then_some(&name), imported);
        }
        UseTree::Name(name) => {
            let own = within.map(|within| {
                if name.ident == "self" { within.to_owned() } else { name.ident.to_string() }
            });
            imported.extend(own);
        }
        UseTree::Rename(rename) if within.is_some() && rename.rename != "_" => {
            imported.insert(rename.rename.to_string());
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                collect_imports(tree, dependencies, within, imported);
            }
        }
        _ => {}
    }
}

/// Collects the imported names and the paths into dependencies. Attributes are no part of the interface: the
/// macros of `thiserror` make implementations of traits of the standard library.
fn collect_foreign(
    tokens: TokenStream,
    dependencies: &BTreeSet<String>,
    imported: &BTreeSet<String>,
    found: &mut Vec<String>,
) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => drop(tokens.next()),
            TokenTree::Group(group) => {
                collect_foreign(group.stream(), dependencies, imported, found);
            }
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                let begins_path =
                    matches!(tokens.peek(), Some(TokenTree::Punct(p)) if p.as_char() == ':');
                if imported.contains(&name) || begins_path && dependencies.contains(&name) {
                    found.push(name);
                }
            }
            _ => {}
        }
    }
}
