//! `cache.db`: the solver's keys, links and results.
//!
//! | bucket | sub-bucket | key | value |
//! |---|---|---|---|
//! | `_links` | key id | `<link JSON>@<target key id>` | empty |
//! | `_backlinks` | target key id | source key id | empty |
//! | `_result` | key id | result id | `{"CreatedAt":…,"ID":…}` |
//! | `_byresult` | result id | key id | empty |
//!
//! A key exists if it has a sub-bucket in `_links`, even an empty one.
//! Source: BuildKit v0.32.2 `solver/bboltcachestorage/storage.go`.
//!
//! ```
//! use bkstate::bolt::Db;
//! use bkstate::ids::{KeyId, ResultId, WorkerId};
//! use bkstate::solver::{Link, SolverCache};
//! use bkstate::{Digest, Time};
//!
//! let (image, step) = (KeyId::from(Digest::of("FROM")), KeyId::derive("RUN on FROM"));
//! let run = Link { digest: Digest::of("RUN").into(), ..Link::default() };
//! let result = ResultId { worker: WorkerId::derive("worker"), record: None };
//!
//! let mut cache = SolverCache::default();
//! cache.add_key(&image);
//! cache.add_key(&step);
//! cache.add_link(&image, run.clone(), &step);
//! cache.add_result(&step, result.clone(), Time::UNIX_EPOCH);
//! // A second, older time of the same result adds nothing.
//! assert!(!cache.add_result(&step, result.clone(), Time::ZERO));
//!
//! // This is how a daemon finds the result of a step: from the key of its input by its own op digest.
//! assert!(cache.has_link(&image, &run, &step));
//! let found: Vec<&KeyId> = cache.targets(&image, &run).collect();
//! assert_eq!(found, [&step]);
//! assert!(cache.results[found[0]].contains_key(&result));
//!
//! let file = tempfile::tempfile()?;
//! cache.write(&file)?;
//! let db = Db::open(file)?;
//! assert_eq!(SolverCache::read(&db)?, cache);
//! assert_eq!(SolverCache::read_with_miswritten(&db)?, (cache, Vec::new()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fs::File;

use codec::FormatError;
use serde::{Deserialize, Serialize};

use crate::bolt::{self, BucketWriter, Db};
use crate::decode::{At, DecodeError, each_bucket, json_object, values};
use crate::digest::DigestText;
use crate::encode::EncodeError;
use crate::gojson;
use crate::ids::{KeyId, ResultId};
use crate::small_map::{SmallMap, SmallSet};
use crate::time::Time;

const LINKS: &[u8] = b"_links";
const BACKLINKS: &[u8] = b"_backlinks";
const RESULT: &[u8] = b"_result";
const BY_RESULT: &[u8] = b"_byresult";

/// An edge from a key to a key that depends on it (BuildKit `solver/cachestorage.go`
/// `CacheInfoLink`). The daemon looks links up by the bytes of their JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Link {
    /// The index of the target op's input that this edge feeds.
    #[serde(skip_serializing_if = "is_zero")]
    pub input: i64,
    /// The index of the target op's output that the target key is for.
    #[serde(skip_serializing_if = "is_zero")]
    pub output: i64,
    /// The op digest of the target op; raw, not combined with the output.
    #[serde(skip_serializing_if = "DigestText::is_empty")]
    pub digest: DigestText,
    /// The digest of the part of the input that the op uses; empty for all of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[derive(Serialize, Deserialize)]
struct StoredResult {
    #[serde(rename = "CreatedAt")]
    created_at: Time,
    #[serde(rename = "ID")]
    id: String,
}

/// The content of `cache.db`.
///
/// The four maps are the four buckets. [`add_key`](Self::add_key), [`add_link`](Self::add_link) and
/// [`add_result`](Self::add_result) keep each pair consistent. A state read from disk may have leftovers of a
/// daemon in one map only, and is kept as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SolverCache {
    /// For each key, its outgoing links with their targets.
    pub links: BTreeMap<KeyId, SmallSet<(Link, KeyId)>>,
    /// For each key, the keys that link to it.
    pub backlinks: BTreeMap<KeyId, SmallSet<KeyId>>,
    /// For each key, its results and their creation times.
    pub results: BTreeMap<KeyId, SmallMap<ResultId, Time>>,
    /// For each result, the keys that have it.
    pub by_result: BTreeMap<ResultId, SmallSet<KeyId>>,
}

impl SolverCache {
    /// Creates `key`. Returns whether it is new.
    pub fn add_key(&mut self, key: &KeyId) -> bool {
        let new = !self.links.contains_key(key);
        if new {
            self.links.insert(key.clone(), SmallSet::default());
        }
        new
    }

    /// Links `source` to `target`. Returns whether the link is new.
    pub fn add_link(&mut self, source: &KeyId, link: Link, target: &KeyId) -> bool {
        let link = self.links.entry(source.clone()).or_default().insert((link, target.clone()));
        let back = self.backlinks.entry(target.clone()).or_default().insert(source.clone());
        link || back
    }

    /// Adds a result to `key`. If it has the same result already, the newer time is kept. Returns whether
    /// anything changed.
    pub fn add_result(&mut self, key: &KeyId, result: ResultId, created_at: Time) -> bool {
        let slot = self.results.entry(key.clone()).or_default();
        let before = slot.insert(result.clone(), created_at);
        if let Some(before) = before.filter(|before| *before > created_at) {
            slot.insert(result.clone(), before);
        }
        let newer = before.is_none_or(|before| before < created_at);
        self.by_result.entry(result).or_default().insert(key.clone()) || newer
    }

    /// Returns whether `link` leads from `source` to `target`.
    pub fn has_link(&self, source: &KeyId, link: &Link, target: &KeyId) -> bool {
        let links = self.links.get(source);
        links.is_some_and(|links| links.contains(&(link.clone(), target.clone())))
    }

    /// Returns the targets of `link` from `source`.
    pub fn targets(&self, source: &KeyId, link: &Link) -> impl Iterator<Item = &KeyId> {
        let first = (link.clone(), KeyId::least());
        let links = self.links.get(source).into_iter().flat_map(move |set| set.range_from(&first));
        links.take_while(move |(known, _)| known == link).map(|(_, target)| target)
    }

    /// Reads `cache.db`.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or has something that no known release writes.
    pub fn read(db: &Db) -> Result<Self, DecodeError> {
        Self::read_noting(db, |_| ())
    }

    /// Reads `cache.db`, and the entries in it that a daemon does not understand because it compares bytes.
    ///
    /// # Errors
    /// Same as [`read`](Self::read).
    pub fn read_with_miswritten(db: &Db) -> Result<(Self, Vec<Miswritten>), DecodeError> {
        let mut found = Vec::new();
        let cache = Self::read_noting(db, |entry| found.extend(entry.miswritten()))?;
        Ok((cache, found))
    }

    /// Reads `cache.db` and calls `note` with each link and result as it is stored.
    fn read_noting(db: &Db, mut note: impl FnMut(Written<'_>)) -> Result<Self, DecodeError> {
        let mut cache = Self::default();
        let root = db.root();
        let at = At::root(b"solver");
        each_bucket(&root, &at, LINKS, |at, key, bucket| {
            let from = key_id(at, &key)?;
            let mut links = SmallSet::default();
            values(&bucket, at, |at, bytes, _| {
                let link = decode_link(at, &bytes)?;
                note(Written::Link { from: &from, link: &link, bytes: &bytes });
                links.insert(link);
                Ok::<_, DecodeError>(())
            })?;
            cache.links.insert(from, links);
            Ok::<_, DecodeError>(())
        })?;
        each_bucket(&root, &at, BACKLINKS, |at, key, bucket| {
            let mut sources = SmallSet::default();
            values(&bucket, at, |at, key, _| {
                sources.insert(key_id(at, &key)?);
                Ok::<_, DecodeError>(())
            })?;
            cache.backlinks.insert(key_id(at, &key)?, sources);
            Ok::<_, DecodeError>(())
        })?;
        each_bucket(&root, &at, RESULT, |at, key, bucket| {
            let key = key_id(at, &key)?;
            let mut results = SmallMap::default();
            values(&bucket, at, |at, name, value| {
                let stored: StoredResult = json_object(&value)
                    .ok_or_else(|| at.value_error(&value, "a result in JSON"))?;
                let result = result_id(at, &name)?;
                note(Written::Result { key: &key, result: &result, id: &stored.id });
                results.insert(result, stored.created_at);
                Ok::<_, DecodeError>(())
            })?;
            cache.results.insert(key, results);
            Ok::<_, DecodeError>(())
        })?;
        each_bucket(&root, &at, BY_RESULT, |at, key, bucket| {
            let mut keys = SmallSet::default();
            values(&bucket, at, |at, key, _| {
                keys.insert(key_id(at, &key)?);
                Ok::<_, DecodeError>(())
            })?;
            cache.by_result.insert(result_id(at, &key)?, keys);
            Ok::<_, DecodeError>(())
        })?;
        Ok(cache)
    }

    /// Writes `cache.db` into the empty file `file`; the caller syncs it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written or an id is too long for a key.
    pub fn write(&self, file: &File) -> Result<(), EncodeError> {
        bolt::write(file, |root| {
            root.bucket(BACKLINKS, |bucket| {
                each(bucket, &self.backlinks, KeyId::text, |bucket, sources| {
                    put_names(bucket, sources.iter().map(KeyId::text))
                })
            })?;
            root.bucket(BY_RESULT, |bucket| {
                each(bucket, &self.by_result, ToString::to_string, |bucket, keys| {
                    put_names(bucket, keys.iter().map(KeyId::text))
                })
            })?;
            root.bucket(LINKS, |bucket| {
                each(bucket, &self.links, KeyId::text, |bucket, links| {
                    let keys: Result<Vec<_>, _> = links.iter().map(encode_link).collect();
                    let mut keys = keys?;
                    // Links sort differently from their JSON.
                    keys.sort_unstable();
                    put_names(bucket, keys)
                })
            })?;
            root.bucket(RESULT, |bucket| {
                each(bucket, &self.results, KeyId::text, |bucket, results| {
                    results.iter().try_for_each(|result| {
                        let (id, value) = encode_result(result)?;
                        Ok(bucket.put(id.as_bytes(), value.as_bytes())?)
                    })
                })
            })
        })
    }
}

/// An entry whose content contradicts its place, or is encoded in other bytes than BuildKit's.
///
/// ```
/// use bkstate::bolt::{self, Db};
/// use bkstate::ids::KeyId;
/// use bkstate::solver::{Miswritten, SolverCache};
///
/// // Go omits zero values, so no daemon ever looks for this link.
/// let link = br#"{"Input":0,"Digest":"sha256:0"}@target"#;
/// let file = tempfile::tempfile()?;
/// bolt::write(&file, |root| root.bucket(b"_links", |all| all.bucket(b"source", |of| of.put(link, b""))))?;
///
/// let (from, to) = (KeyId::new("source")?, KeyId::new("target")?);
/// let (_, found) = SolverCache::read_with_miswritten(&Db::open(file)?)?;
/// assert_eq!(found, [Miswritten::Link { from, to }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Miswritten {
    /// The JSON of a link differs from Go's encoding of it.
    #[error("the link to {to} in key {from} is not written as BuildKit writes it")]
    Link {
        /// The source of the link.
        from: KeyId,
        /// The target of the link.
        to: KeyId,
    },
    /// The id in the value of a result differs from its key.
    #[error("the result {result} of key {key} has another id in its value")]
    Result {
        /// The key that has the result.
        key: KeyId,
        /// The id in its key.
        result: ResultId,
    },
}

/// An entry as read.
enum Written<'a> {
    /// A link of `from`, and the bytes of its key.
    Link { from: &'a KeyId, link: &'a (Link, KeyId), bytes: &'a [u8] },
    /// A result of `key`, and the id in its value.
    Result { key: &'a KeyId, result: &'a ResultId, id: &'a str },
}

impl Written<'_> {
    /// Returns what is wrong with the entry, if a daemon does not understand it.
    fn miswritten(&self) -> Option<Miswritten> {
        match *self {
            Self::Link { from, link, bytes } => {
                let expected = encode_link(link).ok();
                let differs = expected.is_none_or(|expected| expected.as_bytes() != bytes);
                differs.then(|| Miswritten::Link { from: from.clone(), to: link.1.clone() })
            }
            Self::Result { key, result, id } => (result.to_string() != id)
                .then(|| Miswritten::Result { key: key.clone(), result: result.clone() }),
        }
    }
}

/// Writes one sub-bucket per entry of `map`, whose keys sort as their texts.
fn each<'m, K, V, T: AsRef<str>>(
    bucket: &mut BucketWriter<'_>,
    map: &'m BTreeMap<K, V>,
    text: impl Fn(&'m K) -> T,
    fill: impl Fn(&mut BucketWriter<'_>, &V) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    map.iter().try_for_each(|(key, value)| {
        bucket.bucket(text(key).as_ref().as_bytes(), |bucket| fill(bucket, value))
    })
}

/// Writes sorted names as keys without values.
fn put_names(
    bucket: &mut BucketWriter<'_>,
    names: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<(), EncodeError> {
    names.into_iter().try_for_each(|name| Ok(bucket.put(name.as_ref().as_bytes(), b"")?))
}

fn encode_link((link, target): &(Link, KeyId)) -> Result<String, FormatError> {
    Ok(format!("{}@{target}", gojson::to_string(link)?))
}

fn encode_result((id, created_at): (&ResultId, &Time)) -> Result<(String, String), FormatError> {
    let id = id.to_string();
    let json = gojson::to_string(&StoredResult { created_at: *created_at, id: id.clone() })?;
    Ok((id, json))
}

fn decode_link(at: &At<'_>, key: &[u8]) -> Result<(Link, KeyId), DecodeError> {
    let parts = std::str::from_utf8(key).ok().and_then(|key| key.split_once('@'));
    let link = parts
        .and_then(|(json, target)| Some((json_object(json.as_bytes())?, KeyId::new(target).ok()?)));
    link.ok_or_else(|| at.value_error(key, "a link: JSON, @ and a key id"))
}

fn key_id(at: &At<'_>, bytes: &[u8]) -> Result<KeyId, DecodeError> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| KeyId::new(text).ok());
    text.ok_or_else(|| at.value_error(bytes, "a key id"))
}

fn result_id(at: &At<'_>, bytes: &[u8]) -> Result<ResultId, DecodeError> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| ResultId::parse(text).ok());
    text.ok_or_else(|| at.value_error(bytes, "a result id: worker id, :: and record id"))
}
