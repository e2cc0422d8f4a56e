//! The measured scenarios: a build on a builder that was warmed in one of several ways.

/// How the builder was warmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// A new, empty builder.
    New,
    /// It ran the same build before, and still runs.
    Same,
    /// A new builder, and the build imports a local layout.
    ImportsLayout,
    /// A new builder, and the build imports from a registry.
    ImportsFromRegistry,
    /// Its root was made by `oci2bk convert`.
    Converted,
    /// As `Converted`, with the cache mounts that the seed has filled (`--mounts`).
    ConvertedWithMounts,
    /// As `Converted`, but without keys, so it has layers only, and the build imports the converted layout.
    LayersImportLayout,
    /// As `LayersImportLayout`, but the build imports the sparse layout of `--sparse-layout`.
    LayersImportSparse,
    /// Its root is a copy of the root of another, stopped builder.
    Copied,
    /// A daemon ran the same build on this root before, and was stopped.
    Baked,
}

impl Builder {
    /// Returns whether it is warmed before the first build, at a separate cost.
    pub(crate) fn is_made_in_a_bake(self) -> bool {
        match self {
            Self::Converted
            | Self::ConvertedWithMounts
            | Self::LayersImportLayout
            | Self::LayersImportSparse
            | Self::Copied
            | Self::Baked => true,
            Self::New | Self::Same | Self::ImportsLayout | Self::ImportsFromRegistry => false,
        }
    }
}

/// One kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The name for `--scenario` and in results.
    pub name: &'static str,
    /// The description in a report.
    pub about: &'static str,
    /// The builder.
    pub builder: Builder,
    /// Whether a source file changed after the builder was warmed.
    pub edited: bool,
}

/// All scenarios, in the order of reports.
pub const ALL: [Scenario; 18] = [
    scenario("cold", "a new builder", Builder::New, false),
    scenario("warm", "the same daemon again", Builder::Same, false),
    scenario("edit", "the same daemon again, a source file edited", Builder::Same, true),
    scenario("cache-from-local", "imports a layout", Builder::ImportsLayout, false),
    scenario("cache-from-local-edit", "imports a layout, edited", Builder::ImportsLayout, true),
    scenario("cache-from-registry", "imports from a registry", Builder::ImportsFromRegistry, false),
    scenario(
        "cache-from-registry-edit",
        "imports from a registry, edited",
        Builder::ImportsFromRegistry,
        true,
    ),
    scenario("converted", "a root by oci2bk", Builder::Converted, false),
    scenario("converted-edit", "a root by oci2bk, edited", Builder::Converted, true),
    scenario(
        "mounts-edit",
        "a root by oci2bk with cache mounts, edited",
        Builder::ConvertedWithMounts,
        true,
    ),
    scenario("layers", "layers by oci2bk, imports the layout", Builder::LayersImportLayout, false),
    scenario(
        "layers-edit",
        "layers by oci2bk, imports the layout, edited",
        Builder::LayersImportLayout,
        true,
    ),
    scenario("sparse", "layers by oci2bk, imports the index", Builder::LayersImportSparse, false),
    scenario(
        "sparse-edit",
        "layers by oci2bk, imports the index, edited",
        Builder::LayersImportSparse,
        true,
    ),
    scenario("copied", "a copied root", Builder::Copied, false),
    scenario("copied-edit", "a copied root, edited", Builder::Copied, true),
    scenario("baked", "a root on which the build ran", Builder::Baked, false),
    scenario("baked-edit", "a root on which the build ran, edited", Builder::Baked, true),
];

const fn scenario(
    name: &'static str,
    about: &'static str,
    builder: Builder,
    edited: bool,
) -> Scenario {
    Scenario { name, about, builder, edited }
}

/// Returns the scenario with that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}
