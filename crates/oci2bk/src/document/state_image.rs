//! The documents about states as images.

use std::path::Path;

use serde::Serialize;

use crate::state_image::{ExportedState, ImportedState};

/// An export of a state, `state-export.json`.
#[derive(Debug, Clone, Serialize)]
pub struct StateExport<'a> {
    /// The layout or the archive, as people name it.
    pub place: &'a Path,
    /// The result.
    #[serde(flatten)]
    pub exported: &'a ExportedState,
}

/// An import of a state, `state-import.json`.
#[derive(Debug, Clone, Serialize)]
pub struct StateImport<'a> {
    /// Where it comes from, as people name it.
    pub source: String,
    /// The result.
    #[serde(flatten)]
    pub imported: &'a ImportedState,
}
