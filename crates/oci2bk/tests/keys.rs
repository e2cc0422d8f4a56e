//! Key sources of a real daemon and a real buildx (`data/provenance/make.sh` and `data/history/make.sh`),
//! compared with the op digests that the daemon itself used.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing test should say where"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bkstate::Digest;
use oci2bk::CacheExport;
use oci2bk::keys::{
    DockerfileKeys, ImageConfigPath, KeySourceIndex, Keyring, SourceError, SourceKind, read_source,
};
use oci2bk::limits::Limits;
use oci2bk::llb::{Encoding, Release};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/provenance").join(name)
}

/// Returns the links of the daemon's `cache.db`, as `<op digest>@<output>`; an export names the records by
/// the hash of that.
fn links(name: &str) -> BTreeSet<String> {
    std::fs::read_to_string(data(name)).unwrap().lines().map(str::to_owned).collect()
}

fn keyring(source: &str, links: &BTreeSet<String>) -> Keyring {
    let wanted = links.iter().map(Digest::of).collect();
    let mut keyring = Keyring::new(wanted);
    keyring.read(data(source), &Limits::default()).unwrap();
    keyring
}

/// Returns the links whose op digests `source` does not have.
fn unresolved(source: &str, links: &BTreeSet<String>) -> Vec<String> {
    let keyring = keyring(source, links);
    let resolved: BTreeSet<_> =
        keyring.iter().map(|(_, key)| format!("{}@{}", key.op_digest, key.output)).collect();
    assert!(resolved.is_subset(links));
    links.difference(&resolved).cloned().collect()
}

/// Returns the names of the resolved steps.
fn names(keyring: &Keyring) -> BTreeSet<&str> {
    keyring.iter().filter_map(|(_, key)| key.name.as_deref()).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_dockerfile_with_everything_resolves_completely() {
    let links = links("dockerfile.links");
    assert!(links.len() > 40);
    for source in ["dockerfile.v1.json", "dockerfile.v0.2.json"] {
        assert_eq!(unresolved(source, &links), NONE, "{source}");
    }
    let keyring = keyring("dockerfile.v1.json", &links);
    assert!(keyring.iter().all(|(_, key)| key.encoding == Some(Encoding::NEWEST)));
    let names = names(&keyring);
    for name in ["RUN echo json form > /json", "COPY /one.txt /two.txt /several/"] {
        assert!(names.contains(name), "{names:#?}");
    }
}

// v0.2 lacks the symbolic link. v1 also lacks the file whose time is not in whole seconds, because
// it rounds large numbers.
#[test]
fn llb_with_every_op_resolves_as_far_as_provenance_tells() {
    let links = links("raw.links");
    let symlink = "sha256:722893ed496319edb6d3b9ff84a58f53dd1b1cd47df68c5a0a713b7dbdd4f713@0";
    let rounded = "sha256:76783b2513943c2c330f9f29db5820125b755472468a5ae210c732a78907edbf@0";
    assert_eq!(unresolved("raw.v0.2.json", &links), [symlink]);
    assert_eq!(unresolved("raw.v1.json", &links), [symlink, rounded]);
    let keyring = keyring("raw.v0.2.json", &links);
    let outputs: BTreeSet<_> = keyring.iter().map(|(_, key)| key.output).collect();
    assert_eq!(outputs, BTreeSet::from([0, 1]));
    let names = names(&keyring);
    for name in ["MERGE", "DIFF", "PASSTHROUGH p<a>ss", "MKDIR /none"] {
        assert!(names.contains(name), "{names:#?}");
    }
}

#[test]
fn a_step_that_provenance_does_not_determine_is_named() {
    let sources = read_source(&data("raw.v0.2.json"), &Limits::default()).unwrap();
    let [source] = sources.as_slice() else { panic!("{sources:?}") };
    let [step] = source.uncomputable.as_slice() else { panic!("{:?}", source.uncomputable) };
    assert_eq!(step.name, "SYMLINK ?");
    assert!(step.reason.to_string().contains("symbolic links"));
}

#[test]
fn metadata_files_of_buildx_have_a_source_per_platform_and_target() {
    let links = links("buildx.links");
    assert_eq!(unresolved("metadata-platforms.json", &links), NONE);
    // Built only for the platform of the daemon.
    assert_eq!(unresolved("metadata.json", &links).len(), 1);
    let parts = |file: &str| -> Vec<Option<String>> {
        let sources = read_source(&data(file), &Limits::default()).unwrap();
        assert!(sources.iter().all(|s| s.description.kind == SourceKind::MetadataFile));
        sources.into_iter().map(|source| source.description.part).collect()
    };
    let some = |part: &str| Some(part.to_owned());
    assert_eq!(parts("metadata.json"), [None]);
    assert_eq!(parts("metadata-platforms.json"), [some("linux/386"), some("linux/amd64")]);
    assert_eq!(parts("metadata-bake.json"), [some("one"), some("two")]);
}

#[test]
fn the_cache_db_of_a_builder_has_the_op_digests_themselves() {
    let links = links("buildx.links");
    assert_eq!(unresolved("cache.db", &links), NONE);
    let keyring = keyring("cache.db", &links);
    assert_eq!(keyring.sources()[0].description.kind, SourceKind::CacheDb);
    assert!(keyring.iter().all(|(_, key)| key.name.is_none() && key.encoding.is_none()));
}

#[test]
fn the_first_source_wins_and_each_is_accounted_for() {
    let links = links("buildx.links");
    let wanted = links.iter().map(Digest::of).collect();
    let mut keyring = Keyring::new(wanted);
    for file in ["metadata.json", "cache.db"] {
        keyring.read(data(file), &Limits::default()).unwrap();
    }
    let resolved: Vec<_> = keyring.sources().iter().map(|source| source.resolved).collect();
    assert_eq!(resolved, [2, 1]);
    assert_eq!(keyring.len(), 3);
    let named: Vec<_> = keyring
        .iter()
        .filter(|(_, key)| key.source == KeySourceIndex(0))
        .map(|(_, key)| &key.name)
        .collect();
    assert_eq!(named.len(), 2);
    assert!(named.iter().all(|name| name.is_some()));
}

#[test]
fn a_source_of_another_build_resolves_nothing() {
    let keyring = keyring("cache.db", &links("raw.links"));
    assert!(keyring.is_empty());
    assert!(keyring.sources()[0].candidates > 0);
}

// `data/releases` has ops in the JSON of old releases, and their digests.
#[test]
fn ops_of_old_releases_resolve_in_the_release_s_encoding() {
    for (file, release) in [
        ("v0.17.3.json", Release::V0_17),
        ("v0.16.0.json", Release::V0_13),
        ("v0.11.6.json", Release::V0_11),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/releases").join(file);
        let ops: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("provenance.json");
        let predicate = serde_json::json!({
            "invocation": {"environment": {"platform": "linux/amd64"}},
            "buildConfig": {"llbDefinition": ops["llbDefinition"]},
        });
        std::fs::write(&source, predicate.to_string()).unwrap();

        let digests = ops["digests"].as_array().unwrap().iter().map(|d| d.as_str().unwrap());
        let links: BTreeSet<String> =
            digests.filter(|digest| !digest.is_empty()).map(|d| format!("{d}@0")).collect();
        assert!(links.len() >= 8);
        let keyring = keyring(source.to_str().unwrap(), &links);
        let resolved: BTreeSet<_> =
            keyring.iter().map(|(_, key)| format!("{}@{}", key.op_digest, key.output)).collect();
        assert_eq!(resolved, links, "{file}");
        // Ops that look the same in newer releases count as newer ones; none is older.
        let oldest = keyring.iter().map(|(_, key)| key.encoding.unwrap().release).max();
        assert_eq!(oldest, Some(release));
    }
}

/// Returns what each source resolved that no earlier source did.
fn kinds(keyring: &Keyring) -> Vec<(SourceKind, usize)> {
    let sources = keyring.sources().iter();
    sources.map(|source| (source.description.kind, source.resolved)).collect()
}

// Unlike provenance it has the symbolic link, and exact times.
#[test]
fn llb_in_protobuf_resolves_completely() {
    let links = links("raw.links");
    assert_eq!(unresolved("../history/raw.pb", &links), NONE);
    let keyring = keyring("../history/raw.pb", &links);
    assert_eq!(kinds(&keyring), [(SourceKind::Definition, links.len())]);
    assert!(keyring.iter().all(|(_, key)| key.encoding == Some(Encoding::NEWEST)));
    let names = names(&keyring);
    for name in ["MERGE", "DIFF", "PASSTHROUGH p<a>ss", "MKDIR /none", "SYMLINK /a /symlink"] {
        assert!(names.contains(name), "{names:#?}");
    }
}

#[test]
fn the_dump_of_buildctl_resolves_all_but_the_symbolic_link() {
    let links = links("raw.links");
    let symlink = "sha256:722893ed496319edb6d3b9ff84a58f53dd1b1cd47df68c5a0a713b7dbdd4f713@0";
    assert_eq!(unresolved("../history/raw.jsonl", &links), [symlink]);
    let keyring = keyring("../history/raw.jsonl", &links);
    assert_eq!(kinds(&keyring), [(SourceKind::Dump, links.len() - 1)]);
}

// In protobuf's JSON, which also has the symbolic link.
#[test]
fn the_answer_of_a_frontend_resolves_completely() {
    let links = links("raw.links");
    assert_eq!(unresolved("../history/raw.answer.json", &links), NONE);
    let keyring = keyring("../history/raw.answer.json", &links);
    assert_eq!(kinds(&keyring), [(SourceKind::Definition, links.len())]);
    let same = self::keyring("../history/raw.pb", &links);
    assert_eq!(names(&keyring), names(&same));
}

// Output of buildx v0.35.0 for the fixture `index`, with format=json and without, and of buildctl.
#[test]
fn the_answer_about_a_dockerfile_has_the_keys_of_its_build() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let cache = fixtures.join("index/cache").to_str().unwrap().parse().unwrap();
    let exports = oci2bk::CacheExport::read_sources(&[cache], &Limits::default()).unwrap();
    let json = std::fs::read_to_string(data("../history/dockerfile.answer.json")).unwrap();
    let temporary = tempfile::NamedTempFile::new().unwrap();
    for printed in [
        json.clone(),
        format!("Name:\"convertllb\" map[result.json:{json} version:0.1.0]\n"),
        format!("result.json\n{json}\n"),
    ] {
        std::fs::write(temporary.path(), printed).unwrap();
        let mut keyring = Keyring::for_exports(&exports);
        keyring.read(temporary.path(), &Limits::default()).unwrap();
        assert_eq!(keyring.len(), exports[0].config.digests_with_inputs().count());
        assert!(keyring.iter().all(|(_, key)| key.vertex.is_some() && key.name.is_some()));
    }
}

#[test]
fn the_root_of_a_builder_is_read_whole_and_its_history_names_the_steps() {
    let links = links("../history/history.links");
    let keyring = keyring("../history/root", &links);
    assert_eq!(keyring.len(), links.len());
    // Two builds, one of them for two platforms. Both copy the same.
    let resolved = kinds(&keyring);
    assert_eq!(resolved.len(), 5);
    let of_history = &resolved[..3];
    assert!(of_history.iter().all(|(kind, _)| *kind == SourceKind::History));
    assert_eq!(of_history.iter().map(|(_, resolved)| resolved).sum::<usize>(), links.len());
    assert_eq!(resolved[3..], [(SourceKind::CacheDebug, 0), (SourceKind::CacheDb, 0)]);
    assert!(keyring.iter().all(|(_, key)| key.name.is_some()));
    let parts: BTreeSet<_> = keyring.sources()[..3]
        .iter()
        .filter_map(|source| source.description.part.as_ref()?.split_once(' '))
        .map(|(_reference, platform)| platform)
        .collect();
    assert_eq!(parts, BTreeSet::from(["linux/386", "linux/amd64"]));
}

#[test]
fn each_database_of_a_builder_is_a_source_of_its_own() {
    let links = links("../history/history.links");
    for (file, kind) in [
        ("../history/root/history.db", SourceKind::History),
        ("../history/root/cache-debug.db", SourceKind::CacheDebug),
        ("../history/root/cache.db", SourceKind::CacheDb),
    ] {
        assert_eq!(unresolved(file, &links), NONE, "{file}");
        let keyring = keyring(file, &links);
        assert!(kinds(&keyring).iter().all(|(of_source, _)| *of_source == kind), "{file}");
    }
}

#[test]
fn a_bundle_holds_the_builds_that_were_exported_to_it() {
    let links = links("../history/history.links");
    assert_eq!(unresolved("../history/all.dockerbuild", &links), NONE);
    assert_eq!(kinds(&keyring("../history/all.dockerbuild", &links)).len(), 3);
    let newest = keyring("../history/one.dockerbuild", &links);
    assert_eq!(kinds(&newest), [(SourceKind::Bundle, 3)]);
    assert!(names(&newest).contains("RUN echo second > /z"));
}

#[test]
fn a_bundle_need_not_be_compressed() {
    let links = links("../history/history.links");
    let gzip = std::fs::File::open(data("../history/all.dockerbuild")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.tar");
    let mut plain = std::fs::File::create(&path).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(gzip), &mut plain).unwrap();
    assert_eq!(unresolved(path.to_str().unwrap(), &links), NONE);
}

#[test]
fn a_docker_volume_leads_to_the_root_in_it() {
    let links = links("../history/history.links");
    let volume = tempfile::tempdir().unwrap();
    let root = volume.path().join("_data");
    std::fs::create_dir(&root).unwrap();
    std::fs::copy(data("../history/root/cache.db"), root.join("cache.db")).unwrap();
    for path in [volume.path(), &root] {
        assert_eq!(unresolved(path.to_str().unwrap(), &links), NONE, "{path:?}");
    }
}

/// Copies the content of the builder's root to where a `history.db` in `root` refers to.
fn copy_content(root: &Path) {
    let blobs = "runc-overlayfs/content/blobs/sha256";
    std::fs::create_dir_all(root.join(blobs)).unwrap();
    for blob in std::fs::read_dir(data("../history/root").join(blobs)).unwrap() {
        let blob = blob.unwrap();
        std::fs::copy(blob.path(), root.join(blobs).join(blob.file_name())).unwrap();
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_source_never_gives_a_wrong_key(
        file in proptest::sample::select(&[
            "raw.v1.json", "metadata-platforms.json", "cache.db", "../history/raw.pb",
            "../history/raw.jsonl", "../history/one.dockerbuild", "../history/root/cache-debug.db",
            "../history/root/history.db",
        ]),
        damage in proptest::collection::vec((0..usize::MAX, 0..=u8::MAX), 1..8),
    ) {
        let mut content = std::fs::read(data(file)).unwrap();
        for (at, byte) in damage {
            let at = at % content.len();
            content[at] = byte;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source");
        std::fs::write(&path, content).unwrap();
        copy_content(dir.path());
        let links =
            &(&links("raw.links") | &links("buildx.links")) | &links("../history/history.links");
        let wanted = links.iter().map(Digest::of).collect();
        let mut keyring = Keyring::new(wanted);
        let _ = keyring.read(&path, &Limits::default());
        for (record, key) in keyring.iter() {
            let link = format!("{}@{}", key.op_digest, key.output);
            assert_eq!(Digest::of(&link), *record);
            assert!(links.contains(&link));
        }
    }
}

/// Returns the records of a fixture without a key, if its Dockerfile is the only source.
fn without_keys(fixture: &str, build: &DockerfileKeys) -> Vec<Digest> {
    let limits = Limits::default();
    let source = fixtures().join(fixture).join("cache").display().to_string().parse().unwrap();
    let exports = CacheExport::read_sources(&[source], &limits).unwrap();
    let mut keyring = Keyring::for_exports(&exports);
    for source in build.read(&[], &limits).unwrap() {
        assert_eq!(source.refused, [], "{fixture}");
        keyring.add(source, &limits).unwrap();
    }
    let wanted = exports.iter().flat_map(|export| export.config.digests_with_inputs());
    wanted.filter(|record| keyring.get(record).is_none()).collect()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

#[test]
fn the_dockerfile_of_each_fixture_has_every_key() {
    for fixture in ["index", "manifest", "min", "zstd"] {
        let build = DockerfileKeys::new(fixtures().join(fixture).join("Dockerfile"));
        assert_eq!(without_keys(fixture, &build), [], "{fixture}");
    }
}

#[test]
fn a_wrong_guess_leaves_keys_out_and_a_bake_file_names_the_dockerfile() {
    let mut build = DockerfileKeys::new(fixtures().join("manifest/Dockerfile"));
    build.platforms.push("linux/s390x".parse().unwrap());
    assert!(!without_keys("manifest", &build).is_empty());

    let temporary = tempfile::tempdir().unwrap();
    let bake = temporary.path().join("bake.json");
    let target = |platform: &str| {
        let context = fixtures().join("manifest");
        serde_json::json!({"target": {"app": {"context": context, "platforms": [platform]}}})
            .to_string()
    };
    std::fs::write(&bake, target("linux/amd64")).unwrap();
    assert_eq!(without_keys("manifest", &DockerfileKeys::new(&bake)), []);
    std::fs::write(&bake, target("linux/s390x")).unwrap();
    assert!(!without_keys("manifest", &DockerfileKeys::new(&bake)).is_empty());
}

/// Returns the op digests for a Dockerfile on `base:1`.
fn op_digests(build: &DockerfileKeys) -> BTreeSet<String> {
    let sources = build.read(&[], &Limits::default()).unwrap();
    sources.iter().flat_map(|source| &source.candidates).map(|c| c.op_digest.to_string()).collect()
}

#[test]
fn the_config_of_a_base_image_counts_for_its_name() {
    let temporary = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = temporary.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let mut plain = DockerfileKeys::new(write("a", "FROM base:1\nRUN make\n"));
    plain.platforms.push("linux/amd64".parse().unwrap());
    // What the image sets, as instructions.
    let mut explicit =
        DockerfileKeys::new(write("b", "FROM base:1\nENV LANG=C\nUSER app\nRUN make\n"));
    explicit.platforms.clone_from(&plain.platforms);
    assert!(op_digests(&plain).is_disjoint(&op_digests(&explicit)));
    let config = r#"{"config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"], "User": "app"}}"#;
    let config = write("config.json", config);
    let word = |name: &str| format!("{name}={}", config.display());
    for (name, counts) in [
        ("base", true),
        ("base:1", true),
        ("base:1@linux/amd64", true),
        ("base:2", false),
        ("base:1@linux/arm64", false),
    ] {
        let mut build = plain.clone();
        build.images.push(word(name).parse().unwrap());
        assert_eq!(op_digests(&build) == op_digests(&explicit), counts, "{name}");
    }
    let mut build = plain.clone();
    build.images.push(word("Base").parse().unwrap());
    let error = build.read(&[], &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "\"Base\" is not the name of an image");
    for word in ["base", "=file", "base=", "base@linux/=file"] {
        assert!(word.parse::<ImageConfigPath>().is_err(), "{word}");
    }
}

#[test]
fn what_is_no_dockerfile_is_refused_with_its_line() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("Dockerfile");
    let mut build = DockerfileKeys::new(&path);
    std::fs::write(&path, "FROM a\nRUN <<EOF\n").unwrap();
    let error = build.read(&[], &Limits::default()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "dockerfile parse error on line 2: unterminated heredoc");
    std::fs::write(&path, "FROM a\nRNU b\nRUN c\n").unwrap();
    let sources = build.read(&[], &Limits::default()).unwrap();
    assert_eq!(sources[0].refused[0].line, 2);
    assert!(!sources[0].candidates.is_empty());
    std::fs::write(&path, "{\"target\": []}").unwrap();
    assert!(matches!(build.read(&[], &Limits::default()), Err(SourceError::Bake { .. })));
    build.options.push(("shm-size".to_owned(), "x".to_owned()));
    std::fs::write(&path, "FROM a\n").unwrap();
    assert!(matches!(build.read(&[], &Limits::default()), Err(SourceError::DockerfileOption(_))));
}
