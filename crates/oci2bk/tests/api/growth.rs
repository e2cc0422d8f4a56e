//! What may grow in the interface of a library, and what does not.
//!
//! A struct with public fields only, or an enum, that is not `#[non_exhaustive]` can be built or taken apart
//! by callers, so another field or variant breaks them. `docs/semver.md` says which ones these are.

use syn::{Fields, Item, Visibility};

/// Why types are not `#[non_exhaustive]`, and which ones. A library stands before its path, and `*` for all
/// of a module.
pub(super) const CLOSED: [(&str, &[&str]); 4] = [
    (
        "a model of what others define: databases of BuildKit and containerd, LLB, cache configs, OCI descriptors. Callers \
         make them as well, and a release that adds something raises the second number",
        &[
            "bkstate::bolt::Entry",
            "bkstate::bolt::Node",
            "bkstate::bolt::Tree",
            "bkstate::ids::ResultId",
            "bkstate::metadata::*",
            "bkstate::mounts::Form",
            "bkstate::records::Records",
            "bkstate::snapshots::Kind",
            "bkstate::snapshots::Snapshot",
            "bkstate::snapshots::Snapshots",
            "bkstate::solver::Link",
            "bkstate::solver::SolverCache",
            "bkstate::state::State",
            "llb::Graph",
            "llb::Output",
            "llb::Platform",
            "llb::Step",
            "llb::Vertex",
            "llb::op::*",
            "oci2bk::config::*",
            "oci2bk::layout::Descriptor",
            "oci2bk::layout::Platform",
        ],
    ),
    (
        "callers make them to give them to a function",
        &[
            "bkstate::dir::DirError",
            "bkstate::engine::EngineFiles",
            "bkstate::gc::Disk",
            "bkstate::packed::Image",
            "bkstate::state::WorkerName",
            "bkstate::worker::IdRange",
            "dockerfile::Limits",
            "llb::Encoding",
            "graph::Edge",
            "graph::Graph",
            "graph::Node",
            "oci2bk::builder::Docker",
            "oci2bk::document::ExplainedBuild",
            "oci2bk::document::MountsExport",
            "oci2bk::document::MountsImport",
            "oci2bk::document::StateExport",
            "oci2bk::document::StateImport",
            "oci2bk::document::MountsOfLayout",
            "oci2bk::document::MountsOfRoot",
            "oci2bk::image::ImageRef",
            "oci2bk::image::Repository",
            "oci2bk::keys::Candidate",
            "oci2bk::keys::ImageConfigPath",
            "oci2bk::keys::KeyPath",
            "oci2bk::keys::SourceDescription",
            "oci2bk::limits::Bound",
            "oci2bk::mounts::Selection",
            "oci2bk::source::Source",
            "oci2bk::unpack::Layer",
        ],
    ),
    (
        "drawn or worded by callers, whose tests make them",
        &[
            "oci2bk::inspect::Key",
            "oci2bk::inspect::KeyLink",
            "oci2bk::inspect::Root",
            "oci2bk::inspect::Warmth",
            "oci2bk::plan::Miss",
        ],
    ),
    (
        "complete as it is: all answers to a question, all parts of a number",
        &[
            "bkstate::dir::FileKind",
            "bkstate::gc::DiskSpace",
            "bkstate::kernel::Lease",
            "bkstate::packed::Mounted",
            "llb::Base",
            "llb::release::Span",
            "llb::release::Version",
            "graph::Rect",
            "oci2bk::explain::Outcome",
            "oci2bk::inspect::Place",
            "oci2bk::mounts::Owner",
            "oci2bk::source::Reference",
        ],
    ),
];

/// Returns whether one of the names in [`CLOSED`] is this path.
pub(super) fn is_closed(path: &str) -> bool {
    CLOSED.iter().flat_map(|(_, paths)| *paths).any(|closed| matches(closed, path))
}

/// Returns whether a name of [`CLOSED`] is this path.
pub(super) fn matches(closed: &str, path: &str) -> bool {
    closed.strip_suffix('*').map_or(closed == path, |module| path.starts_with(module))
}

/// Returns the paths of the types in an interface, as text, which callers can build or take apart.
pub(super) fn exhaustive(library: &str, interface: &str) -> Vec<String> {
    let file = syn::parse_file(interface).unwrap();
    let mut found = Vec::new();
    collect(&file.items, library, &mut found);
    found
}

fn collect(items: &[Item], path: &str, found: &mut Vec<String>) {
    for item in items {
        let (name, attributes) = match item {
            Item::Mod(module) => {
                let (_, items) = module.content.as_ref().unwrap();
                collect(items, &format!("{path}::{}", module.ident), found);
                continue;
            }
            Item::Enum(item) => (&item.ident, &item.attrs),
            Item::Struct(item) if is_open(&item.fields) => (&item.ident, &item.attrs),
            _ => continue,
        };
        if !attributes.iter().any(|attribute| attribute.path().is_ident("non_exhaustive")) {
            found.push(format!("{path}::{name}"));
        }
    }
}

/// Returns whether all fields are public. A type without any is only a name.
fn is_open(fields: &Fields) -> bool {
    let is_public = |field: &syn::Field| matches!(field.vis, Visibility::Public(_));
    !fields.is_empty() && fields.iter().all(is_public)
}
