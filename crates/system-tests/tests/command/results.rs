//! The effects of conversions and their reports.

use std::fs;

use bkstate::Root;
use bkstate::state::State;
use serde_json::json;

use super::forged::{changed, copy};
use super::*;

const DATABASES: [&str; 3] =
    ["cache.db", "runc-overlayfs/metadata_v2.db", "runc-overlayfs/containerdmeta.db"];

fn databases(place: &Place) -> [Vec<u8>; 3] {
    DATABASES.map(|name| place.read(name))
}

fn state(place: &Place) -> State {
    Root::open(place.root()).unwrap().state().unwrap()
}

#[test]
fn the_table_says_what_was_done() {
    let place = Place::new();
    let printed = Printed::of(&mut convert(index(), &place), 0);
    let root = place.root();
    let first = printed.stdout.lines().next().unwrap();
    assert!(first.starts_with(&format!("{} is warm after ", root.display())), "{first}");
    for line in ["  20 of 20 steps, 13 with a result", "  13 layers, 1.07 MB in 12 blobs"] {
        assert!(printed.stdout.lines().any(|found| found == line), "{}", printed.stdout);
    }
    assert!(printed.stdout.contains("13 keys from provenance"), "{}", printed.stdout);
}

#[test]
fn what_is_added_to_a_state_is_told_apart_from_what_was_there() {
    let place = Place::new();
    let manifest = [fixture("manifest/cache"), "--keys".to_owned(), fixture("manifest/keys/image")];
    Printed::of(&mut convert(index(), &place), 0);
    let tried = Printed::of(convert(manifest.clone(), &place).arg("--dry-run"), 0);
    let printed = Printed::of(&mut convert(manifest, &place), 0);
    // The two builds have one key in common.
    for line in [
        "already there: 1 steps, 0 layers, 0 blobs, 0 snapshots",
        "new: 12 steps, 8 layers, 7 blobs, 0 snapshots",
    ] {
        assert!(tried.stdout.lines().any(|found| found == line), "{}", tried.stdout);
        let line = format!("  {line}");
        assert!(printed.stdout.lines().any(|found| found == line), "{}", printed.stdout);
    }
    let again = Printed::of(convert(index(), &place).arg("--format=json"), 0).json();
    let all = |existing| json!({"existing_count": existing, "added_count": 0});
    let shares = json!({
        "steps": all(20), "records": all(13), "blobs": all(12), "snapshots": all(0),
    });
    assert_eq!(again["shares"], shares);
    let printed = Printed::of(&mut convert(index(), &place), 0);
    assert!(printed.stdout.contains("\n  already there: 20 steps"), "{}", printed.stdout);
    assert!(!printed.stdout.contains("new: "), "{}", printed.stdout);
}

#[test]
fn the_json_report_has_its_fields_and_is_the_metadata_file() {
    let place = Place::new();
    let file = place.temp.path().join("metadata.json");
    let words = ["--format=json", "--metadata-file", file.to_str().unwrap()];
    let printed = Printed::of(convert(index(), &place).args(words), 0);
    let report = printed.json();
    let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(written, report);
    assert_eq!(report["root"], place.root().to_str().unwrap());
    let worker_id = String::from_utf8(place.read("runc-overlayfs/workerid")).unwrap();
    assert_eq!(report["worker_id"], worker_id);
    assert_eq!(report["sources"][0]["reference"], fixture("index/cache"));
    for (pointer, number) in [
        ("/sources/0/step_count", 20),
        ("/key_sources/0/resolved_count", 13),
        ("/step_counts/total", 20),
        ("/step_counts/converted", 20),
        ("/step_counts/unkeyed", 0),
        ("/step_counts/with_results", 13),
        ("/layer_count", 13),
        ("/stored/blob_count", 12),
        ("/stored/snapshot_count", 0),
        ("/stored/unpacked_size", 0),
        ("/shares/steps/added_count", 20),
        ("/shares/steps/existing_count", 0),
    ] {
        assert_eq!(report.pointer(pointer), Some(&Value::from(number)), "{pointer}");
    }
    assert!(report["stored"]["blob_size"].as_u64().unwrap() > 1_000_000);
    for stage in ["read", "keys", "plan", "layers", "publish", "verify"] {
        let seconds = &report["stage_seconds"];
        assert!(seconds[stage].is_f64(), "{stage}: {seconds}");
    }
    assert_eq!((&report["lost"], &report["dropped"]), (&json!([]), &json!([])));
}

#[test]
fn every_way_to_name_a_source_is_the_same_source() {
    let cache = fixture("index/cache");
    let keys = &index()[1..];
    let plain = Place::new();
    let report = Printed::of(convert(index(), &plain).arg("--format=json"), 0).json();
    let manifest = report["sources"][0]["manifest"].as_str().unwrap();
    for source in [
        format!("oci:{cache}"),
        format!("oci:{cache}:latest"),
        format!("oci:{cache}@{manifest}"),
        format!("type=local,src={cache}"),
        format!("type=local,src={cache},tag=latest"),
        format!("type=local,digest={manifest},src={cache}"),
        format!("{cache}:latest"),
        format!("{cache}@{manifest}"),
        format!("ocidir://{cache}:latest@{manifest}"),
    ] {
        let place = Place::new();
        Printed::of(convert([&source], &place).args(keys), 0);
        assert!(databases(&place) == databases(&plain), "{source}");
    }
    let mirror = tempfile::tempdir().unwrap();
    write_mirror(&cache, manifest, &mirror.path().join("ci"));
    let mirror = mirror.path().display().to_string();
    for source in [format!("{mirror}/ci"), format!("s3dir:{mirror}"), format!("{mirror}:main")] {
        let place = Place::new();
        Printed::of(convert([&source], &place).args(keys), 0);
        // The id of the worker, which results refer to, is derived from the manifest.
        assert!(databases(&place)[1..] == databases(&plain)[1..], "{source}");
        // A directory is recognised by its content.
        let shown = Printed::of(command().args(["inspect", &source, "--format=json"]), 0).json();
        assert_eq!(shown["steps"].as_array().map(Vec::len), Some(20));
    }
    Printed::of(convert([format!("s3dir:{mirror}:other")], &Place::new()).args(keys), 3)
        .says(&["has no cache \"other\"; it has \"main\""]);
}

/// Writes the files that the exporter to S3 writes for the index-style cache `top` in `layout`.
fn write_mirror(layout: &str, top: &str, mirror: &Path) {
    let blob = |digest: &str| Path::new(layout).join("blobs").join(digest.replace(':', "/"));
    let json = |digest: &str| -> Value {
        serde_json::from_slice(&fs::read(blob(digest)).unwrap()).unwrap()
    };
    for name in ["blobs", "manifests"] {
        fs::create_dir_all(mirror.join(name)).unwrap();
    }
    let top = json(top);
    let (layers, config): (Vec<_>, Vec<_>) = top["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .partition(|entry| entry["mediaType"] != "application/vnd.buildkit.cacheconfig.v0");
    let mut config = json(config[0]["digest"].as_str().unwrap());
    for node in config["layers"].as_array_mut().unwrap() {
        let layer = layers.iter().find(|layer| layer["digest"] == node["blob"]).unwrap();
        let digest = layer["digest"].as_str().unwrap();
        fs::copy(blob(digest), mirror.join("blobs").join(digest)).unwrap();
        node["annotations"] = json!({
            "mediaType": layer["mediaType"],
            "diffID": layer["annotations"]["containerd.io/uncompressed"],
            "size": layer["size"],
            "createdAt": layer["annotations"]["buildkit/createdat"],
        });
    }
    fs::write(mirror.join("manifests/main"), config.to_string()).unwrap();
}

#[test]
fn several_sources_become_one_root() {
    let place = Place::new();
    let sources =
        ["index", "manifest", "zstd", "min"].map(|name| fixture(&format!("{name}/cache")));
    let keys = [
        "index/keys/provenance.json",
        "manifest/keys/image",
        "zstd/keys/cache.db",
        "min/keys/metadata.json",
    ]
    .map(|keys| format!("--keys={}", fixture(keys)));
    let words: Vec<_> = sources.iter().chain(&keys).cloned().collect();
    let report = Printed::of(convert(words, &place).arg("--format=json"), 0).json();
    assert_eq!(report["sources"].as_array().unwrap().len(), 4);
    assert_eq!(report["lost"].as_array().unwrap().len(), 0);
    let state = state(&place);
    assert_eq!(state.records.by_id.len() as u64, report["layer_count"].as_u64().unwrap());
    // The same source twice adds nothing.
    let twice = Place::new();
    let words = [&sources[0], &sources[0], &keys[0]];
    let doubled = Printed::of(convert(words, &twice).arg("--format=json"), 0).json();
    assert_eq!(doubled["layer_count"], 13);
    assert_eq!(doubled["step_counts"]["converted"], 20);
    assert_eq!(doubled["step_counts"]["total"], 20);
    // A loss in both counts once, too.
    let words = [&sources[3], &sources[0], &sources[0], &keys[3]];
    let words = words.into_iter().map(String::as_str).chain(["--allow-unkeyed", "--format=json"]);
    let partly = Printed::of(&mut convert(words, &Place::new()), 0).json();
    let total = partly["step_counts"]["total"].as_u64().unwrap();
    let steps = |source: &Value| source["step_count"].as_u64().unwrap();
    let of_sources: u64 = partly["sources"].as_array().unwrap().iter().map(steps).sum();
    assert_eq!(total, of_sources - 20);
}

#[test]
fn with_some_keys_missing_the_other_steps_are_converted_if_asked_for() {
    let words = || {
        let mut words = index().to_vec();
        words.push(fixture("min/cache"));
        words
    };
    Printed::of(&mut convert(words(), &Place::new()), 4);
    let place = Place::new();
    let allowed = ["--allow-unkeyed", "--format=json"];
    let printed = Printed::of(convert(words(), &place).args(allowed), 0);
    let report = printed.json();
    let unkeyed = report["step_counts"]["unkeyed"].as_u64().unwrap();
    assert!(unkeyed > 0);
    printed.says(&[&format!("warning: {unkeyed} steps have no key")]);
    assert!(report["lost"].as_array().unwrap().iter().any(|lost| lost["reason"] == "no-key"));
    assert!(state(&place).solver.links.len() >= 20);
    let partly = Printed::of(convert(words(), &Place::new()).arg("--allow-unkeyed"), 0);
    assert!(partly.stdout.contains("partly warm"), "{}", partly.stdout);
}

#[test]
fn the_number_of_jobs_does_not_show() {
    let roots = ["1", "4"].map(|jobs| {
        let place = Place::new();
        Printed::of(convert(index(), &place).args(["--jobs", jobs]), 0);
        place
    });
    assert_eq!(roots[0].names(), roots[1].names());
    assert!(databases(&roots[0]) == databases(&roots[1]));
}

#[test]
fn source_date_epoch_is_when_everything_was_last_used_and_nothing_else() {
    let place = Place::new();
    Printed::of(&mut convert(index(), &place), 0);
    let [default, dated, empty] = [None, Some("1000000000"), Some("")].map(|epoch| {
        let place = Place::new();
        let mut command = convert(index(), &place);
        command.envs(epoch.map(|epoch| ("SOURCE_DATE_EPOCH", epoch)));
        Printed::of(&mut command, 0);
        state(&place)
    });
    assert_eq!(default, empty);
    let mut changed = dated.clone();
    for (id, record) in &mut changed.records.by_id {
        assert_eq!(record.last_used_at, Some(1_000_000_000_000_000_000));
        record.last_used_at = default.records.by_id[id].last_used_at;
    }
    assert_ne!(dated, default);
    assert_eq!(changed, default);
}

#[test]
fn a_given_time_of_the_last_use_beats_source_date_epoch() {
    let place = Place::new();
    let mut command = convert(index(), &place);
    command.args(["--last-used", "2027-06-30T00:00:00Z"]).env("SOURCE_DATE_EPOCH", "1000000000");
    Printed::of(&mut command, 0);
    for record in state(&place).records.by_id.values() {
        assert_eq!(record.last_used_at, Some(1_814_313_600_000_000_000));
        assert_eq!(record.usage_count, Some(1));
    }
}

#[test]
fn what_garbage_collection_takes_is_told_with_the_lines_that_keep_it() {
    let config = |text: &str| {
        let place = Place::new();
        let config = place.temp.path().join("buildkitd.toml");
        std::fs::write(&config, text).unwrap();
        let mut command = convert(index(), &place);
        command.arg("--config").arg(config).arg("--format=json");
        (place, command)
    };
    let (_place, mut command) = config("[worker.oci]\nmaxUsedSpace = \"1MB\"\n");
    let printed = Printed::of(&mut command, 0);
    let report = printed.json();
    assert_eq!(report["gc"]["policy"]["rules"].as_array().unwrap().len(), 4);
    let loss = json!({"rule": 2, "kept_size": 1 << 20, "unused_seconds": 0.0});
    assert_eq!(report["gc"]["losses"][1], loss);
    // One layer is the blob of two records.
    let size = report["gc"]["size"].as_u64().unwrap();
    assert!(size > report["stored"]["blob_size"].as_u64().unwrap(), "{report:#}");
    let lines = "[worker.oci]\n  reservedSpace = \"1GB\"\n  maxUsedSpace = \"1GB\"\n";
    assert_eq!(report["gc"]["config"], lines);
    printed.says(&[
        "warning: the state takes 1.07 MB; the daemon's garbage collection keeps 1.05 MB of it when it starts",
        "\n  [worker.oci]\n    reservedSpace = \"1GB\"\n",
    ]);

    let text = "[[worker.oci.gcpolicy]]\nkeepDuration = \"48h\"\n";
    let (_place, mut command) = config(text);
    let printed = Printed::of(command.args(["--last-used", "2027-06-30T00:00:00Z"]), 0);
    printed.says(&["keeps 0 B of it if it was last used 48 hours ago", "at 2027-06-30T00:00:00Z"]);

    let (_place, mut command) = config("[worker.oci]\ngc = false\n");
    let printed = Printed::of(&mut command, 0);
    assert_eq!(printed.json()["gc"]["losses"], json!([]));
    assert!(!printed.stderr.contains("garbage"), "{}", printed.stderr);
    let (_place, mut command) = config(text);
    let older = Printed::of(command.args(["--buildkit", "v0.16.0"]), 0);
    assert_eq!(older.json()["gc"], Value::Null);
}

#[test]
fn unpacking_reports_what_it_takes_on_disk() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("OCI2BK_REQUIRE_ORACLE").is_none(), "unpacking layers takes root");
        eprintln!("not unpacked: that takes root");
        return;
    }
    let place = Place::new();
    let mut command = command();
    command.arg("convert").args(index()).arg("--format=json").arg(place.root());
    let report = Printed::of(&mut command, 0).json();
    assert_eq!(report["stored"]["snapshot_count"], 13);
    for field in ["unpacked_size", "disk_size"] {
        assert!(report["stored"][field].as_u64().unwrap() > 1_000_000, "{field}");
    }
    assert!(report["stored"]["entry_count"].as_u64().unwrap() > 300);
    assert!(report["stage_seconds"]["settle"].is_f64());
    assert!(place.root().join("runc-overlayfs/snapshots/snapshots/13/fs").is_dir());
}

#[test]
fn results_of_the_future_are_warned_of() {
    let place = Place::new();
    let cache = place.temp.path().join("cache");
    let date = |time: &str| {
        changed(&fixture("manifest/cache"), &cache, |_, config| {
            let records = config["records"].as_array_mut().unwrap();
            let with_result = |record: &&mut Value| record.get("layers").is_some();
            let record = records.iter_mut().find(with_result).unwrap();
            record["layers"][0]["createdAt"] = time.into();
        });
        let keys = fixture("manifest/keys/image");
        let words = [cache.to_str().unwrap(), "--keys", &keys, "--dry-run"];
        Printed::of(&mut convert(words, &place), 0)
    };
    let future = "warning: 1 of the results are dated in the future, up to 2999-01-01T00:00:00Z";
    date("2999-01-01T00:00:00Z").says(&[future]);
    let past = date("2026-01-01T00:00:00Z");
    assert!(!past.stderr.contains("future"), "{}", past.stderr);
}

#[test]
fn steps_that_lack_a_layer_are_named_together() {
    let place = Place::new();
    let partial = place.temp.path().join("partial");
    copy(Path::new(&fixture("index/cache")), &partial);
    let inspected = Printed::of(command().args(["inspect", "--format=json"]).arg(&partial), 0);
    let layer = inspected.json()["layers"][0]["blob"].as_str().unwrap().to_owned();
    fs::remove_file(partial.join("blobs/sha256").join(layer.replace("sha256:", ""))).unwrap();
    let [_, option, keys] = index();
    let mut command = convert([partial.as_os_str()], &place);
    let printed = Printed::of(command.args([option, keys]), 0);
    let start = format!("warning: the cache lacks layer {layer}, so the steps \"");
    let lines: Vec<_> = printed.stderr.lines().filter(|line| line.contains(&layer)).collect();
    let [line] = lines[..] else { panic!("{lines:#?}") };
    assert!(line.starts_with(&start) && line.ends_with("\" will run"), "{line}");
}
