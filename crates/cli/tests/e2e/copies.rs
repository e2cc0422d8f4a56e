//! Caches that other tools have copied: the state made of a copy is the state made of the original.
//!
//! `docs/copying.md` gives the same commands to users.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::run;
use crate::state::State;
use crate::world::World;

/// How a fixture is copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(crate) name: &'static str,
    fixture: &'static Fixture,
    /// The commands, in words. `{source}` is the layout, `{registry}` a registry with a name in it
    /// for this copy, `{copy}` where the copy is to be.
    commands: &'static [&'static str],
    /// What the copy is to oci2bk.
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

/// Copies the fixture and compares what becomes of the copy and of the original.
pub(crate) fn prove(world: &World, copy: &Copy) -> Result<()> {
    let dir = tempfile::Builder::new().prefix(copy.name).tempdir_in(world.scratch())?;
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(copy.fixture.name);
    let fixture = fixture.canonicalize()?;
    let source = fixture.join("cache").display().to_string();
    let fill_in = |word: &str| {
        word.replace("{source}", &source)
            .replace("{registry}", &format!("{}/copies/{}", world.registry(), copy.name))
            .replace("{host}", world.registry())
            .replace("{copy}", &dir.path().join("copy").display().to_string())
    };
    for line in copy.commands {
        let mut words = line.split(' ').map(fill_in);
        let program = world.tools.copier(&words.next().context("an empty command")?);
        // Where the tools keep settings and credentials.
        run(Command::new(program).args(words).env("HOME", dir.path()))?;
    }
    let convert = |from: &str, root: &str| -> Result<State> {
        let root = dir.path().join(root);
        let mut command = Command::new(&world.tools.oci2bk);
        command.args(["convert", "--progress=plain", "--no-extract", "--keys"]);
        run(command.arg(fixture.join(copy.fixture.keys)).arg(from).arg(&root))?;
        State::read(&world.tools, &root)
    };
    let original = convert(&source, "original")?;
    let copied = convert(&fill_in(copy.result), "copied")?;
    original.ensure_unchanged(&copied)
}
