//! What would ruin a rootless root, or make a build see deleted files: refused before anything is written. Real
//! daemons show that the danger exists.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{Bench, CASES, base};
use crate::process::run;
use crate::world::World;

type Proof = fn(&World) -> Result<()>;

/// The tests, by their names.
pub(super) const PROOFS: [(&str, Proof); 3] =
    [("real-root", real_root), ("tmpfs", tmpfs), ("owners", owners)];

/// A tmpfs that is unmounted when the value is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: &Path) -> Result<Self> {
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"mode=0700")?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Errors cannot be reported here.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Runs a command that must fail; returns its messages.
fn refused(command: &mut Command) -> Result<String> {
    let Output { status, stderr, .. } = command.output()?;
    let said = String::from_utf8(stderr)?;
    ensure!(status.code() == Some(1), "{command:?} ended with {status}: {said}");
    Ok(said)
}

/// Returns owner and change time of everything below `path`.
fn entries(path: &Path) -> Result<BTreeMap<PathBuf, (u32, i64, i64)>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            found.insert(path, (metadata.uid(), metadata.ctime(), metadata.ctime_nsec()));
        }
    }
    Ok(found)
}

/// Root without a map leaves the root of another user alone, and makes none in a directory of that user.
fn real_root(world: &World) -> Result<()> {
    let bench = Bench::new(world, super::OVERLAYFS)?;
    let root = bench.root("natural");
    let made = bench.make(&CASES[1])?;
    let before = entries(&root)?;
    let id = bench.user.id();
    let convert = |root: &Path| {
        let mut command = Command::new(&world.tools.oci2bk);
        command.args(["convert", "--progress=quiet"]).arg(&made.cache).arg(root);
        command
    };
    let said = refused(&mut convert(&root))?;
    ensure!(said.contains(&format!("belongs to user {id}, who can change all in it")), "{said}");
    ensure!(said.contains("--map-user NAME") && said.contains("rootlesskit"), "{said}");
    ensure!(entries(&root)? == before, "the root was changed");

    let new = bench.root("share/buildkit");
    let said = refused(&mut convert(&new))?;
    let home = bench.user.home().display().to_string();
    ensure!(
        said.contains(&format!("would be made in {home}, which belongs to user {id}")),
        "{said}"
    );
    ensure!(!bench.root("share").exists(), "a directory was made");

    // The trees of another user cannot be compared without knowing the owners.
    let mut verify = Command::new(&world.tools.oci2bk);
    let said = refused(verify.args(["verify", "--trees"]).arg(&root))?;
    ensure!(said.contains("belongs to user"), "{said}");

    // The witness: what root makes, that daemon cannot use.
    fs::create_dir(bench.root("ruined"))?;
    run(&mut convert(&bench.root("ruined")))?;
    let error = format!("{:#}", bench.start(&bench.root("ruined")).err().context("it starts")?);
    ensure!(error.contains("permission denied"), "{error}");
    bench.start(&root).context("the root that was left alone")?.stop().map(drop)
}

/// On a tmpfs, a rootless daemon does not look at the marks.
fn tmpfs(world: &World) -> Result<()> {
    let bench = Bench::new(world, super::OVERLAYFS)?;
    base::push(world, &bench.work.join("base"))?;
    let case = &CASES[0];
    let made = bench.make(case)?;
    let memory = bench.user.directory("memory")?;
    let _mounted = Tmpfs::mount(&memory)?;
    std::os::unix::fs::chown(&memory, Some(bench.user.id()), Some(bench.user.id()))?;

    let root = memory.join("root");
    let mut convert = bench.within(&["convert", "--progress=quiet"]);
    let said = refused(convert.arg(&made.cache).arg(&root))?;
    ensure!(
        said.contains("does not use the extended attributes user.overlay.* on a tmpfs"),
        "{said}"
    );
    ensure!(said.contains("--no-extract"), "{said}");
    let names =
        fs::read_dir(&root)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    ensure!(names == ["buildkitd.lock"], "{names:?} were made");

    let packed = memory.join("packed");
    let mut convert = bench.within(&["convert", "--progress=quiet", "--no-extract", "--keys"]);
    run(convert.args([&made.keys, &made.cache, &packed]))?;

    // The witness: files that layers delete are visible again.
    let elsewhere = bench.root("elsewhere");
    bench.convert(&made, &elsewhere)?;
    let copied = memory.join("copied");
    run(Command::new("cp").arg("-a").args([&elsewhere, &copied]))?;
    let daemon = bench.start(&copied)?;
    let listing = bench.next(&daemon, case)?;
    daemon.stop()?;
    for name in ["/replaced/a ", "/swap/lower "] {
        ensure!(!made.listing.contains(name), "{name} was deleted");
        ensure!(listing.contains(name), "{name} stays deleted on a tmpfs");
    }
    Ok(())
}

/// An owner that the namespace does not have is named, and nothing is published.
fn owners(world: &World) -> Result<()> {
    let bench = Bench::new(world, super::OVERLAYFS)?;
    base::push(world, &bench.work.join("base"))?;
    let made = bench.make(&CASES[0])?;
    let unshare = |arguments: &[&str], root: &Path| {
        let mut command = bench.user.command(Path::new("unshare"));
        command
            .args(arguments)
            .arg(bench.user.program("oci2bk"))
            .args(["convert", "--progress=quiet"]);
        command.arg("--keys").args([&made.keys, &made.cache]).arg(root);
        command
    };
    let alone = bench.root("alone");
    let said = refused(&mut unshare(&["--map-root-user"], &alone))?;
    let map = format!("whose map is 0:{}:1", bench.user.id());
    ensure!(
        said.contains("is not in the user namespace of the daemon") && said.contains(&map),
        "{said}"
    );
    ensure!(said.contains("cannot unpack entry \""), "{said}");
    ensure!(said.contains("/etc/subuid"), "{said}");
    let names =
        fs::read_dir(&alone)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    ensure!(names == ["buildkitd.lock"], "{names:?} were made");

    // Without RootlessKit, with all owners of the user but the last.
    let root = bench.root("unshare");
    run(&mut unshare(&["--map-root-user", "--map-auto"], &root))?;
    bench.ensure_warm(&CASES[0], &made, &root)?;

    // By root outside, with a map that is too small.
    let mut outside = Command::new(&world.tools.oci2bk);
    outside.args(["convert", "--progress=quiet", "--keys"]).args([&made.keys, &made.cache]);
    let id = bench.user.id();
    let said =
        refused(outside.arg(format!("--map=0:{id}:1,1:165536:900")).arg(bench.root("small")))?;
    ensure!(said.contains("is not in the user namespace of the daemon"), "{said}");
    Ok(())
}
