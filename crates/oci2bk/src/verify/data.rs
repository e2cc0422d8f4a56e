//! Reports of verifications as data, with the members of the schema `verify.json`.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::{Against, Counts, Damage, Report};
use crate::degree::Degree;
use crate::text::with_causes;

#[derive(serde::Serialize)]
struct Document<'r> {
    root: String,
    sound: bool,
    warmth: Option<Degree>,
    #[serde(flatten)]
    counts: Counts,
    mended_layer_count: Option<usize>,
    against: Option<Against>,
    damage: &'r [Damage],
    leftovers: &'r [Damage],
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let document = Document {
            root: self.root.to_string_lossy().into_owned(),
            sound: self.damage.is_empty(),
            warmth: self.degree,
            counts: self.counts,
            mended_layer_count: self.mended,
            against: self.against,
            damage: &self.damage,
            leftovers: &self.leftovers,
        };
        document.serialize(serializer)
    }
}

/// Keys of the solver.
#[derive(serde::Serialize)]
struct StepCounts {
    total: usize,
    with_results: usize,
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let steps = StepCounts { total: self.keys, with_results: self.results };
        let mut counts = serializer.serialize_struct("Counts", 9)?;
        counts.serialize_field("step_counts", &steps)?;
        counts.serialize_field("record_count", &self.records)?;
        counts.serialize_field("snapshot_count", &self.snapshots)?;
        counts.serialize_field("blob_count", &self.blobs)?;
        counts.serialize_field("blob_size", &self.blob_bytes)?;
        counts.serialize_field("packed_image_count", &self.images)?;
        counts.serialize_field("packed_image_size", &self.image_bytes)?;
        counts.serialize_field("tree_count", &self.trees)?;
        counts.serialize_field("legacy_record_count", &self.legacy)?;
        counts.end()
    }
}

impl Serialize for Against {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut against = serializer.serialize_struct("Against", 9)?;
        against.serialize_field("step_count", &self.steps)?;
        against.serialize_field("missing_step_count", &self.missing_steps)?;
        against.serialize_field("other_step_count", &self.other_steps)?;
        against.serialize_field("link_count", &self.links)?;
        against.serialize_field("missing_link_count", &self.missing_links)?;
        against.serialize_field("result_count", &self.results)?;
        against.serialize_field("missing_result_count", &self.missing_results)?;
        against.serialize_field("other_result_count", &self.other_results)?;
        against.serialize_field("lost_count", &self.lost)?;
        against.end()
    }
}

/// The kind, the message with its causes, and the consequence.
impl Serialize for Damage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut damage = serializer.serialize_struct("Damage", 3)?;
        damage.serialize_field("kind", self.kind())?;
        damage.serialize_field("message", &with_causes(self))?;
        damage.serialize_field("consequence", self.consequence())?;
        damage.end()
    }
}
