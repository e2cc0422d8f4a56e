//! Cache mounts: those of one daemon are exported, and imported into the root of another.

pub(crate) mod bench;
mod outside;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use archives::{Member, archive, file, hard_link, member, symlink};
use bkstate::Time;
use serde_json::{Value, json};
use testkit::trials::Suite;

use crate::build::{Options, Source};
use crate::case::{Case, Context, Keys};
use crate::daemon::Daemon;
use crate::matrix::{self, Release};
use crate::process::{run, wait_until};
use crate::proof::ensure_same_steps;
use crate::world::World;
use bench::{Bench, Kind};

/// Adds the tests.
pub(crate) fn add(suite: &mut Suite<World>) {
    suite.add("cache-mounts", prove);
    for version in [matrix::PREVIOUS, matrix::OLD] {
        suite.add_ignored(format!("{version}::cache-mounts"), move |world| {
            let release = Release::old(&world.tools, version).map_err(anyhow::Error::msg)?;
            prove(&world.on(release))
        });
    }
    for (name, kind) in KINDS {
        suite.add(format!("cache-mounts::{name}"), move |world| prove_for(world, kind));
    }
    for (name, kind) in MORE_KINDS {
        suite.add_ignored(format!("cache-mounts::{name}"), move |world| prove_for(world, kind));
    }
}

/// The kinds of builders, by the names of their tests.
const KINDS: [(&str, Kind); 3] = [
    ("native", Kind::Snapshotter("native")),
    ("fuse-overlayfs", Kind::Snapshotter("fuse-overlayfs")),
    ("rootless", Kind::Rootless("overlayfs")),
];
const MORE_KINDS: [(&str, Kind); 3] = [
    ("stargz", Kind::Snapshotter("stargz")),
    ("rootless::native", Kind::Rootless("native")),
    ("rootless::fuse-overlayfs", Kind::Rootless("fuse-overlayfs")),
];

/// Fills mounts of every form. The file in the one with an owner is moved there, which marks its directory
/// for overlayfs.
pub(crate) const WRITER: Case =
    Case { keys: Keys::Provenance, ..Case::plain("writer", || WRITE.into()) };

const WRITE: &str = "
FROM {registry}/busybox AS seed
RUN mkdir /seed && echo seeded > /seed/file
FROM {registry}/busybox
RUN --mount=type=cache,target=/c1 mkdir -p /c1/sub && echo plain > /c1/sub/file && \
    ln /c1/sub/file /c1/link && ln -s sub/file /c1/symbolic && mkfifo /c1/fifo && \
    echo token > /c1/.npmrc && chmod 4750 /c1/link && echo > /c1/.wh.file && chown 7:8 /c1
RUN --mount=type=cache,target=/c2,id=named echo named > /c2/file
RUN --mount=type=cache,target=/c4,uid=1000,gid=1001,mode=0770 mkdir /c4/made && \
    echo owned > /c4/made/file && chown -R 1000:1001 /c4/made && mv /c4/made /c4/moved
RUN --mount=type=cache,target=/c5,from=seed,source=/seed echo more > /c5/more
RUN --mount=type=cache,target=/c6,uid=5 true
";

/// Lists the mounts. It runs each time. Without `sharing=locked` it would get an empty mount in place of one that
/// the daemon looks at in that moment, as it does a second after its start and after builds.
const READER: Case = Case::plain("reader", || READ.into());

const READ: &str = "
FROM {registry}/busybox
RUN --mount=type=cache,sharing=locked,target=/c1 --mount=type=cache,sharing=locked,target=/c2,id=named \
    --mount=type=cache,sharing=locked,target=/c4,uid=1000,gid=1001,mode=0770 \
    --mount=type=cache,sharing=locked,target=/c6,uid=5 \
    echo {run} && find /c1 /c2 /c4 /c6 -exec stat -c '%n %F %a %u %g %Y' {} + | sort > /list && \
    find /c1 /c2 /c4 /c6 -type f -exec stat -c '%n %h %s' {} + | sort >> /list && \
    find /c1 /c2 /c4 /c6 -type f -exec grep -H . {} + | sort >> /list
";

/// Returns the description and the id of each record that a daemon lists, of cache mounts only.
fn mounts_of(daemon: &Daemon) -> Result<BTreeSet<(String, String)>> {
    let mut command = daemon.buildctl();
    command.args(["du", "--format", "{{json .}}", "--filter", "type==exec.cachemount"]);
    let records: Option<Vec<Value>> = serde_json::from_str(&run(&mut command)?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = records.unwrap_or_default().into_iter();
    Ok(records.map(|record| (text(&record["description"]), text(&record["id"]))).collect())
}

/// Waits until the daemon lists the mount `//c1`. While it measures mounts, it does not list them.
fn wait_for_mount(daemon: &Daemon) -> Result<()> {
    let mut last = Ok(BTreeSet::new());
    let listed = wait_until(Duration::from_secs(60), || {
        last = mounts_of(daemon);
        last.as_ref().is_ok_and(|all| all.iter().any(|(text, _)| text == "cached mount //c1"))
    });
    let last = last?;
    ensure!(listed, "du has {last:?}");
    Ok(())
}

/// Mounts of every form travel from a natural root into converted ones, of builders of the same kind.
pub(crate) fn prove(world: &World) -> Result<()> {
    prove_for(world, Kind::OfWorld)
}

fn prove_for(world: &World, kind: Kind) -> Result<()> {
    let bench = Bench::new(world, kind)?;
    let [natural, cache, keys] = ["natural", "cache", "keys"].map(|name| bench.path(name));
    let daemon = bench.start(&natural)?;
    let context = Context::create(&bench.path(WRITER.name));
    context.file("Dockerfile", world.fill_in(&(WRITER.dockerfile)()));
    let source = Source { case: &WRITER, context: context.dir() };
    let keys = source.make(&world.tools, &daemon, &cache, &keys)?.context("keys")?;
    let warm = source.build(&daemon, &Options::default())?;
    let expected = bench.read(&daemon)?;
    daemon.stop()?;
    bench.give_all(&["cache", "keys"])?;
    ensure!(expected.contains("/c1/sub/file:plain"), "the mounts have {expected}");
    ensure!(expected.contains("/c4/moved/file:owned"), "the mounts have {expected}");

    // What there is.
    let listed = bench.json(&["mounts", "ls"], &natural)?;
    let ids: Vec<_> = listed["mounts"].as_array().into_iter().flatten().collect();
    let forms: BTreeSet<_> = ids
        .iter()
        .map(|mount| {
            (
                mount["id"].as_str().unwrap_or_default(),
                mount["owner"].to_string(),
                mount["from"].is_null(),
            )
        })
        .collect();
    let owner = json!({"uid": 1000, "gid": 1001, "mode": 0o770}).to_string();
    let other = json!({"uid": 5, "gid": 0, "mode": 0o755}).to_string();
    let null = || "null".to_owned();
    let all = BTreeSet::from([
        ("//c1", null(), true),
        ("//c4", owner, true),
        ("//c5", null(), false),
        ("//c6", other, true),
        ("/named", null(), true),
    ]);
    ensure!(forms == all, "listed are {listed:#}");

    // Two exports are the same bytes, and nothing of the root is changed by them.
    let place = |name: &str| format!("oci:{}", bench.path(name).display());
    let (first, warnings) = bench.export(&natural, &["--to", &place("mounts")])?;
    let (second, _) = bench.export(&natural, &["--to", &place("again")])?;
    ensure!(first["manifest"] == second["manifest"], "{first:#}\nis not\n{second:#}");
    for warned in
        ["//c1 has files that hold credentials by their names: .npmrc", "target=/c5,from="]
    {
        ensure!(warnings.contains(warned), "no warning of {warned}: {warnings}");
    }
    let (attached, _) = bench.export(&natural, &["--attach", cache.to_str().context("a path")?])?;
    ensure!(attached["mounts"].as_array().is_some_and(|mounts| mounts.len() == 4), "{attached:#}");

    // With the conversion of the cache to which they are attached.
    let converted = bench.path("converted");
    let report = bench.convert(&cache, &keys, &converted, &["--mounts"])?;
    ensure!(report["mounts"][0]["mounts"][0]["outcome"] == "added", "{report:#}");
    let daemon = bench.start(&converted)?;
    let again = source.build(&daemon, &Options::default())?;
    ensure_same_steps(WRITER.keys, &warm, &again)?;
    let seen = bench.read(&daemon)?;
    ensure!(seen == expected, "seeded mounts have\n{seen}\nnot\n{expected}");
    wait_for_mount(&daemon)?;
    daemon.stop()?;
    bench.verify(&converted)?;

    // What is there already.
    let layout = place("mounts");
    let refused = bench.import(&layout, &converted, &[])?;
    ensure!(refused.status.code() == Some(1), "an import over mounts: {refused:?}");
    let kept = bench.imported(&layout, &converted, &["--exists=keep"])?;
    let outcomes: Vec<_> = kept["mounts"].as_array().into_iter().flatten().collect();
    ensure!(outcomes.iter().all(|mount| mount["outcome"] == "kept"), "{kept:#}");
    let before = records(&bench, &converted)?;
    prove_refused(&bench, &converted, &before)?;
    prove_replaced(&bench, &converted, &before)?;

    // Into a root without anything, and in the forms of one mount.
    let tar = format!("tar:{}", bench.path("c1.tar").display());
    bench.export(&natural, &["target=/c1", "--to", &tar])?;
    let directory = format!("dir:{}", bench.path("c4").display());
    bench.export(&natural, &["//c4", "--to", &directory])?;
    let owned = bench.path("c4.tar");
    bench.export(&natural, &["//c4", "--to", &format!("tar:{}", owned.display())])?;
    // Without the marks that a mount of fuse-overlayfs leaves in new directories.
    let names = run(Command::new("tar").arg("-tf").arg(&owned))?;
    ensure!(names == "./\n./moved/\n./moved/file\n", "the archive has {names:?}");
    let archive = format!("oci-archive:{}", bench.path("all.tar").display());
    bench.export(&natural, &["--to", &archive])?;
    let empty = bench.path("empty");
    let long_ago = "--last-used=2020-01-01T00:00:00Z";
    bench.imported(&tar, &empty, &["--id", "target=/c1", long_ago])?;
    let owner = ["--id", "target=/c4", "--uid=1000", "--gid=1001", "--mode=0770"];
    bench.imported(&directory, &empty, &owner)?;
    bench.imported(&archive, &empty, &["--id", "id=named", "--id", "//c6"])?;
    prove_measured(&bench, &empty)?;
    let daemon = bench.start(&empty)?;
    let seen = bench.read(&daemon)?;
    ensure!(seen == expected, "single mounts have\n{seen}\nnot\n{expected}");
    daemon.stop()?;
    bench.verify(&empty)?;
    match bench.user() {
        Some(user) => outside::prove(&bench, user, &natural, &expected),
        None => Ok(()),
    }
}

/// A daemon that measures a mount counts that as a use, so garbage collection keeps an old one for now.
fn prove_measured(bench: &Bench<'_>, root: &Path) -> Result<()> {
    let last_used = || -> Result<Option<Time>> {
        let listed = bench.json(&["mounts", "ls"], root)?;
        let mut mounts = listed["mounts"].as_array().into_iter().flatten();
        let mount = mounts.find(|mount| mount["id"] == "//c1").context("the mount is gone")?;
        Ok(mount["last_used_at"].as_str().map(str::parse).transpose()?)
    };
    let given: Time = "2020-01-01T00:00:00Z".parse()?;
    ensure!(last_used()? == Some(given), "it was last used {:?}", last_used()?);
    let daemon = bench.start(root)?;
    wait_for_mount(&daemon)?;
    daemon.stop()?;
    let measured = last_used()?.context("the daemon has noted no use")?;
    ensure!(measured.unix_seconds() > given.unix_seconds() + 86_400, "still {measured}");
    Ok(())
}

/// Returns the records of the mounts of `root`.
fn records(bench: &Bench<'_>, root: &Path) -> Result<Vec<(String, String)>> {
    let listed = bench.json(&["mounts", "ls"], root)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mounts = listed["mounts"].as_array().into_iter().flatten();
    Ok(mounts.map(|mount| (text(&mount["id"]), text(&mount["record"]))).collect())
}

/// Hostile archives are refused, also in place of a mount, and the root stays as it is.
fn prove_refused(bench: &Bench<'_>, root: &Path, before: &[(String, String)]) -> Result<()> {
    let cases: [(&[Member], &str); 6] = [
        (&[file("/etc/a", "")], "is absolute, or leads upwards"),
        (&[file("a/../../b", "")], "is absolute, or leads upwards"),
        (&[symlink("a", "/"), file("a/b", "")], "leads through a symbolic link"),
        (&[hard_link("a", "../b")], "is absolute, or leads upwards"),
        (&[member(b'3', "a").device(0, 0)], "it is a device"),
        (&[file("./a", "x"), file("./", "x")], "is not a directory"),
    ];
    for (members, expected) in cases {
        let tar = bench.path("hostile.tar");
        fs::write(&tar, archive(members))?;
        let source = format!("tar:{}", tar.display());
        for words in [&["--id=//new"][..], &["--id=//c1", "--exists=replace"]] {
            let refused = bench.import(&source, root, words)?;
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            ensure!(refused.status.code() == Some(3), "{expected}: {}: {text}", refused.status);
            ensure!(text.contains(expected), "{expected}: {text}");
        }
    }
    for (odd, expected) in [("/a::b", "it has \"::\""), ("/a\u{1b}", "it has control characters")] {
        let source = format!("tar:{}", bench.path("hostile.tar").display());
        let refused = bench.import(&source, root, &["--id", odd])?;
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(!refused.status.success() && text.contains(expected), "{expected}: {text}");
    }
    ensure!(records(bench, root)? == before, "the records are others");
    bench.verify(root)
}

/// A mount is replaced: its record stays, the record that the daemon has made to measure it does not, and
/// builds see the new files. `prune` removes it.
fn prove_replaced(bench: &Bench<'_>, root: &Path, before: &[(String, String)]) -> Result<()> {
    let new = bench.path("new");
    fs::create_dir_all(new.join("deep"))?;
    fs::write(new.join("deep/file"), "new\n")?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o711))?;
    for (name, user, group) in [("", 0, 0), ("deep/file", 0, 0), ("deep", 3, 4)] {
        bench.give(&new.join(name), user, group)?;
    }
    let source = format!("dir:{}", new.display());
    let twins = |root: &Path| -> Result<usize> {
        let shown = bench.json(&["inspect"], root)?;
        let records = shown["records"].as_array().into_iter().flatten();
        Ok(records.filter(|record| !record["equal_mutable"].is_null()).count())
    };
    // The request makes the daemon measure them.
    let daemon = bench.start(root)?;
    wait_for_mount(&daemon)?;
    daemon.stop()?;
    let measured = twins(root)?;
    ensure!(measured > 0, "the daemon measured nothing");
    let replaced = bench.imported(&source, root, &["--id=//c1", "--exists=replace"])?;
    ensure!(replaced["mounts"][0]["outcome"] == "replaced", "{replaced:#}");
    ensure!(twins(root)? == measured - 1, "the record of the measurement is left");
    ensure!(records(bench, root)? == before, "the records are others");
    bench.verify(root)?;
    let daemon = bench.start(root)?;
    let seen = bench.read(&daemon)?;
    let files: Vec<_> = seen.lines().filter(|line| line.starts_with("/c1")).collect();
    let has = |start: &str| files.iter().any(|line| line.starts_with(start));
    let are_new = has("/c1 directory 711 0 0") && has("/c1/deep directory 755 3 4");
    ensure!(are_new && has("/c1/deep/file:new") && !has("/c1/sub"), "the step sees {files:#?}");
    wait_for_mount(&daemon)?;
    // A mount that the daemon measures in that moment stays.
    let mut failed = None;
    wait_until(Duration::from_secs(20), || {
        let mut prune = daemon.buildctl();
        failed = run(prune.args(["prune", "--filter", "type==exec.cachemount"])).err();
        failed.is_some() || mounts_of(&daemon).is_ok_and(|all| all.is_empty())
    });
    if let Some(error) = failed {
        return Err(error);
    }
    daemon.stop()?;
    let left = records(bench, root)?;
    ensure!(left.is_empty(), "after the prune, the root has {left:?}");
    bench.verify(root)
}
