//! Builders on a containerd as key sources.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bkstate::Digest;
use bkstate::bolt::{self, BucketWriter, WriteError};
use tempfile::TempDir;
use testkit::protobuf::Message;

use super::{FIXTURES, done, fails, fixture, run};

/// The stopped engine that made the fixture `index`, with its containerd elsewhere.
struct Engine {
    temp: TempDir,
}

impl Engine {
    fn new() -> Self {
        let engine = Self { temp: tempfile::tempdir().unwrap() };
        for name in ["docker/volumes", "docker/containers", "docker/buildkit/containerd-overlayfs"]
        {
            fs::create_dir_all(engine.path(name)).unwrap();
        }
        fs::write(engine.path("docker/buildkit/containerd-overlayfs/workerid"), "").unwrap();
        let provenance = fs::read(provenance()).unwrap();
        let digest = Digest::of(&provenance);
        let blobs = engine.path("containerd/io.containerd.content.v1.content/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(digest.hex()), provenance).unwrap();
        let history = File::create_new(engine.path("docker/buildkit/history_c8d.db")).unwrap();
        let fill = |root: &mut BucketWriter<'_>| {
            root.bucket(b"_records", |records| records.put(b"build", &record(&digest)))
        };
        bolt::write::<WriteError>(&history, fill).unwrap();
        engine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Returns the source with its containerd.
    fn with_containerd(&self, root: &str) -> OsString {
        let mut source = self.path(root).into_os_string();
        source.push(",containerd=");
        source.push(self.path("containerd"));
        source
    }
}

fn provenance() -> PathBuf {
    fixture(FIXTURES[0].0).join(FIXTURES[0].1)
}

/// Returns the record of a build with this provenance.
fn record(provenance: &Digest) -> Vec<u8> {
    let kind = Message::new()
        .text(1, "in-toto.io/predicate-type")
        .text(2, "https://slsa.dev/provenance/v1");
    let descriptor = Message::new()
        .text(1, "application/vnd.in-toto+json")
        .text(2, provenance.to_string())
        .message(5, kind);
    let result = Message::new().message(2, descriptor);
    Message::new().message(10, result).into_bytes()
}

#[test]
fn the_history_of_an_engine_is_as_good_as_the_provenance() {
    let engine = Engine::new();
    let expected = done(|command| command.arg("keys").arg(provenance()).args(["-o", "-"]));
    for root in ["docker", "docker/buildkit"] {
        let source = engine.with_containerd(root);
        let found = done(|command| command.arg("keys").arg(&source).args(["-o", "-"]));
        assert!(found == expected, "{root}");
    }
    let source = engine.with_containerd("docker");
    let cache = fixture(FIXTURES[0].0).join("cache");
    let root = engine.path("root");
    done(|command| {
        command.args(["convert", "--dry-run", "--require-keys"]).arg(&cache).arg(&root);
        command.arg("--keys").arg(&source)
    });
    done(|command| command.arg("inspect").arg(&cache).arg("--keys").arg(&source));
    done(|command| {
        command.arg("explain").arg(&cache).arg("--llb").arg(provenance());
        command.arg("--keys").arg(&source)
    });
}

#[test]
fn a_history_without_its_provenance_is_told_with_what_to_give() {
    let engine = Engine::new();
    let docker = engine.path("docker");
    let keys = |source: &Path| run(|command| command.arg("keys").arg(source).args(["-o", "-"]));
    let error = fails(3, |command| command.arg("keys").arg(&docker).args(["-o", "-"]));
    let told =
        ["history_c8d.db names is not in ", "/var/lib/docker,containerd=/var/lib/containerd"];
    assert!(told.iter().all(|told| error.contains(told)), "{error}");

    // Its other keys count.
    let database = fixture(FIXTURES[2].0).join(FIXTURES[2].1);
    fs::copy(&database, docker.join("buildkit/cache.db")).unwrap();
    let expected = keys(&database);
    let found = keys(&docker);
    assert!(found.status.success() && found.stdout == expected.stdout);
    let warning = String::from_utf8(found.stderr).unwrap();
    assert!(warning.starts_with("warning: the provenance that the build history "), "{warning}");
    assert!(told.iter().all(|told| warning.contains(told)), "{warning}");
    let silent = keys(Path::new(&engine.with_containerd("docker")));
    assert!(silent.status.success() && silent.stderr.is_empty());

    let error = fails(3, |command| {
        let mut source = docker.clone().into_os_string();
        source.push(",containerd=");
        source.push(&docker);
        command.arg("keys").arg(source).args(["-o", "-"])
    });
    assert!(error.contains("is not the root of a containerd"), "{error}");
}
