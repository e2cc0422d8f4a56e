//! The documents about cache mounts.

use std::path::Path;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::mounts::{Exported, Imported, MountsArtifact, RootMount};

/// The cache mounts of a root, `mounts-root.json`.
#[derive(Debug, Clone, Copy)]
pub struct MountsOfRoot<'a> {
    /// The root.
    pub root: &'a Path,
    /// Its mounts.
    pub mounts: &'a [RootMount],
}

/// The cache mounts in a layout, `mounts-layout.json`.
#[derive(Debug, Clone, Copy)]
pub struct MountsOfLayout<'a> {
    /// The layout.
    pub layout: &'a Path,
    /// Its artifacts with mounts.
    pub artifacts: &'a [MountsArtifact],
}

/// An export of cache mounts, `mounts-export.json`.
#[derive(Debug, Clone, Copy)]
pub struct MountsExport<'a> {
    /// The layout, the archive or the directory.
    pub place: &'a Path,
    /// The result.
    pub exported: &'a Exported,
}

/// An import of cache mounts, `mounts-import.json`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct MountsImport {
    /// Where they come from, as people name it.
    pub source: String,
    /// The result.
    #[serde(flatten)]
    pub imported: Imported,
}

impl Serialize for MountsOfRoot<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("MountsOfRoot", 3)?;
        document.serialize_field("kind", "root")?;
        document.serialize_field("root", &self.root.to_string_lossy())?;
        document.serialize_field("mounts", self.mounts)?;
        document.end()
    }
}

impl Serialize for MountsOfLayout<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("MountsOfLayout", 3)?;
        document.serialize_field("kind", "layout")?;
        document.serialize_field("layout", &self.layout.to_string_lossy())?;
        document.serialize_field("artifacts", self.artifacts)?;
        document.end()
    }
}

#[derive(serde::Serialize)]
struct Export<'a> {
    place: String,
    #[serde(flatten)]
    exported: &'a Exported,
}

impl Serialize for MountsExport<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let place = self.place.to_string_lossy().into_owned();
        Export { place, exported: self.exported }.serialize(serializer)
    }
}
