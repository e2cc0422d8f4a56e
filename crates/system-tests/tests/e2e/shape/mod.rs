//! The shape of a state: its buckets and keys, the kinds of their values and the form of names, by kind of
//! record.
//!
//! A daemon of each release makes every kind of record ([`natural`]); the shape of its state is written to
//! `fixtures/shapes`. A release with another state differs from its text, or from the text of the release
//! before, and the output of a conversion must occur in the daemon's output.

mod natural;
mod pattern;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use oci2bk::release::Version;

use crate::matrix::all_releases;
use crate::world::World;

/// The directory of the texts.
const TEXTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/shapes");

/// The first release that names layer snapshots as [`LAYER`] says, and the last release before it.
const RENAMED: (&str, &str) = ("v0.33.1", "v0.33.0");

/// Prefix of the names of layer snapshots since v0.33.1 (BuildKit `snapshot/snapshotid.go`); earlier releases
/// use any name that they find. The rest is the hex of the chainID.
const LAYER: &str = "buildkit-layer-snapshot-v1-sha256-";
const LEGACY_LAYER: &str = "sha256:";

/// The key of records that was introduced with those names.
const IDENTITY: &str = "cache.layerIdentity";

/// A part that releases before those names do not write but accept: the version of containerd's schema since
/// v2.0.
const TAKEN: [&str; 1] = ["containerdmeta.db: v1 / version = 08"];

/// The content of a state: lines about one database or one kind of record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape(BTreeMap<String, BTreeSet<String>>);

impl Shape {
    /// Reads the text of a release, if there is one.
    pub(crate) fn of_release(version: &str) -> Result<Option<Self>> {
        let path = text_of(version);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text).map(Some)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut shape = Self::default();
        let mut section = None;
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("  ") {
                None => section = Some(line),
                Some(line) => shape.add(section.context("a line before any heading")?, line),
            }
        }
        Ok(shape)
    }

    fn add(&mut self, section: &str, line: impl Into<String>) {
        self.0.entry(section.to_owned()).or_default().insert(line.into());
    }

    fn merge(&mut self, other: Self) {
        for (section, lines) in other.0 {
            self.0.entry(section).or_default().extend(lines);
        }
    }

    /// Returns the lines of this shape that another lacks, with their section.
    pub(crate) fn beyond(&self, other: &Self) -> Vec<String> {
        // An empty bucket may also have entries.
        let known = |section, line: &str| {
            let bucket = format!("{line} / ");
            let is_known = |known: &String| known == line || known.starts_with(&bucket);
            other.0.get(section).is_some_and(|lines| lines.iter().any(is_known))
        };
        let lines = self.0.iter().flat_map(|(section, lines)| {
            lines.iter().map(move |line| (section.as_str(), line.as_str()))
        });
        lines
            .filter(|(section, line)| !known(*section, line))
            .map(|(section, line)| format!("{section}: {line}"))
            .collect()
    }

    /// Returns the differences between two texts: removed lines, then added ones.
    pub(crate) fn changes(&self, later: &Self) -> Vec<String> {
        let gone = self.beyond(later).into_iter().map(|line| format!("- {line}"));
        gone.chain(later.beyond(self).into_iter().map(|line| format!("+ {line}"))).collect()
    }

    /// Returns the same state with the names that layers had before v0.33.1.
    fn with_legacy_names(&self) -> Self {
        let mut legacy = Self::default();
        for (section, lines) in &self.0 {
            for line in lines.iter().filter(|line| !line.starts_with(IDENTITY)) {
                legacy.add(section, line.replace(LAYER, LEGACY_LAYER));
            }
        }
        legacy
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (section, lines)) in self.0.iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n" };
            writeln!(f, "{gap}{section}")?;
            lines.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        Ok(())
    }
}

/// The daemon's state has the shape in the text of its release, and a conversion for it writes nothing else.
pub(crate) fn prove(world: &World) -> Result<()> {
    let version = &world.release.version;
    let text = Shape::of_release(version)?;
    let text = text.with_context(|| format!("scripts/matrix --new {version} writes its shape"))?;
    let made = natural::make(world)?;
    let changes = text.changes(&made.natural);
    ensure!(changes.is_empty(), "the state differs from its text:\n{}", changes.join("\n"));
    ensure_within(&made.converted, &text, version)
}

/// The same for all releases, one after the other. Writes missing texts.
pub(crate) fn prove_all(world: &World) -> Result<()> {
    let mut failed = Vec::new();
    for release in all_releases(world)? {
        let version = release.version.clone();
        let known = Shape::of_release(&version)?.is_some();
        if let Err(error) = if known { prove } else { write }(&world.on(release)) {
            failed.push(format!("{version}: {error:#}"));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// Writes or replaces the text of a release.
pub(crate) fn write(world: &World) -> Result<()> {
    let version = &world.release.version;
    let made = natural::make(world)?;
    let path = text_of(version);
    fs::write(&path, made.natural.to_string()).with_context(|| path.display().to_string())?;
    ensure_within(&made.converted, &made.natural, version)
}

/// Returns the differences between the texts of a release and of the one before, unless it is the first.
pub(crate) fn changes_since_last(version: &str) -> Result<Option<Vec<String>>> {
    let text =
        |version| Shape::of_release(version)?.with_context(|| format!("no text of {version}"));
    let this: Version = version.parse()?;
    let mut before = Vec::new();
    for entry in fs::read_dir(TEXTS).context(TEXTS)? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".txt"));
        before.extend(
            name.and_then(|name| name.parse().ok()).filter(|other: &Version| *other < this),
        );
    }
    let Some(last) = before.into_iter().max() else { return Ok(None) };
    Ok(Some(text(&last.to_string())?.changes(&text(version)?)))
}

/// Everything in a converted state occurs in a natural one of the release. One state serves all of them:
/// releases before v0.33.1 have other names for layers, but also accept those of later ones. The later ones
/// do not have the old names.
fn ensure_within(converted: &Shape, natural: &Shape, version: &str) -> Result<()> {
    let legacy = converted.with_legacy_names();
    let renamed = natural.to_string().contains(LAYER);
    let mut beyond = if renamed { converted } else { &legacy }.beyond(natural);
    beyond.retain(|line| renamed || !TAKEN.contains(&line.as_str()));
    ensure!(beyond.is_empty(), "no state of {version} has what we write:\n{}", beyond.join("\n"));
    let told = !renamed || !legacy.beyond(natural).is_empty();
    ensure!(told, "the states of {version} have the names of layers of before {}", RENAMED.0);
    Ok(())
}

/// The texts detect the change that went unnoticed: the names of layers in v0.33.1.
pub(crate) fn prove_alarm() -> Result<()> {
    let text = |version| Shape::of_release(version)?.with_context(|| format!("no {version}"));
    let (renamed, last) = RENAMED;
    for before in ["v0.32.2", last] {
        let changes = text(before)?.changes(&text(renamed)?);
        for change in [
            format!(
                "- record imported: cache.snapshot = {{\"value\":\"{LEGACY_LAYER}<chainID>\"}}"
            ),
            format!("+ record imported: cache.snapshot = {{\"value\":\"{LAYER}<chainID>\"}}"),
            format!("+ record imported: {IDENTITY} = {{\"value\":\"sha256:<diffID>\"}}"),
        ] {
            ensure!(changes.contains(&change), "{change:?} is not among {changes:#?}");
        }
    }
    // Layers of a cache with the old names are not what later daemons write.
    for version in [renamed, "v0.34.0", crate::tools::buildkitd_release()] {
        let layers = |shape: Shape| {
            let imported = |section: &String| section.starts_with("record imported");
            Shape(shape.0.into_iter().filter(|(section, _)| imported(section)).collect())
        };
        let legacy = layers(text(last)?);
        let beyond = legacy.beyond(&text(version)?);
        let named = |key: &str| beyond.iter().any(|line| line.contains(key));
        ensure!(named("cache.snapshot") && named("lease"), "{version} takes {beyond:#?}");
        ensure!(legacy.beyond(&text(last)?).is_empty(), "{last} does not take its own");
    }
    Ok(())
}

fn text_of(version: &str) -> PathBuf {
    Path::new(TEXTS).join(format!("{version}.txt"))
}
