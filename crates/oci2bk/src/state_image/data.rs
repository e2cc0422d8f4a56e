//! Results as data, with the members of the schemas `state-export.json` and `state-import.json`.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::{ExportedState, ImportedState};

impl Serialize for ExportedState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("ExportedState", 7)?;
        document.serialize_field("manifest", &self.manifest)?;
        document.serialize_field("changed", &self.changed)?;
        document.serialize_field("layer_count", &self.layers)?;
        document.serialize_field("layers_size", &self.bytes)?;
        document.serialize_field("snapshot_count", &self.snapshots)?;
        document.serialize_field("blob_count", &self.blobs)?;
        document.serialize_field("left_out", &self.left_out)?;
        document.end()
    }
}

impl Serialize for ImportedState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("ImportedState", 5)?;
        document.serialize_field("root", &self.root.to_string_lossy())?;
        document.serialize_field("manifest", &self.manifest)?;
        document.serialize_field("snapshot_count", &self.snapshots)?;
        document.serialize_field("blob_count", &self.blobs)?;
        document.serialize_field("entry_count", &self.entries)?;
        document.end()
    }
}
