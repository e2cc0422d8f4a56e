//! The root directory of a builder, with everything in it that has keys.

use std::fs::File;
use std::path::{Path, PathBuf};

use bkstate::Root;
use bkstate::bolt::{Bucket, Db};
use bkstate::dir::Dir;
use bkstate::engine::builder_in;
use bkstate::ids::RecordId;
use bkstate::records::{Record, Records};
use bkstate::root::{Kind, RootError, find};
use bkstate::worker::{Bases, Part, StateFile, Worker};
use llb::release::Span;

use super::containerds::Containerds;
use super::database::{self, DatabaseError, DatabaseKind};
use super::error::{SourceError, UnreadHistory};
use super::history::{self, Content, HistoryError};
use super::input::{self, Input};
use super::read::{describe, read_one_of_many};
use super::source::{KeySource, SourceKind};
use super::{beside, cache_db, cache_debug};
use crate::limits::Limits;

/// Returns the names of the files of a root with keys, those that name the steps first (BuildKit v0.34.2
/// `cmd/buildkitd/main.go`).
fn databases() -> [&'static str; 4] {
    let (buildkitd, engine) = (Worker::default(), Worker::of_engine(None));
    [
        buildkitd.name(StateFile::History),
        engine.name(StateFile::History),
        buildkitd.name(StateFile::SolverDebug),
        buildkitd.name(StateFile::Solver),
    ]
}

/// A builder whose containerd, if it has one, may not be known.
pub(super) struct Builder {
    dir: Dir,
    /// Whether daemons have a lock on its root.
    is_root: bool,
    /// The data root of the engine, if it was given, and what it is.
    data_root: Option<(Dir, Kind)>,
}

impl Builder {
    /// Returns the builder in `dir`, which is of the kind `kind`: the root of a builder, or the data root of a
    /// Docker Engine. Returns `None` if it is neither.
    pub(super) fn of(dir: &Dir, kind: &Kind) -> Result<Option<Self>, SourceError> {
        let at =
            |dir: &Dir, is_root| Ok(Some(Self { dir: dir.try_clone()?, is_root, data_root: None }));
        match kind {
            Kind::Root => at(dir, true),
            // With a graph driver, Docker Engine has a cache of the solver like any other builder.
            Kind::LayoutAndRoot | Kind::Engine => at(dir, false),
            Kind::DataRoot { .. } => {
                let Some((builder, of_builder)) = builder_in(dir)?.map(find).transpose()? else {
                    return Ok(None);
                };
                let is_root = of_builder == Kind::Root;
                let data_root = Some((dir.try_clone()?, kind.clone()));
                let found = Self { dir: builder, is_root, data_root };
                Ok((is_root || of_builder == Kind::Engine).then_some(found))
            }
            _ => Ok(None),
        }
    }

    /// Reads everything with keys. The builder must be stopped; its containerd, which has the root
    /// `containerd` if that is known, may run.
    pub(super) fn read(
        self,
        containerd: Option<&Path>,
        limits: &Limits,
    ) -> Result<Vec<KeySource>, SourceError> {
        let Self { dir, is_root, data_root } = self;
        let _lock = if is_root { Some(Root::open(dir.path())?) } else { None };
        let containerds = match containerd {
            Some(path) => Containerds::known(&dir, path)?,
            None => Containerds::search(&dir, data_root.as_ref().map(|(dir, _)| dir))?,
        };
        let content = || Content::of_builder(&dir, &containerds, limits);
        let Found { mut sources, unread } = read_databases(&dir, content)?;
        let Some(first) = sources.first_mut() else {
            return Err(match (unread, data_root) {
                (Some(unread), _) => unread.into(),
                // More likely, one of the builders in volumes is meant.
                (None, Some((data_root, kind))) => not_a_root(&data_root, kind),
                (None, None) => SourceError::EmptyRoot { path: dir.path().to_owned() },
            });
        };
        first.unread = unread;
        add_releases(&mut sources, &dir);
        Ok(sources)
    }
}

/// Reads everything with keys in the root of a stopped builder.
///
/// ```
/// use oci2bk::keys::{SourceError, read_root};
/// use oci2bk::{Limits, Root};
///
/// let directory = tempfile::tempdir()?;
/// // A root without builds.
/// let nothing = read_root(&Root::open(&directory)?, &Limits::default());
/// assert!(matches!(nothing, Err(SourceError::EmptyRoot { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`SourceError`].
pub fn read_root(root: &Root, limits: &Limits) -> Result<Vec<KeySource>, SourceError> {
    let Found { mut sources, .. } = read_databases(root.dir(), || Content::of_root(root, limits))?;
    if sources.is_empty() {
        return Err(SourceError::EmptyRoot { path: root.path().to_owned() });
    }
    add_releases(&mut sources, root.dir());
    Ok(sources)
}

/// Reads everything with keys of a stopped builder that has its layers in `containerd`, the root of a
/// containerd, which may run. `root` is the root of a buildkitd, the data root of a Docker Engine, its
/// directory `buildkit`, or one database of these, such as `history.db`.
///
/// ```
/// use oci2bk::Limits;
/// use oci2bk::keys::{SourceError, read_builder};
///
/// let temp = tempfile::tempdir()?;
/// let (root, containerd) = (temp.path().join("buildkit"), temp.path().join("containerd"));
/// std::fs::create_dir_all(root.join("containerd-overlayfs"))?;
/// std::fs::create_dir_all(containerd.join("io.containerd.metadata.v1.bolt"))?;
/// let nothing = read_builder(&root, &containerd, &Limits::default());
/// assert!(matches!(nothing, Err(SourceError::EmptyRoot { .. })));
///
/// // Neither is the root of a containerd a builder.
/// let wrong = read_builder(&containerd, &containerd, &Limits::default());
/// assert!(matches!(wrong, Err(SourceError::Open(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`SourceError`].
pub fn read_builder(
    root: &Path,
    containerd: &Path,
    limits: &Limits,
) -> Result<Vec<KeySource>, SourceError> {
    let root = match input::open(root, limits)? {
        (root, Input::Directory) => root,
        (path, Input::File(file)) => return read_file(&path, file, Some(containerd), limits),
    };
    let (dir, kind) = find(Dir::open(&root)?)?;
    if let Some(builder) = Builder::of(&dir, &kind)? {
        return builder.read(Some(containerd), limits);
    }
    Err(match kind {
        Kind::Empty => SourceError::EmptyRoot { path: dir.path().to_owned() },
        kind => not_a_root(&dir, kind),
    })
}

pub(super) fn not_a_root(dir: &Dir, kind: Kind) -> SourceError {
    SourceError::Open(RootError::NotARoot { path: dir.path().to_owned(), kind }.into())
}

/// What the databases of a builder have.
struct Found {
    sources: Vec<KeySource>,
    /// The history of which nothing was found.
    unread: Option<UnreadHistory>,
}

fn read_databases<'l>(
    dir: &Dir,
    content: impl Fn() -> Result<Content<'l>, HistoryError>,
) -> Result<Found, SourceError> {
    let mut found = Found { sources: Vec::new(), unread: None };
    for name in databases() {
        // A daemon that was stopped when it created a database leaves an empty file.
        if matches!(dir.size(name)?, None | Some(0)) {
            continue;
        }
        match read_database(&dir.path().join(name), dir.file(name)?, &content) {
            Ok(of_database) => found.sources.extend(of_database),
            Err(SourceError::UnreadHistory(unread)) => found.unread = Some(unread),
            // A daemon without any builds has databases without buckets.
            Err(SourceError::EmptyHistory { .. } | SourceError::NoContent { .. }) => {}
            Err(SourceError::Database { source, .. })
                if matches!(*source, DatabaseError::Unknown) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Reads a database that may be in the root of a builder. The containerd of the builder has the root
/// `containerd`, if that is known.
pub(super) fn read_file(
    path: &Path,
    file: File,
    containerd: Option<&Path>,
    limits: &Limits,
) -> Result<Vec<KeySource>, SourceError> {
    let dir = || Dir::open(&beside::parent(path));
    let known = match containerd {
        Some(containerd) => Some(Containerds::known(&dir()?, containerd)?),
        None => None,
    };
    let content = || {
        let dir = dir()?;
        match &known {
            Some(known) => Content::of_builder(&dir, known, limits),
            None => Content::of_builder(&dir, &Containerds::search(&dir, None)?, limits),
        }
    };
    read_database(path, file, content)
}

/// Reads a database with keys; `content` opens the blobs to which a build history refers.
fn read_database<'l>(
    path: &Path,
    file: File,
    content: impl FnOnce() -> Result<Content<'l>, HistoryError>,
) -> Result<Vec<KeySource>, SourceError> {
    let error = |source: DatabaseError| SourceError::Database {
        path: path.to_owned(),
        source: source.into(),
    };
    let db = database::open(file).map_err(error)?;
    let (kind, bucket) = database::recognise(&db).map_err(error)?;
    let (candidates, kind) = match kind {
        DatabaseKind::Cache => (cache_db::candidates(&bucket), SourceKind::CacheDb),
        DatabaseKind::CacheDebug => (cache_debug::candidates(&bucket), SourceKind::CacheDebug),
        DatabaseKind::History => return read_history(path, &bucket, content()),
    };
    let candidates = candidates.map_err(|source| error(source.into()))?;
    Ok(vec![KeySource::from_digests(candidates, describe(path, kind, None))])
}

/// Reads the builds in a build history, whose documents are in `content`.
fn read_history(
    path: &Path,
    records: &Bucket<'_>,
    content: Result<Content<'_>, HistoryError>,
) -> Result<Vec<KeySource>, SourceError> {
    let error = |source| SourceError::History { path: path.to_owned(), source: Box::new(source) };
    let mut content = content.map_err(error)?;
    let mut sources = Vec::new();
    let (mut found, mut missing) = (false, false);
    for build in history::builds(records).map_err(error)? {
        // Missing if the daemon's garbage collection removed it, or only databases were copied.
        let Some(json) = content.read(&build.provenance).map_err(error)? else {
            missing = true;
            continue;
        };
        found = true;
        let description = describe(path, SourceKind::History, Some(build.name));
        sources.extend(read_one_of_many(&json, description)?);
    }
    if sources.is_empty() {
        let path: PathBuf = path.to_owned();
        return Err(match content.searched() {
            [] if content.is_there() => SourceError::EmptyHistory { path },
            [] => SourceError::NoContent { path },
            searched if missing && !found => {
                UnreadHistory { path, searched: searched.to_vec() }.into()
            }
            _ => SourceError::EmptyHistory { path },
        });
    }
    Ok(sources)
}

/// Adds the possible releases of the builder in `dir` to candidates whose documents do not tell them.
fn add_releases(sources: &mut [KeySource], dir: &Dir) {
    let releases = releases(dir);
    for candidate in sources.iter_mut().flat_map(|source| &mut source.candidates) {
        // A document's statement about the daemon of its build is more precise.
        candidate.builder = candidate.builder.or(releases);
    }
}

/// Returns the possible releases of the daemons of a root, according to the records of all its workers. An
/// incomplete state tells nothing, but may still have keys.
fn releases(dir: &Dir) -> Option<Span> {
    let bases = Bases::from(dir.try_clone().ok()?);
    let read = |worker: &Worker| {
        let place = worker.place(StateFile::Records);
        let file = worker.open(&bases, Part::Worker).ok()??.file(place.name).ok()?;
        Records::read(&Db::open(file).ok()?).ok()
    };
    let records = Worker::in_root(dir).ok()?.iter().map(read).collect::<Option<Vec<_>>>()?;
    of_records(&records)
}

/// Daemons since v0.33.1 store the identity of each layer with its blob, and older ones never do. If all
/// layers have it, no older daemon has used the root. A conversion stores it too, for any daemon.
fn of_records(records: &[Records]) -> Option<Span> {
    let converted = |id: &RecordId, record: &Record| {
        record.blob_chain_id.is_some_and(|chain| *id == RecordId::derive(&chain.to_string()))
    };
    let mut layers = records
        .iter()
        .flat_map(|records| &records.by_id)
        .filter(|(id, record)| record.blob.is_some() && !converted(id, record))
        .map(|(_, record)| record.layer_identity.is_some())
        .peekable();
    layers.peek()?;
    layers.all(|noted| noted).then(Span::with_layer_identity)
}

#[cfg(test)]
mod tests {
    use bkstate::Digest;
    use bkstate::ids::WorkerId;
    use bkstate::state::{Existing, Staging, State};
    use bkstate::worker::Worker;

    use super::*;

    #[test]
    fn a_root_is_of_new_daemons_if_all_layers_but_converted_ones_say_so() {
        let digest = Digest::of("a layer");
        let old = Record { blob: Some(digest), blob_chain_id: Some(digest), ..Record::default() };
        let new = Record { layer_identity: Some(digest), ..old.clone() };
        let converted = RecordId::derive(&digest.to_string());
        let drawn = RecordId::new("drawn").unwrap();
        let other = RecordId::new("another").unwrap();
        let span = |records: &[(&RecordId, &Record)]| {
            let by_id = records.iter().map(|(id, record)| ((*id).clone(), (*record).clone()));
            of_records(&[Records { by_id: by_id.collect(), ..Records::default() }])
        };
        assert_eq!(span(&[]), None);
        assert_eq!(span(&[(&converted, &new)]), None, "made for any daemon");
        assert_eq!(span(&[(&drawn, &new)]), Some(Span::with_layer_identity()));
        assert_eq!(span(&[(&drawn, &new), (&converted, &old)]), Some(Span::with_layer_identity()));
        assert_eq!(span(&[(&drawn, &new), (&other, &old)]), None);
        assert_eq!(span(&[(&drawn, &new), (&other, &Record::default())]), span(&[(&drawn, &new)]));
    }

    #[test]
    fn the_records_of_a_root_tell_its_daemons_unless_they_cannot_be_read() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open_to_write(temp.path()).unwrap();
        let id = WorkerId::derive("worker");
        let mut state = State::empty(Worker::default(), id.clone());
        let digest = Digest::of("a layer");
        let record =
            Record { blob: Some(digest), layer_identity: Some(digest), ..Record::default() };
        state.records.by_id.insert(RecordId::new("drawn").unwrap(), record);
        let nothing = Existing::nothing(Worker::default(), id);
        let staging = Staging::begin(&root, &nothing).unwrap();
        let written = staging.write(&state).unwrap();
        staging.publish(written).unwrap();
        assert_eq!(releases(root.dir()), Some(Span::with_layer_identity()));
        std::fs::write(temp.path().join("runc-overlayfs/metadata_v2.db"), "nonsense").unwrap();
        assert_eq!(releases(root.dir()), None);
    }
}
