//! Reads members of ops from JSON that differs from the original.

use base64::Engine as _;
use serde::{Deserialize, Deserializer, de};

/// Reads a 64-bit integer that may have been converted to a float: SLSA v1 provenance is converted to a Go
/// `map[string]any` and back (`ProvenanceInternalParametersSLSA1.MarshalJSON`). The largest one becomes
/// 9223372036854776000, which is out of range; others stay rounded.
pub(super) fn int64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        InRange(i64),
        OutOfRange(f64),
    }
    Ok(match Number::deserialize(deserializer)? {
        Number::InRange(value) => value,
        // A cast takes the nearest value.
        Number::OutOfRange(value) => value as i64,
    })
}

/// Reads a Go `[]byte`: standard base64 with padding.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).map_err(de::Error::custom)
}

/// Returns whether an optional message is present, with any content.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<de::IgnoredAny>::deserialize(deserializer)?.is_some())
}
