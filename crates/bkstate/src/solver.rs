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
//! let run = Link { digest: Digest::of("RUN").to_string(), ..Link::default() };
//! let result = ResultId { worker: WorkerId::derive("worker"), record: None };
//!
//! let mut cache = SolverCache::default();
//! cache.add_key(&image);
//! cache.add_key(&step);
//! cache.add_link(&image, run.clone(), &step);
//! cache.add_result(&step, result.clone(), Time::UNIX_EPOCH);
//! // The older of two times of the same result says nothing new.
//! assert!(!cache.add_result(&step, result.clone(), Time::ZERO));
//!
//! // So a daemon finds what a step resulted in: from the key of its input over its own op digest.
//! assert!(cache.has_link(&image, &run, &step));
//! let found: Vec<&KeyId> = cache.targets(&image, &run).collect();
//! assert_eq!(found, [&step]);
//! assert!(cache.results[found[0]].contains_key(&result));
//!
//! let file = tempfile::tempfile()?;
//! cache.write(&file)?;
//! let db = Db::open(file)?;
//! assert_eq!(SolverCache::read(&db)?, cache);
//! assert_eq!(SolverCache::read_miswritten(&db)?, []);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fs::File;

use serde::{Deserialize, Serialize};

use crate::bolt::{self, BucketWriter, Db};
use crate::decode::{At, DecodeError, each_bucket, json_object, values};
use crate::encode::EncodeError;
use crate::few::{FewMap, FewSet};
use crate::gojson;
use crate::ids::{KeyId, ResultId};
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
    /// Which input of the target op this edge feeds.
    #[serde(skip_serializing_if = "is_zero")]
    pub input: i64,
    /// Which output of the target op the target key stands for.
    #[serde(skip_serializing_if = "is_zero")]
    pub output: i64,
    /// The op digest of the target op; raw, not combined with the output.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The digest of the part of the input that the op looks at; empty for all of it.
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
/// The four maps are the four buckets. [`add_key`](Self::add_key), [`add_link`](Self::add_link)
/// and [`add_result`](Self::add_result) keep each pair in step; a state read from disk may hold
/// leftovers of a daemon on one side only, and is kept as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SolverCache {
    /// For each key the links that start at it, with their targets.
    pub links: BTreeMap<KeyId, FewSet<(Link, KeyId)>>,
    /// For each key the keys that link to it.
    pub backlinks: BTreeMap<KeyId, FewSet<KeyId>>,
    /// For each key its results and when each was made.
    pub results: BTreeMap<KeyId, FewMap<ResultId, Time>>,
    /// For each result the keys that have it.
    pub by_result: BTreeMap<ResultId, FewSet<KeyId>>,
}

impl SolverCache {
    /// Makes `key` exist. Whether it did not before.
    pub fn add_key(&mut self, key: &KeyId) -> bool {
        let new = !self.links.contains_key(key);
        if new {
            self.links.insert(key.clone(), FewSet::default());
        }
        new
    }

    /// Links `source` to `target`. Whether they were not linked so before.
    pub fn add_link(&mut self, source: &KeyId, link: Link, target: &KeyId) -> bool {
        let link = self.links.entry(source.clone()).or_default().insert((link, target.clone()));
        let back = self.backlinks.entry(target.clone()).or_default().insert(source.clone());
        link || back
    }

    /// Gives `key` a result. A second time for the same result keeps the newer one. Whether
    /// anything is new.
    pub fn add_result(&mut self, key: &KeyId, result: ResultId, created_at: Time) -> bool {
        let slot = self.results.entry(key.clone()).or_default();
        let before = slot.insert(result.clone(), created_at);
        if let Some(before) = before.filter(|before| *before > created_at) {
            slot.insert(result.clone(), before);
        }
        let newer = before.is_none_or(|before| before < created_at);
        self.by_result.entry(result).or_default().insert(key.clone()) || newer
    }

    /// Whether `link` leads from `source` to `target`.
    pub fn has_link(&self, source: &KeyId, link: &Link, target: &KeyId) -> bool {
        let links = self.links.get(source);
        links.is_some_and(|links| links.contains(&(link.clone(), target.clone())))
    }

    /// The keys that `link` leads to from `source`.
    pub fn targets(&self, source: &KeyId, link: &Link) -> impl Iterator<Item = &KeyId> {
        let first = (link.clone(), KeyId::least());
        let links = self.links.get(source).into_iter().flat_map(move |set| set.range_from(&first));
        links.take_while(move |(known, _)| known == link).map(|(_, target)| target)
    }

    /// Reads `cache.db`.
    ///
    /// # Errors
    /// If the file is damaged or holds something that no known release writes.
    pub fn read(db: &Db) -> Result<Self, DecodeError> {
        let mut cache = Self::default();
        let root = db.root();
        let at = At::root(b"cache.db");
        each_bucket(&root, &at, LINKS, |at, key, bucket| {
            let links = cache.links.entry(key_id(at, &key)?).or_default();
            values(&bucket, at, |at, key, _| {
                links.insert(decode_link(at, &key)?);
                Ok::<_, DecodeError>(())
            })
        })?;
        each_bucket(&root, &at, BACKLINKS, |at, key, bucket| {
            let sources = cache.backlinks.entry(key_id(at, &key)?).or_default();
            values(&bucket, at, |at, key, _| {
                sources.insert(key_id(at, &key)?);
                Ok::<_, DecodeError>(())
            })
        })?;
        each_bucket(&root, &at, RESULT, |at, key, bucket| {
            let results = cache.results.entry(key_id(at, &key)?).or_default();
            values(&bucket, at, |at, key, value| {
                let stored: StoredResult = json_object(&value)
                    .ok_or_else(|| at.value_error(&value, "a result in JSON"))?;
                results.insert(result_id(at, &key)?, stored.created_at);
                Ok::<_, DecodeError>(())
            })
        })?;
        each_bucket(&root, &at, BY_RESULT, |at, key, bucket| {
            let keys = cache.by_result.entry(result_id(at, &key)?).or_default();
            values(&bucket, at, |at, key, _| {
                keys.insert(key_id(at, &key)?);
                Ok::<_, DecodeError>(())
            })
        })?;
        Ok(cache)
    }

    /// The entries that [`read`](Self::read) understands and a daemon does not, as it compares bytes.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn read_miswritten(db: &Db) -> Result<Vec<Miswritten>, DecodeError> {
        let mut found = Vec::new();
        let root = db.root();
        let at = At::root(b"cache.db");
        each_bucket(&root, &at, LINKS, |at, from, bucket| {
            let from = key_id(at, &from)?;
            values(&bucket, at, |at, key, _| {
                let link = decode_link(at, &key)?;
                if encode_link(&link).ok().is_none_or(|bytes| bytes.as_bytes() != key) {
                    found.push(Miswritten::Link { from: from.clone(), to: link.1 });
                }
                Ok::<_, DecodeError>(())
            })
        })?;
        each_bucket(&root, &at, RESULT, |at, key, bucket| {
            let key = key_id(at, &key)?;
            values(&bucket, at, |at, name, value| {
                let stored: Option<StoredResult> = json_object(&value);
                if stored.is_none_or(|stored| stored.id.as_bytes() != name) {
                    let result = result_id(at, &name)?;
                    found.push(Miswritten::Result { key: key.clone(), result });
                }
                Ok::<_, DecodeError>(())
            })
        })?;
        Ok(found)
    }

    /// Writes `cache.db` into the empty file `file`; the caller syncs it.
    ///
    /// # Errors
    /// If the file cannot be written or an id is too long for a key.
    pub fn write(&self, file: &File) -> Result<(), EncodeError> {
        bolt::write(file, |root| {
            root.bucket(BACKLINKS, |bucket| {
                each(bucket, &self.backlinks, KeyId::as_str, |bucket, sources| {
                    put_all(bucket, sources.iter().map(|key| (key.as_str(), "")))
                })
            })?;
            root.bucket(BY_RESULT, |bucket| {
                each(bucket, &self.by_result, ToString::to_string, |bucket, keys| {
                    put_all(bucket, keys.iter().map(|key| (key.as_str(), "")))
                })
            })?;
            root.bucket(LINKS, |bucket| {
                each(bucket, &self.links, KeyId::as_str, |bucket, links| {
                    let keys: Result<Vec<_>, _> = links.iter().map(encode_link).collect();
                    put_all(bucket, keys?.iter().map(|key| (key, "")))
                })
            })?;
            root.bucket(RESULT, |bucket| {
                each(bucket, &self.results, KeyId::as_str, |bucket, results| {
                    let results: Result<Vec<_>, _> = results.iter().map(encode_result).collect();
                    put_all(bucket, results?.iter().map(|(id, value)| (id, value)))
                })
            })
        })
    }
}

/// An entry that says something other than its place, or says it in other bytes than BuildKit.
///
/// ```
/// use bkstate::bolt::{self, Db};
/// use bkstate::ids::KeyId;
/// use bkstate::solver::{Miswritten, SolverCache};
///
/// // Go leaves out what is zero, so no daemon ever looks for this link.
/// let link = br#"{"Input":0,"Digest":"sha256:0"}@target"#;
/// let file = tempfile::tempfile()?;
/// bolt::write(&file, |root| root.bucket(b"_links", |all| all.bucket(b"source", |of| of.put(link, b""))))?;
///
/// let (from, to) = (KeyId::new("source")?, KeyId::new("target")?);
/// let found = SolverCache::read_miswritten(&Db::open(file)?)?;
/// assert_eq!(found, [Miswritten::Link { from, to }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Miswritten {
    /// A link whose JSON differs from what Go makes of its members.
    #[error("the link to {to} in key {from} is not written as BuildKit writes it")]
    Link {
        /// Where the link starts.
        from: KeyId,
        /// Where it leads.
        to: KeyId,
    },
    /// A result whose value has another id than its key.
    #[error("the result {result} of key {key} has another id in its value")]
    Result {
        /// The key that has the result.
        key: KeyId,
        /// The id that it stands under.
        result: ResultId,
    },
}

/// Writes one sub-bucket per entry of `map`, in the order of their texts.
fn each<'m, K, V, T: AsRef<str> + Ord>(
    bucket: &mut BucketWriter<'_>,
    map: &'m BTreeMap<K, V>,
    text: impl Fn(&'m K) -> T,
    fill: impl Fn(&mut BucketWriter<'_>, &V) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let mut entries: Vec<_> = map.iter().map(|(key, value)| (text(key), value)).collect();
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    entries.into_iter().try_for_each(|(key, value)| {
        bucket.bucket(key.as_ref().as_bytes(), |bucket| fill(bucket, value))
    })
}

/// Writes the entries in the order of their encoded keys, which is not that of the typed ones.
fn put_all(
    bucket: &mut BucketWriter<'_>,
    entries: impl Iterator<Item = (impl AsRef<str> + Ord, impl AsRef<str> + Ord)>,
) -> Result<(), EncodeError> {
    let mut sorted: Vec<_> = entries.collect();
    sorted.sort_unstable();
    for (key, value) in sorted {
        bucket.put(key.as_ref().as_bytes(), value.as_ref().as_bytes())?;
    }
    Ok(())
}

fn encode_link((link, target): &(Link, KeyId)) -> Result<String, serde_json::Error> {
    Ok(format!("{}@{target}", gojson::to_string(link)?))
}

fn encode_result(
    (id, created_at): (&ResultId, &Time),
) -> Result<(String, String), serde_json::Error> {
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
