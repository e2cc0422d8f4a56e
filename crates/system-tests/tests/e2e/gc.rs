//! The garbage collection of a real daemon on a converted state at its first start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bkstate::gc::{Disk, GcConfig};
use serde_json::{Value, json};
use testkit::schema;

use crate::daemon::Daemon;
use crate::process::{run, wait_until};
use crate::proof::GARBAGE_COLLECTED;
use crate::world::World;

/// Configurations in every valid spelling.
const CONFIGURATIONS: [&str; 5] = [
    "",
    "[worker.oci]\n  gckeepstorage = 9000\n",
    "[worker.oci]\n  RESERVEDSPACE = \"1.5 gib\"\n  maxUsedSpace = \"60%\"\n  minfreespace = 20000\n",
    "[[worker.oci.gcpolicy]]\n  filters = [\"type==source.local,shared==true\", \"type==regular\"]\n  \
     keepDuration = 3600\n  keepBytes = \"512MB\"\n\
     [[worker.oci.gcpolicy]]\n  all = true\n  keepDuration = \"1h30m0.5s\"\n  reservedSpace = \"7%\"\n  \
     keepBytes = 1\n  maxUsedSpace = \"1T\"\n  minFreeSpace = \"3kb\"\n",
    "[worker.oci]\n  gc = false\n",
];

/// The policy computed from a configuration equals the one that the daemon reports.
pub(crate) fn prove_policies(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("policies").tempdir_in(world.scratch())?;
    for (number, configuration) in CONFIGURATIONS.iter().enumerate() {
        let root = dir.path().join(number.to_string());
        let daemon = world.start_configured(&root, configuration)?;
        let workers = run(daemon.buildctl().args(["debug", "workers", "--format", "{{json .}}"]))?;
        daemon.stop()?;
        let workers: Value = serde_json::from_str(&workers)?;
        let theirs = workers[0]["gcPolicy"].as_array().cloned().unwrap_or_default();
        let policy = GcConfig::from_toml(configuration)?.policy(Disk::of(&root)?);
        let ours: Vec<_> = policy
            .rules
            .iter()
            .map(|rule| {
                json!({
                    // Go omits an empty list of filters.
                    "filter": (!rule.filters.is_empty()).then_some(&rule.filters),
                    "all": rule.all,
                    "keepDuration": u64::try_from(rule.keep_duration.as_nanos()).ok(),
                    "reservedSpace": rule.reserved_space,
                    "maxUsedSpace": rule.max_used_space,
                    "minFreeSpace": rule.min_free_space,
                })
            })
            .collect();
        ensure!(ours == theirs, "{configuration}: {ours:#?} is not {theirs:#?}");
    }
    Ok(())
}

/// Removes everything that was not used for an hour.
const BY_AGE: &str = "[[worker.oci.gcpolicy]]\n  all = true\n  keepDuration = \"1h\"\n";

/// Allows less space than the state takes.
const BY_SIZE: &str = "[worker.oci]\n  maxUsedSpace = \"1MB\"\n  reservedSpace = \"100KB\"\n  minFreeSpace = \"1%\"\n";

/// The stated creation time of the cache, for garbage collection: 2020.
const LONG_AGO: &str = "1577836800";

/// A state that was baked long ago survives the first start of a daemon: within the limits always; with rules
/// by age, if it counts as used later; and above the limits with the configuration that the conversion
/// proposes. Otherwise it does not, and the conversion warns.
pub(crate) fn prove_first_start(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("first-start").tempdir_in(world.scratch())?;
    let bench = Bench { world, dir: dir.path(), snapshotter: "overlayfs" };

    let old = bench.convert("old", "", &[])?;
    ensure!(old["gc"]["losses"] == json!([]), "{old:#}");
    bench.ensure_kept("old", "")?;

    let aged = bench.convert("aged", BY_AGE, &[])?;
    ensure!(
        aged["gc"]["losses"] == json!([{"rule": 0, "kept_size": 0, "unused_seconds": 3600.0}]),
        "{aged:#}"
    );
    bench.ensure_lost("aged", BY_AGE)?;
    bench.convert("fresh", BY_AGE, &["--last-used=now"])?;
    bench.ensure_kept("fresh", BY_AGE)?;
    bench.convert("ahead", BY_AGE, &["--last-used=2100-01-01T00:00:00Z"])?;
    bench.ensure_kept("ahead", BY_AGE)?;
    bench.convert("configured", BY_AGE, &[])?;
    bench.ensure_kept("configured", proposed(&aged)?)?;

    let large = bench.convert("large", BY_SIZE, &["--last-used=now"])?;
    let keeps = large["gc"]["losses"][0]["kept_size"].as_u64().context("no losses")?;
    ensure!(keeps == 1 << 20, "{large:#}");
    bench.ensure_lost("large", BY_SIZE)?;
    bench.convert("roomy", BY_SIZE, &[])?;
    bench.ensure_kept("roomy", proposed(&large)?)
}

/// Returns the lines that a conversion proposes.
fn proposed(report: &Value) -> Result<&str> {
    report["gc"]["config"].as_str().with_context(|| format!("nothing is proposed: {report:#}"))
}

/// A daemon with the native snapshotter counts whole trees, whatever they take on the disk, and so does the
/// forecast: within a limit that the same state on overlayfs is below, it loses some.
pub(crate) fn prove_native(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("native-gc").tempdir_in(world.scratch())?;
    let overlay = Bench { world, dir: dir.path(), snapshotter: "overlayfs" };
    let native = Bench { snapshotter: "native", ..overlay };
    overlay.convert("overlay", "", &[])?;
    native.convert("native", "", &[])?;
    let [small, large] = [overlay.size("overlay")?, native.size("native")?];
    ensure!(large > small + (small >> 2), "native has {large} bytes, overlayfs {small}");
    let limit = |bytes: u64| {
        format!(
            "[worker.oci]\n  maxUsedSpace = \"{}KB\"\n  reservedSpace = \"100KB\"\n  minFreeSpace = \"1%\"\n",
            bytes >> 10
        )
    };
    let between = limit(small.midpoint(large));
    let loses = native.convert("loses", &between, &["--last-used=now"])?;
    ensure!(loses["gc"]["losses"] != json!([]), "{loses:#}");
    native.ensure_lost("loses", &between)?;
    let keeps = overlay.convert("keeps", &between, &["--last-used=now"])?;
    ensure!(keeps["gc"]["losses"] == json!([]), "{keeps:#}");
    overlay.ensure_kept("keeps", &between)?;
    let above = limit(large + (64 << 10));
    let roomy = native.convert("native-roomy", &above, &["--last-used=now"])?;
    ensure!(roomy["gc"]["losses"] == json!([]), "{roomy:#}");
    native.ensure_kept("native-roomy", &above)
}

struct Bench<'a> {
    world: &'a World,
    dir: &'a Path,
    snapshotter: &'static str,
}

impl Bench<'_> {
    fn root(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Converts a fixture to the root `name`, and returns the report.
    fn convert(&self, name: &str, configuration: &str, options: &[&str]) -> Result<Value> {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/index");
        let config = self.root(name).with_extension("buildkitd");
        std::fs::write(&config, configuration)?;
        let snapshotter = format!("--snapshotter={}", self.snapshotter);
        schema::run(
            Command::new(&self.world.tools.oci2bk)
                .env("SOURCE_DATE_EPOCH", LONG_AGO)
                .args(["convert", "--progress=quiet", "--format=json"])
                .args(options)
                .args([&snapshotter, "--config"])
                .arg(config)
                .arg("--keys")
                .args([
                    fixture.join("keys/provenance.json"),
                    fixture.join("cache"),
                    self.root(name),
                ]),
        )
    }

    fn start(&self, root: &Path, configuration: &str) -> Result<Daemon> {
        let registries = [self.world.registry()];
        Daemon::start_with(&self.world.tools, root, &registries, self.snapshotter, configuration)
    }

    /// Returns the records of the root `name` as `du` lists them.
    fn records(&self, name: &str) -> Result<Vec<Value>> {
        let mut du = Command::new(&self.world.tools.oci2bk);
        du.args(["du", "--format=json", "--snapshotter", self.snapshotter]).arg(self.root(name));
        let lines = run(&mut du)?;
        let records = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(records)
    }

    /// Returns the size of the root `name` as a daemon counts it, in bytes.
    fn size(&self, name: &str) -> Result<u64> {
        Ok(self.records(name)?.iter().filter_map(|record| record["Size"].as_u64()).sum())
    }

    /// A daemon with this configuration removes nothing.
    fn ensure_kept(&self, name: &str, configuration: &str) -> Result<()> {
        let root = self.root(name);
        let before = self.records(name)?;
        let before: BTreeSet<_> =
            before.iter().filter_map(|record| record["ID"].as_str().map(str::to_owned)).collect();
        let daemon = self.start(&root, configuration)?;
        std::thread::sleep(GARBAGE_COLLECTED);
        let after = daemon.du()?;
        daemon.stop()?;
        ensure!(after == before, "{name}: of {before:?} are left {after:?}");
        Ok(())
    }

    /// A daemon with this configuration removes some of the state.
    fn ensure_lost(&self, name: &str, configuration: &str) -> Result<()> {
        let root = self.root(name);
        let before = self.records(name)?;
        let before: BTreeSet<_> =
            before.iter().filter_map(|record| record["ID"].as_str().map(str::to_owned)).collect();
        let daemon = self.start(&root, configuration)?;
        let lost = wait_until(Duration::from_secs(20), || {
            daemon.du().is_ok_and(|after| after.len() < before.len())
        });
        daemon.stop()?;
        ensure!(lost, "{name}: nothing is lost, so nothing is proved");
        Ok(())
    }
}
