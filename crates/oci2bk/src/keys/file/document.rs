//! The JSON of keys files.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::Write as _;

use bkstate::Digest;
use codec::FormatError;
use codec::gojson::ControlEscapes;
use llb::release::{Span, Version};
use llb::{Encoding, InvalidOpDigest, OpDigest, Release};
use serde::{Deserialize, Serialize};

use super::{About, Digests, KeysFile, MOST_OUTPUTS, step};
use crate::json;

/// Maximum size of a keys file that is written, in bytes, which is also the default limit for reading.
pub const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// The media type of a keys file: its `mediaType`, and that of the artifact and of the layer with which it is
/// attached to a cache. The version is part of it.
pub const KEYS_MEDIA_TYPE: &str = "application/vnd.oci2bk.keys.v1+json";

/// Prefix of the media types of all versions.
const ANY_VERSION: &str = "application/vnd.oci2bk.keys.";

/// Why a keys file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysFileError {
    /// It is truncated, or malformed.
    #[error("it is not JSON of the form of a keys file")]
    Json(#[from] FormatError),
    /// Its version is unknown to this program.
    #[error(
        "it is a keys file of a version that this program does not know ({media_type}); use a \
         newer oci2bk, or write the file again with this one"
    )]
    UnknownVersion {
        /// The media type in the file, shortened to 100 characters.
        media_type: String,
    },
    /// An op has no digests.
    #[error("op {op} has no digest")]
    NoDigest {
        /// The index of the op, from 0.
        op: usize,
    },
    /// A digest cannot come from any BuildKit release.
    #[error("op {op} has something else in the place of an op digest: {text:?}")]
    OpDigest {
        /// The index of the op, from 0.
        op: usize,
        /// The text in its place, shortened to 100 characters.
        text: String,
    },
    /// An op has no outputs, or more than an op can have.
    #[error("op {op} claims {outputs} outputs; an op has 1 to {MOST_OUTPUTS}")]
    Outputs {
        /// The index of the op, from 0.
        op: usize,
        /// The stated number of outputs.
        outputs: u32,
    },
    /// There are more keys than fit into a file.
    #[error(
        "{ops} ops make a keys file of more than {MAX_DOCUMENT_BYTES} bytes, which nothing would \
         read; attach the keys of one cache to it instead"
    )]
    TooLarge {
        /// The number of ops.
        ops: usize,
    },
}

/// A class of releases with the same encoding. Sorted as [`Encoding::ALL`], newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    release: Release,
    long_escapes: bool,
}

impl Class {
    fn rank(self) -> (usize, Release, bool) {
        let position = Encoding::ALL.into_iter().position(|encoding| Self::from(encoding) == self);
        (position.unwrap_or(Encoding::ALL.len()), self.release, self.long_escapes)
    }
}

impl Ord for Class {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Class {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Encoding> for Class {
    fn from(Encoding { release, escapes }: Encoding) -> Self {
        Self { release, long_escapes: escapes == ControlEscapes::Long }
    }
}

impl From<Class> for Encoding {
    fn from(Class { release, long_escapes }: Class) -> Self {
        let escapes = if long_escapes { ControlEscapes::Long } else { ControlEscapes::Short };
        Self { release, escapes }
    }
}

/// The names of the classes in a file: their oldest releases.
const RELEASES: [(&str, Release); 4] = [
    ("v0.18", Release::V0_18),
    ("v0.17", Release::V0_17),
    ("v0.13", Release::V0_13),
    ("v0.11", Release::V0_11),
];
const LONG: &str = "long";

impl Class {
    fn name(self) -> Option<&'static str> {
        RELEASES.into_iter().find(|(_, release)| *release == self.release).map(|(name, _)| name)
    }

    /// Returns the class of a digest. Later versions may have unknown classes: the digest can still be right.
    fn parse(release: &str, escapes: Option<&str>) -> Option<Self> {
        let long_escapes = match escapes {
            None => false,
            Some(LONG) => true,
            Some(_) => return None,
        };
        let (_, release) = RELEASES.into_iter().find(|(name, _)| *name == release)?;
        Some(Self { release, long_escapes })
    }
}

#[derive(Serialize)]
struct OpOut<'a> {
    digests: Vec<DigestOut<'a>>,
    outputs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Version>,
}

#[derive(Serialize)]
struct DigestOut<'a> {
    digest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    escapes: Option<&'static str>,
}

#[derive(Serialize)]
struct ScanOut<'a> {
    image: Digest,
    results: &'a BTreeSet<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    media_type: String,
}

#[derive(Deserialize)]
struct FileIn {
    ops: Vec<OpIn>,
    #[serde(default)]
    scans: Vec<ScanIn>,
}

#[derive(Deserialize)]
struct ScanIn {
    image: Digest,
    results: BTreeSet<Digest>,
}

#[derive(Deserialize)]
struct OpIn {
    digests: Vec<DigestIn>,
    outputs: u32,
    step: Option<String>,
    since: Option<String>,
    before: Option<String>,
}

#[derive(Deserialize)]
struct DigestIn {
    digest: String,
    release: Option<String>,
    escapes: Option<String>,
}

/// Returns whether a JSON document with this media type is a keys file, of any version.
pub(in crate::keys) fn is_keys_file(media_type: &str) -> bool {
    media_type.starts_with(ANY_VERSION)
}

impl KeysFile {
    /// Encodes the file: a line per op. The same ops give the same bytes.
    ///
    /// # Errors
    /// Returns [`KeysFileError::TooLarge`] if it would be larger than [`decode`](Self::decode) reads.
    pub fn encode(&self) -> Result<Vec<u8>, KeysFileError> {
        let too_large = || KeysFileError::TooLarge { ops: self.ops.len() };
        let mut json = Vec::new();
        // Writing to memory cannot fail.
        let _ = write!(json, "{{\"mediaType\":\"{KEYS_MEDIA_TYPE}\",\"ops\":[");
        let mut separator = "\n";
        for (digests, about) in &self.ops {
            json.extend_from_slice(separator.as_bytes());
            serde_json::to_writer(&mut json, &OpOut::new(digests, about))
                .map_err(FormatError::new)?;
            separator = ",\n";
            if json.len() as u64 > MAX_DOCUMENT_BYTES {
                return Err(too_large());
            }
        }
        json.extend_from_slice(b"\n]");
        let mut separator = ",\"scans\":[\n";
        for (image, results) in self.scans.records() {
            json.extend_from_slice(separator.as_bytes());
            serde_json::to_writer(&mut json, &ScanOut { image, results })
                .map_err(FormatError::new)?;
            separator = ",\n";
        }
        json.extend_from_slice(if self.scans.is_empty() { b"" } else { b"\n]" });
        json.extend_from_slice(b"}\n");
        if json.len() as u64 > MAX_DOCUMENT_BYTES { Err(too_large()) } else { Ok(json) }
    }

    /// Decodes a file.
    ///
    /// Unknown members are ignored, and so are unknown kinds of steps and classes of releases, which may be
    /// added without a new version.
    ///
    /// # Errors
    /// Returns an error if it is of another version, or differs from the output of [`encode`](Self::encode).
    pub fn decode(json: &[u8]) -> Result<Self, KeysFileError> {
        let Head { media_type } = json::parse(json)?;
        if media_type != KEYS_MEDIA_TYPE {
            return Err(KeysFileError::UnknownVersion { media_type: shortened(&media_type) });
        }
        let FileIn { ops, scans } = json::parse(json)?;
        let mut file = Self::default();
        scans.into_iter().for_each(|scan| file.scans.insert(scan.image, scan.results));
        for (number, op) in ops.into_iter().enumerate() {
            if !(1..=MOST_OUTPUTS).contains(&op.outputs) {
                return Err(KeysFileError::Outputs { op: number, outputs: op.outputs });
            }
            if op.digests.is_empty() {
                return Err(KeysFileError::NoDigest { op: number });
            }
            let step = op.step.as_deref().and_then(step::kind);
            let digests: Result<Digests, _> = op
                .digests
                .into_iter()
                .map(|digest| {
                    digest.read().map_err(|text| KeysFileError::OpDigest { op: number, text })
                })
                .collect();
            let builder = builder(op.since.as_deref(), op.before.as_deref());
            file.insert(digests?, About { outputs: op.outputs, step, builder });
        }
        file.unite();
        Ok(file)
    }
}

impl<'a> OpOut<'a> {
    fn new(digests: &'a Digests, about: &About) -> Self {
        let digest = |(class, op_digest): &'a (Option<Class>, OpDigest)| DigestOut {
            digest: op_digest.as_str(),
            release: class.and_then(Class::name),
            escapes: class.filter(|class| class.long_escapes).map(|_| LONG),
        };
        let digests = digests.iter().map(digest).collect();
        let About { outputs, step, builder } = *about;
        let (since, before) =
            (builder.map(|builder| builder.since), builder.and_then(|builder| builder.before));
        Self { digests, outputs, step, since, before }
    }
}

impl DigestIn {
    /// Returns the digest with its class, or the text that is not a digest.
    fn read(self) -> Result<(Option<Class>, OpDigest), String> {
        let class = self.release.and_then(|r| Class::parse(&r, self.escapes.as_deref()));
        let op_digest =
            OpDigest::try_from(self.digest).map_err(|InvalidOpDigest { text, .. }| text)?;
        if tells_nothing(&op_digest) {
            Ok((class, op_digest))
        } else {
            Err(shortened(op_digest.as_str()))
        }
    }
}

/// Returns the possible releases of the builder according to a file. Invalid versions are ignored.
fn builder(since: Option<&str>, before: Option<&str>) -> Option<Span> {
    let version = |text: &str| text.parse::<Version>().ok();
    Some(Span { since: since.and_then(version)?, before: before.and_then(version) })
}

/// Returns whether an op digest is a digest, or the JSON that v0.11 and v0.12 have in its place for merge and
/// diff ops: with only the numbers of inputs in it.
pub(super) fn tells_nothing(op_digest: &OpDigest) -> bool {
    #[derive(Deserialize)]
    #[serde(tag = "Type", deny_unknown_fields)]
    enum Named {
        #[serde(rename = "buildkit.merge.v0")]
        Merge {
            #[serde(rename = "Merge")]
            _merge: Merge,
        },
        #[serde(rename = "buildkit.diff.v0")]
        Diff {
            #[serde(rename = "Diff")]
            _diff: Diff,
        },
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Merge {
        #[serde(default, rename = "inputs")]
        _inputs: Vec<Input>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Diff {
        #[serde(rename = "lower")]
        _lower: Input,
        #[serde(rename = "upper")]
        _upper: Input,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {
        #[serde(default, rename = "input")]
        _input: i64,
    }
    let text = op_digest.as_str();
    text.parse::<Digest>().is_ok() || serde_json::from_str::<Named>(text).is_ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
