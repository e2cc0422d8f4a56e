//! Finds public items without an example.
//!
//! An example is a block of Rust in the documentation, and covers the items that it names. Functions, types,
//! traits and constants may be covered by their own examples, or by those of a module around any place where
//! callers can name them; methods also by those of their type. An error is also covered by an item beside it
//! in its module, such as the function that returns it.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, ImplItem, Item, Type, Visibility};

use super::macros::{Made, is_exported, made};
use super::modules::{Module, attributes, docs, name_of};

/// Returns the items of `root` without an example, by the shortest paths that callers can write.
pub(super) fn missing(root: &Module) -> Vec<String> {
    let items = public_items(root);
    let mut beside: BTreeMap<&[String], BTreeSet<String>> = BTreeMap::new();
    for item in &items {
        for module in &item.modules {
            beside.entry(module).or_default().extend(names_in_examples(&item.docs));
        }
    }
    let shows = |item: &Public, module: &[String]| {
        let is_around = |n: usize| {
            root.find(&module[..n])
                .is_some_and(|module| names_in_examples(&module.docs).contains(&item.name))
        };
        (0..=module.len()).any(is_around) || item.is_error && beside[module].contains(&item.name)
    };
    let mut missing: Vec<String> = items
        .iter()
        .filter(|item| !names_in_examples(&item.docs).contains(&item.name))
        .filter(|item| !item.modules.iter().any(|module| shows(item, module)))
        .map(Public::path)
        .collect();
    missing.sort();
    missing
}

/// An item that callers can name.
struct Public {
    name: String,
    /// The type, if it is a method or a constant of one.
    owner: Option<String>,
    /// The modules in which they can name it.
    modules: BTreeSet<Vec<String>>,
    /// Its own documentation and that of its type.
    docs: String,
    is_error: bool,
}

impl Public {
    fn path(&self) -> String {
        let module = self.modules.iter().min_by_key(|path| path.len()).into_iter().flatten();
        let parts: Vec<&str> =
            module.chain(&self.owner).chain([&self.name]).map(String::as_str).collect();
        parts.join("::")
    }
}

fn public_items(root: &Module) -> Vec<Public> {
    let mut definitions = BTreeMap::new();
    collect_definitions(root, &[], &mut definitions);
    let mut places = BTreeMap::new();
    collect_places(root, root, &[], &definitions, &mut places);
    let mut items = Vec::new();
    collect_methods(root, &[], &definitions, &places, &mut items);
    for (path, modules) in places {
        let Definition { name, docs, is_error, .. } = definitions[&path].clone();
        items.push(Public { name, owner: None, modules, docs, is_error });
    }
    items
}

/// An item at its definition, which can differ from the place where callers name it.
#[derive(Clone)]
struct Definition {
    name: String,
    docs: String,
    is_public: bool,
    is_error: bool,
}

/// Definitions by the modules above them, and their name.
type Definitions = BTreeMap<Vec<String>, Definition>;

fn collect_definitions(module: &Module, path: &[String], found: &mut Definitions) {
    for item in &module.items {
        if let Item::Macro(item) = item
            && is_exported(item)
            && let Some(name) = &item.ident
        {
            let name = name.to_string();
            let docs = docs(&item.attrs);
            let exported =
                Definition { name: name.clone(), docs, is_public: true, is_error: false };
            // In the root, wherever it is defined.
            found.insert(vec![name], exported);
        }
        let defined: Vec<Definition> = match item {
            Item::Macro(item) => {
                let Made { names, docs } = made(item);
                let define = |name| {
                    let (docs, is_public, is_error) = (docs.clone(), true, false);
                    Definition { name, docs, is_public, is_error }
                };
                names.into_iter().map(define).collect()
            }
            item => defined(item).into_iter().collect(),
        };
        for definition in defined {
            let place = [path, std::slice::from_ref(&definition.name)].concat();
            match item {
                // A call may name a type that is defined beside it, and generates code for that.
                Item::Macro(_) => drop(found.entry(place).or_insert(definition)),
                _ => drop(found.insert(place, definition)),
            }
        }
    }
    for (name, below) in &module.modules {
        collect_definitions(below, &[path, std::slice::from_ref(name)].concat(), found);
    }
}

fn defined(item: &Item) -> Option<Definition> {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        _ => return None,
    };
    Some(Definition {
        name: name_of(item)?,
        docs: docs(attributes(item)),
        is_public: matches!(visibility, Visibility::Public(_)),
        is_error: attributes(item).iter().any(derives_error),
    })
}

fn derives_error(attribute: &Attribute) -> bool {
    let mut found = false;
    if attribute.path().is_ident("derive") {
        let looked = attribute.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|last| last.ident == "Error");
            Ok(())
        });
        looked.unwrap();
    }
    found
}

/// For each definition that callers can name, the modules where they can.
type Places = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

fn collect_places(
    root: &Module,
    module: &Module,
    path: &[String],
    definitions: &Definitions,
    found: &mut Places,
) {
    let here = definitions.iter().filter(|(defined, definition)| {
        definition.is_public && defined.split_last().is_some_and(|(_, modules)| modules == path)
    });
    let exports = module.exports(path);
    let exported = exports.iter().filter_map(|export| resolve(root, &export.path, definitions));
    for defined in here.map(|(defined, _)| defined.clone()).chain(exported) {
        found.entry(defined).or_default().insert(path.to_vec());
    }
    for (name, below) in module.modules.iter().filter(|(_, below)| below.is_public) {
        let path = [path, std::slice::from_ref(name)].concat();
        collect_places(root, below, &path, definitions, found);
    }
}

/// Returns the definition of `path`, if it is ours.
fn resolve(root: &Module, path: &[String], definitions: &Definitions) -> Option<Vec<String>> {
    if definitions.contains_key(path) {
        return Some(path.to_vec());
    }
    let (name, modules) = path.split_last()?;
    let exports = root.find(modules)?.exports(modules);
    let further = exports.iter().find(|export| export.name == *name && export.path != path)?;
    resolve(root, &further.path, definitions)
}

fn collect_methods(
    module: &Module,
    path: &[String],
    definitions: &Definitions,
    places: &Places,
    found: &mut Vec<Public>,
) {
    for item in &module.items {
        if let Item::Impl(item) = item
            && item.trait_.is_none()
            && let Some(owner) = owner(&item.self_ty, path, definitions)
            && let Some(modules) = places.get(owner)
        {
            let of_type = docs(&item.attrs) + &definitions[owner].docs;
            for (name, attributes) in item.items.iter().filter_map(public_part) {
                found.push(Public {
                    name: name.to_string(),
                    owner: owner.last().cloned(),
                    modules: modules.clone(),
                    docs: docs(attributes) + &of_type,
                    is_error: false,
                });
            }
        }
    }
    for (name, below) in &module.modules {
        let path = [path, std::slice::from_ref(name)].concat();
        collect_methods(below, &path, definitions, places, found);
    }
}

/// Returns the type with this name that is defined nearest to the module of `path`.
fn owner<'d>(
    kind: &Type,
    path: &[String],
    definitions: &'d Definitions,
) -> Option<&'d Vec<String>> {
    let Type::Path(kind) = kind else { return None };
    let name = kind.path.segments.last()?.ident.to_string();
    let common = |defined: &&Vec<String>| {
        defined.iter().zip(path).take_while(|(defined, here)| defined == here).count()
    };
    definitions.keys().filter(|defined| defined.last() == Some(&name)).max_by_key(common)
}

fn public_part(part: &ImplItem) -> Option<(&syn::Ident, &[Attribute])> {
    let (visibility, name, attributes) = match part {
        ImplItem::Fn(function) => (&function.vis, &function.sig.ident, &function.attrs),
        ImplItem::Const(constant) => (&constant.vis, &constant.ident, &constant.attrs),
        _ => return None,
    };
    matches!(visibility, Visibility::Public(_)).then_some((name, attributes))
}

fn names_in_examples(docs: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut lines = docs.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.trim_start().strip_prefix("```") else { continue };
        let block: Vec<&str> =
            lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
        if ["", "rust", "no_run", "should_panic"].contains(&kind.trim()) {
            collect_names(block.join("\n").parse().unwrap(), &mut names);
        }
    }
    names
}

fn collect_names(tokens: TokenStream, names: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect_names(group.stream(), names),
            TokenTree::Ident(name) => {
                names.insert(name.to_string());
            }
            _ => {}
        }
    }
}
