//! Invalid archives.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;

/// A tar archive being built.
#[derive(Default)]
struct Archive(Vec<(String, Vec<u8>)>);

impl Archive {
    fn blob(&mut self, content: &Value) -> Value {
        let content = content.to_string().into_bytes();
        let digest = Digest::of(&content);
        let size = content.len();
        self.0.push((blob_name("", &digest), content));
        json!({"mediaType": "application/octet-stream", "digest": digest, "size": size})
    }

    /// Returns the manifest of a build with one provenance document, and that document's digest.
    fn build(&mut self, provenance: &Value) -> (Value, Digest) {
        let mut config = self.blob(&json!({"Ref": "x"}));
        config["mediaType"] = HISTORY_RECORD.into();
        let mut layer = self.blob(provenance);
        layer["mediaType"] = "application/vnd.in-toto+json".into();
        layer["annotations"] =
            json!({"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"});
        let log = self.blob(&json!({"log": provenance}));
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [log, layer]});
        (self.blob(&manifest), Digest::of(provenance.to_string()))
    }

    fn index(&mut self, manifests: &[Value]) -> Value {
        self.blob(&json!({"schemaVersion": 2, "manifests": manifests}))
    }

    fn bytes(mut self, manifests: &[Value]) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.0.push((INDEX.into(), index.to_string().into_bytes()));
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        tar.into_inner().unwrap()
    }
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(bytes: &[u8]) -> Result<Vec<Digest>, BundleError> {
    read_within(bytes, &Limits::default())
}

fn read_within(bytes: &[u8], limits: &Limits) -> Result<Vec<Digest>, BundleError> {
    let Found { parts, is_history } = provenance(&file(bytes), limits)?;
    assert!(is_history || parts.is_empty());
    let is_sound = |part: &Part| {
        part.kind == SourceKind::Bundle && Digest::of(&part.json).to_string() == part.name
    };
    assert!(parts.iter().all(is_sound));
    Ok(parts.iter().map(|part| Digest::of(&part.json)).collect())
}

fn archive_of(members: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn provenance_lies_beside_the_files_of_a_build_whatever_those_are_called() {
    for (members, expected) in [
        (&[("app", ""), ("provenance.json", "{}")][..], &["provenance.json"][..]),
        (&[("./my-provenance.json", "{}")], &["my-provenance.json"]),
        (
            &[("index.json", "[]"), ("provenance.linux_arm64.json", "{}")],
            &["provenance.linux_arm64.json"],
        ),
        (&[("web/index.json", r#"{"a":1}"#), ("provenance.json", "{}")], &["provenance.json"]),
        (
            &[("linux_386/provenance.json", "{}"), ("linux_arm64/provenance.json", "{}")],
            &["linux_386/provenance.json", "linux_arm64/provenance.json"],
        ),
    ] {
        let found = provenance(&file(&archive_of(members)), &Limits::default()).unwrap();
        let names: Vec<_> = found.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, expected);
        assert!(found.parts.iter().all(|part| part.kind == SourceKind::Provenance));
    }
    for other in ["app/provenance.json", "linux_386/app/provenance.json", "provenance.txt"] {
        let error = read(&archive_of(&[(other, "{}")])).unwrap_err();
        assert!(matches!(error, BundleError::NoIndex), "{other}: {error}");
        assert!(error.to_string().contains("neither index.json nor provenance.json"), "{error}");
    }
    let large = r#"{"a":1}"#.repeat(100);
    let limits = Limits { keys_document: 500, ..Limits::default() };
    let error = read_within(&archive_of(&[("provenance.json", &large)]), &limits).unwrap_err();
    assert!(matches!(error, BundleError::TooLarge { .. }), "{error}");
    assert!(
        error.to_string().starts_with(
            "provenance.json in the archive has more than 500 bytes, or all documents \
             have"
        ),
        "{error}"
    );
}

#[test]
fn all_documents_together_may_have_as_many_bytes_as_the_limit() {
    let bytes =
        archive_of(&[("a_1/provenance.json", "[1]"), ("a_2/provenance.json", "[2, 3, 4, 5, 6]")]);
    let within = |limit: u64| {
        let limits = Limits { keys_documents: limit, ..Limits::default() };
        provenance(&file(&bytes), &limits)
    };
    assert_eq!(within(18).unwrap().parts.len(), 2);
    let error = within(17).unwrap_err();
    assert!(
        matches!(&error, BundleError::TooLarge { member, limit }
            if member == "a_2/provenance.json" && limit.value == 14),
        "{error}"
    );
    assert!(
        error.to_string().starts_with("a_2/provenance.json in the archive has more than 14 bytes"),
        "{error}"
    );
}

#[test]
fn attestations_come_before_files_of_a_build_and_those_before_a_layout_without_any() {
    let mut archive = Archive::default();
    let (manifest, attestation) = archive.build(&json!({"a": 1}));
    archive.0.push(("provenance.json".to_owned(), b"{}".to_vec()));
    assert_eq!(read(&archive.bytes(&[manifest])).unwrap(), [attestation]);

    let members = [("index.json", r#"{"manifests":[]}"#), ("provenance.json", "{}")];
    let found = provenance(&file(&archive_of(&members)), &Limits::default()).unwrap();
    assert_eq!(found.parts.len(), 1);
    assert_eq!(found.parts[0].name, "provenance.json");

    // A history without provenance is one whatever lies beside it.
    let mut archive = Archive::default();
    let mut config = archive.blob(&json!({"Ref": "x"}));
    config["mediaType"] = HISTORY_RECORD.into();
    let manifest = archive.blob(&json!({"config": config, "layers": []}));
    archive.0.push(("provenance.json".to_owned(), b"{}".to_vec()));
    let found = provenance(&file(&archive.bytes(&[manifest])), &Limits::default()).unwrap();
    assert!(found.is_history && found.parts.is_empty());
}

#[test]
fn of_several_directories_with_an_index_the_first_one_is_the_layout() {
    let mut archive = Archive::default();
    let (manifest, provenance) = archive.build(&json!({"a": 1}));
    let index = json!({"manifests": [manifest]}).to_string();
    let blobs: Vec<_> = archive
        .0
        .iter()
        .map(|(name, content)| (format!("a/{name}"), String::from_utf8(content.clone()).unwrap()))
        .collect();
    let mut members = vec![("a/index.json", &*index), ("b/index.json", r#"{"manifests":[]}"#)];
    members.extend(blobs.iter().map(|(name, content)| (name.as_str(), content.as_str())));
    assert_eq!(read(&archive_of(&members)).unwrap(), [provenance]);
}

/// Returns a member that claims to have `size` bytes, and has none.
fn claim(name: &str, kind: tar::EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn builds_are_found_whether_alone_or_in_nested_indexes_and_each_document_once() {
    let mut archive = Archive::default();
    let (manifest, provenance) = archive.build(&json!({"a": 1}));
    let bytes = archive.bytes(&[manifest]);
    assert_eq!(read(&bytes).unwrap(), [provenance]);

    let mut archive = Archive::default();
    let (one, first) = archive.build(&json!({"a": 1}));
    let (two, second) = archive.build(&json!({"a": 2}));
    let inner = archive.index(&[one.clone(), two]);
    let outer = archive.index(&[inner, one]);
    let mut found = read(&archive.bytes(&[outer])).unwrap();
    let mut expected = vec![first, second];
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn the_layout_may_lie_in_a_directory() {
    let mut archive = Archive::default();
    let (manifest, provenance) = archive.build(&json!({"a": 1}));
    let bytes = archive.bytes(&[manifest]);
    let mut members = Vec::new();
    for member in tar::Archive::new(&*bytes).entries().unwrap() {
        let mut member = member.unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        members.push((member.path().unwrap().to_str().unwrap().to_owned(), content));
    }
    for prefix in ["cache/", "./a/b/"] {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in &members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, format!("{prefix}{name}"), content.as_slice()).unwrap();
        }
        assert_eq!(read(&tar.into_inner().unwrap()).unwrap(), [provenance], "{prefix}");
    }
}

#[test]
fn a_build_without_provenance_is_history_all_the_same() {
    let mut archive = Archive::default();
    let mut config = archive.blob(&json!({"Ref": "x"}));
    config["mediaType"] = HISTORY_RECORD.into();
    let manifest = archive.blob(&json!({"config": config, "layers": []}));
    let found = provenance(&file(&archive.bytes(&[manifest])), &Limits::default()).unwrap();
    assert!(found.is_history && found.parts.is_empty());
}

#[test]
fn what_is_mentioned_but_not_there_is_passed_over() {
    let mut archive = Archive::default();
    let (kept, provenance) = archive.build(&json!({"a": 1}));
    let (lost, _) = archive.build(&json!({"a": 2}));
    let manifest = archive.0.pop().unwrap();
    assert_eq!(read(&archive.bytes(&[lost, kept.clone()])).unwrap(), [provenance]);

    let mut archive = Archive(vec![manifest]);
    let missing = json!({"digest": kept["digest"], "size": 1});
    let index = archive.index(&[missing]);
    assert!(read(&archive.bytes(&[index])).unwrap().is_empty());
}

#[test]
fn a_blob_that_is_not_what_its_name_says_is_refused() {
    let mut archive = Archive::default();
    let (manifest, digest) = archive.build(&json!({"a": 1}));
    for (name, content) in &mut archive.0 {
        if *name == blob_name("", &digest) {
            *content = b"{\"a\":9}".to_vec();
        }
    }
    let error = read(&archive.bytes(&[manifest])).unwrap_err();
    assert!(matches!(error, BundleError::Corrupt { digest: of, .. } if of == digest), "{error}");
    assert!(
        error.to_string().contains(" in the archive is damaged: its content has the digest "),
        "{error}"
    );
}

#[test]
fn indexes_in_indexes_end_at_the_limit() {
    let nested = |depth: usize| {
        let mut archive = Archive::default();
        let mut entry = archive.build(&json!({"a": 1})).0;
        for _ in 0..depth {
            entry = archive.index(&[entry]);
        }
        read(&archive.bytes(&[entry]))
    };
    assert_eq!(nested(MAX_INDEX_DEPTH - 1).unwrap().len(), 1);
    let error = nested(MAX_INDEX_DEPTH + 1).unwrap_err();
    assert!(matches!(error, BundleError::TooDeep), "{error}");
    assert_eq!(error.to_string(), "the archive has indexes more than 8 deep");
}

#[test]
fn manifests_without_end_are_refused() {
    let mut archive = Archive::default();
    let entry = |at: usize| json!({"digest": Digest::of(at.to_string()), "size": 1});
    let entries: Vec<_> = (0..=100).map(entry).collect();
    let index = archive.index(&entries);
    let limits = Limits { manifests: 100, ..Limits::default() };
    let bytes = archive.bytes(&[index]);
    let error = read_within(&bytes, &limits).unwrap_err();
    assert!(matches!(error, BundleError::TooManyManifests { limit: 100 }), "{error}");
    assert!(error.to_string().starts_with("the archive has more than 100 manifests"), "{error}");
    let limits = Limits { manifests: 102, ..Limits::default() };
    assert!(read_within(&bytes, &limits).unwrap().is_empty());
}

#[test]
fn a_document_that_claims_to_be_huge_is_refused_before_it_is_read() {
    let error = read(&claim(INDEX, tar::EntryType::Regular, 1 << 32)).unwrap_err();
    assert!(matches!(error, BundleError::TooLarge { .. }), "{error}");
    assert!(
        error.to_string().starts_with(
            "index.json in the archive has more than 16777216 bytes, or all documents \
             have"
        ),
        "{error}"
    );
}

#[test]
fn an_index_that_is_no_file_is_none() {
    use tar::EntryType;
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Fifo] {
        let mut bytes = claim(INDEX, kind, 0);
        bytes.resize(2048, 0);
        let error = read(&bytes).unwrap_err();
        assert!(matches!(error, BundleError::NoIndex), "{error}");
        assert!(
            error.to_string().starts_with(
                "the archive has neither index.json nor provenance.json, so it is not a \
                 history bundle"
            ),
            "{error}"
        );
    }
}

#[test]
fn a_sparse_member_makes_no_memory_of_its_holes() {
    // A map of one byte that says that a file of 60 MB has no data.
    let mut bytes = Vec::new();
    let pax = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n33 GNU.sparse.realsize=60000000\n\
               29 GNU.sparse.name=index.json\n";
    bytes.extend(claim("pax", tar::EntryType::XHeader, pax.len() as u64));
    bytes.extend(pax.as_bytes());
    bytes.resize(1024, 0);
    bytes.extend(claim("x", tar::EntryType::Regular, 512));
    bytes.extend(b"0\n");
    bytes.resize(4096, 0);
    let error = read(&bytes).unwrap_err();
    assert!(matches!(error, BundleError::Document { .. } | BundleError::Tar(_)), "{error}");
    assert_eq!(error.to_string(), "the archive is damaged");
}

#[test]
fn an_archive_that_is_cut_short_is_refused() {
    let mut archive = Archive::default();
    let (manifest, _) = archive.build(&json!({"a": 1}));
    let bytes = archive.bytes(&[manifest]);
    let error = read(&bytes[..515]).unwrap_err();
    assert!(matches!(error, BundleError::Tar(TarError::Truncated)), "{error}");
    assert_eq!(error.to_string(), "the archive is damaged");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let gzip = gzip.finish().unwrap();
    let error = read(&gzip[..gzip.len() / 2]).unwrap_err();
    assert!(matches!(error, BundleError::Tar(TarError::Read(_))), "{error}");
    assert_eq!(error.to_string(), "the archive is damaged");
}

#[test]
fn a_gzip_bomb_ends_at_the_limit() {
    const PIECE: usize = 8 << 20;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&vec![0; PIECE]).unwrap();
    let piece = gzip.finish().unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&claim("bomb", tar::EntryType::Regular, 4 << 30)).unwrap();
    let mut bytes = gzip.finish().unwrap();
    let limits = Limits { bundle_size: 64 << 20, ..Limits::default() };
    for _ in 0..=limits.bundle_size / PIECE as u64 {
        bytes.extend(&piece);
    }
    let error = read_within(&bytes, &limits).unwrap_err();
    assert!(matches!(error, BundleError::TooLong { .. }), "{error}");
    assert!(error.to_string().starts_with("the archive has more than 67108864 bytes"), "{error}");
}

#[test]
fn members_without_end_are_refused() {
    let member = claim("x", tar::EntryType::Regular, 0);
    let limits = Limits::default();
    let bytes = member.repeat(usize::try_from(limits.bundle_members).unwrap() + 1);
    let error = read(&bytes).unwrap_err();
    assert!(matches!(error, BundleError::TooManyMembers { .. }), "{error}");
    assert!(error.to_string().starts_with("the archive has more than 20000 members"), "{error}");
    let bytes = archive_of(&[("a", ""), ("b", ""), ("provenance.json", "{}")]);
    let limits = Limits { bundle_members: 3, ..Limits::default() };
    assert_eq!(provenance(&file(&bytes), &limits).unwrap().parts.len(), 1);
}
