//! Keys files: what is included, what never is, and that they survive a round trip.

use llb::Provenance;
use llb::release::Version;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::keys::{Keyring, SourceDescription, SourceKind};
use crate::limits::Limits;

fn source(candidates: Vec<Candidate>) -> KeySource {
    let description =
        SourceDescription { path: "keys".into(), kind: SourceKind::CacheDb, part: None };
    KeySource::from_digests(candidates, description)
}

fn candidate(op_digest: &str, encoding: Option<Encoding>, name: Option<&str>) -> Candidate {
    let op_digest = OpDigest::try_from(op_digest.to_owned()).unwrap();
    let name = name.map(str::to_owned);
    Candidate { op_digest, outputs: 1, name, encoding, vertex: None, builder: None }
}

fn digest(of: &str) -> String {
    Digest::of(of).to_string()
}

fn text(file: &KeysFile) -> String {
    String::from_utf8(file.encode().unwrap()).unwrap()
}

/// Returns the provenance of a build that has `secret` everywhere.
fn full_of(secret: &str) -> KeySource {
    let exec = json!({
        "meta": {
            "args": ["/bin/sh", "-c", format!("curl -H {secret}")],
            "env": [format!("TOKEN={secret}")],
            "cwd": format!("/{secret}"),
            "user": secret,
        },
        "mounts": [{"dest": "/"}, {"dest": format!("/{secret}"), "input": -1}],
        "secretenv": [{"ID": secret, "name": secret}],
    });
    let copy = json!({"input": 0, "secondaryInput": 1, "output": 0,
        "Action": {"copy": {"src": format!("/{secret}"), "dest": format!("/{secret}")}}});
    let mkfile = json!({"input": 0, "secondaryInput": -1, "output": 0,
        "Action": {"mkfile": {"path": format!("/{secret}"), "mode": 420, "data": "c2VjcmV0"}}});
    let build = json!({"builder": -1, "attrs": {"build-arg:TOKEN": secret}});
    let ops = [
        json!({"exec": exec}),
        json!({"file": {"actions": [copy]}}),
        json!({"file": {"actions": [mkfile]}}),
        json!({"build": build}),
        json!({"passthrough": {"id": secret, "outputs": [0]}}),
        json!({"merge": {"inputs": [{"input": 0}, {"input": 1}]}}),
    ];
    let steps: Vec<_> =
        ops.iter().map(|op| json!({"op": {"Op": op}, "inputs": ["a:0", "b:0"]})).collect();
    let predicate = json!({
        "invocation": {"environment": {"platform": "linux/amd64"}},
        "buildConfig": {"llbDefinition": steps},
    });
    let provenance = Provenance::from_json(predicate.to_string().as_bytes()).unwrap();
    let source = KeySource::from_provenance(&provenance, source(Vec::new()).description);
    assert!(source.uncomputable.is_empty(), "{:?}", source.uncomputable);
    source
}

#[test]
fn a_secret_in_arguments_or_environment_does_not_get_into_the_file() {
    let secret = "hunter2";
    let source = full_of(secret);
    let names: Vec<_> = source.candidates.iter().filter_map(|c| c.name.as_deref()).collect();
    assert!(names.iter().any(|name| name.contains(secret)), "{names:?}");
    let file = KeysFile::from_sources([&source]);
    let text = text(&file);
    assert!(!text.contains(secret), "{text}");
    assert_eq!(file.len(), 6);
    for word in ["RUN", "COPY", "MKFILE", "BUILD", "PASSTHROUGH", "MERGE"] {
        assert!(text.contains(&format!("\"step\":\"{word}\"")), "{text}");
    }
}

// No release makes such links, but a false cache.db may have them.
#[test]
fn what_is_no_digest_does_not_get_into_the_file() {
    let merge = r#"{"Type":"buildkit.merge.v0","Merge":{"inputs":[{"input":0},{"input":1}]}}"#;
    let diff = r#"{"Type":"buildkit.diff.v0","Diff":{"lower":{"input":-1},"upper":{"input":0}}}"#;
    let links = [
        "hunter2",
        "sha256:hunter2",
        "sha512:ab",
        r#"{"Type":"buildkit.exec.v0","Exec":{"meta":{"args":["hunter2"]}}}"#,
        r#"{"Type":"buildkit.merge.v0","Merge":{"inputs":[],"x":"hunter2"}}"#,
        r#"{"Type":"buildkit.merge.v0","Merge":{"inputs":[]},"x":"hunter2"}"#,
        r#"{"Type":"buildkit.diff.v0","Diff":{"lower":{"input":"hunter2"},"upper":{}}}"#,
        merge,
        diff,
    ];
    let candidates = links.iter().map(|link| candidate(link, None, None)).collect();
    let file = KeysFile::from_sources([&source(candidates)]);
    let offered: Vec<_> = file.candidates().into_iter().map(|c| c.op_digest.to_string()).collect();
    assert_eq!(offered, [diff, merge]);
    assert_eq!(KeysFile::decode(&file.encode().unwrap()).unwrap(), file);
}

#[test]
fn the_file_is_as_documented() {
    let [a, b, c] = ["a", "b", "c"].map(digest);
    let v13_long = Some(Encoding::ALL[3]);
    let with_op = source(vec![
        candidate(&a, Some(Encoding::NEWEST), Some("RUN make")),
        candidate(&b, v13_long, Some("RUN make")),
    ]);
    // As from a cache.db: one digest is known already, with its op, the other is not.
    let mut bare = candidate(&b, None, None);
    bare.outputs = 8;
    let bare = source(vec![bare, candidate(&c, None, None), candidate(&c, None, None)]);
    let expected = format!(
        "{{\"mediaType\":\"application/vnd.oci2bk.keys.v1+json\",\"ops\":[\n\
         {{\"digests\":[{{\"digest\":\"{c}\"}}],\"outputs\":1}},\n\
         {{\"digests\":[{{\"digest\":\"{a}\",\"release\":\"v0.18\"}},\
         {{\"digest\":\"{b}\",\"release\":\"v0.13\",\"escapes\":\"long\"}}],\
         \"outputs\":8,\"step\":\"RUN\"}}\n]}}\n"
    );
    for sources in [[&with_op, &bare], [&bare, &with_op]] {
        assert_eq!(text(&KeysFile::from_sources(sources)), expected);
    }
}

#[test]
fn every_class_of_releases_comes_back() {
    let candidates = Encoding::ALL
        .iter()
        .enumerate()
        .map(|(number, encoding)| candidate(&digest(&number.to_string()), Some(*encoding), None));
    let file = KeysFile::from_sources([&source(candidates.collect())]);
    assert_eq!(file.len(), 1);
    let read = KeysFile::decode(&file.encode().unwrap()).unwrap();
    let encodings: Vec<_> = read.candidates().into_iter().map(|c| c.encoding.unwrap()).collect();
    assert_eq!(encodings, Encoding::ALL);
}

#[test]
fn only_ops_that_have_a_record_are_kept_for_a_cache() {
    let [a, b, c] = ["a", "b", "c"].map(digest);
    let mut two_outputs = candidate(&b, None, None);
    two_outputs.outputs = 2;
    let source = source(vec![candidate(&a, None, None), two_outputs, candidate(&c, None, None)]);
    let file = KeysFile::from_sources([&source]);
    // The second output of c is one more than it has.
    let wanted = [format!("{b}@0"), format!("{b}@1"), format!("{c}@1")].map(Digest::of);
    let (kept, named) = file.of_records(&wanted.into());
    assert_eq!(named, 2);
    let offered: Vec<_> = kept.candidates().into_iter().map(|c| c.op_digest.to_string()).collect();
    assert_eq!(offered, [b]);
}

fn with_ops(ops: &Value) -> Result<KeysFile, KeysFileError> {
    KeysFile::decode(json!({"mediaType": KEYS_MEDIA_TYPE, "ops": ops}).to_string().as_bytes())
}

#[test]
fn a_newer_version_is_refused_whatever_its_form() {
    let newer = json!({"mediaType": "application/vnd.oci2bk.keys.v2+json", "keys": {}});
    let error = KeysFile::decode(newer.to_string().as_bytes()).unwrap_err();
    assert!(matches!(error, KeysFileError::UnknownVersion { .. }), "{error}");
    assert!(error.to_string().contains("v2"), "{error}");
}

#[test]
fn what_a_later_release_may_add_is_passed_over() {
    let [a, b] = ["a", "b"].map(digest);
    let file = with_ops(&json!([
        {"digests": [{"digest": a, "release": "v0.99", "new": 1}], "outputs": 1, "step": "FLY"},
        {"digests": [{"digest": b, "release": "v0.18", "escapes": "none"}], "outputs": 1, "x": []},
    ]))
    .unwrap();
    let offered = file.candidates();
    assert_eq!(offered.len(), 2);
    assert!(offered.iter().all(|c| c.name.is_none() && c.encoding.is_none()));
}

#[test]
fn a_truncated_file_is_refused() {
    let file = KeysFile::from_sources([&full_of("x")]);
    let whole = file.encode().unwrap();
    for length in 0..whole.len() - 1 {
        let error = KeysFile::decode(&whole[..length]).unwrap_err();
        assert!(matches!(error, KeysFileError::Json(_)), "{length}: {error}");
        assert_eq!(error.to_string(), "it is not JSON of the form of a keys file");
    }
}

#[test]
fn a_file_may_be_as_large_as_those_that_are_read() {
    let add = |file: &mut KeysFile, op_digest: String| {
        let about = About { outputs: 1, step: None, builder: None };
        file.insert(vec![(None, OpDigest::try_from(op_digest).unwrap())], about);
    };
    let with = |ops: usize| {
        let mut file = KeysFile::default();
        (0..ops).for_each(|n| add(&mut file, (10_000 + n).to_string() + &"x".repeat(16_000)));
        file
    };
    let most = usize::try_from(MAX_DOCUMENT_BYTES).unwrap();
    let [one, two] = [1, 2].map(|ops| with(ops).encode().unwrap().len());
    let (ops, left) = (1 + (most - one) / (two - one), (most - one) % (two - one));
    // A last op fills the file up.
    let around = two - one - 16_005;
    let encoded = |length: usize| {
        let mut file = with(ops);
        add(&mut file, "y".repeat(length));
        file.encode()
    };
    assert_eq!(encoded(left - around).unwrap().len(), most);
    let error = encoded(left - around + 1).unwrap_err();
    assert!(matches!(error, KeysFileError::TooLarge { ops: of } if of == ops + 1), "{error}");
    assert!(
        error.to_string().ends_with(
            " ops make a keys file of more than 67108864 bytes, which nothing would read; attach \
             the keys of one cache to it instead"
        ),
        "{error}"
    );
}

#[test]
fn what_is_not_as_a_keys_file_should_be_is_refused() {
    let good = digest("a");
    let of = |digest: &str| json!([{"digests": [{"digest": digest}], "outputs": 1}]);
    for wrong in ["", "a", "sha256:a", "sha512:ab", &good.to_uppercase(), &format!("{good}@0")] {
        let error = with_ops(&of(wrong)).unwrap_err();
        assert!(matches!(error, KeysFileError::OpDigest { op: 0, .. }), "{wrong}: {error}");
        assert!(
            error
                .to_string()
                .starts_with("op 0 has something else in the place of an op digest: \""),
            "{error}"
        );
    }
    assert!(with_ops(&of(&good)).is_ok());
    for outputs in [0, 1025, u32::MAX] {
        let error = with_ops(&json!([{"digests": [{"digest": good}], "outputs": outputs}]));
        let error = error.unwrap_err();
        assert!(matches!(error, KeysFileError::Outputs { .. }), "{outputs}");
        assert!(error.to_string().ends_with(" outputs; an op has 1 to 1024"), "{error}");
    }
    let error = with_ops(&json!([{"digests": [], "outputs": 1}]));
    let error = error.unwrap_err();
    assert!(matches!(error, KeysFileError::NoDigest { op: 0 }), "{error}");
    assert_eq!(error.to_string(), "op 0 has no digest");
    for ops in [json!({}), json!(null), json!([1]), json!([{"outputs": 1}])] {
        let error = with_ops(&ops).unwrap_err();
        assert!(matches!(error, KeysFileError::Json(_)), "{ops}");
        assert_eq!(error.to_string(), "it is not JSON of the form of a keys file");
    }
    let negative = json!([{"digests": [{"digest": good}], "outputs": -1}]);
    let error = with_ops(&negative).unwrap_err();
    assert!(matches!(error, KeysFileError::Json(_)), "{error}");
    assert_eq!(error.to_string(), "it is not JSON of the form of a keys file");
}

/// Candidates as from provenance: each op with digests of some classes, newest first.
fn arbitrary_op() -> impl Strategy<Value = Vec<Candidate>> {
    let classes = proptest::sample::subsequence((1..Encoding::ALL.len()).collect::<Vec<_>>(), 0..4);
    let name = proptest::option::of(".{0,20}|RUN .{0,20}|COPY .{0,20}");
    let builder = proptest::option::of((28..32_u32, proptest::option::of(32..35_u32)));
    (any::<bool>(), classes, name, 0..12_u32, any::<[u16; 8]>(), builder).prop_map(
        |(bare, mut classes, name, outputs, seeds, builder)| {
            let version = |minor| Version { major: 0, minor, patch: 0 };
            let builder = builder
                .map(|(since, before)| Span { since: version(since), before: before.map(version) });
            classes.insert(0, 0);
            classes.truncate(if bare { 1 } else { classes.len() });
            let of_class = |(class, seed): (usize, u16)| Candidate {
                // Few, so that ops share digests.
                op_digest: OpDigest::from(Digest::of((seed % 50).to_string())),
                outputs,
                name: name.clone(),
                encoding: (!bare).then_some(Encoding::ALL[class]),
                vertex: None,
                builder,
            };
            classes.into_iter().zip(seeds).map(of_class).collect()
        },
    )
}

#[test]
fn the_outputs_of_all_ops_count() {
    let with = |op: &str, outputs| Candidate { outputs, ..candidate(&digest(op), None, None) };
    assert_eq!(KeysFile::default().outputs(), 0);
    let file = KeysFile::from_sources([&source(vec![with("a", 3), with("b", 2)])]);
    assert_eq!(file.outputs(), 5);
}

proptest! {
    #[test]
    fn a_file_comes_back_as_it_was_and_offers_the_same(
        ops in proptest::collection::vec(arbitrary_op(), 0..12),
    ) {
        let candidates: Vec<_> = ops.concat();
        let offered = source(candidates.clone());
        let file = KeysFile::from_sources([&offered]);
        let bytes = file.encode().unwrap();
        let read = KeysFile::decode(&bytes).unwrap();
        prop_assert_eq!(&read, &file);
        // A keys file made from a keys file is the same.
        let again = KeysFile::from_sources([&source(read.candidates())]);
        prop_assert_eq!(again.encode().unwrap(), bytes);
        // The order of sources does not matter.
        let reversed: Vec<_> = ops.iter().rev().map(|op| source(op.clone())).collect();
        prop_assert_eq!(&KeysFile::from_sources(&reversed), &file);
        // Every record is resolved that the original resolves.
        let wanted: BTreeSet<_> = candidates
            .iter()
            .flat_map(|c| (0..c.outputs.min(MOST_OUTPUTS)).map(|n| c.op_digest.record(n)))
            .collect();
        let mut keyring = Keyring::new(wanted.clone());
        keyring.add(source(read.candidates()), &Limits::default()).unwrap();
        prop_assert_eq!(keyring.len(), wanted.len());
        prop_assert_eq!(file.of_records(&wanted).1, wanted.len());
    }

    #[test]
    fn nothing_of_a_name_gets_into_the_file(name in ".*") {
        let named = source(vec![candidate(&digest("a"), None, Some(&name))]);
        let nameless = source(vec![candidate(&digest("a"), None, None)]);
        let without = KeysFile::from_sources([&nameless]);
        let with = text(&KeysFile::from_sources([&named]));
        let step = step::kind(&name).map(|kind| format!(",\"step\":\"{kind}\"}}"));
        prop_assert_eq!(with, text(&without).replacen("}\n]", &(step.unwrap_or("}".into()) + "\n]"), 1));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        damage in proptest::collection::vec((0..usize::MAX, any::<u8>()), 1..6),
    ) {
        let mut bytes = KeysFile::from_sources([&full_of("x")]).encode().unwrap();
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(file) = KeysFile::decode(&bytes) {
            prop_assert_eq!(&KeysFile::decode(&file.encode().unwrap()).unwrap(), &file);
        }
    }
}
