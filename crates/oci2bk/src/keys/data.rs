//! Key sources as data, with the members of `key_source` in the schema `common.json`.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::SourceSummary;

/// The state of a signature: there is no key to check it, and op digests need no trust.
const NOT_CHECKED: &str = "not-checked";

impl Serialize for SourceSummary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut source = serializer.serialize_struct("SourceSummary", 5)?;
        source.serialize_field("description", &self.description.to_string())?;
        source.serialize_field("candidate_count", &self.candidates)?;
        source.serialize_field("resolved_count", &self.resolved)?;
        source.serialize_field("found", &self.found)?;
        source.serialize_field("signature", &self.signed.then_some(NOT_CHECKED))?;
        source.end()
    }
}
