//! Key sources and keyrings.
//!
//! An exported cache names the record of a step by a hash over the step's op digest, which cannot be inverted
//! (see [`docs/format/keys.md`]). The op digests come from a *key source*: provenance of the build, in any
//! container, the LLB itself, the root directory of a builder, or a [`KeysFile`] of our own, which may be
//! [attached](attach()) to the cache. A source offers [`Candidate`]s; only those whose hash is that of a
//! record get into the [`Keyring`], so a wrong or hostile source can leave records unresolved but never
//! resolve one wrongly.
//!
//! # From sources to keys
//!
//! The content of a source and the wanted records are separate until the keyring combines them:
//!
//! ```
//! use oci2bk::keys::{
//!     Candidate, KeySource, Keyring, Resolved, SourceDescription, SourceKind, SourceSummary, Uncomputable,
//!     read_source,
//! };
//! use oci2bk::{CacheExport, Limits};
//!
//! let limits = Limits::default();
//! let exports = CacheExport::read_sources(&["fixtures/manifest/cache".parse()?], &limits)?;
//! let mut keyring = Keyring::for_exports(&exports);
//!
//! // An image in a layout, with its provenance.
//! for source in read_source("fixtures/manifest/keys/image".as_ref(), &limits)? {
//!     let SourceDescription { kind, .. } = &source.description;
//!     assert_eq!(*kind, SourceKind::Attestation);
//!     for Uncomputable { name, reason, .. } in &source.uncomputable {
//!         println!("{}: no digest for {name}: {reason}", source.description);
//!     }
//!     keyring.add(source, &limits)?;
//! }
//! let [SourceSummary { candidates, resolved, .. }] = keyring.sources() else { panic!("one image") };
//! assert_eq!(*resolved, keyring.len());
//! assert!(candidates > resolved);
//!
//! for export in &exports {
//!     for record in export.config.digests_with_inputs() {
//!         let Resolved { op_digest, output, name, .. } = keyring.get(&record).expect("all are known");
//!         println!("{}", name.as_deref().unwrap_or("(no name)"));
//!         assert_eq!(op_digest.record(*output), record);
//!     }
//! }
//!
//! // A single known digest is a source too. It is tried like any other.
//! let (_, known) = keyring.iter().next().expect("there are some");
//! let candidate = Candidate {
//!     op_digest: known.op_digest.clone(),
//!     outputs: known.output + 1,
//!     name: None,
//!     encoding: None,
//!     vertex: None,
//!     builder: None,
//! };
//! let path = "notes.txt".into();
//! let description = SourceDescription { path, kind: SourceKind::KeysFile, part: None };
//! let mut other = Keyring::for_exports(&exports);
//! assert!(other.is_empty());
//! other.add(KeySource::from_digests(vec![candidate], description), &limits)?;
//! assert_eq!(other.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Ops in memory can be sources without a file:
//!
//! ```
//! use oci2bk::keys::{KeySource, SourceDescription, SourceKind};
//! use oci2bk::llb::{Definition, Provenance};
//!
//! let json = std::fs::read("fixtures/index/keys/provenance.json")?;
//! let path = "a database".into();
//! let description = SourceDescription { path, kind: SourceKind::Provenance, part: None };
//! let source = KeySource::from_provenance(&Provenance::from_json(&json)?, description.clone());
//! assert!(source.graph.is_some() && !source.candidates.is_empty());
//!
//! // LLB does not say on which platform the daemon ran. If its ops do not either, all are tried.
//! let definition = Definition::from_protobuf(&std::fs::read("tests/data/history/steps.pb")?)?;
//! let description = SourceDescription { kind: SourceKind::Definition, ..description };
//! let source = KeySource::from_definition(&definition, description);
//! assert!(source.graph.is_some() && !source.candidates.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Keys files
//!
//! A keys file has the keys without the arguments and paths of the build, to share them. `oci2bk keys` writes
//! it:
//!
//! ```
//! use oci2bk::keys::{
//!     KEYS_MEDIA_TYPE, KeySource, KeysFile, KeysFileError, MAX_DOCUMENT_BYTES, read_source,
//! };
//! use oci2bk::{CacheExport, Limits};
//!
//! let limits = Limits::default();
//! let sources: Vec<KeySource> =
//!     read_source("fixtures/index/keys/provenance.json".as_ref(), &limits)?;
//! let keys = KeysFile::from_sources(&sources);
//! let json = keys.encode()?;
//! assert!(!keys.is_empty() && json.len() as u64 <= MAX_DOCUMENT_BYTES);
//!
//! // It names its own format, and nothing of the build.
//! let text = String::from_utf8(json.clone())?;
//! assert!(text.contains(KEYS_MEDIA_TYPE) && !text.contains("chown"));
//! let read = KeysFile::decode(&json)?;
//! assert_eq!(read, keys);
//! assert!(read.candidates().iter().all(|candidate| candidate.vertex.is_none()));
//! assert!(matches!(KeysFile::decode(b"{}"), Err(KeysFileError::Json(_))));
//!
//! // The keys of one cache. A cache of another build has no step in common with this one.
//! let caches = ["fixtures/index/cache".parse()?, "fixtures/zstd/cache".parse()?];
//! for (export, is_ours) in CacheExport::read_sources(&caches, &limits)?.iter().zip([true, false]) {
//!     let wanted = export.config.digests_with_inputs().collect();
//!     let (keys, records) = read.of_records(&wanted);
//!     assert_eq!(records, if is_ours { wanted.len() } else { 0 });
//!     assert!(keys.len() <= read.len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It can be attached to the cache and copied with it:
//!
//! ```
//! use oci2bk::keys::{AttachError, Attached, KeysFile, attach, read_layout, read_source};
//! use oci2bk::{CacheExport, Keyring, Limits};
//!
//! # fn copy(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
//! #     std::fs::create_dir_all(to)?;
//! #     for entry in std::fs::read_dir(from)? {
//! #         let (path, to) = { let entry = entry?; (entry.path(), to.join(entry.file_name())) };
//! #         if path.is_dir() { copy(&path, &to)? } else { std::fs::copy(&path, &to).map(drop)? }
//! #     }
//! #     Ok(())
//! # }
//! # let temporary = tempfile::tempdir()?;
//! # copy("fixtures/min/cache".as_ref(), temporary.path())?;
//! # let source = temporary.path().to_str().unwrap().parse()?;
//! # let limits = Limits::default();
//! // `source` names the cache of the fixture `min`, in a temporary directory.
//! let exports = CacheExport::read_all(&source, &limits)?;
//! let keys = read_source("fixtures/min/keys/metadata.json".as_ref(), &limits)?;
//! let Attached { records, changed, .. } =
//!     attach(&exports[0], &KeysFile::from_sources(&keys), Some("keys"))?;
//! assert!(changed);
//!
//! // A copy of the cache has its keys now.
//! let exports = CacheExport::read_all(&source, &limits)?;
//! assert_eq!(read_layout(&exports[0].layout)?.len(), 1);
//! let mut keyring = Keyring::for_exports(&exports);
//! keyring.read_layouts(&exports)?;
//! assert_eq!(keyring.len(), records);
//!
//! let error = attach(&exports[0], &KeysFile::default(), None).unwrap_err();
//! assert!(matches!(error, AttachError::NothingMatches { .. }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Errors of a source
//!
//! Errors name the document, and the problem in terms of its type. A program that fetches sources may need to
//! know whether to fetch one again:
//!
//! ```
//! use oci2bk::Limits;
//! use oci2bk::keys::{
//!     ArtifactError, AttestationError, BundleError, DatabaseError, EnvelopeError, HistoryError,
//!     MetadataFileError, SourceError, read_source,
//! };
//!
//! fn is_cut_off_or_changed(error: &SourceError) -> bool {
//!     match error {
//!         SourceError::Database { source, .. } => matches!(**source, DatabaseError::Read(_)),
//!         SourceError::History { source, .. } => matches!(**source, HistoryError::Corrupt { .. }),
//!         SourceError::Attestations { source, .. } => matches!(**source, AttestationError::Blob(_)),
//!         SourceError::AttachedKeys { source, .. } => matches!(**source, ArtifactError::Blob(_)),
//!         SourceError::Archive { source, .. } => {
//!             matches!(**source, BundleError::Tar(_) | BundleError::Corrupt { .. })
//!         }
//!         _ => false,
//!     }
//! }
//!
//! let temporary = tempfile::tempdir()?;
//! let path = temporary.path().join("source");
//! let read = |content: &[u8]| {
//!     std::fs::write(&path, content).unwrap();
//!     read_source(&path, &Limits::default()).unwrap_err()
//! };
//! let database = std::fs::read("fixtures/zstd/keys/cache.db")?;
//! assert!(is_cut_off_or_changed(&read(&database[..database.len() / 2])));
//!
//! // Here the build must be told to write more.
//! let error = read(br#"{"buildx.build.ref": "builder/node/id"}"#);
//! let SourceError::MetadataFile { source, .. } = &error else { panic!("{error}") };
//! assert_eq!(*source, MetadataFileError::NoProvenance);
//! assert!(!is_cut_off_or_changed(&error));
//!
//! // A signed document must be a statement about a build.
//! let error = read(br#"{"payloadType": "text/plain", "payload": "aGVsbG8="}"#);
//! let SourceError::Envelope { source: EnvelopeError::PayloadType(kind), .. } = &error else {
//!     panic!("{error}")
//! };
//! assert_eq!(kind, "text/plain");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/format/keys.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/keys.md

mod artifact;
mod attestation;
mod bake;
mod beside;
mod bundle;
mod cache_db;
mod cache_debug;
mod containerds;
mod data;
mod database;
mod detect;
mod dockerfile;
mod envelope;
mod error;
mod exported;
mod file;
mod history;
mod input;
mod keyring;
mod metadata_file;
mod path;
mod read;
mod root;
mod scan;
mod source;

pub use artifact::{ArtifactError, AttachError, Attached, attach};
pub use attestation::AttestationError;
pub use bundle::BundleError;
pub use database::DatabaseError;
pub use dockerfile::{DockerfileBuild, DockerfileKeys, ImageConfigPath, ParseImageConfigError};
pub use envelope::EnvelopeError;
pub use error::{SourceError, TooManyOutputs, UnreadHistory};
pub use file::{KEYS_MEDIA_TYPE, KeysFile, KeysFileError, MAX_DOCUMENT_BYTES};
pub use history::HistoryError;
pub use keyring::{KeySourceIndex, Keyring, Resolved, SourceSummary};
pub use metadata_file::MetadataFileError;
pub use path::KeyPath;
pub use read::{read_layout, read_source};
pub use root::{read_builder, read_root};
pub use source::{Candidate, KeySource, SourceDescription, SourceKind, Uncomputable};

#[cfg(test)]
mod tests;
