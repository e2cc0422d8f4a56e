//! Usage as data. A record has the names of `docker buildx du --format json` (buildx v0.38.2 `commands/diskusage.go`),
//! with values for programs: bytes, and times.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::{Totals, Usage};
use crate::ids::RecordId;
use crate::time::Time;

#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Record<'u> {
    #[serde(rename = "ID")]
    id: &'u str,
    parents: Vec<&'u str>,
    created_at: Option<Time>,
    mutable: bool,
    reclaimable: bool,
    shared: bool,
    size: i64,
    description: &'u str,
    usage_count: i64,
    last_used_at: Option<Time>,
    #[serde(rename = "Type")]
    record_type: &'u str,
    /// Not a field of buildx.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_mount: Option<&'u str>,
    /// Not a field of buildx.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    packed: bool,
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = Record {
            id: self.id.as_str(),
            parents: self.parents.iter().map(RecordId::as_str).collect(),
            created_at: self.created_at,
            mutable: self.mutable,
            reclaimable: !self.in_use,
            shared: self.shared,
            size: self.size,
            description: &self.description,
            usage_count: self.usage_count,
            last_used_at: self.last_used_at,
            record_type: &self.record_type,
            cache_mount: self.cache_mount.as_deref(),
            packed: self.packed,
        };
        record.serialize(serializer)
    }
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut totals = serializer.serialize_struct("Totals", 5)?;
        totals.serialize_field("total_size", &self.total)?;
        totals.serialize_field("reclaimable_size", &self.reclaimable)?;
        totals.serialize_field("shared_size", &self.shared)?;
        totals.serialize_field("private_size", &self.private())?;
        totals.serialize_field("packed_size", &self.packed)?;
        totals.end()
    }
}
