//! `oci2bk inspect`.

use std::collections::BTreeMap;
use std::fs;

use super::*;

fn inspect(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = command();
    command.arg("inspect").args(words);
    command
}

fn converted() -> Place {
    let place = Place::new();
    Printed::of(&mut convert(index(), &place), 0);
    place
}

/// Compares with the committed file `name`. With `OCI2BK_BLESS` it writes the file.
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command/golden").join(name);
    let actual = actual.replace(&fixture(""), "fixtures/");
    if std::env::var_os("OCI2BK_BLESS").is_some() {
        fs::write(&path, &actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(actual, expected, "{name}: look at what changed, then run with OCI2BK_BLESS=1");
}

#[test]
fn an_export_is_shown_as_it_was_when_somebody_looked_at_it() {
    golden("export.txt", &Printed::of(&mut inspect(index()), 0).stdout);
    for format in ["svg", "dot"] {
        let printed = Printed::of(inspect(index()).args(["--format", format]), 0);
        golden(&format!("export.{format}"), &printed.stdout);
    }
}

#[test]
fn an_export_without_keys_says_what_would_run_again() {
    let json = Printed::of(inspect([fixture("zstd/cache")]).arg("--format=json"), 0).json();
    assert_eq!(json["kind"], "export");
    let steps = json["steps"].as_array().unwrap();
    let state = |state: &str| steps.iter().filter(|step| step["state"] == state).count();
    assert!(state("no-key") > 0);
    assert_eq!(state("warm"), 0);
    assert_eq!(json["state_counts"]["no-key"], state("no-key"));
    assert!(json["layers"].as_array().unwrap().iter().any(|layer| layer["compression"] == "zstd"));
    let keys = fixture("zstd/keys/cache.db");
    let words = [fixture("zstd/cache"), "--keys".to_owned(), keys];
    let json = Printed::of(inspect(&words).arg("--format=json"), 0).json();
    assert_eq!(json["state_counts"]["no-key"], Value::Null);
    assert_eq!(json["key_sources"][0]["resolved_count"], state("no-key"));
    // An older daemon may use another hash for files copied from the context.
    let old = Printed::of(inspect(index()).args(["--buildkit=v0.12.5", "--format=json"]), 0).json();
    let steps = old["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["misses"][0]["reason"] == "links"));
    let table = Printed::of(&mut inspect([fixture("zstd/cache")]), 0).stdout;
    assert!(table.contains("run again, or may ("), "{table}");
    assert!(table.contains("no key source has its op digest"), "{table}");
}

#[test]
fn what_builds_on_a_step_that_may_miss_may_miss() {
    let old = || inspect(index().into_iter().chain(["--buildkit=v0.12.5".to_owned()]));
    let json = Printed::of(old().arg("--format=json"), 0).json();
    let steps = json["steps"].as_array().unwrap();
    let may_miss = |step: &Value| step["state"] == "may-miss";
    let has_reason = |step: &&Value| !step["misses"].as_array().unwrap().is_empty();
    assert_eq!(steps.iter().filter(has_reason).count(), 4);
    assert!(steps.iter().filter(has_reason).all(may_miss), "{json:#}");
    let mut by_input = 0;
    for step in steps.iter().filter(|step| !has_reason(step)) {
        // An input may match in several ways, any of which is enough.
        let mut ways: BTreeMap<u64, bool> = BTreeMap::new();
        for link in step["links"].as_array().unwrap() {
            let from = usize::try_from(link["from"].as_u64().unwrap()).unwrap();
            let only = ways.entry(link["input"].as_u64().unwrap()).or_insert(true);
            *only &= may_miss(&steps[from]);
        }
        let expected = ways.values().any(|only| *only);
        assert_eq!(may_miss(step), expected, "{step:#}");
        by_input += usize::from(expected);
    }
    assert!(by_input > 0, "{json:#}");
    assert_eq!(json["state_counts"]["may-miss"], 4 + by_input);
    let table = Printed::of(&mut old(), 0).stdout;
    let count = table.matches("it builds on a step that may run again").count();
    assert_eq!(count, by_input, "{table}");
    let picture = Printed::of(old().arg("--format=svg"), 0).stdout;
    assert_eq!(picture.matches(">?</text>").count(), 1 + 4 + by_input, "with the legend");
    let dot = Printed::of(old().arg("--format=dot"), 0).stdout;
    assert_eq!(dot.matches("may-miss").count(), 4 + by_input, "{dot}");
}

#[test]
fn a_release_is_refused_where_it_means_nothing() {
    let place = converted();
    let release = "--buildkit=v0.16.0";
    Printed::of(inspect([place.root()]).arg(release), 2).says(&["is a root", "--buildkit"]);
    let explain = |cache: &Path| {
        let mut command = command();
        let provenance = fixture("index/keys/provenance.json");
        command.arg("explain").arg(cache).args(["--llb", &provenance, release]);
        command
    };
    let export = fixture("index/cache");
    Printed::of(&mut explain(export.as_ref()), 2).says(&["is an export", "--buildkit"]);
    Printed::of(&mut explain(&place.root()), 0);
}

#[test]
fn a_root_is_shown_with_all_its_parts_and_not_changed() {
    let place = converted();
    let before = place.names();
    let json = Printed::of(inspect([place.root()]).arg("--format=json"), 0).json();
    let count = |member: &str| json[member].as_array().unwrap().len();
    assert_eq!((&json["kind"], &json["damage_count"]), (&"root".into(), &0.into()));
    let parts = ["workers", "steps", "records", "cache_mounts", "blobs", "leases", "builds"];
    assert_eq!(parts.map(count), [1, 20, 13, 0, 12, 13, 0]);
    assert_eq!(json["state_counts"]["packed"], 13);
    let table = Printed::of(&mut inspect([place.root()]), 0).stdout;
    for part in ["20 keys: 13 packed, 7 source", "keys (20)", "records (13)", "RUN cat /src/*"] {
        assert!(table.contains(part), "{part}\n{table}");
    }
    let picture = Printed::of(inspect([place.root()]).arg("--format=svg"), 0).stdout;
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(place.names(), before);
}

#[test]
fn one_thing_is_shown_with_what_is_tied_to_it() {
    let place = converted();
    let whole = Printed::of(inspect([place.root()]).arg("--format=json"), 0).json();
    let record = &whole["records"][0];
    let blob = record["blob"].as_str().unwrap();
    for word in [record["id"].as_str().unwrap(), &blob[..20]] {
        let table = Printed::of(inspect([place.root()]).arg(word), 0).stdout;
        for part in [blob, record["keys"][0].as_str().unwrap(), "leases (1)", "blobs (1)"] {
            assert!(table.contains(part), "{part}\n{table}");
        }
        let json = Printed::of(inspect([place.root()]).args([word, "--format=json"]), 0).json();
        assert!(json["records"].as_array().unwrap().len() < 13);
    }
    let printed = Printed::of(inspect(index()).arg(&blob[..20]), 0).stdout;
    assert!(printed.contains("op digest") && printed.contains("builds on"), "{printed}");
    Printed::of(inspect([place.root()]).arg("feedbeef"), 1)
        .says(&["nothing in ", "is named \"feedbeef\""]);
}

#[test]
fn what_is_neither_export_nor_root_is_refused() {
    let place = Place::new();
    fs::create_dir(place.root()).unwrap();
    let neither = Printed::of(&mut inspect([place.root()]), 1);
    neither.says(&["is neither a cache export (no index.json in it, no manifests/ and blobs/)"]);
    fs::write(place.root().join("index.json"), "{}").unwrap();
    Printed::of(&mut inspect([place.root()]), 3);
    fs::write(place.root().join("cache.db"), "").unwrap();
    Printed::of(&mut inspect([place.root()]), 1).says(&["name the layout as oci:DIR"]);
}

#[test]
fn a_root_that_is_damaged_or_in_use_says_so() {
    let place = converted();
    fs::write(place.root().join("runc-overlayfs/metadata_v2.db"), "\u{1b}[2J").unwrap();
    let printed = Printed::of(&mut inspect([place.root()]), 5);
    printed.says(&["cannot read all databases of"]);
    assert!(!printed.stderr.contains('\u{1b}'));
    let place = converted();
    fs::create_dir(place.root().join("runc-overlayfs/snapshots/snapshots/99")).unwrap();
    Printed::of(&mut inspect([place.root()]), 0).says(&["warning: ", " is damaged in one place"]);
    let file = fs::File::open(place.root().join("buildkitd.lock")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    Printed::of(&mut inspect([place.root()]), 6).says(&["is in use by"]);
}

#[test]
fn sizes_are_those_that_a_conversion_reports() {
    for (name, keys) in [
        ("index", "provenance.json"),
        ("manifest", "image"),
        ("zstd", "cache.db"),
        ("min", "metadata.json"),
    ] {
        let (cache, keys) =
            (fixture(&format!("{name}/cache")), fixture(&format!("{name}/keys/{keys}")));
        let json = Printed::of(inspect([&cache]).args(["--sizes", "--format=json"]), 0).json();
        let sizes = &json["sizes"];
        assert_eq!(
            Printed::of(inspect([&cache]).arg("--format=json"), 0).json()["sizes"],
            Value::Null
        );
        if !rustix::process::geteuid().is_root() {
            continue;
        }
        let place = Place::new();
        let mut convert = command();
        convert
            .args(["convert", "--format=json", &cache])
            .arg(place.root())
            .args(["--keys", &keys]);
        let stored = &Printed::of(&mut convert, 0).json()["stored"];
        for member in ["blob_count", "blob_size", "snapshot_count", "entry_count", "disk_size"] {
            assert_eq!(
                sizes[member], stored[member],
                "{name}: {member} of {sizes:#} and {stored:#}"
            );
        }
    }
}

#[test]
fn sizes_are_shown_for_each_way_to_convert() {
    let printed = Printed::of(inspect(index()).args(["--sizes", "--progress=plain"]), 0);
    let table: Vec<Vec<&str>> = printed
        .stdout
        .lines()
        .map(|line| line.split("  ").filter(|it| !it.is_empty()).map(str::trim).collect())
        .collect();
    for row in [
        ["as it is", "3.29 MB", "345", "packed and unpacked layers"],
        ["with --blobs none", "2.22 MB", "333", "unpacked layers"],
        ["with --no-extract", "1.07 MB", "12", "packed layers"],
    ] {
        assert!(table.iter().any(|found| *found == row), "{row:?} is not in\n{}", printed.stdout);
    }
    assert!(printed.stderr.contains("layers"), "{}", printed.stderr);
}

#[test]
fn sizes_of_a_root_are_refused_and_a_wrong_layer_is_an_error() {
    let place = converted();
    let root = place.root().display().to_string();
    let printed = Printed::of(inspect([root.as_str()]).arg("--sizes"), 2);
    printed.says(&["is a root: its sizes are those that oci2bk du prints", "leave out --sizes"]);

    let copy = Place::new();
    let cache = copy.root().display().to_string();
    testkit::process::run(
        std::process::Command::new("cp").arg("-r").arg(fixture("min/cache")).arg(&cache),
    )
    .unwrap();
    let json = Printed::of(inspect([&cache]).arg("--format=json"), 0).json();
    let blob = json["layers"][0]["blob"].as_str().unwrap().replace("sha256:", "");
    let path = Path::new(&cache).join("blobs/sha256").join(&blob);
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&path, content).unwrap();
    let printed = Printed::of(inspect([&cache]).arg("--sizes"), 3);
    printed.says(&[&blob]);
}
