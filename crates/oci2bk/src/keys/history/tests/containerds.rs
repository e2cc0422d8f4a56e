//! Histories of builders on a containerd.

use std::path::PathBuf;

use bkstate::root::{Kind, OpenRootError, RootError};

use super::*;
use crate::keys::{KeySource, SourceKind, UnreadHistory, read_builder};

const STORE: &str = "io.containerd.content.v1.content/blobs/sha256";
const CACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/provenance/cache.db");
const PROVENANCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/provenance/raw.v1.json");

/// A builder on a containerd, and the root of that containerd, which does not exist yet.
struct Pair {
    temp: TempDir,
    builder: PathBuf,
}

impl Pair {
    /// Creates a builder with its root at `path` and a history with that name.
    fn new(path: &str, history: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let builder = temp.path().join(path);
        fs::create_dir_all(builder.join("containerd-overlayfs")).unwrap();
        fs::write(builder.join("containerd-overlayfs/workerid"), "").unwrap();
        let from = root(&[("build", record(&Digest::of(provenance()).to_string()))]);
        fs::copy(from.path().join("history.db"), builder.join(history)).unwrap();
        Self { temp, builder }
    }

    /// Creates an engine, which has more in its data root.
    fn of_engine() -> Self {
        let pair = Self::new("docker/buildkit", "history_c8d.db");
        for name in ["volumes", "containers"] {
            fs::create_dir(pair.path("docker").join(name)).unwrap();
        }
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Adds op digests without provenance.
    fn add_cache(&self) {
        fs::copy(CACHE, self.builder.join("cache.db")).unwrap();
    }

    /// Creates the containerd with the root `name`, which has the provenance.
    fn containerd(&self, name: &str) -> PathBuf {
        let containerd = self.path(name);
        let blobs = containerd.join(STORE);
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(Digest::of(provenance()).hex()), provenance()).unwrap();
        containerd
    }
}

fn provenance() -> Vec<u8> {
    fs::read(PROVENANCE).unwrap()
}

fn of(path: &Path) -> Result<Vec<KeySource>, SourceError> {
    read_source(path, &Limits::default())
}

fn with(path: &Path, containerd: &Path) -> Result<Vec<KeySource>, SourceError> {
    read_builder(path, containerd, &Limits::default())
}

fn kinds(sources: &[KeySource]) -> Vec<SourceKind> {
    sources.iter().map(|source| source.description.kind).collect()
}

#[test]
fn the_documents_are_in_the_given_containerd() {
    let pair = Pair::new("buildkit", "history.db");
    pair.add_cache();
    let containerd = pair.containerd("containerd");
    let sources = with(&pair.builder, &containerd).unwrap();
    assert_eq!(kinds(&sources), [SourceKind::History, SourceKind::CacheDb]);
    assert!(sources.iter().all(|source| source.unread.is_none()));
    assert!(sources[0].graph.is_some());

    // One database alone.
    let history = pair.builder.join("history.db");
    assert_eq!(kinds(&with(&history, &containerd).unwrap()), [SourceKind::History]);
    let cache = pair.builder.join("cache.db");
    assert_eq!(kinds(&with(&cache, &containerd).unwrap()), [SourceKind::CacheDb]);

    let pair = Pair::of_engine();
    let containerd = pair.containerd("containerd");
    for root in [pair.builder.clone(), pair.path("docker")] {
        assert_eq!(kinds(&with(&root, &containerd).unwrap()), [SourceKind::History], "{root:?}");
    }
}

#[test]
fn those_of_an_engine_are_found_in_its_data_root() {
    let pair = Pair::of_engine();
    pair.containerd("docker/containerd/daemon");
    let history = pair.builder.join("history_c8d.db");
    for path in [pair.path("docker"), pair.builder.clone(), pair.path("docker/buildkit/."), history]
    {
        let sources = of(&path).unwrap();
        assert_eq!(kinds(&sources), [SourceKind::History], "{path:?}");
    }
}

#[test]
fn without_them_the_op_digests_count_and_what_is_missing_is_told() {
    let pair = Pair::of_engine();
    let unread = |error| match error {
        SourceError::UnreadHistory(unread) => unread,
        error => panic!("{error:?}"),
    };
    let missing = unread(of(&pair.path("docker")).unwrap_err());
    assert_eq!(missing.path, pair.builder.join("history_c8d.db"));
    assert!(!missing.searched.is_empty());
    unread(of(&pair.builder.join("history_c8d.db")).unwrap_err());

    let other = pair.path("other");
    fs::create_dir(&other).unwrap();
    let missing = unread(with(&pair.builder, &other).unwrap_err());
    assert_eq!(missing.searched, std::slice::from_ref(&other));
    let told = format!(
        "the provenance that the build history {} names is not in {}; give the root of the containerd that \
         the builder uses",
        missing.path.display(),
        other.display()
    );
    assert_eq!(missing.to_string(), told);

    pair.add_cache();
    let sources = with(&pair.builder, &other).unwrap();
    let [KeySource { unread: Some(UnreadHistory { searched, .. }), candidates, .. }] = &sources[..]
    else {
        panic!("{sources:?}")
    };
    assert_eq!(*searched, [other]);
    assert!(!candidates.is_empty());
}

#[test]
fn no_link_is_followed_to_a_containerd_or_to_what_it_has() {
    let pair = Pair::of_engine();
    let elsewhere = pair.containerd("elsewhere");
    fs::create_dir(pair.path("docker/containerd")).unwrap();
    symlink(&elsewhere, pair.path("docker/containerd/daemon")).unwrap();
    let error = of(&pair.path("docker")).unwrap_err();
    assert!(matches!(error, SourceError::UnreadHistory(_)), "{error:?}");

    let linked = pair.path("linked");
    fs::create_dir(&linked).unwrap();
    let store = "io.containerd.content.v1.content";
    symlink(elsewhere.join(store), linked.join(store)).unwrap();
    let error = with(&pair.builder, &linked).unwrap_err();
    assert!(
        matches!(&error, SourceError::Open(OpenRootError::Root(RootError::Dir(_)))),
        "{error:?}"
    );

    let blob = elsewhere.join(STORE).join(Digest::of(provenance()).hex());
    fs::rename(&blob, pair.path("secret")).unwrap();
    symlink(pair.path("secret"), &blob).unwrap();
    let SourceError::History { source, .. } = with(&pair.builder, &elsewhere).unwrap_err() else {
        panic!("a link was followed");
    };
    assert!(matches!(*source, HistoryError::Dir(_)), "{source}");

    // Nor to the builder.
    fs::rename(&pair.builder, pair.path("moved")).unwrap();
    symlink(pair.path("moved"), &pair.builder).unwrap();
    let error = of(&pair.path("docker")).unwrap_err();
    assert!(matches!(error, SourceError::Directory(_)), "{error:?}");
}

#[test]
fn what_is_not_a_builder_or_not_a_containerd_is_refused() {
    let pair = Pair::of_engine();
    let containerd = pair.containerd("containerd");
    let error = with(&containerd, &containerd).unwrap_err();
    let SourceError::Open(OpenRootError::Root(RootError::NotARoot { kind, .. })) = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(kind, Kind::Other { .. }), "{kind:?}");
    assert!(error.to_string().contains("is neither empty nor the root of a buildkitd"), "{error}");

    let state = pair.path("run");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("containerd.sock"), "").unwrap();
    let error = with(&pair.builder, &state).unwrap_err();
    assert!(error.to_string().ends_with("by default /var/lib/containerd"), "{error}");
    let error = with(Path::new(PROVENANCE), &containerd).unwrap_err();
    assert!(matches!(error, SourceError::Database { .. }), "{error:?}");
    let error = with(&pair.builder, &pair.path("missing")).unwrap_err();
    assert!(
        matches!(&error, SourceError::Open(OpenRootError::Root(RootError::Dir(_)))),
        "{error:?}"
    );

    // An engine whose builder was never used. Those of its volumes are more likely meant.
    fs::remove_dir_all(&pair.builder).unwrap();
    let error = of(&pair.path("docker")).unwrap_err();
    assert!(error.to_string().contains("belongs to Docker or Podman"), "{error}");
    fs::create_dir(&pair.builder).unwrap();
    let error = with(&pair.builder, &containerd).unwrap_err();
    assert!(matches!(error, SourceError::EmptyRoot { .. }), "{error:?}");
}
