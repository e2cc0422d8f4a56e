//! The interface of the libraries matches `docs/api`.
//!
//! A change of it is visible as a difference there, for review. With `OCI2BK_UPDATE_API` set, the test writes
//! the files.
//!
//! An example in the documentation covers each part of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod examples;
mod foreign;
mod growth;
mod macros;
mod modules;
mod surface;

use std::fs;
use std::path::{Path, PathBuf};

use modules::Module;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the directories of the published libraries.
fn libraries() -> Vec<String> {
    let directories = fs::read_dir(project().join("crates")).unwrap().map(|entry| entry.unwrap());
    let mut libraries: Vec<String> = directories
        .filter(|directory| directory.path().join("src/lib.rs").is_file())
        .filter(|directory| {
            let manifest = fs::read_to_string(directory.path().join("Cargo.toml")).unwrap();
            // A program's library exists only for its own tests.
            !manifest.lines().any(|line| matches!(line, "publish = false" | "[[bin]]"))
        })
        .map(|directory| directory.file_name().into_string().unwrap())
        .collect();
    libraries.sort();
    libraries
}

fn load(library: &str) -> Module {
    Module::load(&project().join("crates").join(library).join("src/lib.rs"))
}

fn compare(library: &str) {
    let found = surface::describe(&load(library));
    let path = project().join("docs/api").join(library).with_extension("txt");
    if std::env::var_os("OCI2BK_UPDATE_API").is_some() {
        fs::write(&path, found).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let (mut old, mut new) = (written.lines(), found.lines());
    let line = loop {
        match (old.next(), new.next()) {
            (None, None) => return,
            (old, new) if old == new => {}
            (old, new) => {
                break format!("-{}\n+{}", old.unwrap_or("(end)"), new.unwrap_or("(end)"));
            }
        }
    };
    panic!(
        "the interface of {library} is not that of {}; the first difference is\n{line}\n\
         If that is meant: OCI2BK_UPDATE_API=1 cargo test --workspace --test api, and look at the \
         difference with docs/semver.md at hand",
        path.display()
    );
}

#[test]
fn the_interface_of_each_library_is_the_one_that_is_written_down() {
    libraries().iter().for_each(|library| compare(library));
}

#[test]
fn no_interface_is_written_down_that_no_library_has() {
    let files = fs::read_dir(project().join("docs/api")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut written: Vec<String> =
        names.map(|name| name.strip_suffix(".txt").unwrap().to_owned()).collect();
    written.sort();
    assert_eq!(written, libraries());
}

fn expect_examples(library: &str) {
    let missing = examples::missing(&load(library));
    assert!(
        missing.is_empty(),
        "no example in the documentation of {library} shows these {}; tests/api/examples.rs says where \
         one would:\n{}",
        missing.len(),
        missing.join("\n")
    );
}

#[test]
fn examples_show_every_public_item_of_each_library() {
    libraries().iter().for_each(|library| expect_examples(library));
}

#[test]
fn types_may_grow_unless_it_is_said_that_they_do_not() {
    let described = libraries().into_iter().map(|library| {
        let interface = surface::describe(&load(&library));
        growth::exhaustive(&library, &interface)
    });
    let exhaustive: Vec<String> = described.flatten().collect();
    let unlisted: Vec<_> = exhaustive.iter().filter(|path| !growth::is_closed(path)).collect();
    assert!(
        unlisted.is_empty(),
        "neither #[non_exhaustive] nor listed in tests/api/growth.rs: {unlisted:#?}"
    );
    for (_, paths) in growth::CLOSED {
        for closed in paths {
            let is_used = exhaustive.iter().any(|path| growth::matches(closed, path));
            assert!(is_used, "{closed} is in the list and may grow");
        }
    }
}

#[test]
fn open_structs_and_enums_are_exhaustive_unless_they_say_otherwise() {
    let text = "pub struct Open { pub field: u8 }
        pub struct Half { pub field: u8, _private: _ }
        #[non_exhaustive] pub struct Grows { pub field: u8 }
        pub struct Wrapped(_);
        pub mod inner { pub enum Kind { A } #[derive(Debug)] #[non_exhaustive] pub enum Other { A } }";
    assert_eq!(growth::exhaustive("x", text), ["x::Open", "x::inner::Kind"]);
    assert!(growth::matches("x::inner::*", "x::inner::Kind"));
    assert!(!growth::matches("x::inner::*", "x::Open"));
}

#[test]
fn no_interface_has_types_of_dependencies() {
    let mut found = Vec::new();
    for library in libraries() {
        let manifest = project().join("crates").join(&library).join("Cargo.toml");
        let dependencies = foreign::dependencies(&manifest);
        let seen = foreign::types(&load(&library), &dependencies);
        found.extend(seen.into_iter().map(|seen| format!("{library}: {seen}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let manifest = project().join("crates/oci2bk/Cargo.toml");
    assert!(foreign::dependencies(&manifest).contains("serde_json"));
}

#[test]
fn types_of_dependencies_are_found_wherever_they_are() {
    let source = "
        mod hidden {
            use dep::{Imported, below::Other as Renamed};
            pub struct Public { pub field: Vec<Imported>, private: Renamed }
            pub enum Error { First(dep::Error), Second(std::io::Error) }
            pub struct Inner(pub dep::Error);
            impl From<Renamed> for Public { fn from(other: Renamed) -> Self { todo!() } }
            #[derive(dep::Error)]
            pub fn plain(text: &str) { dep::call() }
        }
        pub use hidden::{Error, Public, plain};";
    let dependencies = ["dep".to_owned()].into();
    let found = foreign::types(&library(source), &dependencies);
    let names: Vec<_> = found.iter().map(|seen| seen.split_once(' ').unwrap().0).collect();
    assert_eq!(names, ["Imported", "dep", "Renamed"], "{found:?}");
}

/// Returns a library with only this file.
fn library(source: &str) -> Module {
    Module::of_file(syn::parse_file(source).unwrap())
}

fn described(source: &str) -> String {
    surface::describe(&library(source))
}

#[test]
fn what_callers_can_name_is_described_and_nothing_else() {
    let text = described(
        "mod hidden { pub struct Shown { pub field: u8, secret: u8 } pub struct Unused; }
         pub use hidden::Shown;
         pub mod open { pub(crate) fn ours() {} pub fn theirs(n: usize) -> u8 { 7 } }
         impl Shown { pub fn call(&self) -> u8 { self.secret } fn inner(&self) {} }
         impl Clone for Shown { fn clone(&self) -> Self { Self { field: 0, secret: 0 } } }
         impl hidden::Unused { pub fn unseen() {} }
         #[cfg(test)] pub mod tests { pub fn none() {} }",
    );
    for part in
        ["pub field: u8", "_private: _", "fn theirs(n: usize) -> u8 {}", "fn call(&self) -> u8 {}"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.contains("impl Clone for Shown"), "{text}");
    for part in ["Unused", "unseen", "secret", "ours", "inner", "none", "7"] {
        assert!(!text.contains(part), "{part} is in\n{text}");
    }
}

#[test]
fn types_that_macros_make_are_described_with_their_methods() {
    let text = described(
        "macro_rules! id { ($name:ident) => { pub struct $name(u8); pub struct Whole; } }
         id! { Id }
         impl Id { pub fn call(&self) {} }
         impl Whole { pub fn complete(&self) {} }",
    );
    for part in ["id! { Id }", "fn call(&self) {}", "fn complete(&self) {}"] {
        let shown = text.split_whitespace().collect::<Vec<_>>().join(" ").contains(part);
        assert!(shown, "{part} is not in\n{text}");
    }
}

#[test]
fn macros_for_callers_are_described_without_what_they_make() {
    let text = described(
        "mod hidden {
             #[macro_export] macro_rules! shown { ($name:ident) => { made!(); }; }
             macro_rules! ours { () => {}; }
         }",
    );
    assert!(text.contains("macro_rules! shown") && text.contains("$name:ident"), "{text}");
    assert!(!text.contains("made") && !text.contains("ours"), "{text}");
}

#[test]
fn a_changed_signature_shows_and_changed_words_do_not() {
    let function =
        |doc: &str, kind: &str| described(&format!("/// {doc}\npub fn f(x: {kind}) {{}}"));
    assert_eq!(function("One.", "u8"), function("Two.", "u8"));
    assert_ne!(function("One.", "u8"), function("One.", "u16"));
}

fn missing(source: &str) -> Vec<String> {
    examples::missing(&library(source))
}

#[test]
fn items_that_no_example_names_are_missing() {
    assert_eq!(
        missing(
            "pub fn plain() {}
             /// A ``plain`` word, `commented`, and
             /// ```text
             /// commented
             /// ```
             /// ```
             /// // commented
             /// other();
             /// ```
             pub fn commented() {}
             /// ```ignore
             /// Type::call();
             /// ```
             pub struct Type;
             impl Type { pub const ONE: u8 = 1; pub fn call(&self) {} fn inner(&self) {} }
             impl Clone for Type { fn clone(&self) -> Self { Self } }
             pub mod below { pub enum Kind { One } }
             mod private { pub fn unseen() {} }"
        ),
        ["Type", "Type::ONE", "Type::call", "below::Kind", "commented", "plain"]
    );
}

#[test]
fn examples_of_an_item_its_type_and_the_modules_around_it_show_it() {
    assert_eq!(
        missing(
            "//! ```
             //! hidden::everywhere();
             //! ```
             mod hidden {
                 //! ```
                 //! renamed();
                 //! ```
                 pub fn everywhere() {}
                 pub fn renamed() {}
                 /// ```no_run
                 /// # Type::call();
                 /// ```
                 pub struct Type;
                 impl Type { pub fn call(&self) {} }
             }
             pub use hidden::{Type, renamed};
             /// ```
             /// twice();
             /// ```
             pub mod open { pub use super::hidden::everywhere; pub use super::low::twice; }
             pub mod low {
                 pub fn twice() {}
                 /// ```
                 /// own();
                 /// ```
                 pub fn own() {}
             }"
        ),
        // The documentation of a private module is not published.
        ["renamed"]
    );
}

#[test]
fn what_macros_make_is_to_be_shown() {
    let made =
        "macro_rules! id { ($name:ident) => { pub struct $name; impl $name { pub fn new() {} } } }
                id! { #[doc = \" ```\nId::new();\n```\"] Id }
                id! { Other }";
    assert_eq!(missing(made), ["Other", "new"]);
}

#[test]
fn macros_for_callers_are_to_be_shown() {
    let library = |docs: &str| {
        missing(&format!(
            "mod hidden {{ {docs} #[macro_export] macro_rules! call {{ () => {{}}; }} }}"
        ))
    };
    assert_eq!(library(""), ["call"]);
    assert_eq!(library("#[doc = \"```\\ncall!();\\n```\"]"), [""; 0]);
}

#[test]
fn errors_are_shown_by_what_is_beside_them() {
    let library = |place: &str| {
        missing(&format!(
            "pub mod one {{
                 #[derive(Debug, thiserror::Error)] pub enum Failure {{}}
                 #[derive(Debug)] pub struct Plain;
                 {place}
             }}"
        ))
    };
    let function = "/// ```
         /// f().unwrap_err() == (Failure, Plain);
         /// ```
         pub fn f() {}";
    assert_eq!(library(function), ["one::Plain"]);
    assert_eq!(library(&format!("pub mod two {{ {function} }}")), ["one::Failure", "one::Plain"]);
}

#[test]
fn what_callers_hold_can_go_to_other_threads() {
    fn goes<T: Send + Sync>() {}
    goes::<oci2bk::CacheExport>();
    goes::<oci2bk::Cancel>();
    goes::<oci2bk::Converter>();
    goes::<oci2bk::Keyring>();
    goes::<oci2bk::Plan>();
    goes::<oci2bk::Root>();
    goes::<oci2bk::State>();
    goes::<oci2bk::Verifier<'static>>();
    goes::<oci2bk::convert::ConvertError>();
    goes::<oci2bk::convert::Report>();
    goes::<oci2bk::export::ExportError>();
    goes::<oci2bk::image::ImageError>();
    goes::<oci2bk::keys::SourceError>();
    goes::<oci2bk::verify::Report>();
    goes::<oci2bk::verify::VerifyError>();
}
