//! Reading and verifying key sources.

mod documents;
mod places;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs;
use std::path::Path;

use bkstate::Digest;
use llb::{Encoding, OpDigest, ProvenanceError};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::limits::Limits;

const MERGE: &str = "sha256:436287a2dc2ce494f564331be9ea3a9f27ebec398567877043da2f618f33d6c8";

fn merge_provenance() -> Value {
    let steps = json!([
        {"id": "step0", "op": {"Op": {"merge": {"inputs": [{}, {"input": 1}]}}}},
        {"id": "step1", "op": {"Op": {}}, "inputs": ["step0:0"]},
    ]);
    json!({"buildDefinition": {"internalParameters": {
        "builderPlatform": "linux/amd64",
        "buildConfig": {"llbDefinition": steps},
    }}})
}

fn file_with(content: impl AsRef<[u8]>) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source");
    fs::write(&path, content).unwrap();
    (dir, path)
}

fn read(content: impl AsRef<[u8]>) -> Result<Vec<KeySource>, SourceError> {
    let (_dir, path) = file_with(content);
    read_source(&path, &Limits::default())
}

fn offers_the_merge(sources: &[KeySource]) -> bool {
    let offered: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| &source.candidates)
        .map(|candidate| candidate.op_digest.as_str())
        .collect();
    offered.contains(MERGE)
}

#[test]
fn provenance_is_known_in_all_four_shapes() {
    let v1 = merge_provenance();
    let internal = &v1["buildDefinition"]["internalParameters"];
    let v0_2 = json!({
        "invocation": {"environment": {"platform": "linux/amd64"}},
        "buildConfig": internal["buildConfig"],
    });
    for predicate in [&v1, &v0_2] {
        let statement = json!({"_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v1", "predicate": predicate});
        for document in [predicate, &statement] {
            let sources = read(document.to_string()).unwrap();
            assert!(offers_the_merge(&sources), "{document}");
            assert_eq!(sources[0].description.kind, SourceKind::Provenance);
        }
    }
}

#[test]
fn provenance_without_ops_says_how_to_get_them() {
    let min =
        json!({"buildDefinition": {"internalParameters": {"builderPlatform": "linux/amd64"}}});
    let error = read(min.to_string()).unwrap_err();
    assert!(
        matches!(error, SourceError::Provenance { source: ProvenanceError::NoOps, .. }),
        "{error}"
    );
    assert!(error.to_string().starts_with("the provenance "), "{error}");
    assert!(error.source().unwrap().to_string().contains("mode=max"));
    let sbom = json!({"predicateType": "https://spdx.dev/Document", "predicate": {"SPDXID": "x"}});
    let error = read(sbom.to_string()).unwrap_err();
    assert!(
        matches!(error, SourceError::Provenance { source: ProvenanceError::NotProvenance, .. }),
        "{error}"
    );
    assert!(error.to_string().starts_with("the provenance "), "{error}");
}

#[test]
fn a_metadata_file_without_provenance_says_how_to_get_it() {
    for metadata in [
        json!({"buildx.build.ref": "a/b/c", "containerimage.digest": "sha256:x"}),
        json!({"target": {"buildx.build.ref": "a/b/c"}, "buildx.build.warnings": []}),
        json!({"containerimage.digest": "sha256:x"}),
    ] {
        let error = read(metadata.to_string()).unwrap_err();
        assert!(matches!(error, SourceError::MetadataFile { .. }), "{metadata}: {error:?}");
        assert!(error.to_string().ends_with(" gives no keys"), "{error}");
        assert!(error.source().unwrap().to_string().contains("BUILDX_METADATA_PROVENANCE"));
    }
}

#[test]
fn what_is_no_key_source_is_refused() {
    let error = read(b"").unwrap_err();
    assert!(matches!(error, SourceError::Empty { .. }), "{error}");
    assert!(
        error
            .to_string()
            .ends_with(" is empty; look at what the command said that should have written it"),
        "{error}"
    );
    let contents: [&[u8]; 7] = [
        b"no json",
        b"[]",
        b"{}",
        br#"{"layers":[],"records":[]}"#,
        br#"{"def":{}}"#,
        br#"{"metadata":{}}"#,
        &[0xff; 64],
    ];
    for content in contents {
        let error = read(content).unwrap_err();
        assert!(matches!(error, SourceError::Unrecognised { .. }), "{error:?}");
        assert!(error.to_string().contains(" is not a known key source; "), "{error}");
    }
    let missing = read_source(Path::new("/nonexistent/provenance.json"), &Limits::default());
    let error = missing.unwrap_err();
    assert!(matches!(error, SourceError::Read { .. }), "{error}");
    assert_eq!(error.to_string(), "cannot read the key source /nonexistent/provenance.json");
    let error = read_source(Path::new("/dev/null"), &Limits::default()).unwrap_err();
    assert!(matches!(error, SourceError::NotAFile { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "the key source /dev/null is neither a file, a directory nor a pipe of a shell"
    );
}

#[test]
fn json_nested_without_end_is_refused() {
    let deep = format!(r#"{{"predicate":{{"buildConfig":{}"#, r#"{"a":"#.repeat(1_000_000));
    let error = read(deep).unwrap_err();
    assert!(matches!(error, SourceError::Unrecognised { .. }), "{error}");
    assert!(
        error.to_string().contains(" is not a known key source; give SLSA provenance (mode=max)"),
        "{error}"
    );
    let arrays = format!(r#"{{"predicate":{}"#, "[".repeat(1_000_000));
    let error = read(arrays).unwrap_err();
    assert!(matches!(error, SourceError::Unrecognised { .. }), "{error}");
    assert!(
        error.to_string().contains(" is not a known key source; give SLSA provenance (mode=max)"),
        "{error}"
    );
}

#[test]
fn a_document_over_the_limit_is_refused() {
    let (_dir, path) = file_with("");
    fs::File::options().write(true).open(&path).unwrap().set_len(MAX_DOCUMENT_BYTES + 1).unwrap();
    let error = read_source(&path, &Limits::default()).unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains(" has more than 67108864 bytes"), "{error}");
}

#[test]
fn a_damaged_or_foreign_database_is_refused() {
    let real =
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/provenance/cache.db")).unwrap();
    let cut = read(&real[..real.len() / 2]).unwrap_err();
    assert!(matches!(cut, SourceError::Database { .. }), "{cut:?}");
    assert!(cut.to_string().ends_with(" gives no keys"), "{cut}");
    let head = read(&real[..64]).unwrap_err();
    assert!(matches!(head, SourceError::Database { .. }), "{head:?}");
    assert!(head.to_string().ends_with(" gives no keys"), "{head}");
    let mut foreign = real.clone();
    for at in 0..foreign.len() - 6 {
        if &foreign[at..at + 6] == b"_links" {
            foreign[at..at + 6].copy_from_slice(b"_linkz");
        }
    }
    let error = read(&foreign).unwrap_err();
    assert!(
        matches!(&error, SourceError::Database { source, .. }
        if matches!(**source, DatabaseError::Unknown)),
        "{error}"
    );
    assert!(error.to_string().ends_with(" gives no keys"), "{error}");
}

/// An OCI layout with the image index `manifests` at the top.
struct LayoutDir(TempDir);

impl LayoutDir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(dir)
    }

    fn blob(&self, media_type: &str, content: &Value) -> Value {
        let content = content.to_string();
        let digest = Digest::of(&content);
        fs::write(self.0.path().join("blobs/sha256").join(digest.hex()), &content).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Adds an attestation manifest with `statement`, as BuildKit v0.32 makes it.
    fn attestation(&self, statement: &Value) -> Value {
        let mut layer = self.blob("application/vnd.in-toto+json", statement);
        layer["annotations"] = json!({"in-toto.io/predicate-type": statement["predicateType"]});
        let config = self.blob("application/vnd.oci.empty.v1+json", &json!({}));
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer],
            "artifactType": "application/vnd.docker.attestation.manifest.v1+json"});
        let mut entry = self.blob("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        entry
    }

    fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.blob("application/vnd.oci.image.index.v1+json", &index)
    }

    fn finish(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.0.path().join("index.json"), index.to_string()).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn statement(predicate: &Value) -> Value {
    json!({"_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v1", "predicate": predicate})
}

#[test]
fn attestations_are_found_however_deep_the_image_is() {
    let layout = LayoutDir::new();
    let sbom = json!({"predicateType": "https://spdx.dev/Document", "predicate": {}});
    let image = layout
        .index(&[layout.attestation(&sbom), layout.attestation(&statement(&merge_provenance()))]);
    layout.finish(&[layout.index(&[image])]);
    let sources = read_source(layout.path(), &Limits::default()).unwrap();
    assert_eq!(sources.len(), 1);
    assert!(offers_the_merge(&sources));
    assert_eq!(sources[0].description.kind, SourceKind::Attestation);
    assert!(sources[0].description.part.as_ref().unwrap().starts_with("sha256:"));
}

#[test]
fn a_layout_without_provenance_that_helps_is_refused_as_a_source_but_not_in_passing() {
    let min =
        json!({"buildDefinition": {"internalParameters": {"builderPlatform": "linux/amd64"}}});
    let layout = LayoutDir::new();
    layout.finish(&[layout.index(&[layout.attestation(&statement(&min))])]);
    let refused = read_source(layout.path(), &Limits::default());
    let error = refused.unwrap_err();
    assert!(matches!(error, SourceError::NoAttestations { .. }), "{error}");
    assert!(
        error.to_string().contains(" and nothing in it has provenance that lists the build's ops"),
        "{error}"
    );
    let opened = crate::layout::Layout::open(layout.path(), &Limits::default()).unwrap();
    assert!(read_layout(&opened).unwrap().is_empty());
}

#[test]
fn attestations_left_behind_by_a_partial_copy_are_passed_over() {
    let layout = LayoutDir::new();
    let (kept, left) = (statement(&merge_provenance()), statement(&json!({"invocation": {}})));
    layout.finish(&[layout.index(&[layout.attestation(&kept), layout.attestation(&left)])]);
    let blob = Digest::of(left.to_string()).hex();
    fs::remove_file(layout.path().join("blobs/sha256").join(blob)).unwrap();
    assert!(offers_the_merge(&read_source(layout.path(), &Limits::default()).unwrap()));
}

#[test]
fn a_damaged_attestation_is_refused() {
    let layout = LayoutDir::new();
    let original = statement(&merge_provenance());
    layout.finish(&[layout.index(&[layout.attestation(&original)])]);
    let blob = layout.path().join("blobs/sha256").join(Digest::of(original.to_string()).hex());
    let forged = original.to_string().replace("amd64", "amd46");
    fs::write(blob, forged).unwrap();
    let error = read_source(layout.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, SourceError::Attestations { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot read the attestations in "), "{error}");
}

#[test]
fn a_directory_that_is_no_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = read_source(dir.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, SourceError::NoKnownDirectory { .. }), "{error}");
    assert!(
        error.to_string().contains(
            " is a directory, but neither an OCI layout nor the root of a builder, and \
             it has no provenance.json"
        ),
        "{error}"
    );
}

fn candidate(op_digest: &str, outputs: u32, name: &str) -> Candidate {
    Candidate {
        op_digest: OpDigest::try_from(op_digest.to_owned()).unwrap(),
        outputs,
        name: Some(name.to_owned()),
        encoding: None,
        vertex: None,
        builder: None,
    }
}

#[test]
fn only_candidates_that_name_a_record_get_into_the_keyring() {
    let description =
        SourceDescription { path: "keys".into(), kind: SourceKind::CacheDb, part: None };
    let wanted = ["a@0", "a@2", "b@1", "never@0"].into_iter().map(Digest::of).collect();
    let mut keyring = Keyring::new(wanted);
    assert!(keyring.is_empty());
    // Output 1 of b is one more than the source says.
    let first = vec![candidate("a", 3, "A"), candidate("b", 1, "B"), candidate("c", 9, "C")];
    let second = vec![candidate("a", 1, "again"), candidate("b", 2, "B")];
    keyring.add(KeySource::from_digests(first, description.clone()), &Limits::default()).unwrap();
    keyring.add(KeySource::from_digests(second, description), &Limits::default()).unwrap();
    let resolved: Vec<_> = ["a@0", "a@2", "b@1", "never@0"]
        .map(|record| keyring.get(&Digest::of(record)))
        .map(|key| key.map(|key| (key.output, key.name.clone().unwrap(), key.source.0)))
        .into();
    assert_eq!(
        resolved,
        [
            Some((0, "A".to_owned(), 0)),
            Some((2, "A".to_owned(), 0)),
            Some((1, "B".to_owned(), 1)),
            None
        ]
    );
    let counts: Vec<_> = keyring.sources().iter().map(|s| (s.candidates, s.resolved)).collect();
    assert_eq!(counts, [(3, 2), (2, 1)]);
    assert!(!keyring.is_empty());
}

#[test]
fn the_outputs_of_all_sources_together_are_limited() {
    let description =
        SourceDescription { path: "keys".into(), kind: SourceKind::CacheDb, part: None };
    let source = |candidates| KeySource::from_digests(candidates, description.clone());
    let limits = Limits { key_outputs: 10, ..Limits::default() };
    let mut keyring = Keyring::new(["a@0", "b@0"].into_iter().map(Digest::of).collect());
    keyring.add(source(vec![candidate("a", 3, "A"), candidate("c", 4, "C")]), &limits).unwrap();
    let many = source(vec![candidate("b", 1, "B"), candidate("d", 3, "D")]);
    let error = keyring.add(many, &limits).unwrap_err();
    assert_eq!((error.outputs, error.limit), (11, 10));
    // Nothing of it was tried, and the limit allows less.
    assert_eq!((keyring.len(), keyring.sources().len()), (1, 1));
    keyring.add(source(vec![candidate("b", 3, "B")]), &limits).unwrap();
    assert_eq!(keyring.len(), 2);
    let error = keyring.add(source(vec![candidate("a", u32::MAX, "A")]), &limits).unwrap_err();
    assert_eq!((error.outputs, error.limit), (10 + u64::from(u32::MAX), 10));
    assert!(
        error.to_string().contains(" have 4294967305 outputs of ops to try, more than 10"),
        "{error}"
    );
}

#[test]
fn an_op_without_a_platform_is_tried_on_every_one_that_buildkit_is_released_for() {
    let exec = r#"{"Op":{"exec":{"meta":{"args":["true"]}}}}"#;
    let fixed = exec.replace(r#"}}}}"#, r#"}}},"platform":{"OS":"linux","Architecture":"mips"}}"#);
    let newest = |op: &str| {
        let sources = read(format!(r#"{{"Op":{op},"Digest":"sha256:x"}}"#)).unwrap();
        assert_eq!(sources[0].description.kind, SourceKind::Dump);
        let newest = |candidate: &&Candidate| candidate.encoding == Some(Encoding::NEWEST);
        sources[0].candidates.iter().filter(newest).count()
    };
    assert_eq!(newest(exec), 6);
    assert_eq!(newest(&fixed), 1);
}

#[test]
fn a_malformed_dump_is_called_one() {
    let error = read(r#"{"Op":{"Op":{}},"Digest":"x"}{"Op":"#).unwrap_err();
    assert!(matches!(error, SourceError::Dump { .. }), "{error:?}");
    assert!(error.to_string().ends_with(" gives no keys"), "{error}");
}

#[test]
fn an_archive_of_something_else_is_refused() {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut tar::Header::new_ustar(), "a", &b""[..]).unwrap();
    let error = read(tar.into_inner().unwrap()).unwrap_err();
    assert!(
        matches!(&error, SourceError::Archive { source, .. }
        if matches!(**source, BundleError::NoIndex)),
        "{error:?}"
    );
    assert!(error.to_string().ends_with(" gives no keys"), "{error}");
    let error = read([0x1F, 0x8B, 8, 0]).unwrap_err();
    assert!(matches!(error, SourceError::Decompress { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot decompress the key source "), "{error}");
}

#[test]
fn a_history_bundle_without_provenance_is_not_told_to_have_it() {
    let config = r#"{"Ref":"x"}"#;
    let blob = |content: &str| json!({"digest": Digest::of(content), "size": content.len()});
    let mut descriptor = blob(config);
    descriptor["mediaType"] = "application/vnd.buildkit.historyrecord.v0".into();
    let manifest = json!({"config": descriptor, "layers": []}).to_string();
    let index = json!({"manifests": [blob(&manifest)]}).to_string();
    let name = format!("blobs/sha256/{}", Digest::of(&manifest).hex());
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [(&*name, &manifest), ("index.json", &index)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    let error = read(tar.into_inner().unwrap()).unwrap_err();
    assert!(matches!(error, SourceError::NoHistory { .. }), "{error:?}");
    assert!(!error.to_string().contains("--provenance"), "{error}");
}

/// Adds a source with the merge op, and checks whether it is wanted.
fn merge_in(keyring: &mut Keyring, found: bool) {
    let description =
        SourceDescription { path: "x".into(), kind: SourceKind::KeysFile, part: None };
    let source = KeySource::from_digests(vec![candidate(MERGE, 1, "MERGE")], description);
    keyring.add(KeySource { found, ..source }, &Limits::default()).unwrap();
}

// For example keys attached to a replaced cache: a reason to report missing keys.
#[test]
fn a_source_counts_whatever_it_has() {
    for (found, is_ours) in [(false, false), (true, false), (true, true)] {
        let record = Digest::of(format!("{MERGE}@{}", u32::from(!is_ours)));
        let mut keyring = Keyring::new(BTreeSet::from([record]));
        assert!(!keyring.has_sources());
        merge_in(&mut keyring, found);
        assert!(keyring.has_sources(), "{found} {is_ours}");
    }
}

#[test]
fn what_is_read_of_a_layout_in_passing_was_found() {
    let layout = LayoutDir::new();
    layout.finish(&[layout.index(&[layout.attestation(&statement(&merge_provenance()))])]);
    let opened = crate::layout::Layout::open(layout.path(), &Limits::default()).unwrap();
    assert!(read_layout(&opened).unwrap().iter().all(|source| source.found));
    assert!(read_source(layout.path(), &Limits::default()).unwrap().iter().all(|s| !s.found));
}
