//! Describes the public interface of a library, as Rust without bodies, comments and private parts.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{
    Attribute, Expr, Fields, ImplItem, Item, TraitItem, Type, Visibility, parse_quote as quoted,
};

use super::macros::{is_exported, is_type, made, without_bodies};
use super::modules::{Export, Module, name_of};

/// Returns the interface of the library `root`: its modules, then the implementations for its types, by their
/// modules, which may be private.
pub(super) fn describe(root: &Module) -> String {
    let mut names = BTreeSet::new();
    let mut items = public_items(root, root, &[], &mut names);
    collect_macros(root, &mut items);
    let mut implementations = Vec::new();
    collect_implementations(root, &names, &mut implementations);
    // Sorted by their text, so that moving them has no effect.
    implementations.sort_by_cached_key(|item| print(std::slice::from_ref(item)));
    items.extend(implementations);
    print(&items)
}

/// Calls `see` with each module, private ones too, and the parts of the interface that are defined in it.
pub(super) fn for_each_module(root: &Module, see: &mut dyn FnMut(&Module, &[Item])) {
    let mut names = BTreeSet::new();
    public_items(root, root, &[], &mut names);
    visit(root, &names, see);
}

fn visit(module: &Module, names: &BTreeSet<String>, see: &mut dyn FnMut(&Module, &[Item])) {
    let is_of_interface = |item: &Item| name_of(item).is_none_or(|name| names.contains(&name));
    let shown = module.items.iter().filter_map(|item| shown(item, &mut BTreeSet::new()));
    let mut items: Vec<Item> = shown.filter(is_of_interface).collect();
    collect_own_implementations(module, names, &mut items);
    see(module, &items);
    module.modules.values().for_each(|module| visit(module, names, see));
}

/// Collects the macros for callers, which are in the root of the library wherever they are defined.
fn collect_macros(module: &Module, found: &mut Vec<Item>) {
    for item in &module.items {
        if let Item::Macro(item) = item
            && is_exported(item)
        {
            let mut item = item.clone();
            item.attrs.clear();
            item.mac.tokens = without_bodies(item.mac.tokens);
            found.push(Item::Macro(item));
        }
    }
    module.modules.values().for_each(|module| collect_macros(module, found));
}

pub(super) fn print(items: &[Item]) -> String {
    prettyplease::unparse(&syn::File { shebang: None, attrs: Vec::new(), items: items.to_vec() })
}

/// Returns the items that callers can name below `path`, and adds the types and traits among them to `names`.
fn public_items(
    root: &Module,
    module: &Module,
    path: &[String],
    names: &mut BTreeSet<String>,
) -> Vec<Item> {
    let mut items: Vec<Item> = module.items.iter().filter_map(|item| shown(item, names)).collect();
    for export in module.exports(path) {
        items.push(exported(root, &export, names));
    }
    for (name, below) in &module.modules {
        if below.is_public {
            let path = [path, std::slice::from_ref(name)].concat();
            let content = public_items(root, below, &path, names);
            let name = quote_ident(name);
            items.push(quoted!(pub mod #name { #(#content)* }));
        }
    }
    items
}

/// Returns the item that a `pub use` refers to, if callers cannot name it where it is defined.
fn exported(root: &Module, export: &Export, names: &mut BTreeSet<String>) -> Item {
    let (name, modules) = export.path.split_last().unwrap();
    let as_written = || {
        let path = export.path.iter().map(|name| quote_ident(name));
        let shown = quote_ident(&export.name);
        let item: Item = quoted!(pub use #(#path)::* as #shown;);
        item
    };
    let Some(module) = root.find(modules).filter(|_| !root.is_reachable(modules)) else {
        return as_written();
    };
    let found = module.items.iter().find(|item| name_of(item).as_ref() == Some(name));
    if let Some(item) = found.and_then(|item| shown(item, names)) {
        return item;
    }
    let further = module.exports(modules).into_iter().find(|further| further.name == *name);
    further.map_or_else(as_written, |further| exported(root, &further, names))
}

fn quote_ident(name: &str) -> syn::Ident {
    syn::Ident::new(name, proc_macro2::Span::call_site())
}

/// Returns a public item without the hidden parts; `None` if it is not public.
fn shown(item: &Item, names: &mut BTreeSet<String>) -> Option<Item> {
    let mut item = item.clone();
    let (visibility, attributes) = match &mut item {
        Item::Const(item) => (&item.vis, &mut item.attrs),
        Item::Enum(item) => (&item.vis, &mut item.attrs),
        Item::Fn(item) => (&item.vis, &mut item.attrs),
        Item::Static(item) => (&item.vis, &mut item.attrs),
        Item::Struct(item) => (&item.vis, &mut item.attrs),
        Item::Trait(item) => (&item.vis, &mut item.attrs),
        Item::Type(item) => (&item.vis, &mut item.attrs),
        Item::Macro(item) => return shown_macro(item, names),
        _ => return None,
    };
    if !matches!(visibility, Visibility::Public(_)) {
        return None;
    }
    strip(attributes);
    match &mut item {
        Item::Const(item) => *item.expr = nothing(),
        Item::Static(item) => *item.expr = nothing(),
        Item::Fn(item) => item.block = quoted!({}),
        Item::Struct(item) => strip_fields(&mut item.fields),
        Item::Enum(item) => {
            for variant in &mut item.variants {
                strip(&mut variant.attrs);
                // The fields of a variant are as public as the variant.
                variant.fields.iter_mut().for_each(|field| strip(&mut field.attrs));
            }
        }
        Item::Trait(item) => item.items.iter_mut().for_each(strip_trait_item),
        _ => {}
    }
    names.extend(name_of(&item));
    Some(item)
}

/// Macros that generate public items, and their calls, represent the generated items.
fn shown_macro(item: &syn::ItemMacro, names: &mut BTreeSet<String>) -> Option<Item> {
    let mut item = item.clone();
    item.attrs.clear();
    item.mac.tokens = without_docs(item.mac.tokens);
    let makes_public = item.ident.is_none()
        || item.mac.tokens.to_string().split_whitespace().any(|token| token == "pub");
    if makes_public {
        names.extend(made(&item).names.into_iter().filter(|name| is_type(name)));
    }
    makes_public.then_some(Item::Macro(item))
}

fn without_docs(tokens: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let is_doc = group.delimiter() == Delimiter::Bracket
                    && group.stream().to_string().starts_with("doc ");
                if is_doc && matches!(kept.last(), Some(TokenTree::Punct(p)) if p.as_char() == '#')
                {
                    kept.pop();
                    continue;
                }
                let content = without_docs(group.stream());
                kept.push(proc_macro2::Group::new(group.delimiter(), content).into());
            }
            token => kept.push(token),
        }
    }
    kept.into_iter().collect()
}

/// Keeps the attributes that are part of the interface.
fn strip(attributes: &mut Vec<Attribute>) {
    const SHOWN: [&str; 3] = ["derive", "must_use", "non_exhaustive"];
    attributes.retain(|attribute| SHOWN.iter().any(|name| attribute.path().is_ident(name)));
}

/// Keeps the public fields, and whether there are others.
fn strip_fields(fields: &mut Fields) {
    let is_public = |field: &syn::Field| matches!(field.vis, Visibility::Public(_));
    let all_public = fields.iter().all(is_public);
    fields.iter_mut().for_each(|field| strip(&mut field.attrs));
    match fields {
        Fields::Named(fields) => {
            fields.named = fields.named.iter().filter(|field| is_public(field)).cloned().collect();
            if !all_public {
                fields.named.push(quoted!(_private: _));
            }
        }
        Fields::Unnamed(fields) => {
            let private = fields.unnamed.iter_mut().filter(|field| !is_public(field));
            private.for_each(|field| field.ty = quoted!(_));
        }
        Fields::Unit => {}
    }
}

fn strip_trait_item(item: &mut TraitItem) {
    match item {
        TraitItem::Fn(function) => {
            strip(&mut function.attrs);
            function.default = function.default.as_ref().map(|_| quoted!({}));
        }
        TraitItem::Const(item) => strip(&mut item.attrs),
        TraitItem::Type(item) => strip(&mut item.attrs),
        _ => {}
    }
}

fn nothing() -> Expr {
    quoted!(_)
}

/// Collects the implementations for the types, or of the traits, with these names.
fn collect_implementations(module: &Module, names: &BTreeSet<String>, found: &mut Vec<Item>) {
    collect_own_implementations(module, names, found);
    module.modules.values().for_each(|module| collect_implementations(module, names, found));
}

fn collect_own_implementations(module: &Module, names: &BTreeSet<String>, found: &mut Vec<Item>) {
    for item in &module.items {
        let Item::Impl(item) = item else { continue };
        let is_ours = is_named(&item.self_ty, names)
            || matches!(&item.trait_, Some((_, path, _)) if names.contains(&last(path)));
        if !is_ours {
            continue;
        }
        let mut item = item.clone();
        strip(&mut item.attrs);
        let of_trait = item.trait_.is_some();
        item.items.retain_mut(|part| match part {
            ImplItem::Fn(function) => {
                strip(&mut function.attrs);
                function.block = quoted!({});
                // The items of a trait are as public as the trait.
                !of_trait && matches!(function.vis, Visibility::Public(_))
            }
            ImplItem::Const(constant) => {
                strip(&mut constant.attrs);
                constant.expr = nothing();
                of_trait || matches!(constant.vis, Visibility::Public(_))
            }
            part => matches!(part, ImplItem::Type(_)),
        });
        if of_trait || !item.items.is_empty() {
            found.push(Item::Impl(item));
        }
    }
}

fn is_named(kind: &Type, names: &BTreeSet<String>) -> bool {
    match kind {
        Type::Path(path) => names.contains(&last(&path.path)),
        Type::Reference(reference) => is_named(&reference.elem, names),
        _ => false,
    }
}

fn last(path: &syn::Path) -> String {
    path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
}
