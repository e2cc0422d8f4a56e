//! The state of a daemon travels as an image: a second daemon on the imported root is as warm as the first.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use serde_json::Value;
use testkit::trials::Suite;

use crate::build::Options;
use crate::case::Case;
use crate::matrix::{self, Release};
use crate::mounts::WRITER;
use crate::mounts::bench::{Bench, Kind};
use crate::process::run;
use crate::proof::ensure_same_steps;
use crate::tree::ensure_equal;
use crate::world::World;

/// Files that a layer of an image cannot have, or that runtimes change.
const ODD: Case = Case::plain("odd", || {
    "
FROM {registry}/busybox
RUN mkdir -p /d/sub /d/kept && echo x > /d/sub/f && echo y > /d/g && ln /d/g /d/h && ln -s g /d/l && \
    mkfifo /d/p && chmod 4755 /d/g && chown 1234:2345 /d/kept && (mknod /d/null c 1 3 || true)
RUN rm -r /d/sub && mkdir /d/sub && echo z > /d/sub/z && rm /d/l && \
    dd if=/dev/zero of=/d/sparse bs=1 count=1 seek=50000000
RUN --mount=type=cache,target=/odd mkdir /odd/sub && echo > /odd/marker
RUN mv /d/kept /d/moved && touch -d '2001-02-03 04:05:06' /d/h && mkdir /d/.wh.x && echo > /d/.wh.f
"
    .into()
});

/// The databases in the root of a daemon, and in the directory of its worker.
const DATABASES: [&str; 2] = ["cache.db", "history.db"];
const OF_WORKER: [&str; 4] =
    ["workerid", "metadata_v2.db", "containerdmeta.db", "snapshots/metadata.db"];

/// Adds the tests.
pub(crate) fn add(suite: &mut Suite<World>) {
    suite.add("state-image", |world| prove(world, Kind::OfWorld));
    suite.add("state-image::native", |world| prove(world, Kind::Snapshotter("native")));
    suite.add("state-image::rootless", |world| prove(world, Kind::Rootless("overlayfs")));
    for version in [matrix::PREVIOUS, matrix::OLD] {
        suite.add_ignored(format!("{version}::state-image"), move |world| {
            let release = Release::old(&world.tools, version).map_err(anyhow::Error::msg)?;
            prove(&world.on(release), Kind::OfWorld)
        });
    }
}

fn prove(world: &World, kind: Kind) -> Result<()> {
    let bench = Bench::new(world, kind)?;
    let natural = bench.path("natural");
    let daemon = bench.start(&natural)?;
    bench.build(&daemon, &WRITER, &Options::default())?;
    bench.build(&daemon, &ODD, &Options::default())?;
    let warm = [&WRITER, &ODD].map(|case| bench.build(&daemon, case, &Options::default()));
    let expected = bench.read(&daemon)?;
    daemon.stop()?;
    let worker = worker(&natural)?;
    if bench.user().is_none() {
        plant(&worker)?;
    }

    let export = |to: &Path| -> Result<Value> {
        let to = format!("oci:{}", to.display());
        bench.json(&["state", "export", "--progress=quiet", "--to", &to], &natural)
    };
    let image = bench.path("image");
    let (first, second) = (export(&image)?, export(&bench.path("again"))?);
    ensure!(first["manifest"] == second["manifest"], "{first:#}\nis not\n{second:#}");

    // From the layout, and from a directory with the files as runtimes unpack them.
    let files = bench.path("files");
    fs::create_dir(&files)?;
    unpack(&image, &files)?;
    let sources = [format!("oci:{}", image.display()), files.display().to_string()];
    for (source, name) in sources.iter().zip(["imported", "of-files"]) {
        let root = bench.path(name);
        bench.json(&["state", "import", "--progress=quiet", source], &root)?;
        ensure_same_root(&natural, &root).with_context(|| source.clone())?;
        bench.verify(&root)?;
    }

    let daemon = bench.start(&bench.path("imported"))?;
    for (case, warm) in [&WRITER, &ODD].into_iter().zip(warm) {
        let again = bench.build(&daemon, case, &Options::default())?;
        ensure_same_steps(case.keys, &warm?, &again).context(case.name)?;
    }
    let seen = bench.read(&daemon)?;
    ensure!(seen == expected, "the mounts have\n{seen}\nnot\n{expected}");
    daemon.stop()?;
    bench.verify(&bench.path("imported"))
}

/// Returns the directory of the only worker in a root.
fn worker(root: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(root)?.map(|entry| Ok(entry?.path()));
    let entries: Vec<_> = entries.collect::<Result<_>>()?;
    let found = entries.into_iter().find(|path| path.join("workerid").exists());
    found.context("no worker")
}

/// Puts files into the mount `/odd` that builds hardly make.
fn plant(worker: &Path) -> Result<()> {
    let mut found = None;
    for entry in fs::read_dir(worker.join("snapshots/snapshots"))? {
        let path = entry?.path();
        let tree = if path.join("fs").is_dir() { path.join("fs") } else { path };
        if tree.join("marker").exists() {
            found = Some(tree);
        }
    }
    let tree = found.context("no cache mount")?;
    drop(UnixListener::bind(tree.join("socket"))?);
    mknodat(CWD, tree.join("block"), FileType::BlockDevice, Mode::from_raw_mode(0o640), 0x703)?;
    mknodat(CWD, tree.join("whiteout"), FileType::CharacterDevice, Mode::empty(), 0)?;
    fs::hard_link(tree.join("whiteout"), tree.join("whiteout too"))?;
    fs::create_dir(tree.join("opaque"))?;
    for (path, name, value) in [
        ("opaque", "trusted.overlay.opaque", &b"y"[..]),
        ("sub", "trusted.overlay.origin", &[0, 0xfb, 0x1d, 0]),
        ("sub", "user.\u{e9}", b"\n=\0"),
    ] {
        setxattr(tree.join(path), name, value, XattrFlags::empty())?;
    }
    std::os::unix::fs::symlink("nowhere", tree.join("dangling"))?;
    rustix::fs::lsetxattr(tree.join("dangling"), "trusted.link", b"1", XattrFlags::empty())?;
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    fs::write(tree.join("ping"), "")?;
    setxattr(tree.join("ping"), "security.capability", &capability, XattrFlags::empty())?;
    let sparse = fs::File::create(tree.join("sparse"))?;
    sparse.set_len(1 << 33)?;
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 1 << 32)?;
    Ok(())
}

/// Unpacks the layers of an image, as `tar` does, which sets neither special attributes nor owners here.
fn unpack(image: &Path, into: &Path) -> Result<()> {
    let read = |path: &Path| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let blob = |digest: &Value| -> Result<PathBuf> {
        let digest = digest.as_str().and_then(|digest| digest.strip_prefix("sha256:"));
        Ok(image.join("blobs/sha256").join(digest.context("no digest")?))
    };
    let index = read(&image.join("index.json"))?;
    let manifest = read(&blob(&index["manifests"][0]["digest"])?)?;
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        let layer = blob(&layer["digest"])?;
        run(Command::new("tar").arg("-xf").arg(layer).arg("-C").arg(into))?;
    }
    Ok(())
}

/// Fails unless the databases, blobs and snapshots of both roots are equal in everything but access times.
fn ensure_same_root(one: &Path, other: &Path) -> Result<()> {
    let workers = (worker(one)?, worker(other)?);
    let of_root = DATABASES.map(|name| (one.join(name), other.join(name)));
    let nested = |path: &Path, name: &str| match path.join("snapshots/snapshotter").exists() {
        true => path.join(name.replace("snapshots/", "snapshots/snapshotter/")),
        false => path.join(name),
    };
    let of_worker = OF_WORKER.map(|name| (nested(&workers.0, name), nested(&workers.1, name)));
    for (one, other) in of_root.iter().chain(&of_worker) {
        if !one.exists() {
            ensure!(!other.exists(), "{} is new", other.display());
            continue;
        }
        ensure!(fs::read(one)? == fs::read(other)?, "{} differs", other.display());
    }
    ensure_equal(&workers.1.join("content/blobs"), &workers.0.join("content/blobs"), UNIX_EPOCH)?;
    let trees = (workers.0.join("snapshots/snapshots"), workers.1.join("snapshots/snapshots"));
    for entry in fs::read_dir(&trees.0)? {
        let name = entry?.file_name();
        let paths = [&trees.0, &trees.1].map(|trees| {
            let tree = trees.join(&name);
            if workers.0.ends_with("runc-overlayfs") { tree.join("fs") } else { tree }
        });
        let [one, other] = &paths;
        ensure_equal(other, one, UNIX_EPOCH)?;
        let listed = |path: &Path| {
            let fields = ["-printf", "%P %y %m %U %G %T@ %l\n"];
            run(Command::new("find").arg(path).args(fields)).map(|text| {
                let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            })
        };
        let (expected, found) = (listed(one)?, listed(other)?);
        let differs = expected.iter().zip(&found).find(|(one, other)| one != other);
        ensure!(expected == found, "{}: {differs:?}", other.display());
        for line in
            run(Command::new("find").arg(one).args(["-type", "f", "-size", "+16M"]))?.lines()
        {
            let of_other = other.join(Path::new(line).strip_prefix(one)?);
            let blocks = |path: &Path| -> Result<u64> {
                Ok(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path)?))
            };
            let (expected, found) = (blocks(Path::new(line))?, blocks(&of_other)?);
            ensure!(found <= expected + 64, "{line} has {expected} blocks, and its copy {found}");
        }
    }
    Ok(())
}
