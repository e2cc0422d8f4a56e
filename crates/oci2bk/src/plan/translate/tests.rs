//! Translates an export of each class of releases.

use std::sync::Arc;

use bkstate::Digest;
use llb::release::CLASSES;
use serde_json::{Value, json};

use super::*;
use crate::keys::{Candidate, KeySource, SourceDescription, SourceKind};
use crate::limits::Limits;
use crate::plan::testing::export;
use crate::plan::{LostReason, Miss, MissReason, Plan};

/// Steps whose keys differ between releases, each with its op and its inputs: other steps, the image `base`,
/// or `context`, which is found by its content.
const STEPS: [(&str, &str, &[&str]); 6] = [
    (
        "secret",
        r#"{"Op":{"exec":{"meta":{"args":["a"]},"mounts":[{"dest":"/"},
            {"dest":"/run/secrets/s","output":-1,"mountType":1,"secretOpt":{"ID":"s"}}]}}}"#,
        &["base"],
    ),
    ("plain", r#"{"Op":{"exec":{"meta":{"args":["b"]},"mounts":[{"dest":"/"}]}}}"#, &["secret"]),
    (
        "bound",
        r#"{"Op":{"exec":{"meta":{"args":["c"]},"mounts":[{"dest":"/"},
            {"input":1,"dest":"/c","output":-1,"readonly":true}]}}}"#,
        &["plain", "context"],
    ),
    (
        "owned",
        r#"{"inputs":[{},{}],"Op":{"file":{"actions":[{"input":0,"secondaryInput":1,"output":0,
            "Action":{"copy":{"src":"/a","dest":"/","owner":{"user":{"byId":7}}}}}]}}}"#,
        &["bound", "context"],
    ),
    (
        "root-owned",
        r#"{"inputs":[{}],"Op":{"file":{"actions":[{"input":0,"secondaryInput":-1,"output":0,
            "Action":{"mkdir":{"path":"/a","owner":{"user":{"byId":0}}}}}]}}}"#,
        &["owned"],
    ),
    (
        "matched",
        r#"{"inputs":[{},{}],"Op":{"file":{"actions":[{"input":0,"secondaryInput":1,"output":0,
            "Action":{"copy":{"src":"/*","dest":"/","allowWildcard":true}}}]}}}"#,
        &["root-owned", "context"],
    ),
];

fn target(class: &Class) -> Target {
    Target::new(class.last).unwrap()
}

fn vertex(op: &str) -> Arc<Vertex> {
    let default_platform = "linux/amd64".parse().unwrap();
    Arc::new(Vertex { op: serde_json::from_str(op).unwrap(), default_platform })
}

fn digest(vertex: &Vertex, class: &Class) -> OpDigest {
    vertex.digest(target(class).encodings().next().unwrap()).unwrap()
}

/// Returns the selector of a release on a link to `vertex`.
fn selector(vertex: &Vertex, number: usize, from: &str, class: &Class) -> String {
    match vertex.selector(number, class.selectors) {
        Some(selector) if from != "context" => selector,
        _ => String::new(),
    }
}

/// Returns the export of the steps by a daemon of `class`.
fn records(class: &Class) -> Value {
    let names: Vec<_> = ["base", "context"].into_iter().chain(STEPS.map(|step| step.0)).collect();
    let roots = ["base", "context"].map(|name| json!({"digest": Digest::of(name)}));
    let steps = STEPS.map(|(_, op, inputs)| {
        let vertex = vertex(op);
        let inputs = inputs.iter().enumerate().map(|(number, from)| {
            let link = names.iter().position(|name| name == from).unwrap();
            json!([{"link": link, "selector": selector(&vertex, number, from, class)}])
        });
        let record = digest(&vertex, class).record(0);
        json!({"digest": record, "inputs": inputs.collect::<Vec<_>>()})
    });
    roots.into_iter().chain(steps).collect()
}

/// Returns the keys of the export of `class`, of which those `with_op` have the op.
fn keyring(class: &Class, with_op: impl Fn(&str) -> bool) -> Keyring {
    keyring_of(key_source(class, with_op, None))
}

fn keyring_of(source: KeySource) -> Keyring {
    let offered = source.candidates.iter();
    let mut keyring =
        Keyring::new(offered.map(|candidate| candidate.op_digest.record(0)).collect());
    keyring.add(source, &Limits::default()).unwrap();
    keyring
}

fn key_source(class: &Class, with_op: impl Fn(&str) -> bool, builder: Option<Span>) -> KeySource {
    let candidates = STEPS.map(|(name, op, _)| {
        let vertex = vertex(op);
        Candidate {
            op_digest: digest(&vertex, class),
            outputs: 1,
            name: Some(name.to_owned()),
            encoding: None,
            vertex: with_op(name).then_some(vertex),
            builder,
        }
    });
    let description =
        SourceDescription { path: "keys".into(), kind: SourceKind::Provenance, part: None };
    KeySource::from_digests(candidates.into(), description)
}

fn planned(exporter: &Class, target: Target, with_op: impl Fn(&str) -> bool) -> Plan {
    let (_layout, export) = export(&[], &[], &records(exporter));
    Plan::for_target(&[export], &keyring(exporter, with_op), target).unwrap()
}

/// Returns the links to each step, as digest and selectors.
fn links(plan: &Plan) -> Vec<(&str, Vec<(String, &str)>)> {
    let steps = plan.steps.iter().filter(|step| !step.links.is_empty());
    steps
        .map(|step| {
            let links = step.links.iter();
            let links =
                links.map(|edge| (edge.link.digest.to_string(), edge.link.selector.as_str()));
            (step.name.as_deref().unwrap(), links.collect())
        })
        .collect()
}

#[test]
fn a_target_finds_its_own_keys_whoever_exported_the_cache() {
    for exporter in &CLASSES {
        for class in &CLASSES {
            let plan = planned(exporter, target(class), |_| true);
            let found = plan.sources[0].exporter.unwrap();
            assert!(found.contains(&target(exporter)), "{found} for {exporter:?}");
            let links = links(&plan);
            assert_eq!(links.len(), STEPS.len());
            for (name, op, inputs) in STEPS {
                let vertex = vertex(op);
                let links = &links.iter().find(|(step, _)| *step == name).unwrap().1;
                let digest = digest(&vertex, class);
                assert!(links.iter().any(|link| link.0 == digest.as_str()), "{name}: {links:?}");
                let own = self::digest(&vertex, exporter);
                let kept = links.iter().any(|link| link.0 == own.as_str());
                assert_eq!(kept, own == digest, "{name}: {links:?}");
                for (number, from) in inputs.iter().enumerate() {
                    let selector = selector(&vertex, number, from, class);
                    assert!(links.iter().any(|link| link.1 == selector), "{name}: {links:?}");
                }
            }
        }
    }
}

#[test]
fn the_exporter_s_own_release_gets_the_links_that_it_exported() {
    for class in &CLASSES {
        let keyless = planned(class, target(class), |_| false);
        assert_eq!(keyless.sources[0].exporter, None);
        let plan = planned(class, target(class), |_| true);
        assert_eq!(links(&plan), links(&keyless));
        let keys =
            |plan: &Plan| -> Vec<_> { plan.steps.iter().map(|step| step.key.clone()).collect() };
        assert_eq!(keys(&plan), keys(&keyless));
        assert!(plan.misses.iter().all(|miss| !miss.certain));
    }
}

#[test]
fn keys_are_translated_if_their_ops_are_known_and_the_target_names_them_otherwise() {
    let [newer, older] = [&CLASSES[0], &CLASSES[4]];
    for (class, with_op, is_translated) in
        [(newer, true, false), (older, true, true), (older, false, false)]
    {
        let plan = planned(newer, target(class), |_| with_op);
        assert_eq!(plan.sources[0].translated, is_translated, "{class:?} {with_op}");
    }
}

// Only v0.17 prints the user 0.
#[test]
fn a_release_between_two_that_agree_may_differ() {
    let (exporter, between) = (&CLASSES[2], &CLASSES[3]);
    let records = records(exporter);
    let mut step = records[6].clone();
    step["inputs"] = json!([[{"link": 0}]]);
    let records = json!([records[0], step]);
    let (_layout, export) = export(&[], &[], &records);
    let keyring = keyring(exporter, |_| true);
    let plan = Plan::for_target(&[export], &keyring, target(between)).unwrap();
    let exporter = plan.sources[0].exporter.unwrap();
    assert_eq!(exporter.to_string(), "v0.11.0 to v0.16.0, v0.18.0 or later");
    let digest = digest(&vertex(STEPS[4].1), between).to_string();
    assert_eq!(links(&plan), [("root-owned", vec![(digest.clone(), "")])]);
}

#[test]
fn caches_of_several_releases_have_their_steps_in_common() {
    let [newer, older] = [&CLASSES[0], &CLASSES[4]];
    let exports = [newer, older].map(|class| export(&[], &[], &records(class)).1);
    let mut keys = Keyring::for_exports(&exports);
    keys.add(key_source(newer, |_| true, None), &Limits::default()).unwrap();
    keys.add(key_source(older, |_| true, None), &Limits::default()).unwrap();
    let plan = Plan::for_target(&exports, &keys, Target::NEWEST).unwrap();
    assert_eq!(plan.steps.len(), STEPS.len() + 2);
}

#[test]
fn a_step_with_a_secret_is_found_however_the_frontend_sends_it() {
    let plan = planned(&CLASSES[7], Target::NEWEST, |_| true);
    let newer = STEPS[0].1.replace(r#""output":-1"#, r#""input":-1,"output":-1"#);
    let digests = [STEPS[0].1, &newer].map(|op| digest(&vertex(op), &CLASSES[0]).to_string());
    let links = links(&plan);
    let mut found: Vec<_> = links[0].1.iter().map(|link| link.0.as_str()).collect();
    found.dedup();
    assert_eq!(found, digests);
}

/// Returns the steps that a cache of `exporter` may lack on `target`, why, and whether it is certain.
fn misses(
    exporter: &Class,
    target: Target,
    with_op: impl Fn(&str) -> bool,
) -> Vec<(String, MissReason, bool)> {
    let plan = planned(exporter, target, with_op);
    let misses = plan.misses.into_iter();
    misses.map(|miss| (miss.name.unwrap(), miss.reason, miss.certain)).collect()
}

fn of_class(last: &str) -> &'static Class {
    let version = last.parse().unwrap();
    CLASSES.iter().find(|class| class.last == version).unwrap()
}

// All steps together distinguish v0.11, v0.13, v0.15.2, v0.17 and v0.18, but not v0.13 from v0.14, nor v0.18
// from later ones.
#[test]
fn what_the_target_will_not_find_is_named() {
    use MissReason::{Links, Patterns};
    let named = |steps: &[(&str, MissReason, bool)]| -> Vec<_> {
        steps.iter().map(|(name, reason, certain)| (name.to_string(), *reason, *certain)).collect()
    };
    let links = [("bound", Links, false), ("owned", Links, false)];
    let with = |matched: (MissReason, bool)| {
        let all = links.into_iter().chain([("matched", matched.0, matched.1)]);
        named(&all.collect::<Vec<_>>())
    };
    for (exporter, target, expected) in [
        ("0.16.0", "0.16.0", vec![]),
        ("0.16.0", "0.24.0", vec![]),
        ("0.16.0", "0.25.0", named(&[("matched", Patterns, false)])),
        ("0.16.0", "0.34.2", named(&[("matched", Patterns, true)])),
        // It may be of v0.24.
        ("0.34.2", "0.34.2", named(&[("matched", Patterns, false)])),
        ("0.24.0", "0.34.2", named(&[("matched", Patterns, false)])),
        // It may be of v0.34.
        ("0.24.0", "0.24.0", named(&[("matched", Patterns, false)])),
        ("0.24.0", "0.16.0", named(&[("matched", Patterns, false)])),
        ("0.12.5", "0.13.2", vec![]),
        ("0.12.5", "0.16.0", with((Links, false))),
        ("0.16.0", "0.12.5", with((Links, false))),
        ("0.12.5", "0.34.2", with((Patterns, true))),
        // It may be of v0.13.
        ("0.15.1", "0.15.1", with((Links, false))),
    ] {
        let target = Target::new(target.parse().unwrap()).unwrap();
        let found = misses(of_class(exporter), target, |_| true);
        assert_eq!(found, expected, "{exporter} on {target}");
    }
}

/// Returns the same for a cache whose keys say that a daemon of `builder` made it.
fn misses_if_told(
    exporter: &Class,
    builder: (&str, Option<&str>),
    target: &str,
) -> Vec<(String, bool, Option<String>)> {
    let version = |text: &str| text.parse().unwrap();
    let builder = Span { since: version(builder.0), before: builder.1.map(version) };
    misses_with(exporter, &keyring_of(key_source(exporter, |_| true, Some(builder))), target)
}

/// Returns the same for these keys.
fn misses_with(
    exporter: &Class,
    keyring: &Keyring,
    target: &str,
) -> Vec<(String, bool, Option<String>)> {
    let (_layout, export) = export(&[], &[], &records(exporter));
    let plan = Plan::for_target(&[export], keyring, target.parse().unwrap()).unwrap();
    let misses = plan.misses.into_iter();
    let told = |miss: Miss| {
        (miss.name.unwrap(), miss.certain, miss.exporter.map(|exporter| exporter.to_string()))
    };
    misses.map(told).collect()
}

// The names of the steps are the same from v0.18 on.
#[test]
fn nothing_may_be_missed_if_the_key_source_tells_that_the_exporter_is_as_the_target() {
    let exporter = of_class("0.25.2");
    let named = |certain, only_if: Option<&str>| {
        vec![("matched".to_owned(), certain, only_if.map(str::to_owned))]
    };
    for (builder, target, expected) in [
        (("0.32.0", Some("0.33.0")), "0.32.2", vec![]),
        (("0.30.0", None), "0.99.0", vec![]),
        (("0.25.0", Some("0.26.0")), "0.25.1", vec![]),
        (("0.19.0", Some("0.20.0")), "0.24.0", vec![]),
        // It is certainly another release, but the effect depends on the hashed content.
        (("0.25.0", Some("0.26.0")), "0.24.0", named(false, None)),
        (("0.32.0", Some("0.33.0")), "0.24.0", named(true, None)),
        (("0.19.0", Some("0.20.0")), "0.32.2", named(true, None)),
        // It is possible.
        (("0.24.0", Some("0.30.0")), "0.32.2", named(false, Some("v0.18.0 to v0.25.2"))),
        // No such daemon names the steps like this: the statement is about another build.
        (("0.11.0", Some("0.12.0")), "0.32.2", named(false, Some("v0.18.0 to v0.25.2"))),
    ] {
        assert_eq!(misses_if_told(exporter, builder, target), expected, "{builder:?} on {target}");
    }
}

#[test]
fn a_stated_exporter_counts_as_far_as_the_names_of_the_steps_allow() {
    let exporter = of_class("0.25.2");
    let named = |certain, only_if: Option<&str>| {
        vec![("matched".to_owned(), certain, only_if.map(str::to_owned))]
    };
    for (stated, target, expected) in [
        (None, "0.32.2", named(false, Some("v0.18.0 to v0.25.2"))),
        (Some("0.32.2"), "0.32.2", vec![]),
        (Some("0.25.2"), "0.32.2", named(true, None)),
        (Some("0.25.2"), "0.24.0", named(false, None)),
        // It does not name the steps like this.
        (Some("0.12.5"), "0.32.2", named(false, Some("v0.18.0 to v0.25.2"))),
    ] {
        let mut keyring = keyring(exporter, |_| true);
        keyring.exported_by(stated.map(|release| release.parse::<Target>().unwrap()));
        let found = misses_with(exporter, &keyring, target);
        assert_eq!(found, expected, "{stated:?} on {target}");
    }
}

#[test]
fn the_exporter_is_shown_as_far_as_all_keys_tell() {
    let exporter = of_class("0.25.2");
    let builder = Some(Span::since("0.30.0".parse().unwrap()));
    let shown = |source: KeySource| {
        let (_layout, export) = export(&[], &[], &records(exporter));
        let plan = Plan::for_target(&[export], &keyring_of(source), Target::NEWEST).unwrap();
        plan.sources[0].exporter.map(|exporter| exporter.to_string())
    };
    let told = || key_source(exporter, |_| true, builder);
    assert_eq!(shown(told()).as_deref(), Some("v0.26.0 or later"));
    let mut partly = told();
    partly.candidates[3].builder = None;
    assert_eq!(shown(partly).as_deref(), Some("v0.18.0 or later"));
}

#[test]
fn a_key_without_its_op_is_silent_if_it_tells_a_release_as_the_target() {
    let exporter = of_class("0.25.2");
    let builder = Some(Span::since("0.30.0".parse().unwrap()));
    let reasons = |target: &str| {
        let keyring = keyring_of(key_source(exporter, |_| false, builder));
        let (_layout, export) = export(&[], &[], &records(exporter));
        let plan = Plan::for_target(&[export], &keyring, target.parse().unwrap()).unwrap();
        assert!(!plan.sources[0].translated);
        plan.misses.into_iter().map(|miss| miss.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons("0.32.2"), []);
    assert_eq!(reasons("0.16.0"), [MissReason::NoOp; STEPS.len()]);
}

#[test]
fn a_key_without_its_op_is_named_if_others_show_another_release() {
    let exporter = of_class("0.16.0");
    let found = misses(exporter, Target::NEWEST, |name| name != "plain");
    assert_eq!(found[0], ("plain".to_owned(), MissReason::NoOp, false));
    assert_eq!(found.len(), 2);
    assert_eq!(misses(exporter, target(exporter), |name| name != "plain"), []);
}

#[test]
fn a_wildcard_that_matches_nothing_is_no_certain_miss() {
    let exporter = of_class("0.16.0");
    let mut records = records(exporter);
    // The export of a daemon v0.32.2 for the content of `COPY none* /`.
    let nothing = "sha256:b58f6cd83b69bbc0eba0437bb72d34b4814b12891064666e9cb8efea631847fb";
    records[1]["digest"] = nothing.into();
    let (_layout, export) = export(&[], &[], &records);
    let plan = Plan::for_target(&[export], &keyring(exporter, |_| true), Target::NEWEST).unwrap();
    assert!(plan.misses.iter().all(|miss| !miss.certain), "{:?}", plan.misses);
}

/// Returns a command that mounts `selected` from a stage other than its root, as `class` exports it.
fn command_on_a_stage(class: &Class, selected: &[&str]) -> (Arc<Vertex>, Value) {
    let mounts = selected.iter().enumerate().map(|(number, selector)| {
        format!(r#",{{"input":1,"dest":"/m{number}","selector":"{selector}","output":-1}}"#)
    });
    let op = format!(
        r#"{{"Op":{{"exec":{{"meta":{{"args":["a"]}},"mounts":[{{"dest":"/"}}{}]}}}}}}"#,
        mounts.collect::<String>()
    );
    let vertex = vertex(&op);
    let stage = vertex_of_stage();
    let selector = |number| vertex.selector(number, class.selectors).unwrap();
    let base = |link: usize, selector: String| json!([{"link": link, "selector": selector}]);
    let records = json!([
        {"digest": Digest::of("base")},
        {"digest": digest(&stage, class).record(0),
         "inputs": [base(0, stage.selector(0, class.selectors).unwrap())]},
        {"digest": digest(&vertex, class).record(0), "inputs": [base(0, selector(0)), base(1, selector(1))]},
    ]);
    (vertex, records)
}

fn vertex_of_stage() -> Arc<Vertex> {
    vertex(r#"{"Op":{"exec":{"meta":{"args":["stage"]},"mounts":[{"dest":"/"}]}}}"#)
}

/// Returns the selectors on the links to the command for the newest release, if `exporter` exported that it
/// selects `actual` and the key source says `told`; or why it is lost.
fn selected(exporter: &Class, actual: &[&str], told: &[&str]) -> Result<Vec<String>, LostReason> {
    let (_, records) = command_on_a_stage(exporter, actual);
    let (told, _) = command_on_a_stage(exporter, told);
    let candidates = [vertex_of_stage(), told].map(|vertex| Candidate {
        op_digest: digest(&vertex, exporter),
        outputs: 1,
        name: None,
        encoding: None,
        vertex: Some(vertex),
        builder: None,
    });
    let description =
        SourceDescription { path: "keys".into(), kind: SourceKind::Provenance, part: None };
    let keyring = keyring_of(KeySource::from_digests(candidates.into(), description));
    let (_layout, export) = export(&[], &[], &records);
    let plan = Plan::for_target(&[export], &keyring, Target::NEWEST).unwrap();
    match plan.lost.as_slice() {
        [] => {
            let links = plan.steps.last().unwrap().links.iter();
            Ok(links
                .filter(|link| link.link.input == 1)
                .map(|link| link.link.selector.clone())
                .collect())
        }
        [lost] => Err(lost.reason),
        lost => panic!("{lost:?}"),
    }
}

#[test]
fn what_a_command_selects_is_taken_from_a_key_source_only_if_the_export_proves_it() {
    let of = |paths: &str| Ok(vec![Digest::of(paths).to_string()]);
    let unproven = Err(LostReason::Unproven);
    for exporter in CLASSES.iter().filter(|class| class.selectors == Selectors::V0_11) {
        // Nothing is selected, and the export has no selector.
        assert_eq!(selected(exporter, &[""], &[""]), of("/"));
        assert_eq!(selected(exporter, &["", ""], &["", ""]), of("/\0/"));
        assert_eq!(selected(exporter, &["/a"], &["/a"]), of("/a"));
        assert_eq!(selected(exporter, &["/a", "/b"], &["/a", "/b"]), of("/a\0/b"));
        // `source=` was changed since, or is false. The digest is the same.
        assert_eq!(selected(exporter, &[""], &["/a"]), unproven);
        assert_eq!(selected(exporter, &["", ""], &["/a", ""]), unproven);
        // The export's selector is not one of the target for two mounts.
        assert_eq!(selected(exporter, &["/a"], &["/b"]), of("/a"));
        for told in [["/a", ""], ["", "/a"]] {
            assert_eq!(selected(exporter, &["/a", ""], &told), of("/a"), "{told:?}");
        }
    }
    let newest = &CLASSES[0];
    let whole_says = |exporter: &Class| exporter.selectors != Selectors::V0_11;
    for exporter in CLASSES.iter().filter(|class| whole_says(class)) {
        for actual in [[""; 2], ["/a", ""], ["/a", "/b"]] {
            let expected = selected(newest, &actual, &actual);
            for told in [[""; 2], ["/a", ""], ["", "/a"], ["/a", "/b"]] {
                assert_eq!(selected(exporter, &actual, &told), expected, "{actual:?} {told:?}");
            }
        }
    }
}

#[test]
fn a_selector_of_another_op_with_the_same_digest_stays() {
    let mut records = records(&CLASSES[0]);
    let other = Digest::of("/elsewhere").to_string();
    records[4]["inputs"][0][0]["selector"] = other.clone().into();
    let (_layout, export) = export(&[], &[], &records);
    let plan =
        Plan::for_target(&[export], &keyring(&CLASSES[0], |_| true), target(&CLASSES[7])).unwrap();
    let links = links(&plan);
    assert!(links[2].1.iter().any(|link| link.1 == other), "{links:?}");
}
