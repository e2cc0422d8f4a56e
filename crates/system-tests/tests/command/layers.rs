//! Roots with layers but without steps, and their sparse layouts.

use std::fs;

use serde_json::Value;

use crate::{Place, Printed, command, convert, fixture, index};

fn bare(place: &Place) -> std::process::Command {
    convert([fixture("index/cache")], place)
}

#[test]
fn without_a_key_source_the_layers_are_converted_and_three_lines_say_what_holds() {
    let place = Place::new();
    let printed = Printed::of(&mut bare(&place), 0);
    let cache = fixture("index/cache");
    let expected = [
        "the layers are warm: none of them is fetched or unpacked again".to_owned(),
        format!("keep --cache-from type=local,src={cache} in the build, and all steps are CACHED"),
        "with keys, builds need no option: https://github.com/oci2bk/oci2bk#why-keys-are-needed"
            .to_owned(),
    ];
    let lines: Vec<_> = printed.stdout.lines().skip(1).take(3).map(str::trim).collect();
    assert_eq!(lines, expected);
    assert!(printed.stdout.contains("has warm layers after"), "{}", printed.stdout);
    // Without expectations there is no loss.
    assert!(!printed.stderr.contains("have no key"), "{}", printed.stderr);
}

#[test]
fn documents_tell_the_two_kinds_of_root_apart() {
    let mut bytes = Vec::new();
    for (words, warmth) in [(vec![fixture("index/cache")], "layers"), (index().to_vec(), "steps")] {
        let place = Place::new();
        let printed = Printed::of(convert(&words, &place).arg("--format=json"), 0);
        assert_eq!(printed.json()["warmth"], warmth);
        bytes.push(printed.json()["gc"]["size"].as_u64().unwrap());
        let source = format!("type=local,src={}", fixture("index/cache"));
        assert_eq!(printed.json()["cache_from"], serde_json::json!([source]));
        let plan =
            Printed::of(convert(&words, &Place::new()).args(["--dry-run", "--format=json"]), 0);
        assert_eq!(plan.json()["warmth"], warmth);
        for name in ["verify", "inspect"] {
            let json = Printed::of(command().args([name, "--format=json"]).arg(place.root()), 0);
            assert_eq!(json.json()["warmth"], warmth, "{name}");
            let table = Printed::of(command().arg(name).arg(place.root()), 0);
            let says = table.stdout.contains("it has layers and knows no steps");
            assert_eq!(says, warmth == "layers", "{name}: {}", table.stdout);
        }
    }
    // Garbage collection counts only layers.
    assert!(bytes[0] > 0 && bytes[0] == bytes[1], "{bytes:?}");
}

#[test]
fn what_a_build_learns_is_explained_and_shown_by_the_index_alone() {
    let place = Place::new();
    let sparse = place.temp.path().join("sparse");
    Printed::of(bare(&place).arg("--sparse-layout").arg(&sparse), 0);
    let explain = |cache: &std::path::Path| {
        let keys = fixture("index/keys/provenance.json");
        Printed::of(command().args(["explain", "--llb", &keys]).arg(cache), 0).stdout
    };
    let of_index = explain(&sparse);
    assert!(of_index.contains("1 of 15 steps are found, 13 if contents are unchanged; 0 are not"));
    assert!(!of_index.contains("knows no steps"), "{of_index}");
    let of_root = explain(&place.root());
    assert!(of_root.contains("0 of 15 steps are found"), "{of_root}");
    assert!(of_root.contains("the root has layers and knows no steps"), "{of_root}");
    let shown = Printed::of(command().args(["inspect", "--format=json"]).arg(&sparse), 0).json();
    assert_eq!(
        shown["kind"],
        Printed::of(command().args(["inspect", "--format=json"]).arg(fixture("index/cache")), 0)
            .json()["kind"]
    );
}

#[test]
fn keys_can_be_asked_for() {
    let place = Place::new();
    let printed = Printed::of(bare(&place).arg("--require-keys"), 4);
    printed.says(&["the keys of 13 steps", "nothing was written"]);
    assert!(place.names().is_empty());
    Printed::of(convert(index(), &place).arg("--require-keys"), 0);
    let both = Printed::of(bare(&place).args(["--require-keys", "--allow-unkeyed"]), 2);
    both.says(&["cannot be used with"]);
}

#[test]
fn steps_that_a_key_source_leaves_out_are_still_refused() {
    let place = Place::new();
    let words = [fixture("index/cache"), "--keys".to_owned(), fixture("min/keys/metadata.json")];
    let printed = Printed::of(&mut convert(&words, &place), 4);
    printed.says(&["the keys of 13 steps", "nothing was written"]);
    assert!(place.names().is_empty());
    let printed = Printed::of(convert(&words, &place).arg("--allow-unkeyed"), 0);
    printed.says(&["13 steps have no key", "--cache-from"]);
}

#[test]
fn a_sparse_layout_is_written_and_named() {
    let place = Place::new();
    let sparse = place.temp.path().join("sparse");
    let printed = Printed::of(bare(&place).arg("--sparse-layout").arg(&sparse), 0);
    let words = format!("keep --cache-from type=local,src={} in", sparse.display());
    assert!(printed.stdout.contains(&words), "{}", printed.stdout);

    let alone = place.temp.path().join("alone");
    let mut command = command();
    command.arg("sparse").args([fixture("index/cache"), fixture("zstd/cache")]).arg(&alone);
    let printed = Printed::of(command.arg("--format=json"), 0);
    let caches = printed.json()["caches"].clone();
    let from = |at: usize| caches[at]["cache_from"].as_str().unwrap().to_owned();
    assert_eq!(from(0), format!("type=local,src={}", alone.display()));
    let digest = caches[1]["manifest"].as_str().unwrap();
    assert_eq!(from(1), format!("type=local,src={},digest={digest}", alone.display()));
    let again =
        Printed::of(crate::command().arg("sparse").arg(fixture("index/cache")).arg(&alone), 0);
    let lines: Vec<_> = again.stdout.lines().collect();
    assert!(lines[0].contains("has the index of a cache") && lines.len() == 2, "{lines:?}");
}

#[test]
fn a_sparse_layout_is_refused_as_a_source() {
    let place = Place::new();
    let sparse = place.temp.path().join("sparse");
    Printed::of(command().arg("sparse").arg(fixture("index/cache")).arg(&sparse), 0);
    let printed = Printed::of(&mut convert([&sparse], &place), 3);
    printed.says(&[sparse.to_str().unwrap(), "is a sparse layout"]);
    assert!(!place.root().exists());
    // It is a sparse layout whatever its annotations say.
    let index = sparse.join("index.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("annotations");
    fs::write(&index, json.to_string()).unwrap();
    Printed::of(&mut convert([&sparse], &place), 3).says(&["is a sparse layout"]);
}

// The root takes the place that was free before.
#[test]
fn what_fails_after_the_conversion_says_that_it_is_done() {
    let place = Place::new();
    let printed = Printed::of(bare(&place).arg("--sparse-layout").arg(place.root()), 1);
    printed.says(&["the conversion itself is done", "is not empty, and not a sparse layout"]);
    Printed::of(command().arg("verify").arg(place.root()), 0);
}

#[test]
fn a_place_that_is_taken_is_refused_before_anything_is_written() {
    let place = Place::new();
    let taken = place.temp.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("note"), "mine").unwrap();
    let printed = Printed::of(bare(&place).arg("--sparse-layout").arg(&taken), 1);
    printed.says(&["is not empty, and not a sparse layout"]);
    assert!(!place.root().exists());
    let printed = Printed::of(command().arg("sparse").arg(fixture("index/cache")).arg(&taken), 1);
    printed.says(&["is not empty, and not a sparse layout"]);
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 1);
    let printed = Printed::of(command().arg("sparse").arg("/nowhere").arg(place.root()), 1);
    printed.says(&["/nowhere is not there"]);
}
