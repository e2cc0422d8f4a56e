//! The build history of a daemon.
//!
//! `history.db` has a `BuildHistoryRecord` for each build (BuildKit v0.32.2
//! `api/services/control/control.proto`). When keys are read from it (`keys`), only the path to provenance is
//! decoded, so that a record with other defects still gives its keys; this module decodes the rest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bkstate::Root;
use bkstate::Time;
use bkstate::bolt::{Db, Entry, ReadError};
use bkstate::dir::DirError;
use bkstate::worker::StateFile;
use codec::FormatError;
use prost::Message;

const RECORDS: &[u8] = b"_records";

/// A build.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Build {
    /// The daemon's name for it.
    pub reference: String,
    /// The frontend, such as `dockerfile.v0`; empty if the client sent LLB.
    pub frontend: String,
    /// The options of the frontend.
    pub options: BTreeMap<String, String>,
    /// The kinds of exporter.
    pub exporters: Vec<String>,
    /// Its start time.
    pub created_at: Option<Time>,
    /// Its end time; `None` if it did not end, or its daemon was killed.
    pub completed_at: Option<Time>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Number of its steps; `cached` is the number of cached ones.
    pub steps: u32,
    /// See `steps`.
    pub cached: u32,
    /// Whether the daemon's garbage collection keeps it.
    pub pinned: bool,
    /// The digests of its results and of the documents about them.
    pub blobs: Vec<String>,
}

/// Why the builds cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildsError {
    /// The file cannot be opened.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The file is damaged.
    #[error("{} is damaged", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ReadError,
    },
    /// A record is malformed.
    #[error("{} has a malformed record of the build {reference:?}", path.display())]
    Record {
        /// The database.
        path: PathBuf,
        /// The build, shortened to 100 characters.
        reference: String,
        /// The cause.
        #[source]
        source: FormatError,
    },
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    frontend: String,
    #[prost(btree_map = "string, string", tag = "3")]
    options: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "4")]
    exporters: Vec<Exporter>,
    #[prost(message, optional, tag = "5")]
    error: Option<Status>,
    #[prost(message, optional, tag = "6")]
    created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "7")]
    completed_at: Option<Timestamp>,
    #[prost(message, optional, tag = "8")]
    logs: Option<Descriptor>,
    #[prost(message, optional, tag = "10")]
    result: Option<BuildResult>,
    #[prost(btree_map = "string, message", tag = "11")]
    results: BTreeMap<String, BuildResult>,
    #[prost(message, optional, tag = "13")]
    trace: Option<Descriptor>,
    #[prost(bool, tag = "14")]
    pinned: bool,
    #[prost(int32, tag = "15")]
    cached: i32,
    #[prost(int32, tag = "16")]
    steps: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Exporter {
    #[prost(string, tag = "1")]
    kind: String,
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

/// `google.protobuf.Timestamp`
#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct BuildResult {
    #[prost(message, optional, tag = "1")]
    deprecated: Option<Descriptor>,
    #[prost(message, repeated, tag = "2")]
    attestations: Vec<Descriptor>,
    #[prost(btree_map = "int64, message", tag = "3")]
    results: BTreeMap<i64, Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(string, tag = "2")]
    digest: String,
}

/// Returns the builds in the `history.db` of `root`, oldest first; empty if the file is missing or empty, or
/// has no build.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub(super) fn builds(root: &Root) -> Result<Vec<Build>, BuildsError> {
    let name = root.worker().name(StateFile::History);
    if matches!(root.dir().size(name)?, None | Some(0)) {
        return Ok(Vec::new());
    }
    let path = || root.path().join(name);
    let damaged = |source| BuildsError::Database { path: path(), source };
    let db = Db::open(root.dir().file(name)?).map_err(damaged)?;
    let Some(records) = db.root().bucket(RECORDS).map_err(damaged)? else { return Ok(Vec::new()) };
    let mut builds = Vec::new();
    for entry in records.entries() {
        let (key, Entry::Value(value)) = entry.map_err(damaged)? else { continue };
        let record = Record::decode(value.as_slice()).map_err(FormatError::new);
        let record = record.map_err(|source| BuildsError::Record {
            path: path(),
            reference: String::from_utf8_lossy(&key).chars().take(100).collect(),
            source,
        })?;
        builds.push(Build::from(record));
    }
    builds.sort_by(|a, b| (a.created_at, &a.reference).cmp(&(b.created_at, &b.reference)));
    Ok(builds)
}

impl From<Record> for Build {
    fn from(record: Record) -> Self {
        let results = record.result.iter().chain(record.results.values());
        let of_results = results.flat_map(|result| {
            result.deprecated.iter().chain(result.results.values()).chain(&result.attestations)
        });
        let descriptors = of_results.chain(&record.logs).chain(&record.trace);
        let blobs = descriptors.map(|descriptor| descriptor.digest.clone()).collect();
        let time = |time: Option<Timestamp>| time.map(|time| Time::from_unix_seconds(time.seconds));
        let number = |number: i32| u32::try_from(number).unwrap_or_default();
        Self {
            blobs,
            reference: record.reference,
            frontend: record.frontend,
            options: record.options,
            exporters: record.exporters.into_iter().map(|exporter| exporter.kind).collect(),
            created_at: time(record.created_at),
            completed_at: time(record.completed_at),
            error: record.error.map(|error| error.message),
            steps: number(record.steps),
            cached: number(record.cached),
            pinned: record.pinned,
        }
    }
}
