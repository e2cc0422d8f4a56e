//! `oci2bk du` and `oci2bk explain`.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock};

use super::*;

fn converted() -> Place {
    let place = Place::new();
    Printed::of(&mut convert(index(), &place), 0);
    place
}

fn du(place: &Place) -> Command {
    let mut command = command();
    command.arg("du").arg(place.root());
    command
}

fn explain(cache: impl AsRef<OsStr>, llb: impl AsRef<OsStr>) -> Command {
    let mut command = command();
    command.arg("explain").arg(cache).arg("--llb").arg(llb);
    command
}

#[test]
fn du_lists_each_record_and_sums_them_up() {
    let place = converted();
    let before = place.names();
    let printed = Printed::of(&mut du(&place), 0);
    let lines: Vec<_> = printed.stdout.lines().collect();
    assert!(lines[0].starts_with("ID "), "{lines:#?}");
    assert_eq!(lines.len(), 1 + 13 + 2, "{lines:#?}");
    let json = Printed::of(du(&place).arg("--format=json"), 0).stdout;
    let records: Vec<Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let total: i64 = records.iter().map(|record| record["Size"].as_i64().unwrap()).sum();
    assert_eq!(records.len(), 13);
    assert!(total > 1_000_000 && lines[15].starts_with("Total:\t\t1."), "{total} {lines:#?}");
    let filtered = Printed::of(du(&place).args(["--filter=parents", "--verbose"]), 0).stdout;
    assert_eq!(filtered.matches("ID:").count(), filtered.matches("Parents:").count());
    assert!(!filtered.contains("Total:"), "{filtered}");
    assert_eq!(Printed::of(du(&place).args(["--filter=inuse", "--format=json"]), 0).stdout, "");
    assert_eq!(place.names(), before);
}

#[test]
fn du_says_why_it_cannot() {
    let place = converted();
    Printed::of(du(&place).arg("--filter=until=24h"), 2).says(&["\"until\" is not a field"]);
    let lock: OwnedFd = File::create(place.root().join("buildkitd.lock")).unwrap().into();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    Printed::of(&mut du(&place), 6).says(&["is in use by"]);
    drop(lock);
    std::fs::write(place.root().join("cache.db"), "no database").unwrap();
    Printed::of(&mut du(&place), 5).says(&["is damaged"]);
    let other = Printed::of(command().arg("du").arg(place.temp.path()), 1);
    other.says(&["neither empty nor the root of a buildkitd", "\"root\""]);
    let empty = Place::new();
    Printed::of(command().arg("du").arg(empty.temp.path()), 1).says(&["holds no state"]);
}

#[test]
fn explain_says_of_an_export_and_of_a_root_what_differs() {
    let place = converted();
    let provenance = fixture("index/keys/provenance.json");
    let edited = place.temp.path().join("edited.json");
    let json = std::fs::read_to_string(&provenance).unwrap();
    std::fs::write(&edited, json.replace("LEVEL=3", "LEVEL=4")).unwrap();
    for cache in [fixture("index/cache").into(), place.root()] {
        let printed = Printed::of(&mut explain(&cache, &provenance), 0).stdout;
        assert!(printed.contains("; 0 are not") && !printed.contains("first miss"), "{printed}");
        let mut command = explain(&cache, &edited);
        let printed = Printed::of(command.arg("--keys").arg(&provenance), 0).stdout;
        let at = printed.find("first miss: RUN echo").unwrap_or_else(|| panic!("{printed}"));
        let difference = "  meta.env.LEVEL\n    cached: 3\n    asked:  4\n";
        assert!(printed[at..].contains(difference), "{printed}");
        let json = Printed::of(command.arg("--format=json"), 0).json();
        let steps = json[0]["steps"].as_array().unwrap();
        assert!(steps.iter().any(|step| step["outcome"] == "miss"), "{json:#}");
    }
}

#[test]
fn explain_says_of_each_line_of_a_dockerfile_whether_it_is_found() {
    let place = converted();
    let explain = |cache: &Path, file: &Path| {
        let mut command = command();
        command.arg("explain").arg(cache).arg("--dockerfile").arg(file);
        command
    };
    let file = fixture("index/Dockerfile");
    for cache in [fixture("index/cache").into(), place.root()] {
        let printed = Printed::of(&mut explain(&cache, file.as_ref()), 0);
        assert!(printed.stdout.contains("; 0 are not"), "{}", printed.stdout);
        assert!(!printed.stderr.contains("--image-config"), "{}", printed.stderr);
        let mut command = explain(&cache, file.as_ref());
        command.args(["--build-arg=LEVEL=4", "--keys", &fixture("index/keys/provenance.json")]);
        let printed = Printed::of(&mut command, 0).stdout;
        let at = printed.find("first miss: line 10: RUN ").unwrap_or_else(|| panic!("{printed}"));
        let difference = "  meta.env.LEVEL\n    cached: 3\n    asked:  4\n";
        assert!(printed[at..].contains(difference), "{printed}");
        // A stage of its own, which the change does not touch.
        Printed::of(explain(&cache, file.as_ref()).arg("--target=nope"), 3)
            .says(&["has no stage nope"]);
    }

    let other = place.temp.path().join("Dockerfile");
    std::fs::write(&other, "FROM debian\nRUN true\n").unwrap();
    let cache = fixture("index/cache");
    let printed = Printed::of(&mut explain(cache.as_ref(), &other), 0);
    printed.says(&["docker.io/library/debian:latest", "--image-config"]);
    assert!(printed.stdout.contains("first miss: line 2: RUN true"), "{}", printed.stdout);
    let config = place.temp.path().join("config.json");
    std::fs::write(&config, r#"{"config": {"Env": ["PATH=/bin"]}}"#).unwrap();
    let given = format!("--image-config=debian={}", config.display());
    let printed = Printed::of(explain(cache.as_ref(), &other).arg(given), 0);
    assert!(!printed.stderr.contains("--image-config"), "{}", printed.stderr);
    Printed::of(command().args(["explain", &cache]), 2).says(&["--llb"]);
}

#[test]
fn explain_shows_no_more_of_a_name_than_fits() {
    let place = converted();
    let edited = place.temp.path().join("edited.json");
    let json = std::fs::read_to_string(fixture("index/keys/provenance.json")).unwrap();
    std::fs::write(&edited, json.replace("local://context", &"x\\u202e".repeat(100_000))).unwrap();
    let printed = Printed::of(&mut explain(fixture("index/cache"), &edited), 0).stdout;
    let longest = printed.lines().map(|line| line.chars().count()).max();
    assert!(longest.is_some_and(|longest| (200..400).contains(&longest)), "{longest:?}");
    assert!(printed.contains("x\\u{202e}x") && printed.contains('…'), "{printed}");
}

#[test]
fn explain_compares_no_more_than_it_may() {
    let provenance = fixture("index/keys/provenance.json");
    let mut command = explain(fixture("index/cache"), provenance);
    Printed::of(command.arg("--limit=comparisons=20"), 3).says(&["with --limit comparisons"]);
}

#[test]
fn explain_needs_whole_ops() {
    let keys = fixture("zstd/keys/cache.db");
    Printed::of(&mut explain(fixture("zstd/cache"), keys), 3).says(&["no whole ops"]);
    let provenance = fixture("index/keys/provenance.json");
    Printed::of(&mut explain("/nowhere", provenance), 1).says(&["error: "]);
}
