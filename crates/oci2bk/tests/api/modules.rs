//! Reads the modules of a library from its sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syn::{Attribute, Item, UseTree, Visibility};

/// A module without its tests, and the modules in it.
pub(super) struct Module {
    pub(super) is_public: bool,
    pub(super) docs: String,
    pub(super) items: Vec<Item>,
    pub(super) modules: BTreeMap<String, Module>,
}

/// A name in a module for an item of its library or of another one.
pub(super) struct Export {
    /// The modules above the item, and its name there.
    pub(super) path: Vec<String>,
    pub(super) name: String,
}

impl Module {
    /// Reads a whole library from its `lib.rs`.
    pub(super) fn load(root: &Path) -> Self {
        let file = syn::parse_file(&fs::read_to_string(root).unwrap()).unwrap();
        Self::of(file, true, root.parent())
    }

    /// Returns a library of one file.
    pub(super) fn of_file(file: syn::File) -> Self {
        Self::of(file, true, None)
    }

    /// `directory` is the directory of the files of its modules.
    fn of(file: syn::File, is_public: bool, directory: Option<&Path>) -> Self {
        let mut items = Vec::new();
        let mut modules = BTreeMap::new();
        for item in file.items {
            match item {
                item if is_for_tests(attributes(&item)) => {}
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let is_public = matches!(module.vis, Visibility::Public(_));
                    let below = directory.map(|directory| directory.join(&name));
                    let mut content = match (module.content, directory) {
                        (Some((_, items)), _) => {
                            syn::File { shebang: None, attrs: Vec::new(), items }
                        }
                        (None, Some(directory)) => read(directory, &name),
                        (None, None) => panic!("{name} has no content"),
                    };
                    content.attrs.extend(module.attrs);
                    modules.insert(name, Self::of(content, is_public, below.as_deref()));
                }
                item => items.push(item),
            }
        }
        Self { is_public, docs: docs(&file.attrs), items, modules }
    }

    /// Returns the module at `path`, if all of it is ours.
    pub(super) fn find(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |module, name| module.modules.get(name))
    }

    /// Returns whether callers can write `path`.
    pub(super) fn is_reachable(&self, path: &[String]) -> bool {
        (1..=path.len()).all(|n| self.find(&path[..n]).is_some_and(|module| module.is_public))
    }

    /// Returns the names that this module, at `own`, exports by `pub use`.
    pub(super) fn exports(&self, own: &[String]) -> Vec<Export> {
        let mut exports = Vec::new();
        for item in &self.items {
            if let Item::Use(item) = item
                && matches!(item.vis, Visibility::Public(_))
            {
                flatten(&item.tree, &mut Vec::new(), &mut exports);
            }
        }
        for export in &mut exports {
            export.path = self.absolute(own, &export.path);
        }
        exports
    }

    /// Returns `path`, as written in this module, from the root of the library.
    fn absolute(&self, own: &[String], path: &[String]) -> Vec<String> {
        let (first, rest) = path.split_first().unwrap();
        match first.as_str() {
            "crate" => rest.to_vec(),
            "self" => [own, rest].concat(),
            "super" => [&own[..own.len() - 1], rest].concat(),
            name if self.modules.contains_key(name) => [own, path].concat(),
            _ => path.to_vec(),
        }
    }
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, exports: &mut Vec<Export>) {
    let end =
        |name: &syn::Ident, shown: &syn::Ident, path: &[String], exports: &mut Vec<Export>| {
            let path = [path, &[name.to_string()]].concat();
            exports.push(Export { path, name: shown.to_string() });
        };
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            flatten(&part.tree, path, exports);
            path.pop();
        }
        UseTree::Name(last) => end(&last.ident, &last.ident, path, exports),
        UseTree::Rename(last) => end(&last.ident, &last.rename, path, exports),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, path, exports)),
        UseTree::Glob(_) => panic!("a glob in an interface says nothing to its reader"),
    }
}

fn read(directory: &Path, name: &str) -> syn::File {
    let places = [directory.join(name).with_extension("rs"), directory.join(name).join("mod.rs")];
    let path = places.iter().find(|path| path.is_file()).unwrap();
    syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns the documentation of an item, line by line.
pub(super) fn docs(attributes: &[Attribute]) -> String {
    let mut docs = String::new();
    for attribute in attributes {
        if let syn::Meta::NameValue(meta) = &attribute.meta
            && meta.path.is_ident("doc")
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &meta.value
        {
            docs.push_str(&text.value());
            docs.push('\n');
        }
    }
    docs
}

/// Returns the name of an item, if callers can name it.
pub(super) fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
