//! The table of releases in the FAQ matches the code, and says which daemon is tested for what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use oci2bk::release::{CLASSES, Class, Version};

use crate::pages::repository;

/// The page with the table.
const PAGE: &str = "docs/faq.md";
/// The page with the results of `scripts/matrix`.
const MEASURED: &str = "docs/compatibility.md";
/// The source that names the daemons of the suite other than the newest.
const SUITE: &str = include_str!("../e2e/matrix.rs");
const HEAD: &str = "| releases that name steps alike | daemons that were run |";

/// Each range of releases in the code has its row, and no row says more than was measured.
pub(crate) fn prove() -> Result<()> {
    let page = fs::read_to_string(repository().join(PAGE)).context(PAGE)?;
    let rows = page.lines().skip_while(|line| !line.starts_with(HEAD)).skip(2);
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    let measured = fs::read_to_string(repository().join(MEASURED)).context(MEASURED)?;
    let table = Measured::read(&measured)?;
    let expected = CLASSES.iter().map(|class| row(class, &table)).collect::<Result<Vec<_>>>()?;
    ensure!(rows == expected, "the table in {PAGE} should have\n{}", expected.join("\n"));
    Ok(())
}

/// Number of steps found: by the same daemon again, after converting for its release, and for the newest.
struct Measured(BTreeMap<Version, [String; 3]>);

impl Measured {
    fn read(page: &str) -> Result<Self> {
        let head = format!("| converted for {} |", Version::NEWEST);
        ensure!(page.contains(&head), "{MEASURED} has no {head:?}");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| v")).map(|row| {
            let mut cells = row.split('|').map(|cell| cell.split(':').next().unwrap_or_default());
            let version = cells.next().unwrap_or_default().trim().parse()?;
            let counts = [(); 3].map(|()| cells.next().unwrap_or_default().trim().to_owned());
            Ok((version, counts))
        });
        let rows: BTreeMap<Version, _> = rows.collect::<Result<_>>()?;
        let made = daemons_made()?;
        ensure!(rows.keys().eq(&made), "{MEASURED} has {:?} and oracle/ {made:?}", rows.keys());
        Ok(Self(rows))
    }
}

fn row(class: &Class, measured: &Measured) -> Result<String> {
    let in_class = |version: &Version| (class.first..=class.last).contains(version);
    let daemons: Vec<_> = measured.0.keys().copied().filter(in_class).collect();
    let (previous, old) = (of_suite("PREVIOUS")?, of_suite("OLD")?);
    let mut checks: Vec<String> = Vec::new();
    if daemons.contains(&Version::NEWEST) {
        checks.push(format!("the whole suite with {}", Version::NEWEST));
    }
    if daemons.contains(&previous) {
        checks.push(format!("its table of builds with {previous}"));
    }
    if daemons.contains(&old) {
        checks.push(format!("one build and its states in the suite with {old}"));
    }
    if !daemons.is_empty() {
        checks.push("`scripts/matrix` with each".to_owned());
    }
    let encoded = versions_in("crates/oci2bk/tests/data/releases", "", ".json")?;
    for version in encoded.iter().filter(|version| in_class(version)) {
        checks.push(format!("digests that the code of {version} makes"));
    }
    if checks.is_empty() {
        checks.push("its sources were read; no daemon was run".to_owned());
    }
    // If daemons of one range found different numbers, all of them.
    let found = |column: usize| {
        let cells = daemons.iter().filter_map(|version| {
            let counts = measured.0.get(version)?;
            Some(format!("{} of {}", counts[column], counts[0]))
        });
        cells.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    let names: Vec<_> = daemons.iter().map(ToString::to_string).collect();
    Ok(format!(
        "| {} to {} | {} | {} | {} | {} |",
        class.first,
        class.last,
        if names.is_empty() { "none".to_owned() } else { names.join(", ") },
        found(1),
        found(2),
        checks.join("; ")
    ))
}

/// Returns the release with this name in the suite.
fn of_suite(name: &str) -> Result<Version> {
    let start = format!("pub(crate) const {name}: &str = \"");
    let version = SUITE.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix("\";"));
    Ok(version.with_context(|| format!("the suite has no {name}"))?.parse()?)
}

/// Returns the releases whose daemons `scripts/matrix` runs.
fn daemons_made() -> Result<BTreeSet<Version>> {
    let mut versions = versions_in("oracle", "buildkit-", "")?;
    let pins = fs::read_to_string(repository().join("oracle/buildkit/go.mod"))?;
    let pin = pins.lines().find_map(|line| line.trim().strip_prefix("github.com/moby/buildkit "));
    versions.insert(pin.context("oracle/buildkit pins no release")?.parse()?);
    Ok(versions)
}

/// Returns the versions in the names of a directory's entries.
fn versions_in(directory: &str, before: &str, after: &str) -> Result<BTreeSet<Version>> {
    let mut versions = BTreeSet::new();
    for entry in fs::read_dir(repository().join(directory)).context(directory.to_owned())? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let version = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        versions.extend(version.and_then(|version| version.parse::<Version>().ok()));
    }
    Ok(versions)
}
