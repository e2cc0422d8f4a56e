//! Reports as data, with the members of the schemas `pack.json` and `pack-undo.json`.

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use super::{PackReport, PackedImage, UndoReport};

fn texts(paths: &[std::path::PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

impl Serialize for PackReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("PackReport", 11)?;
        report.serialize_field("root", &self.root.to_string_lossy())?;
        report.serialize_field("image", &self.image)?;
        report.serialize_field("snapshot_count", &self.snapshots)?;
        report.serialize_field("entry_count", &self.entries)?;
        report.serialize_field("file_size", &self.bytes)?;
        report.serialize_field("packed_record_size", &self.record_bytes)?;
        report.serialize_field("kept_snapshot_count", &self.kept)?;
        report.serialize_field("long_name_snapshot_count", &self.too_long)?;
        report.serialize_field("completed_snapshot_count", &self.completed)?;
        report.serialize_field("removed_images", &texts(&self.removed))?;
        report.serialize_field("still_mounted", &texts(&self.still_mounted))?;
        report.end()
    }
}

impl Serialize for PackedImage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut image = serializer.serialize_struct("PackedImage", 6)?;
        image.serialize_field("id", &self.id.to_string())?;
        image.serialize_field("path", &self.path.to_string_lossy())?;
        image.serialize_field("mount_point", &self.mount_point.to_string_lossy())?;
        image.serialize_field("size", &self.size)?;
        image.serialize_field("digest", &self.digest)?;
        image.serialize_field("uuid", &self.uuid.to_string())?;
        image.end()
    }
}

impl Serialize for UndoReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut report = serializer.serialize_struct("UndoReport", 4)?;
        report.serialize_field("root", &self.root.to_string_lossy())?;
        report.serialize_field("snapshot_count", &self.snapshots)?;
        report.serialize_field("removed_images", &texts(&self.removed))?;
        report.serialize_field("still_mounted", &texts(&self.still_mounted))?;
        report.end()
    }
}
