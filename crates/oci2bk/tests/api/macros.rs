//! Finds what macros generate, from their text.

use proc_macro2::{TokenStream, TokenTree};

use super::modules::docs;

/// Public items that a macro or a call of one generates.
pub(super) struct Made {
    /// Those that are public in its text, and for a call the type with whose name it begins.
    pub(super) names: Vec<String>,
    /// The documentation in its text.
    pub(super) docs: String,
}

pub(super) fn made(item: &syn::ItemMacro) -> Made {
    let mut made = Made { names: Vec::new(), docs: String::new() };
    read(item.mac.tokens.clone(), &mut made);
    if item.ident.is_none() {
        let first = item.mac.tokens.clone().into_iter().find_map(|token| match token {
            TokenTree::Ident(name) => Some(name.to_string()),
            _ => None,
        });
        made.names.extend(first.filter(|name| is_type(name)));
    }
    made
}

/// Returns whether callers of the library can use it, by a name in its root.
pub(super) fn is_exported(item: &syn::ItemMacro) -> bool {
    item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"))
}

/// Returns the rules of a macro without their expansions.
pub(super) fn without_bodies(rules: TokenStream) -> TokenStream {
    let mut is_body = false;
    let without = rules.into_iter().map(|token| match token {
        TokenTree::Group(group) if is_body => {
            is_body = false;
            proc_macro2::Group::new(group.delimiter(), TokenStream::new()).into()
        }
        token => {
            is_body = matches!(&token, TokenTree::Punct(sign) if sign.as_char() == '>');
            token
        }
    });
    without.collect()
}

/// Returns whether `name` is spelled like a type.
pub(super) fn is_type(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

fn read(tokens: TokenStream, made: &mut Made) {
    const KINDS: [&str; 6] = ["const", "enum", "fn", "struct", "trait", "type"];
    let (mut is_public, mut kind) = (false, false);
    for token in tokens {
        match token {
            TokenTree::Ident(word) if word == "pub" => (is_public, kind) = (true, false),
            TokenTree::Ident(word) if is_public && KINDS.iter().any(|name| word == name) => {
                kind = true;
            }
            TokenTree::Ident(name) => {
                if kind {
                    made.names.push(name.to_string());
                }
                (is_public, kind) = (false, false);
            }
            TokenTree::Group(group) => {
                (is_public, kind) = (false, false);
                match syn::parse2::<syn::MetaNameValue>(group.stream()) {
                    Ok(meta) if meta.path.is_ident("doc") => {
                        made.docs.push_str(&docs(&[syn::parse_quote!(#[#meta])]));
                    }
                    _ => read(group.stream(), made),
                }
            }
            // `$name`, an argument of the call.
            TokenTree::Punct(_) => (is_public, kind) = (false, false),
            TokenTree::Literal(_) => {}
        }
    }
}
