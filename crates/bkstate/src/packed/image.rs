//! The description of an image.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::str::FromStr;

use codec::FormatError;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::dir::{Dir, DirError};

/// The version of the description.
const FORMAT: u32 = 1;
/// A description of a million snapshots has about 8 MB.
const MAX_BYTES: u64 = 64 << 20;

/// An image with the directories of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The size of the image in bytes.
    pub size: u64,
    /// The digest of the image.
    pub digest: Digest,
    /// The UUID of its file system.
    pub uuid: Uuid,
    /// The digest of what the trees have, which does not depend on the program that made the image.
    pub content: Digest,
    /// Where the image was written, if that is not in the root. It is for messages; the file is never opened.
    pub file: Option<PathBuf>,
    /// The ids of its snapshots.
    pub snapshots: BTreeSet<u64>,
}

/// The UUID of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uuid([u8; 16]);

/// The text is not a UUID.
///
/// ```
/// use bkstate::packed::{ParseUuidError, Uuid};
///
/// let refused: Result<Uuid, ParseUuidError> = "1".parse();
/// assert_eq!(refused.unwrap_err().to_string(), "\"1\" is not a UUID in lowercase");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a UUID in lowercase")]
pub struct ParseUuidError(String);

/// Why a description cannot be read.
///
/// ```
/// use bkstate::dir::Dir;
/// use bkstate::packed::{Image, ReadImageError};
///
/// let temp = tempfile::tempdir()?;
/// std::fs::write(temp.path().join("1.json"), r#"{"format": 2}"#)?;
/// let error = Image::read(&Dir::open(temp.path())?, "1.json").unwrap_err();
/// assert!(matches!(error, ReadImageError::Format(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadImageError {
    /// The file cannot be read.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// It is not of the expected form.
    #[error("it is not the description of an image")]
    Json(#[source] FormatError),
    /// It is of another version.
    #[error("it has the format {0}, and only {FORMAT} is known")]
    Format(u32),
}

impl Uuid {
    /// Returns the one that follows from the content of an image: a UUID of version 8, which is never zero.
    pub fn of(content: &Digest) -> Self {
        let hex = content.hex();
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        // RFC 9562, sections 4.1, 4.2 and 5.8.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&index) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    /// Only the form in which it is printed is accepted.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.replace('-', "");
        let number = u128::from_str_radix(&digits, 16).ok();
        let uuid = number.map(|number| Self(number.to_be_bytes()));
        let uuid = uuid.filter(|uuid| uuid.to_string() == text);
        uuid.ok_or_else(|| ParseUuidError(text.to_owned()))
    }
}

fn invalid(error: impl fmt::Display) -> ReadImageError {
    ReadImageError::Json(FormatError::new(error))
}

/// The members of the document.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Self")]
struct Document {
    format: u32,
    size: u64,
    digest: String,
    uuid: String,
    content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    snapshots: BTreeSet<u64>,
}

/// What all versions have.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Versioned {
    format: u32,
}

codec::from_objects!(Document, Versioned);

impl Image {
    /// Reads the description `name` in `dir`.
    ///
    /// ```
    /// use bkstate::dir::Dir;
    /// use bkstate::packed::Image;
    ///
    /// let temp = tempfile::tempdir()?;
    /// assert!(Image::read(&Dir::open(temp.path())?, "1.json").is_err(), "it is missing");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or is not a description.
    pub fn read(dir: &Dir, name: &str) -> Result<Self, ReadImageError> {
        let mut text = Vec::new();
        let failed = |source| DirError { action: "read", path: dir.path().join(name), source };
        dir.file(name)?.take(MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
        let Versioned { format } = serde_json::from_slice(&text).map_err(invalid)?;
        if format != FORMAT {
            return Err(ReadImageError::Format(format));
        }
        let document: Document = serde_json::from_slice(&text).map_err(invalid)?;
        let digest = |text: String| text.parse::<Digest>().map_err(invalid);
        Ok(Self {
            size: document.size,
            digest: digest(document.digest)?,
            uuid: document.uuid.parse().map_err(|error: ParseUuidError| invalid(error))?,
            content: digest(document.content)?,
            file: document.file.map(PathBuf::from),
            snapshots: document.snapshots,
        })
    }

    /// Returns the description as it is stored.
    pub(super) fn to_json(&self) -> String {
        let document = Document {
            format: FORMAT,
            size: self.size,
            digest: self.digest.to_string(),
            uuid: self.uuid.to_string(),
            content: self.content.to_string(),
            file: self.file.as_ref().map(|path| path.to_string_lossy().into_owned()),
            snapshots: self.snapshots.clone(),
        };
        // Numbers and texts have a JSON form.
        let mut text = serde_json::to_string(&SerializedDocument(&document)).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The name of the file at the top of an image that tells it from any other.
    pub const MARKER: &'static str = "content";

    /// Returns what that file has, in an image with this content.
    pub fn marker(content: &Digest) -> String {
        format!("{content}\n")
    }
}

/// With `remote`, the derived code is a function.
struct SerializedDocument<'d>(&'d Document);

impl Serialize for SerializedDocument<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Document::serialize(self.0, serializer)
    }
}
