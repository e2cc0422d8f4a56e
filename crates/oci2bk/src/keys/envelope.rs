//! Signed attestations, and provenance as `docker buildx imagetools` prints it.
//!
//! A DSSE envelope (secure-systems-lab/dsse v1.0.2, `envelope.md`) has a statement in base64, of either
//! alphabet. A sigstore bundle (v0.3, `sigstore_bundle.proto`) has an envelope in `dsseEnvelope`. Tools such
//! as cosign print one after the other. Signatures are not verified, because the op digests are.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use codec::FormatError;
use serde_json::value::RawValue;

use super::metadata_file::Part;

/// The payload type of an envelope with a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
const BUNDLED: &str = "dsseEnvelope";
/// The predicate of SLSA as buildx v0.35.0 prints it (`util/imagetools/loader.go`).
const SLSA: &str = "SLSA";

pub(super) type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Returns the statement in the envelope, or in the bundle with one, with these fields; `None` if it is
/// neither.
///
/// # Errors
/// Returns an error if the payload of the envelope is not a statement in base64.
pub(super) fn statement(fields: &Fields<'_>) -> Option<Result<Vec<u8>, EnvelopeError>> {
    let bundled: Option<Fields<'_>> =
        fields.get(BUNDLED).and_then(|envelope| serde_json::from_str(envelope.get()).ok());
    let fields = bundled.as_ref().unwrap_or(fields);
    let text = |name| serde_json::from_str::<String>(fields.get(name)?.get()).ok();
    let (kind, payload) = (text("payloadType")?, text("payload")?);
    if kind != IN_TOTO {
        return Some(Err(EnvelopeError::PayloadType(kind.chars().take(100).collect())));
    }
    Some(decoded(&payload))
}

fn decoded(payload: &str) -> Result<Vec<u8>, EnvelopeError> {
    let is_url_safe = payload.contains(['-', '_']);
    let alphabet: &Alphabet = if is_url_safe { &URL_SAFE } else { &STANDARD };
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    Ok(GeneralPurpose::new(alphabet, config).decode(payload).map_err(FormatError::new)?)
}

/// Why an envelope has no statement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Its payload has another type.
    #[error("the envelope holds {0:?}, not an attestation ({IN_TOTO})")]
    PayloadType(String),
    /// The statement is not in base64.
    #[error("the payload of the envelope is not base64")]
    Base64(#[from] FormatError),
}

/// Returns the provenance in the output of `docker buildx imagetools inspect --format '{{json
/// .Provenance}}'`: that of an image, or of each of its platforms; `None` if it is something else.
pub(super) fn printed<'a>(fields: &Fields<'a>) -> Option<Vec<Part<'a>>> {
    if let Some(provenance) = fields.get(SLSA) {
        return Some(vec![Part { name: None, provenance }]);
    }
    let of_platform = |(platform, value): (&String, &&'a RawValue)| {
        let fields: Fields<'a> = serde_json::from_str(value.get()).ok()?;
        Some(Part { name: Some(platform.clone()), provenance: fields.get(SLSA)? })
    };
    let parts: Vec<_> = fields.iter().filter_map(of_platform).collect();
    (!parts.is_empty()).then_some(parts)
}
