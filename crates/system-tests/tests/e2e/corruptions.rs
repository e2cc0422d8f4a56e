//! Corruptions that the table calls harmless are harmless to real daemons.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use testkit::corruptions::{Corruption, Outcome, all};

use crate::build::Options;
use crate::case::{Case, Export, Keys};
use crate::export::CacheExport;
use crate::merging::{Bench, Made, bench};
use crate::proof::{GARBAGE_COLLECTED, ensure_same_steps};
use crate::world::World;

const CASE: Case = Case {
    name: "corruptions",
    dockerfile: || {
        "FROM {registry}/busybox\nCOPY a /a\nRUN cp /a /b\nRUN rm /a && echo c > /c\nRUN cat /b /c > /d\n"
            .into()
    },
    context: |context| drop(context.file("a", "a\n")),
    edit: |_| {},
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Provenance,
};

/// All harmless ones at once in one root: a daemon behaves as on an unchanged root.
pub(crate) fn prove_at_once(world: &World) -> Result<()> {
    let proof = Proof::new(world)?;
    let harmless: Vec<_> =
        all().filter(|one| matches!(one.outcome, Outcome::Harmless(_))).collect();
    ensure!(harmless.len() >= 30, "{}", harmless.len());
    proof.ensure_same("all", &harmless)
}

/// One by one, including those that change an export.
pub(crate) fn prove_each(world: &World) -> Result<()> {
    let proof = Proof::new(world)?;
    let mut wrong = Vec::new();
    for one in all() {
        if matches!(one.outcome, Outcome::Harmless(_) | Outcome::Exported(_))
            && let Err(error) = proof.ensure_same("one", &[one])
        {
            wrong.push(format!("{}: {error:#}", one.name));
            proof.clear("one")?;
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

struct Proof<'w> {
    bench: Bench<'w>,
    made: Made,
    /// The complaints of daemons on the unchanged root.
    complaints: BTreeSet<String>,
}

impl<'w> Proof<'w> {
    fn new(world: &'w World) -> Result<Self> {
        let bench = bench(world, CASE.name)?;
        let daemon = world.start(&bench.path("natural"))?;
        let made = bench.make(&daemon, &CASE)?;
        let mut complaints = daemon.stop()?;
        bench.convert_with(&made, &bench.path("sound"), &[])?;
        let mut proof = Self { bench, made, complaints: BTreeSet::new() };
        complaints.append(&mut proof.run("reference", &[])?);
        proof.complaints = complaints;
        Ok(proof)
    }

    fn ensure_same(&self, name: &str, corruptions: &[&Corruption]) -> Result<()> {
        let complaints = self.run(name, corruptions)?;
        let new: Vec<_> = complaints.difference(&self.complaints).collect();
        ensure!(new.is_empty(), "the daemon complains: {new:#?}");
        let [reference, files] = ["reference", name].map(|name| self.path(name, "files"));
        let differences = Command::new("diff")
            .args(["-r", "--no-dereference", "--exclude=provenance.json"])
            .args([reference, files])
            .output()?;
        let text = String::from_utf8_lossy(&differences.stdout);
        ensure!(differences.status.success(), "the files differ: {text}");
        self.clear(name)
    }

    fn clear(&self, name: &str) -> Result<()> {
        for what in ["root", "files", "exported"] {
            let path = self.path(name, what);
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// Builds on a corrupted copy of the root, and returns the daemon's complaints.
    fn run(&self, name: &str, corruptions: &[&Corruption]) -> Result<BTreeSet<String>> {
        let root = self.path(name, "root");
        copy(&self.bench.path("sound"), &root)?;
        for corruption in corruptions {
            corruption.apply(&root)?;
        }
        let daemon = self.bench.world.start(&root)?;
        std::thread::sleep(GARBAGE_COLLECTED);
        let files = Some(format!("type=local,dest={}", self.path(name, "files").display()));
        let exported = self.path(name, "exported");
        let options = Options { output: files, ..Options::default() };
        let warm = self.bench.build_with(&daemon, &CASE, false, &options)?;
        let options = Options { export: Some((&*exported, "")), ..Options::default() };
        let again = self.bench.build_with(&daemon, &CASE, false, &options)?;
        for report in [warm, again] {
            ensure_same_steps(CASE.keys, &self.made.warm, &report)?;
            report.ensure_nothing_imported(|_| false)?;
        }
        if !corruptions.iter().any(|one| matches!(one.outcome, Outcome::Exported(_))) {
            self.made.export.ensure_same(&CacheExport::open(&exported, "latest")?)?;
        }
        daemon.stop()
    }

    fn path(&self, name: &str, what: &str) -> std::path::PathBuf {
        self.bench.path(&format!("{name}-{what}"))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(copied.success(), "cannot copy {}", from.display());
    Ok(())
}
