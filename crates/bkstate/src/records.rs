//! `metadata_v2.db`: the cache records, one per layer, image, local source or cache mount.
//!
//! | bucket | sub-bucket | key | value |
//! |---|---|---|---|
//! | `_main` | record id | see [`Record`] | `{"value":<JSON>[,"index":"<index>"]}`, empty = unset |
//! | `_index` | | `<index>::<record id>` | empty |
//! | `_external` | record id | e.g. `buildkit.contenthash.v0` | bytes |
//!
//! Source: BuildKit v0.32.2 `cache/metadata/metadata.go` and `cache/metadata.go`.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bkstate::Digest;
//! use bkstate::bolt::Db;
//! use bkstate::ids::RecordId;
//! use bkstate::records::{POLICY_RETAIN, Record, Records};
//!
//! let (base, mount) = (RecordId::derive("base"), RecordId::derive("mount"));
//! let chain_id = Digest::of("a layer");
//! let layer = Record {
//!     committed: Some(true),
//!     chain_id: Some(chain_id),
//!     cache_policy: Some(POLICY_RETAIN),
//!     snapshot: Some("sha256:base".to_owned()),
//!     ..Record::default()
//! };
//! let cache_mount = Record {
//!     parent: Some(base.clone()),
//!     cache_dir: Some("/root/.cargo".to_owned()),
//!     ..Record::default()
//! };
//!
//! // An immutable record may use a snapshot of any name, a mutable one has its own.
//! assert!(!layer.is_mutable() && cache_mount.is_mutable());
//! assert_eq!(layer.snapshot_key(&base), "sha256:base");
//! assert_eq!(cache_mount.snapshot_key(&mount), mount.as_str());
//!
//! assert!(layer.is_committed() && layer.is_lasting() && layer.is_retained() && !layer.is_packed());
//! assert!(cache_mount.is_cache_mount() && !cache_mount.is_committed());
//!
//! // A merge has several records below it, and no files until they are needed.
//! let merge = Record { merge_parents: Some(vec![base.clone(), mount.clone()]), ..Record::default() };
//! assert!(merge.is_composed() && !merge.is_mutable());
//! assert!(merge.parents().eq([&base, &mount]));
//!
//! // A daemon that was stopped during the removal leaves this.
//! assert!(Record { deleted: Some(true), ..layer.clone() }.is_removed());
//!
//! // A daemon finds the records of a chain, and those of a cache mount, by the index.
//! let records = Records {
//!     by_id: BTreeMap::from([(base.clone(), layer), (mount.clone(), cache_mount)]),
//!     external: BTreeMap::new(),
//! };
//! let keys = [format!("cache-dir:/root/.cargo::{mount}"), format!("chainid:{chain_id}::{base}")];
//! assert_eq!(records.index(), keys.into());
//!
//! let file = tempfile::tempfile()?;
//! records.write(&file)?;
//! let db = Db::open(file)?;
//! assert_eq!(Records::read(&db)?, records);
//! assert_eq!(Records::read_index(&db)?, records.index());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::bolt::{self, Bucket, Db};
use crate::decode::{At, DecodeError, each_bucket, each_value, json_object, values};
use crate::digest::Digest;
use crate::encode::EncodeError;
use crate::gojson;
use crate::ids::RecordId;

const MAIN: &[u8] = b"_main";
const INDEX: &[u8] = b"_index";
const EXTERNAL: &[u8] = b"_external";

/// `cache.cachePolicy` of records that outlive their first use.
pub const POLICY_RETAIN: i64 = 1;

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $key:literal $(index $index:literal)?,)*) => {
        /// One cache record. A field that is `None` is absent in the file.
        ///
        /// All times are nanoseconds since the Unix epoch, all sizes bytes.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Record {
            $($(#[$doc])* pub $field: Option<$type>,)*
            /// Entries without a field in this model, and cleared ones (empty), as stored in the file.
            pub other: BTreeMap<String, Vec<u8>>,
        }

        impl Record {
            /// Returns the entries of the record's bucket in `_main`.
            fn entries(&self) -> Result<BTreeMap<String, Vec<u8>>, EncodeError> {
                let mut entries = self.other.clone();
                $(if let Some(value) = &self.$field {
                    let index = None$(.or(Some(format!(concat!($index, ":{}"), value))))?;
                    entries.insert($key.to_owned(), encode(value, index)?);
                })*
                Ok(entries)
            }

            /// Returns the indexes that list the record.
            fn indexes(&self) -> BTreeSet<String> {
                let mut indexes: BTreeSet<String> =
                    self.other.values().filter_map(|entry| index_of(entry)).collect();
                $($(if let Some(value) = &self.$field {
                    indexes.insert(format!(concat!($index, ":{}"), value));
                })?)*
                indexes
            }

            fn set(&mut self, at: &At<'_>, key: &str, entry: Vec<u8>) -> Result<(), DecodeError> {
                match key {
                    $($key if !entry.is_empty() => self.$field = decode(at, &entry)?,)*
                    _ => {
                        self.other.insert(key.to_owned(), entry);
                    }
                }
                Ok(())
            }
        }
    };
}

fields! {
    /// Whether the record is immutable. Without this entry it is mutable.
    committed: bool = "snapshot.committed",
    /// The record of the layer below.
    parent: RecordId = "cache.parent",
    /// The records that a merge record merges, bottom first.
    merge_parents: Vec<RecordId> = "cache.mergeParents",
    /// The lower side of a diff record.
    lower_diff_parent: RecordId = "cache.lowerDiffParent",
    /// The upper side of a diff record.
    upper_diff_parent: RecordId = "cache.upperDiffParent",
    /// The key of its snapshot; without this entry it is the record's id.
    snapshot: String = "cache.snapshot",
    /// The compressed layer blob.
    blob: Digest = "cache.blob",
    /// The digest of the uncompressed layer.
    diff_id: Digest = "cache.diffID",
    /// The layer's part of the chainID, since v0.33.1: its diffID, or with stargz and a table of contents a
    /// digest over both. Without this entry it is the diffID (BuildKit v0.34.2 `cache/blobs.go`
    /// `layerIdentity`).
    layer_identity: Digest = "cache.layerIdentity",
    /// The OCI chain id of the layer and all below it.
    chain_id: Digest = "cache.chainID" index "chainid",
    /// The chain id over pairs of blob and diffID, by which an image pull or a cache import finds
    /// the record.
    blob_chain_id: Digest = "cache.blobChainID" index "blobchainid",
    /// Media type of the blob.
    media_type: String = "cache.mediatype",
    /// Size of the blob.
    blob_size: i64 = "cache.blobsize",
    /// Whether only the blob exists and the snapshot not yet.
    blob_only: bool = "cache.blobonly",
    /// The download URLs of a foreign layer.
    urls: Vec<String> = "cache.layer.urls",
    /// The images that contain the layer.
    image_refs: Vec<String> = "cache.imageRefs",
    /// `windows` for Windows layers.
    layer_type: String = "cache.layerType",
    /// `regular` if absent; `internal`, `frontend`, `source.local`, `source.git.checkout` or
    /// `exec.cachemount`.
    record_type: String = "cache.recordType",
    /// When it was created.
    created_at: i64 = "cache.createdAt",
    /// When it was last used. Ignored without [`usage_count`](Self::usage_count).
    last_used_at: i64 = "cache.lastUsedAt",
    /// How often it was used.
    usage_count: i64 = "cache.usageCount",
    /// 0 default, 1 retain. A mutable record without retain is deleted when first released.
    cache_policy: i64 = "cache.cachePolicy",
    /// The text that `buildctl du --verbose` shows.
    description: String = "cache.description",
    /// Size of its own snapshot on disk, -1 if not yet computed.
    size: i64 = "snapshot.size",
    /// The mutable record that still owns the snapshot of this immutable one.
    equal_mutable: RecordId = "cache.equalMutable",
    /// Whether the daemon removes it when it starts.
    deleted: bool = "cache.deleted",
    /// The key of a cache mount.
    cache_dir: String = "cache-dir" index "cache-dir",
    /// The key by which a local source is found again.
    shared_key: String = "local.sharedKey" index "local.sharedKey",
}

impl Record {
    /// Returns its parent records.
    pub fn parents(&self) -> impl Iterator<Item = &RecordId> {
        let below = [&self.parent, &self.lower_diff_parent, &self.upper_diff_parent];
        below.into_iter().flatten().chain(self.merge_parents.iter().flatten())
    }

    /// Returns whether the daemon composes its snapshot from others, when it is first needed.
    pub fn is_composed(&self) -> bool {
        self.merge_parents.is_some()
            || self.lower_diff_parent.is_some()
            || self.upper_diff_parent.is_some()
    }

    /// Returns whether the daemon has completed it.
    pub fn is_committed(&self) -> bool {
        self.committed == Some(true)
    }

    /// Returns whether it is committed for good. A committed record that is not can still vanish when the
    /// daemon starts.
    pub fn is_lasting(&self) -> bool {
        self.is_committed() && self.equal_mutable.is_none() && !self.is_removed()
    }

    /// Returns whether its layer is not unpacked yet: only its blob exists.
    pub fn is_packed(&self) -> bool {
        self.blob_only == Some(true)
    }

    /// Returns whether it is a cache mount (`RUN --mount=type=cache`).
    pub fn is_cache_mount(&self) -> bool {
        self.cache_dir.is_some()
    }

    /// Returns whether the daemon keeps it for later builds when it is not in use.
    pub fn is_retained(&self) -> bool {
        self.cache_policy == Some(POLICY_RETAIN)
    }

    /// Returns whether it may change. Merge and diff records cannot, whatever their entries say (BuildKit
    /// v0.32.2 `cache/manager.go` `getRecord`).
    pub fn is_mutable(&self) -> bool {
        !self.is_committed() && !self.is_composed()
    }

    /// Returns whether the daemon was stopped before it removed the record; it does so when it starts.
    pub fn is_removed(&self) -> bool {
        self.deleted == Some(true)
    }

    /// Returns the key of its snapshot; `id` is the record's own id.
    pub fn snapshot_key<'r>(&'r self, id: &'r RecordId) -> &'r str {
        match &self.snapshot {
            Some(snapshot) if !self.is_mutable() => snapshot,
            _ => id.as_str(),
        }
    }
}

#[derive(Serialize)]
struct Encoded<'a, T> {
    value: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<String>,
}

fn encode<T: Serialize>(value: &T, index: Option<String>) -> Result<Vec<u8>, EncodeError> {
    Ok(gojson::to_string(&Encoded { value, index })?.into_bytes())
}

#[derive(Deserialize)]
struct Decoded<'a> {
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    index: Option<String>,
}

fn decode<T: DeserializeOwned>(at: &At<'_>, entry: &[u8]) -> Result<Option<T>, DecodeError> {
    json_object(entry)
        .and_then(|decoded: Decoded<'_>| {
            decoded.value.map_or(Some(None), |raw| serde_json::from_str(raw.get()).ok())
        })
        .ok_or_else(|| at.value_error(entry, "the JSON that BuildKit writes there"))
}

/// The content of `metadata_v2.db`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// The records by id.
    pub by_id: BTreeMap<RecordId, Record>,
    /// Larger values of records, such as content hashes.
    pub external: BTreeMap<RecordId, BTreeMap<String, Vec<u8>>>,
}

impl Records {
    /// Reads `metadata_v2.db`.
    ///
    /// The bucket `_index` is not read: it follows from the records, see [`index`](Self::index).
    ///
    /// # Errors
    /// Returns an error if the file is damaged or has something that no known release writes.
    pub fn read(db: &Db) -> Result<Self, DecodeError> {
        let mut records = Self::default();
        let root = db.root();
        let at = At::root(b"records");
        each_bucket(&root, &at, MAIN, |at, id, bucket| {
            records.by_id.insert(record_id(at, id)?, read_record(&bucket, at)?);
            Ok::<_, DecodeError>(())
        })?;
        each_bucket(&root, &at, EXTERNAL, |at, id, bucket| {
            let external = records.external.entry(record_id(at, id)?).or_default();
            values(&bucket, at, |at, key, value| {
                external.insert(at.text(key)?, value);
                Ok::<_, DecodeError>(())
            })
        })?;
        Ok(records)
    }

    /// Writes `metadata_v2.db` into the empty file `file`; the caller syncs it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written or a key is too long.
    pub fn write(&self, file: &File) -> Result<(), EncodeError> {
        bolt::write(file, |root| {
            root.bucket(EXTERNAL, |bucket| {
                self.external.iter().try_for_each(|(id, entries)| {
                    bucket.bucket(id.as_str().as_bytes(), |bucket| {
                        entries.iter().try_for_each(|(key, value)| {
                            Ok::<_, EncodeError>(bucket.put(key.as_bytes(), value)?)
                        })
                    })
                })
            })?;
            root.bucket(INDEX, |bucket| {
                self.index()
                    .iter()
                    .try_for_each(|key| Ok::<_, EncodeError>(bucket.put(key.as_bytes(), b"")?))
            })?;
            root.bucket(MAIN, |bucket| {
                self.by_id.iter().try_for_each(|(id, record)| {
                    bucket.bucket(id.as_str().as_bytes(), |bucket| {
                        for (key, entry) in record.entries()? {
                            bucket.put(key.as_bytes(), &entry)?;
                        }
                        Ok::<_, EncodeError>(())
                    })
                })
            })
        })
    }

    /// Returns the keys that `_index` must have: one for each entry of a record that names an index.
    pub fn index(&self) -> BTreeSet<String> {
        let keys = self.by_id.iter().flat_map(|(id, record)| {
            record.indexes().into_iter().map(move |index| format!("{index}::{id}"))
        });
        keys.collect()
    }

    /// Reads the keys that `_index` actually has.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or the keys are not text.
    pub fn read_index(db: &Db) -> Result<BTreeSet<String>, DecodeError> {
        let mut keys = BTreeSet::new();
        each_value(&db.root(), &At::root(b"records"), INDEX, |at, key, _| {
            keys.insert(at.text(key)?);
            Ok::<_, DecodeError>(())
        })?;
        Ok(keys)
    }
}

/// Returns the index that an entry names, if the value is an entry.
fn index_of(entry: &[u8]) -> Option<String> {
    json_object::<Decoded<'_>>(entry)?.index
}

fn read_record(bucket: &Bucket<'_>, at: &At<'_>) -> Result<Record, DecodeError> {
    let mut record = Record::default();
    values(bucket, at, |at, key, entry| {
        let key = at.text(key)?;
        record.set(at, &key, entry)
    })?;
    Ok(record)
}

fn record_id(at: &At<'_>, bytes: Vec<u8>) -> Result<RecordId, DecodeError> {
    RecordId::new(at.text(bytes)?)
        .map_err(|error| at.value_error(error.text.as_bytes(), "a record id"))
}
