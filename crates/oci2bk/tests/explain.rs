//! Which steps of a build the fixtures have, and why others are missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::path::{Path, PathBuf};

use oci2bk::explain::{Cache, Explained, Explainer, Explanation, Outcome, Reason, StepIndex};
use oci2bk::export::CacheExport;
use oci2bk::keys::{KeySource, read_source};
use oci2bk::limits::Limits;
use oci2bk::llb::Graph;
use serde_json::{Value, json};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

fn read(path: &Path) -> Vec<KeySource> {
    read_source(path, &Limits::default()).unwrap()
}

fn cache(name: &str) -> Cache {
    let source = fixture(&format!("{name}/cache")).to_str().unwrap().parse().unwrap();
    Cache::of_exports(&CacheExport::read_all(&source, &Limits::default()).unwrap())
}

/// Returns the cache of the fixture `index`, with its ops.
fn index() -> Cache {
    let mut cache = cache("index");
    cache.learn(read(&fixture("index/keys/provenance.json")), &Limits::default()).unwrap();
    cache
}

fn explain(build: &Graph, cache: &Cache) -> Explanation {
    Explainer::new(cache, &Limits::default()).explain(build).unwrap()
}

fn explanation(sources: &[KeySource], cache: &Cache) -> Explanation {
    explain(sources[0].graph.as_ref().unwrap(), cache)
}

/// Explains the edited build of the fixture `index`.
fn edited(edit: impl FnOnce(&mut Vec<Value>)) -> Explanation {
    let json = std::fs::read(fixture("index/keys/provenance.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&json).unwrap();
    let config = &mut json["predicate"]["buildDefinition"]["internalParameters"]["buildConfig"];
    edit(config["llbDefinition"].as_array_mut().unwrap());
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("edited.json");
    std::fs::write(&path, json.to_string()).unwrap();
    explanation(&read(&path), &index())
}

/// Returns the position of the first step whose command contains `text`.
fn exec(steps: &mut [Value], text: &str) -> usize {
    let script = |step: &Value| step["op"]["Op"]["exec"]["meta"]["args"][2].to_string();
    steps.iter().position(|step| script(step).contains(text)).unwrap()
}

fn differences(step: &Explained) -> Vec<[&str; 3]> {
    let Some(Reason::Op { nearest: Some(nearest), .. }) = &step.reason else {
        panic!("{step:?}");
    };
    let text = |value: &'static str, given: &Option<String>| -> &'static str {
        if given.is_some() { value } else { "" }
    };
    nearest
        .differences
        .iter()
        .map(|d| [&*d.field, text("cached", &d.cached), text("asked", &d.asked)])
        .collect()
}

#[test]
fn the_build_that_made_a_cache_is_found_in_it_but_for_what_contents_decide() {
    for (name, keys) in [
        ("index", "index/keys/provenance.json"),
        ("manifest", "manifest/keys/image"),
        ("min", "min/keys/metadata.json"),
    ] {
        let explained = explanation(&read(&fixture(keys)), &cache(name));
        assert_eq!(explained.first_miss().map(|step| &step.name), None, "{name}");
        for step in &explained.steps {
            let expected = match step.outcome {
                Outcome::Unknown => step.name.starts_with("local://"),
                Outcome::IfSame => matches!(&step.reason, Some(Reason::Contents { inputs })
                    if inputs.iter().all(|input| !input.paths.is_empty()
                        || explained.steps[input.step].outcome == Outcome::IfSame)),
                _ => step.reason.is_none(),
            };
            assert!(expected, "{name}: {step:?}");
        }
        assert!(explained.steps.iter().any(|step| step.outcome == Outcome::IfSame), "{name}");
    }
}

#[test]
fn the_first_miss_is_named_with_what_differs() {
    let explained = edited(|steps| {
        let step = exec(steps, "made && chown");
        steps[step]["op"]["Op"]["exec"]["meta"]["env"][1] = json!("LEVEL=4");
    });
    let miss = explained.first_miss().unwrap();
    assert!(miss.name.contains("chown 7:8 made"), "{miss:?}");
    assert_eq!(differences(miss), [["meta.env.LEVEL", "cached", "asked"]]);

    let explained = edited(|steps| {
        let step = exec(steps, "made && chown");
        let exec = &mut steps[step]["op"]["Op"]["exec"];
        exec["meta"]["cwd"] = json!("/elsewhere");
        exec["meta"]["args"].as_array_mut().unwrap().push(json!("more"));
    });
    let miss = explained.first_miss().unwrap();
    let fields: Vec<_> =
        differences(miss).into_iter().map(|[field, ..]| field.to_owned()).collect();
    assert_eq!(fields, ["meta.args[3]", "meta.cwd"]);

    let explained = edited(|steps| {
        let mkdir = |step: &&mut Value| {
            step["op"]["Op"]["file"]["actions"][0]["Action"]["mkdir"].is_object()
        };
        let step = steps.iter_mut().find(mkdir).unwrap();
        step["op"]["Op"]["file"]["actions"][0]["Action"]["mkdir"]["path"] = json!("/elsewhere");
    });
    let miss = explained.first_miss().unwrap();
    assert_eq!(differences(miss), [["Actions[0].path", "cached", "asked"]]);
}

#[test]
fn what_lies_on_a_miss_misses_by_its_input() {
    let explained = edited(|steps| {
        let step = exec(steps, "made && chown");
        steps[step]["op"]["Op"]["exec"]["meta"]["env"][1] = json!("LEVEL=4");
    });
    let first = explained.steps.iter().position(|s| s.outcome == Outcome::Miss).unwrap();
    let first = StepIndex(first);
    let above: Vec<_> =
        explained.steps.iter().filter(|step| step.inputs.contains(&first)).collect();
    assert!(!above.is_empty());
    for step in above {
        // A step that only copies from it is found if the output is the same.
        match (&step.outcome, &step.reason) {
            (Outcome::Miss, Some(Reason::Input { step, .. })) => assert_eq!(*step, first),
            (Outcome::IfSame, Some(Reason::Contents { inputs })) => {
                assert!(inputs.iter().any(|input| input.step == first));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_copy_of_another_path_is_not_the_same_step() {
    // The op digest has only the last part of the path.
    let explained = edited(|steps| {
        let copy = &mut steps[9]["op"]["Op"]["file"]["actions"][0]["Action"]["copy"];
        assert_eq!(copy["src"], "/work");
        copy["src"] = json!("/elsewhere/work");
    });
    match &explained.steps[9] {
        Explained { outcome: Outcome::Miss, reason: Some(reason), .. } => {
            assert_eq!(*reason, Reason::Input { input: 1, step: StepIndex(8), part: true });
        }
        Explained {
            outcome: Outcome::IfSame, reason: Some(Reason::Contents { inputs }), ..
        } => {
            let of_other = inputs.iter().find(|contents| contents.input == 1).unwrap();
            assert_eq!(of_other.paths, ["/elsewhere/work"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_the_cached_ops_a_miss_is_found_all_the_same() {
    let json = std::fs::read_to_string(fixture("index/keys/provenance.json")).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("edited.json");
    std::fs::write(&path, json.replace("LEVEL=3", "LEVEL=4")).unwrap();
    let explained = explanation(&read(&path), &cache("index"));
    let miss = explained.first_miss().unwrap();
    assert!(matches!(miss.reason, Some(Reason::Op { others: 1.., nearest: None })), "{miss:?}");
}

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

#[test]
fn a_definition_and_its_dump_are_the_same_build() {
    let [definition, dump] = ["history/raw.pb", "history/raw.jsonl"]
        .map(|path| read(&data(path)).remove(0).graph.unwrap());
    let shape = |graph: &Graph| -> Vec<_> {
        let steps = graph.steps.iter();
        steps
            .map(|step| (step.inputs.clone(), step.identifier.clone(), step.digest.clone()))
            .collect()
    };
    assert_eq!(shape(&definition), shape(&dump));
    assert!(definition.steps.iter().any(|step| step.inputs.len() > 1));
    assert_eq!(definition.steps[0].name(), "local://bb");
    assert!(definition.steps.last().unwrap().is_return());
    // Another cache has none of it.
    let explained = explain(&definition, &index());
    let sources = explained.steps.iter().filter(|step| step.outcome == Outcome::Unknown);
    assert!(sources.clone().count() > 0);
    assert!(explained.steps.iter().all(|step| step.outcome != Outcome::Hit));
}

#[test]
fn a_step_that_is_to_run_anyway_misses() {
    let dump = std::fs::read_to_string(data("history/raw.jsonl")).unwrap();
    let asked = dump.replace("\"OpMetadata\":{", "\"OpMetadata\":{\"ignore_cache\":true,");
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("asked.jsonl");
    std::fs::write(&path, asked).unwrap();
    let explained = explanation(&read(&path), &index());
    assert!(explained.steps.iter().all(|step| step.reason == Some(Reason::NoCache)));
}

#[test]
fn an_image_of_another_digest_is_told_from_those_that_were_cached() {
    let image = |digest: char| {
        let digest = digest.to_string().repeat(64);
        json!({"Op": {"source": {
            "identifier": format!("docker-image://docker.io/library/debian:12@sha256:{digest}")}},
            "platform": {"OS": "linux", "Architecture": "amd64"}})
    };
    let of_image = |digest: char| {
        let mut source = read(&fixture("index/keys/provenance.json")).remove(0);
        let mut json: Value =
            serde_json::from_slice(&std::fs::read(fixture("index/keys/provenance.json")).unwrap())
                .unwrap();
        let config = &mut json["predicate"]["buildDefinition"]["internalParameters"]["buildConfig"];
        config["llbDefinition"][0]["op"] = image(digest);
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("image.json");
        std::fs::write(&path, json.to_string()).unwrap();
        source.graph = read(&path).remove(0).graph;
        source
    };
    let mut cache = cache("index");
    cache.learn([of_image('a')], &Limits::default()).unwrap();
    let explained = explanation(&[of_image('b')], &cache);
    let cached = format!("docker-image://docker.io/library/debian:12@sha256:{}", "a".repeat(64));
    let miss = explained.first_miss().unwrap();
    assert_eq!(miss.reason, Some(Reason::Image { cached: vec![cached] }));
}
