//! The JSON documents and their schemas: every output in a test is validated against its schema where the
//! command runs. These tests check the schemas themselves, and that every named member occurs in some output.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;

use base64::engine::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci2bk::Digest;
use oci2bk::explain::Reason;
use serde_json::{Value, json};
use testkit::schema::{ensure_valid, schemas};

use super::forged::{changed, copy};
use super::*;

/// Members that none of the outputs below has, with the reason. A place includes everything below it.
const UNSEEN: [(&str, &str); 13] = [
    (
        "common.json#/$defs/miss/properties/exporter_releases",
        "no fixture copies what wildcards match",
    ),
    (
        "common.json#/$defs/lost/properties/name",
        "no key source of the fixtures lacks a step between others",
    ),
    ("common.json#/$defs/mount_owner", "a daemon makes them: e2e cache-mounts"),
    ("du.json#/properties/CacheMount", "a daemon makes them: e2e cache-mounts"),
    ("mounts-export.json#", "a daemon makes them: e2e cache-mounts"),
    ("mounts-import.json#", "it takes the rights of root: e2e cache-mounts"),
    ("mounts-layout.json#", "a daemon makes them: e2e cache-mounts"),
    ("mounts-root.json#", "a daemon makes them: e2e cache-mounts"),
    ("progress.json#/properties/mount", "a daemon makes them: e2e cache-mounts"),
    ("convert.json#/properties/left_packed/items", "e2e lazy has layers that cannot be unpacked"),
    ("inspect-root.json#/$defs/record/properties/disk_size", "a daemon notes it: e2e inspecting"),
    (
        "inspect-root.json#/properties/builds/items/properties/error",
        "no build of the history failed",
    ),
    ("keys.json#/properties/scans", "no fixture has an SBOM: e2e sbom"),
];

/// Documents with names from elsewhere: those of docker buildx, and those of the keys file.
const WORDS_OF_OTHERS: [&str; 2] = ["du.json", "keys.json"];

/// A member of a document, by its place in the schema.
struct Member<'s> {
    /// The file, and a JSON pointer in it.
    place: String,
    name: &'s str,
    schema: &'s Value,
}

/// Returns all members that a schema names, including those of its definitions.
fn members<'s>(place: &str, schema: &'s Value, found: &mut Vec<Member<'s>>) {
    let Some(object) = schema.as_object() else { return };
    for (name, value) in object {
        let place = format!("{place}/{name}");
        match (name.as_str(), value) {
            ("properties" | "$defs", Value::Object(named)) => {
                for (member, schema) in named {
                    let place = format!("{place}/{member}");
                    members(&place, schema, found);
                    if name == "properties" {
                        found.push(Member { place, name: member, schema });
                    }
                }
            }
            ("anyOf", Value::Array(ways)) => {
                ways.iter()
                    .enumerate()
                    .for_each(|(at, way)| members(&format!("{place}/{at}"), way, found));
            }
            (_, schema) => members(&place, schema, found),
        }
    }
}

fn all_members() -> Vec<Member<'static>> {
    let mut found = Vec::new();
    for (file, schema) in &schemas().unwrap().documents {
        members(&format!("{file}#"), schema, &mut found);
    }
    found
}

/// Resolves a `$ref` in `file`; returns the target and its place.
fn target(file: &str, reference: &str) -> (String, String, &'static Value) {
    let (named, pointer) = reference.split_once('#').unwrap_or((reference, ""));
    let file = if named.is_empty() { file } else { named };
    let schema = schemas().unwrap().documents[file].pointer(pointer).unwrap();
    (file.to_owned(), pointer.to_owned(), schema)
}

/// Adds the places of all members of `value` that are not null.
fn see(file: &str, pointer: &str, schema: &Value, value: &Value, seen: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let (file, pointer, schema) = target(file, reference);
        return see(&file, &pointer, schema, value, seen);
    }
    for (at, way) in schema["anyOf"].as_array().into_iter().flatten().enumerate() {
        let kind = match way["$ref"].as_str() {
            Some(reference) => &target(file, reference).2["properties"]["kind"]["const"],
            None => &Value::Null,
        };
        if kind.is_null() || *kind == value["kind"] {
            see(file, &format!("{pointer}/anyOf/{at}"), way, value, seen);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        see(file, &format!("{pointer}/items"), &schema["items"], item, seen);
    }
    for (name, value) in value.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
        let named = &schema["properties"][name];
        if named.is_null() {
            let pointer = format!("{pointer}/additionalProperties");
            see(file, &pointer, &schema["additionalProperties"], value, seen);
        } else {
            let pointer = format!("{pointer}/properties/{name}");
            seen.insert(format!("{file}#{pointer}"));
            see(file, &pointer, named, value, seen);
        }
    }
}

/// The documents of some runs, and the files of their schemas.
#[derive(Default)]
struct Documents(Vec<(&'static str, Value)>);

impl Documents {
    fn add(&mut self, file: &'static str, text: &str) {
        let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        self.0.extend(values.map(|value| (file, value.unwrap())));
    }

    /// Adds the output of a command, and its progress.
    fn run(&mut self, file: &'static str, command: &mut Command, code: i32) {
        let printed = Printed::of(command.args(["--format=json"]), code);
        self.add(file, &printed.stdout);
        printed
            .stderr
            .lines()
            .filter(|line| line.starts_with('{'))
            .for_each(|event| self.add("progress.json", event));
    }
}

fn with_root(name: &str, root: &Path) -> Command {
    let mut command = command();
    command.arg(name).arg(root);
    command
}

/// Returns the file of a blob.
fn blob(layout: &Path, digest: &Value) -> PathBuf {
    layout.join("blobs/sha256").join(digest.as_str().unwrap().replace("sha256:", ""))
}

/// Returns the provenance of the fixture's build as it would be after an edit.
fn edited() -> String {
    let [.., keys] = index();
    fs::read_to_string(keys).unwrap().replace("LEVEL=3", "LEVEL=4")
}

/// Returns the layer blobs of a cache.
fn layers(cache: &str) -> Vec<Value> {
    let shown = Printed::of(command().args(["inspect", cache, "--format=json"]), 0).json();
    shown["layers"].as_array().unwrap().iter().map(|layer| layer["blob"].clone()).collect()
}

fn of_conversions(documents: &mut Documents, place: &Place) {
    let temp = place.temp.path();
    let config = temp.join("buildkitd.toml");
    fs::write(&config, "[worker.oci]\n  maxUsedSpace = \"1MB\"\n").unwrap();
    let mut command = convert(index(), place);
    command.arg("--config").arg(config).arg("--sparse-layout").arg(temp.join("sparse"));
    documents.run("convert.json", command.arg("--progress=rawjson"), 0);
    let mut command = super::command();
    command.arg("sparse").arg(fixture("index/cache")).arg(temp.join("alone"));
    documents.run("sparse.json", &mut command, 0);

    // Losses: steps without keys, those of another release, and results whose layers are missing.
    let partial = temp.join("partial");
    copy(Path::new(&fixture("index/cache")), &partial);
    fs::remove_file(blob(&partial, layers(&fixture("index/cache")).last().unwrap())).unwrap();
    let partial = partial.into_os_string().into_string().unwrap();
    let [_, option, keys] = index();
    let words = [&partial, &fixture("min/cache"), &option, &keys].map(String::clone);
    let more = ["--allow-unkeyed", "--buildkit=v0.12.5", "--progress=rawjson"];
    documents.run("convert.json", convert(words, &Place::new()).args(more), 0);
    let words = ["inspect", &partial, &option, &keys];
    documents.run("inspect-export.json", super::command().args(words), 0);
    let words = [fixture("index/cache"), option.clone(), keys, "--buildkit=v0.12.5".to_owned()];
    let mut command = super::command();
    documents.run("inspect-export.json", command.arg("inspect").args(words).arg("--sizes"), 0);

    // Layers with trailing bytes after their streams, and damaged copies of them.
    let keys = [option, fixture("manifest/keys/image")];
    let cache = fixture("manifest/cache");
    let [damaged, longer] = ["damaged", "longer"].map(|name| temp.join(name));
    copy(Path::new(&cache), &damaged);
    let file = fs::OpenOptions::new().write(true).open(blob(&damaged, &layers(&cache)[0])).unwrap();
    file.write_all_at(b"damaged", file.metadata().unwrap().len() - 7).unwrap();
    let words = [damaged.as_os_str(), cache.as_ref()];
    documents.run("convert.json", convert(words, &Place::new()).args(&keys), 0);
    changed(&cache, &longer, |manifest, config| {
        let layer = &mut manifest["layers"][0];
        let old = layer["digest"].clone();
        let mut content = fs::read(blob(&longer, &old)).unwrap();
        content.extend(b"more than the stream");
        (layer["digest"], layer["size"]) =
            (Digest::of(&content).to_string().into(), content.len().into());
        fs::write(blob(&longer, &layer["digest"]), content).unwrap();
        let nodes = config["layers"].as_array_mut().unwrap();
        let same = nodes.iter_mut().filter(|node| node["blob"] == old);
        same.for_each(|node| node["blob"] = layer["digest"].clone());
    });
    documents.run("convert.json", convert([&longer], &Place::new()).args(&keys), 0);
}

fn of_plans(documents: &mut Documents, place: &Place) {
    let image = format!("--image=debian={}", fixture("manifest/keys/image"));
    let words = ["--dry-run", &image];
    documents.run("plan.json", convert(index(), &Place::new()).args(words), 0);

    // Docker Engine, and an image with a name in its image store.
    let machine = containerd::machine(&place.temp.path().join("machine"), "v0.33.1");
    for (file, words) in [("plan.json", &["--dry-run"][..]), ("convert.json", &[])] {
        let mut command = super::command();
        command.args(["convert", "--no-extract"]).args(index()).args(&machine).args(words);
        command.arg(format!("--image=debian:12={}", fixture("manifest/keys/image")));
        documents.run(file, &mut command, 0);
    }

    // The owners of a rootless daemon.
    let map = format!("--map=0:{}:1", rustix::process::geteuid().as_raw());
    for (file, more) in [("plan.json", Some("--dry-run")), ("convert.json", None)] {
        documents.run(file, convert(index(), &Place::new()).arg(&map).args(more), 0);
    }

    // A signed source of another build, which lacks steps.
    let signed = place.temp.path().join("signed.json");
    let envelope = json!({"payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "c2ln"}],
        "payload": STANDARD.encode(edited())});
    fs::write(&signed, envelope.to_string()).unwrap();
    let mut command = convert([fixture("index/cache")], &Place::new());
    command.args(["--dry-run", "--allow-unkeyed", "--keys"]).arg(&signed);
    documents.run("plan.json", &mut command, 0);
}

fn of_roots(documents: &mut Documents, place: &Place) {
    let root = place.root();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::copy(data.join("oci2bk/tests/data/history/root/history.db"), root.join("history.db"))
        .unwrap();
    documents.run("inspect-root.json", &mut with_root("inspect", &root), 0);
    documents.run("du.json", &mut with_root("du", &root), 0);
    let [cache, option, keys] = index();
    let mut command = with_root("verify", &root);
    command.args(["--against", &cache, &option, &keys, "--progress=rawjson"]);
    documents.run("verify.json", &mut command, 0);
    documents.run("verify.json", with_root("verify", &root).args(["--trees", "--mend"]), 0);

    // A daemon's state has cache mounts and local sources; their files do not exist here.
    let natural = Place::new();
    copy(&data.join("bkstate/tests/data/natural"), &natural.root());
    documents.run("inspect-root.json", &mut with_root("inspect", &natural.root()), 0);
    documents.run("verify.json", &mut with_root("verify", &natural.root()), 5);
}

/// Members that only a machine with EROFS makes.
const OF_IMAGES: [&str; 4] = [
    "pack.json#",
    "pack-undo.json#",
    "du.json#/properties/Packed",
    "inspect-root.json#/properties/snapshots/items/properties/packed_image",
];

fn of_images(documents: &mut Documents) {
    let Some(place) = crate::packed::unpacked() else { return };
    documents.run("pack.json", &mut with_root("pack", &place.root()), 0);
    documents.run("inspect-root.json", &mut with_root("inspect", &place.root()), 0);
    documents.run("du.json", &mut with_root("du", &place.root()), 0);
    documents.run("pack-undo.json", with_root("pack", &place.root()).arg("--undo"), 0);
}

/// A failure before there is a result is a document too, and one after it is none.
fn of_failures(documents: &mut Documents) {
    let mut limited = convert(index(), &Place::new());
    documents.run("error.json", limited.arg("--limit=manifest=10"), 3);
    let (_, told) = documents.0.last().unwrap();
    let told = &told["error"];
    assert_eq!((&told["class"], &told["limit"]), (&json!("limit"), &json!("manifest")), "{told}");
    assert_eq!(told["hints"], json!(["allow for more with --limit manifest=VALUE"]));
    documents.run("error.json", &mut with_root("du", Path::new("/nowhere/at/all")), 1);
    documents.run(
        "error.json",
        convert([fixture("index/cache")], &Place::new()).arg("--require-keys"),
        4,
    );
    let (_, told) = documents.0.last().unwrap();
    assert_eq!(
        (&told["error"]["kind"], &told["error"]["exit_code"]),
        (&json!("command.unkeyed"), &json!(4))
    );
}

fn of_builds(documents: &mut Documents, place: &Place) {
    let [cache, option, keys] = index();
    let other = place.temp.path().join("edited.json");
    fs::write(&other, edited()).unwrap();
    for llb in [Path::new(&keys), &other] {
        let mut command = super::command();
        command.args(["explain", &cache, &option, &keys, "--llb"]).arg(llb);
        documents.run("explain.json", &mut command, 0);
    }
    // Members that no build of the fixtures has, instead of others.
    let (_, told) = documents.0.last().unwrap().clone();
    for reason in [
        Reason::Image { cached: vec!["docker.io/library/debian@sha256:0".to_owned()] },
        Reason::NoResult,
        Reason::NoCache,
        Reason::NotComputable { message: "it is too large".to_owned() },
    ] {
        let mut other = told.clone();
        other[0]["steps"][0]["reason"] = serde_json::to_value(&reason).unwrap();
        documents.0.push(("explain.json", other));
    }
    for source in [keys, fixture("zstd/keys/cache.db")] {
        let printed = Printed::of(super::command().args(["keys", &source, "-o", "-"]), 0);
        documents.add("keys.json", &printed.stdout);
    }
}

fn of_states(documents: &mut Documents) {
    let place = Place::new();
    Printed::of(convert(index(), &place).arg("--progress=quiet"), 0);
    // A network of a daemon.
    fs::create_dir(place.root().join("net")).unwrap();
    let image = place.temp.path().join("image");
    let mut export = crate::state::export(&place, &crate::state::oci(&image));
    documents.add("state-export.json", &Printed::of(&mut export, 0).stdout);
    let unpacked = crate::state::unpacked(&place, &image);
    for (source, name) in [(crate::state::oci(&image), "one"), (unpacked, "other")] {
        let mut import = crate::state::import(&source, &place.temp.path().join(name));
        documents.add("state-import.json", &Printed::of(&mut import, 0).stdout);
    }
}

fn documents() -> Vec<(&'static str, Value)> {
    let mut documents = Documents::default();
    let place = Place::new();
    of_conversions(&mut documents, &place);
    of_plans(&mut documents, &place);
    of_roots(&mut documents, &place);
    of_images(&mut documents);
    of_builds(&mut documents, &place);
    of_states(&mut documents);
    of_failures(&mut documents);
    documents.0
}

#[test]
fn every_member_is_seen_and_nothing_else_is_let_through() {
    let documents = documents();
    let mut seen = BTreeSet::new();
    for (file, value) in &documents {
        ensure_valid(file, value).unwrap();
        see(file, "", &schemas().unwrap().documents[*file], value, &mut seen);
        let mut more = value.clone();
        let object = if more.is_array() { &mut more[0] } else { &mut more };
        object["unknown"] = 1.into();
        assert!(ensure_valid(file, &more).is_err(), "{file} lets unknown members through");
    }
    let places: Vec<_> = all_members().into_iter().map(|member| member.place).collect();
    let makes_images = testkit::erofs::works().is_ok();
    let excused = |place: &str| {
        UNSEEN.iter().any(|(above, _)| place.starts_with(above))
            || !makes_images && OF_IMAGES.iter().any(|above| place.starts_with(above))
    };
    let unseen = places.iter().filter(|place| !seen.contains(*place) && !excused(place));
    let unseen: Vec<_> = unseen.collect();
    assert!(unseen.is_empty(), "no output has {unseen:#?}");
    for (above, why) in UNSEEN {
        let all = places.iter().filter(|place| place.starts_with(above));
        let [all, those_seen] = [all.clone().count(), all.filter(|it| seen.contains(*it)).count()];
        assert!(all > 0 && those_seen == 0, "{above} is seen, or gone: {why}");
    }
}

#[test]
fn a_member_less_or_of_another_type_is_refused() {
    let place = Place::new();
    let mut command = command();
    command.arg("sparse").arg(fixture("index/cache")).arg(place.root()).arg("--format=json");
    let sparse = Printed::of(&mut command, 0).json();
    for member in ["layout", "size", "caches"] {
        let mut less = sparse.clone();
        less.as_object_mut().unwrap().remove(member);
        let error = ensure_valid("sparse.json", &less).unwrap_err().to_string();
        assert!(error.contains(&format!("\"{member}\" is a required property")), "{error}");
    }
    for (pointer, value) in [
        ("/size", json!(-1)),
        ("/size", json!("5 kB")),
        ("/caches/0/manifest", json!("sha256:12")),
        ("/caches", json!({})),
    ] {
        let mut other = sparse.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        let error = ensure_valid("sparse.json", &other).unwrap_err().to_string();
        assert!(error.contains(&format!("\n{pointer}: ")), "{error}");
    }
}

/// Adds the places of objects that allow any member, or require none.
fn find_open(place: &str, schema: &Value, open: &mut Vec<String>) {
    let closed = schema["additionalProperties"] == false && schema["required"].is_array();
    if schema["properties"].is_object() && !closed {
        open.push(place.to_owned());
    }
    for (name, value) in schema.as_object().into_iter().flatten() {
        find_open(&format!("{place}/{name}"), value, open);
    }
    for (at, value) in schema.as_array().into_iter().flatten().enumerate() {
        find_open(&format!("{place}/{at}"), value, open);
    }
}

#[test]
fn every_member_says_what_it_is_and_every_object_is_closed() {
    let mut open = Vec::new();
    for (file, schema) in &schemas().unwrap().documents {
        assert!(schema["title"].is_string() && schema["$id"].is_null(), "{file}");
        find_open(&format!("{file}#"), schema, &mut open);
    }
    assert!(open.is_empty(), "{open:#?}");
    let silent = all_members().into_iter().filter(|member| {
        !member.schema["description"].as_str().is_some_and(|text| text.ends_with('.'))
    });
    let silent: Vec<_> = silent.map(|member| member.place).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

/// Returns the name of the definition of a member, if it is a shared one.
fn definition(schema: &Value) -> Option<&str> {
    let reference = schema["$ref"].as_str().or(schema["anyOf"][0]["$ref"].as_str())?;
    reference.strip_prefix("common.json#/$defs/").or(reference.strip_prefix("#/$defs/"))
}

#[test]
fn a_name_tells_the_unit() {
    let mut odd = Vec::new();
    let all = all_members();
    let ours = all
        .iter()
        .filter(|member| !WORDS_OF_OTHERS.iter().any(|file| member.place.starts_with(file)));
    for Member { place, name, schema } in ours {
        let is = |kind: &str| definition(schema) == Some(kind);
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        let is_number = [&schema["type"], &schema["type"][0]].contains(&&"number".into());
        // The limits of garbage collection have the names of `buildkitd.toml`.
        let fits = if is("size") {
            *name == "size" || ends(&["_size", "_space"])
        } else if is("count") {
            ends(&["_count"]) || place.contains("_counts/")
        } else if is("time") {
            ends(&["_at"])
        } else if is_number {
            ends(&["_seconds"])
        } else {
            !ends(&["_size", "_space", "_at", "bytes"])
        };
        let snake = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if !fits || !snake {
            odd.push(place);
        }
    }
    assert!(odd.is_empty(), "{odd:#?}");
}
