//! Cache mounts: the directories behind `RUN --mount=type=cache`.
//!
//! A build asks for a mount by a *key*: the id of the mount, and the record that its files are on, if there is
//! one. The daemon takes the first free record of that key, in the order of record ids (BuildKit v0.34.2
//! `solver/llbsolver/mounts/mount.go` `getRefCacheDirNoCache`). No result of a step refers to it.
//!
//! [`State::cache_mounts`] lists them. [`docs/format/mounts.md`] has the ids, the records and the files.
//!
//! ```
//! use bkstate::ids::{RecordId, WorkerId};
//! use bkstate::metadata::{SnapshotRow, SnapshotTable};
//! use bkstate::mounts::{CacheMount, Form, form, key};
//! use bkstate::records::Record;
//! use bkstate::state::State;
//! use bkstate::worker::Worker;
//!
//! // The mount of `RUN --mount=type=cache,target=/root/.m2`, and one on the files of another record.
//! let (plain, on_base, base) = (RecordId::derive("a"), RecordId::derive("b"), RecordId::derive("c"));
//! let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
//! let mut table = SnapshotTable::default();
//! for (record, id, below) in [(&plain, "//root/.m2", None), (&on_base, "/npm", Some(&base))] {
//!     let mount = Record {
//!         cache_dir: Some(key(id, below)),
//!         parent: below.cloned(),
//!         usage_count: Some(1),
//!         ..Record::default()
//!     };
//!     state.records.by_id.insert(record.clone(), mount);
//!     table.rows.insert(record.to_string(), SnapshotRow::default());
//! }
//! *state.worker.table_entry(state.worker.namespace_entry(&mut state.metadata)) = table;
//!
//! let mounts: Vec<CacheMount> = state.cache_mounts();
//! assert_eq!((mounts[0].id.as_str(), &mounts[0].record), ("//root/.m2", &plain));
//! assert_eq!((mounts[1].id.as_str(), &mounts[1].base), ("/npm", &Some(base)));
//! assert!(mounts.iter().all(|mount| !mount.is_copy && mount.twin.is_none()));
//! assert_eq!((mounts[0].directory, mounts[0].last_used_at), (None, None));
//!
//! // An id in the words of a Dockerfile.
//! assert_eq!(form("//root/.m2"), Form { namespace: "", name: Some("target=/root/.m2".to_owned()) });
//! assert_eq!(form("ci//go").to_string(), "namespace=ci,target=/go");
//! ```
//!
//! [`docs/format/mounts.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/mounts.md

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ids::RecordId;
use crate::records::Record;
use crate::state::State;
use crate::time::Time;

/// `cache.recordType` of a cache mount.
///
/// ```
/// use bkstate::mounts::RECORD_TYPE;
///
/// assert_eq!(RECORD_TYPE, "exec.cachemount");
/// ```
pub const RECORD_TYPE: &str = "exec.cachemount";

/// A cache mount in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheMount {
    /// Its record, which is mutable.
    pub record: RecordId,
    /// The id by which builds ask for it.
    pub id: String,
    /// The record that its files are on; `None` if it began empty.
    pub base: Option<RecordId>,
    /// Whether another record of the same key comes before it, so that a build takes it only while the other
    /// is in use (`sharing=private`).
    pub is_copy: bool,
    /// The immutable record with the same files, which a daemon makes when it measures the mount.
    pub twin: Option<RecordId>,
    /// The id of its snapshot, which is the name of its directory.
    pub directory: Option<u64>,
    /// When a build used it last.
    pub last_used_at: Option<Time>,
}

/// Returns the key of the mount `id` on the record `base`: the value of the entry `cache-dir` in its record
/// (BuildKit v0.34.2 `solver/llbsolver/mounts/mount.go` `cacheRefKey`).
pub fn key(id: &str, base: Option<&RecordId>) -> String {
    match base {
        None => id.to_owned(),
        Some(base) => format!("{id}:{base}"),
    }
}

/// Returns the id of the mount in `record`, if it is one: its key without the record below it.
///
/// ```
/// use bkstate::ids::RecordId;
/// use bkstate::mounts::{id_of, key};
/// use bkstate::records::Record;
///
/// let base = RecordId::derive("base");
/// let cache_dir = Some(key("//root/.m2", Some(&base)));
/// let mount = Record { cache_dir, parent: Some(base), ..Record::default() };
/// assert_eq!(id_of(&mount), Some("//root/.m2"));
/// assert_eq!(id_of(&Record::default()), None);
/// ```
pub fn id_of(record: &Record) -> Option<&str> {
    let key = record.cache_dir.as_deref()?;
    let base = record.parent.as_ref().map(|base| format!(":{base}"));
    Some(base.and_then(|base| key.strip_suffix(base.as_str())).unwrap_or(key))
}

/// ```
/// use bkstate::ids::WorkerId;
/// use bkstate::mounts::RECORD_TYPE;
/// use bkstate::state::State;
/// use bkstate::worker::Worker;
///
/// let state = State::empty(Worker::default(), WorkerId::derive("worker"));
/// for mount in state.cache_mounts() {
///     let record = &state.records.by_id[&mount.record];
///     assert_eq!(record.record_type.as_deref(), Some(RECORD_TYPE));
/// }
/// ```
impl State {
    /// Returns its cache mounts, sorted by id, base and record. Those that a starting daemon drops are not
    /// listed.
    pub fn cache_mounts(&self) -> Vec<CacheMount> {
        let namespace = self.worker.namespace_of(&self.metadata);
        let table = namespace.and_then(|namespace| self.worker.table_of(namespace));
        let records = &self.records.by_id;
        let twins =
            records.iter().filter_map(|(id, record)| Some((record.equal_mutable.as_ref()?, id)));
        let twins: BTreeMap<_, _> = twins.collect();
        let mounts = records.iter().filter_map(|(id, record)| {
            let row = table.and_then(|table| table.rows.get(id.as_str()))?;
            if !record.is_mutable() || record.is_removed() {
                return None;
            }
            let snapshot = self.snapshots.by_name.get(&row.name);
            // Without a count, a daemon ignores the time.
            let used = record.last_used_at.filter(|_| record.usage_count.is_some());
            Some(CacheMount {
                record: id.clone(),
                id: id_of(record)?.to_owned(),
                base: record.parent.clone(),
                is_copy: false,
                twin: twins.get(id).map(|twin| (*twin).clone()),
                directory: snapshot.map(|snapshot| snapshot.id),
                last_used_at: used.map(Time::from_unix_nanos),
            })
        });
        let mut mounts: Vec<_> = mounts.collect();
        mounts.sort_by(|a, b| (&a.id, &a.base, &a.record).cmp(&(&b.id, &b.base, &b.record)));
        let mut seen = BTreeSet::new();
        for mount in &mut mounts {
            mount.is_copy = !seen.insert((mount.id.clone(), mount.base.clone()));
        }
        mounts
    }
}

/// The id of a mount in the words of a Dockerfile (BuildKit v0.34.2
/// `frontend/dockerfile/dockerfile2llb/convert_runmount.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form<'i> {
    /// The build argument `BUILDKIT_CACHE_MOUNT_NS` of the build, or an empty text.
    pub namespace: &'i str,
    /// `target=…` or `id=…`; `None` if no Dockerfile makes this id.
    pub name: Option<String>,
}

/// Returns the words of a Dockerfile for the mount `id`. A namespace with slashes is only recognised before a
/// target.
pub fn form(id: &str) -> Form<'_> {
    // `id=/x` and `target=/x` are the same mount.
    if let Some((namespace, target)) = id.split_once("//") {
        return Form { namespace, name: Some(format!("target=/{target}")) };
    }
    match id.rsplit_once('/') {
        Some((namespace, name)) => Form { namespace, name: Some(format!("id={name}")) },
        None => Form { namespace: "", name: None },
    }
}

impl fmt::Display for Form<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = &self.name else { return Ok(()) };
        if !self.namespace.is_empty() {
            write!(f, "namespace={},", self.namespace)?;
        }
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::WorkerId;
    use crate::metadata::{SnapshotRow, SnapshotTable};
    use crate::worker::Worker;

    fn id(text: &str) -> RecordId {
        RecordId::new(text).unwrap()
    }

    fn mount(key: &str, parent: Option<&str>) -> Record {
        Record { cache_dir: Some(key.to_owned()), parent: parent.map(id), ..Record::default() }
    }

    /// Returns a state with these records, each with a row.
    fn state(records: &[(&str, Record)]) -> State {
        let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
        let mut table = SnapshotTable::default();
        for (name, record) in records {
            state.records.by_id.insert(id(name), record.clone());
            table.rows.insert((*name).to_owned(), SnapshotRow::default());
        }
        *state.worker.table_entry(state.worker.namespace_entry(&mut state.metadata)) = table;
        state
    }

    #[test]
    fn of_several_records_with_one_key_the_first_is_the_one_that_builds_take() {
        let state = state(&[
            ("zz", mount("//c", None)),
            ("aa", mount("//c", None)),
            ("based", mount("//c:base", Some("base"))),
        ]);
        let mounts = state.cache_mounts();
        let listed: Vec<_> =
            mounts.iter().map(|mount| (mount.record.as_str(), mount.is_copy)).collect();
        assert_eq!(listed, [("aa", false), ("zz", true), ("based", false)]);
    }

    #[test]
    fn the_twin_is_not_a_mount_but_belongs_to_one() {
        let twin =
            Record { committed: Some(true), equal_mutable: Some(id("aa")), ..mount("//c", None) };
        let mounts = state(&[("aa", mount("//c", None)), ("bb", twin)]).cache_mounts();
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].twin, Some(id("bb")));
    }

    #[test]
    fn what_a_daemon_drops_when_it_starts_is_not_listed() {
        let removed = Record { deleted: Some(true), ..mount("//gone", None) };
        let mut state = state(&[("aa", removed), ("bb", mount("//c", None))]);
        let namespace = state.worker.namespace_of_mut(&mut state.metadata).unwrap();
        state.worker.table_of_mut(namespace).unwrap().rows.remove("bb");
        assert_eq!(state.cache_mounts(), []);
    }

    #[test]
    fn ids_are_in_the_words_of_a_dockerfile() {
        for (id, text) in [
            ("//c1", "target=/c1"),
            ("/named", "id=named"),
            ("proj/x//c1", "namespace=proj/x,target=/c1"),
            ("proj/named", "namespace=proj,id=named"),
            ("//", "target=/"),
            ("any text", ""),
        ] {
            assert_eq!(form(id).to_string(), text, "{id}");
        }
    }

    #[test]
    fn an_id_may_have_colons() {
        assert_eq!(id_of(&mount("a:b", None)), Some("a:b"));
        assert_eq!(id_of(&mount("a:b:base", Some("base"))), Some("a:b"));
        // Not the key of a mount on this record.
        assert_eq!(id_of(&mount("a:b", Some("base"))), Some("a:b"));
    }
}
