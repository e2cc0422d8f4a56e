//! Caches copied by other tools: the state from a copy equals the state from the original. And caches that
//! these tools cannot copy.
//!
//! `docs/copying.md` gives the same commands to users.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::run;
use crate::state::State;
use crate::world::World;

/// A way to copy a fixture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(crate) name: &'static str,
    fixture: &'static Fixture,
    /// The commands. `{source}` is the layout, `{registry}` a registry with a name in it for this copy,
    /// `{copy}` the path of the copy.
    commands: &'static [&'static str],
    /// The SRC argument for the copy.
    result: &'static str,
}

/// A cache of `fixtures/`, by style.
#[derive(Debug)]
struct Fixture {
    name: &'static str,
    keys: &'static str,
}

const MANIFEST: &Fixture = &Fixture { name: "manifest", keys: "keys/image" };
const INDEX: &Fixture = &Fixture { name: "index", keys: "keys/provenance.json" };

const fn copy(
    name: &'static str,
    fixture: &'static Fixture,
    commands: &'static [&'static str],
    result: &'static str,
) -> Copy {
    Copy { name, fixture, commands, result }
}

const REGCTL: &[&str] = &[
    "regctl registry set {host} --tls=disabled",
    "regctl image copy ocidir://{source}:latest {registry}:latest",
    "regctl image copy {registry}:latest ocidir://{copy}:latest",
];
const REGCTL_EXPORT: &[&str] = &["regctl image export ocidir://{source}:latest {copy}.tar"];
const ORAS: &[&str] = &[
    "oras cp --from-oci-layout {source}:latest --to-plain-http {registry}:latest",
    "oras cp --from-plain-http {registry}:latest --to-oci-layout {copy}:latest",
];

pub(crate) const COPIES: &[Copy] = &[
    copy(
        "skopeo",
        MANIFEST,
        &[
            "skopeo --insecure-policy copy --dest-tls-verify=false oci:{source}:latest docker://{registry}:latest",
            "skopeo --insecure-policy copy --src-tls-verify=false docker://{registry}:latest oci:{copy}:main",
        ],
        "oci:{copy}:main",
    ),
    copy(
        "skopeo-archive",
        MANIFEST,
        &["skopeo --insecure-policy copy oci:{source}:latest oci-archive:{copy}.tar:main"],
        "oci-archive:{copy}.tar:main",
    ),
    copy("regctl", MANIFEST, REGCTL, "{copy}"),
    copy("regctl-index", INDEX, REGCTL, "{copy}"),
    copy("regctl-export", MANIFEST, REGCTL_EXPORT, "{copy}.tar"),
    copy("regctl-export-index", INDEX, REGCTL_EXPORT, "{copy}.tar"),
    copy("oras", MANIFEST, ORAS, "{copy}"),
    copy("oras-index", INDEX, ORAS, "{copy}"),
    copy(
        "crane",
        MANIFEST,
        &[
            "crane push --insecure {source} {registry}:latest",
            "crane copy --insecure {registry}:latest {registry}:again",
            "crane pull --insecure --format=oci {registry}:again {copy}",
        ],
        "{copy}",
    ),
    copy(
        "crane-index",
        INDEX,
        &[
            // crane does not push such a layout.
            "oras cp --from-oci-layout {source}:latest --to-plain-http {registry}:latest",
            "crane copy --insecure {registry}:latest {registry}:again",
            "crane pull --insecure --format=oci {registry}:again {copy}",
        ],
        "{copy}",
    ),
    copy("tar", INDEX, &["tar -C {source} -cf {copy}.tar ."], "type=local,src={copy}.tar"),
];

/// A way to copy an index-style cache that does not work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) name: &'static str,
    command: &'static str,
    /// The error message of the tool.
    message: &'static str,
}

pub(crate) const REFUSALS: &[Refusal] = &[
    // It mistakes the gzip of the first layer for a manifest.
    Refusal {
        name: "skopeo-index",
        command: "skopeo --insecure-policy copy oci:{source}:latest oci:{copy}:main",
        message: "looking for beginning of value",
    },
    Refusal {
        name: "skopeo-index-all",
        command: "skopeo --insecure-policy copy --all oci:{source}:latest oci:{copy}:main",
        message: "looking for beginning of value",
    },
    Refusal {
        name: "crane-push-index",
        command: "crane push --index --insecure {source} {registry}:latest",
        message: "unknown child",
    },
];

/// The tool fails, as documented, and does not silently lose a part of the cache.
pub(crate) fn prove_refused(world: &World, refusal: &Refusal) -> Result<()> {
    let dir = tempfile::Builder::new().prefix(refusal.name).tempdir_in(world.scratch())?;
    let place = Place { world, dir: dir.path(), name: refusal.name, fixture: INDEX };
    let output = place.command(refusal.command)?.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{} succeeds: {said}", refusal.command);
    ensure!(said.contains(refusal.message), "{} fails otherwise: {said}", refusal.command);
    Ok(())
}

/// The directory in which a fixture is copied.
struct Place<'a> {
    world: &'a World,
    dir: &'a Path,
    name: &'a str,
    fixture: &'a Fixture,
}

impl Place<'_> {
    fn fixture(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(self.fixture.name)
    }

    fn source(&self) -> String {
        self.fixture().join("cache").display().to_string()
    }

    fn fill_in(&self, word: &str) -> String {
        let registry = self.world.registry();
        word.replace("{source}", &self.source())
            .replace("{registry}", &format!("{registry}/copies/{}", self.name))
            .replace("{host}", registry)
            .replace("{copy}", &self.dir.join("copy").display().to_string())
    }

    /// Parses the command of `line`.
    fn command(&self, line: &str) -> Result<Command> {
        let mut words = line.split(' ').map(|word| self.fill_in(word));
        let program = self.world.tools.copier(&words.next().context("an empty command")?);
        let mut command = Command::new(program);
        // For the tools' settings and credentials.
        command.args(words).env("HOME", self.dir);
        Ok(command)
    }
}

/// Copies the fixture and compares the states from the copy and from the original.
pub(crate) fn prove(world: &World, copy: &Copy) -> Result<()> {
    let dir = tempfile::Builder::new().prefix(copy.name).tempdir_in(world.scratch())?;
    let place = Place { world, dir: dir.path(), name: copy.name, fixture: copy.fixture };
    for line in copy.commands {
        run(&mut place.command(line)?)?;
    }
    let convert = |from: &str, root: &str| -> Result<State> {
        let root = dir.path().join(root);
        let mut command = Command::new(&world.tools.oci2bk);
        command.args(["convert", "--progress=plain", "--no-extract", "--keys"]);
        run(command.arg(place.fixture().join(copy.fixture.keys)).arg(from).arg(&root))?;
        State::read(&world.tools, &root)
    };
    let original = convert(&place.source(), "original")?;
    let copied = convert(&place.fill_in(copy.result), "copied")?;
    original.ensure_unchanged(&copied)
}
