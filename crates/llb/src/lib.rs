//! LLB: the operations that BuildKit runs, and their op digests.
//!
//! BuildKit finds a cached step by its *op digest*: the SHA-256 of a JSON document that the daemon makes from
//! the op. An exported cache has only a hash over op digest and output number, so the op digest itself must
//! be computed from the op. This crate defines the ops ([`op`]), reads them from BuildKit's provenance
//! ([`Provenance`]) and from LLB of clients ([`Definition`]), and computes their digests as each release does
//! ([`digest()`], [`Encoding`]). [`release`] describes the differences between releases.
//!
//! It works on bytes, without I/O, and does not know `oci2bk`, which converts caches. Its digests and JSON
//! are those of `codec`, which is re-exported as a whole.
//!
//! The formats are described in [`docs/format/llb.md`] of the project, and [`docs/semver.md`] says what is
//! stable. The crate has no features.
//!
//! # From ops to records
//!
//! Provenance has the ops of a build, and an exported cache its records. The op digest connects them:
//!
//! ```
//! use llb::{
//!     Base, Encoding, NotComputable, Op, OpDigest, Platform, Provenance, ProvenanceError, Release,
//!     ResolvedImage, digest, step_name,
//! };
//!
//! let json = std::fs::read("fixtures/index/keys/provenance.json")?;
//! let Provenance { default_platform, ops, images, .. } = Provenance::from_json(&json)?;
//! // Images that the build resolved but did not use as a base, such as the image of an SBOM scanner.
//! for ResolvedImage { name, digest, .. } in &images {
//!     println!("{name} was {digest}");
//! }
//! // The config of the cache that the build exported, which lists the records.
//! let config = "466c59f0e6b01942ddb74b5c77d0648eeac9a28740f1fa51b43a000aaded827c";
//! let config =
//!     std::fs::read_to_string(format!("fixtures/index/cache/blobs/sha256/{config}"))?;
//! let is_record = |op_digest: &OpDigest| config.contains(&op_digest.record(0).to_string());
//!
//! let op: &Op = ops.iter().find(|op| step_name(op).contains("chown 7:8 made")).expect("it is there");
//! let op_digest: OpDigest = digest(op, Encoding::NEWEST, &default_platform)?;
//! assert!(is_record(&op_digest));
//!
//! // Older releases encode the same op as other JSON, so its digest differs.
//! let older = Encoding { release: Release::V0_13, ..Encoding::NEWEST };
//! assert!(Encoding::ALL.contains(&older));
//! assert!(!is_record(&digest(op, older, &default_platform)?));
//!
//! // The result of the command adds one layer to its root file system. It has no other output.
//! assert_eq!(op.base(0), Some(Base { input: 0, inputs: 1 }));
//! assert_eq!(op.outputs(), 1);
//!
//! // The key of a source depends on the fetched content, which the op does not tell.
//! let error = digest(&ops[0], Encoding::NEWEST, &default_platform).unwrap_err();
//! assert!(matches!(error, NotComputable::Source));
//!
//! // The platform is part of the digest, in one spelling.
//! assert_eq!("linux/x86_64".parse::<Platform>()?.normalized(), "linux/amd64".parse()?);
//!
//! let error = Provenance::from_json(b"{}").unwrap_err();
//! assert!(matches!(error, ProvenanceError::NotProvenance));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! LLB from clients
//!
//! LLB itself has the same content, in several formats:
//!
//! ```
//! use llb::{Definition, DefinitionError, Graph, MAX_PARTS, Output, Step};
//!
//! let definition = Definition::from_protobuf(&std::fs::read("tests/data/history/steps.pb")?)?;
//! let graph: &Graph = definition.graph.as_deref().expect("each op comes after those it builds on");
//! let result: &Step = graph.steps.last().expect("no definition is empty");
//! assert!(result.is_return());
//! let Output { step, output } = result.inputs[0];
//! println!("the result is output {output} of {}", graph.steps[step].name());
//! // The requested outputs of each step.
//! assert!(graph.outputs()[step].contains(&output));
//! assert_eq!(graph.results(), result.inputs);
//!
//! let dump = Definition::from_dump(&std::fs::read("tests/data/history/raw.jsonl")?)?;
//! let same = Definition::from_protobuf(&std::fs::read("tests/data/history/raw.pb")?)?;
//! assert_eq!(dump.ops.len(), same.ops.len());
//!
//! // As docker buildx build --call=convertllb,format=json prints it.
//! let answer = Definition::from_convertllb(&std::fs::read("tests/data/history/raw.answer.json")?)?;
//! assert_eq!(answer.ops.len(), same.ops.len());
//! let error = Definition::from_convertllb(b"{}").unwrap_err();
//! assert!(matches!(error, DefinitionError::Answer(_)));
//! let orphan = br#"{"def": {"a": {"inputs": [{"digest": "b"}]}}}"#;
//! let error = Definition::from_convertllb(orphan).unwrap_err();
//! assert!(matches!(error, DefinitionError::NoOrder { input } if input == "b"));
//!
//! assert!(matches!(Definition::from_protobuf(b""), Err(DefinitionError::Empty)));
//! // Two bytes are an op, so a limit applies before anything is decoded.
//! let many = b"\x0a\0".repeat(MAX_PARTS + 1);
//! assert!(matches!(Definition::from_protobuf(&many), Err(DefinitionError::TooLarge)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! An op digest can also come from a database, which is untrusted:
//!
//! ```
//! use llb::codec::Digest;
//! use llb::{InvalidOpDigest, MAX_OP_DIGEST_BYTES, OpDigest};
//!
//! let op_digest = OpDigest::from(Digest::of("the JSON of an op"));
//! assert!(op_digest.as_str().starts_with("sha256:"));
//! assert_eq!(op_digest.record(0), Digest::of(format!("{op_digest}@0")));
//!
//! for text in ["a@0".to_owned(), "x".repeat(MAX_OP_DIGEST_BYTES + 1)] {
//!     let error: InvalidOpDigest = OpDigest::try_from(text).unwrap_err();
//!     assert!(error.text.len() <= 100);
//! }
//! ```
//!
//! # Selectors and contents
//!
//! A daemon finds a step not only by its digest: it also looks at parts of the inputs. A [`Vertex`] computes
//! the data for that:
//!
//! ```
//! use llb::op::{Kind, Mount};
//! use llb::{Encoding, Patterns, Provenance, Selectors, Vertex, step_name};
//!
//! let json = std::fs::read("fixtures/index/keys/provenance.json")?;
//! let provenance = Provenance::from_json(&json)?;
//! let vertex = |name: &str| {
//!     let op = provenance.ops.iter().find(|op| step_name(op).starts_with(name)).expect(name).clone();
//!     Vertex { op, default_platform: provenance.default_platform.clone() }
//! };
//!
//! // RUN --mount=type=bind,source=src,target=/src --mount=type=tmpfs,target=/tmp2 cat /src/* > joined
//! let run = vertex("RUN cat");
//! println!("{} is the digest of {}", run.digest(Encoding::NEWEST)?, run.document(Encoding::NEWEST)?);
//! // A mount is also looked up by its content.
//! assert!(run.hashes_contents(1));
//! // It has two inputs.
//! assert_eq!(run.hashed_paths(2)[1], Some(vec!["/src"]));
//! assert_eq!(run.hashed_patterns(1), Some(Patterns::None));
//! // The digest does not tell the directory. The link from the input does.
//! assert!(Selectors::ALL.iter().all(|&class| !run.own_selectors(2, class)[1].is_empty()));
//! // A whole mount selects nothing, but in newer releases this counts as a selection.
//! assert_eq!(run.selector(0, Selectors::V0_11), Some(String::new()));
//! assert_ne!(run.selector(0, Selectors::V0_15_2), Some(String::new()));
//! // The second input has only one mount, so it is clear which mount the selector belongs to.
//! assert!(run.tells_selections(1, Selectors::V0_11));
//!
//! // COPY app.conf src/ /work/
//! let copy = vertex("COPY /app.conf /src");
//! assert_eq!(copy.hashed_paths(2)[1], Some(vec!["/app.conf", "/src"]));
//! // The selectors of file ops are the same in all releases.
//! assert_eq!(copy.selector(1, Selectors::V0_11), None);
//!
//! // RUN --mount=type=secret,id=token
//! let mut secret = vertex("RUN wc");
//! assert_eq!(secret.as_sent_since_v0_15_2(), None);
//! let today = secret.clone();
//! let Kind::Exec(exec) = &mut secret.op.kind else { panic!("it runs a command") };
//! exec.mounts.iter_mut().filter(|mount| mount.mount_type == Mount::SECRET).for_each(|m| m.input = 0);
//! assert_eq!(secret.as_sent_since_v0_15_2(), Some(today));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/format/llb.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/format/llb.md
//! [`docs/semver.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/semver.md

mod base;
mod class;
mod definition;
mod digest;
mod encoding;
mod graph;
mod json;
mod material;
mod members;
mod name;
pub mod op;
mod platform;
mod preimage;
mod proto;
mod provenance;
pub mod release;
mod selector;
mod vertex;

pub use codec;

pub use base::Base;
pub use definition::{Definition, DefinitionError, MAX_PARTS};
pub use digest::{InvalidOpDigest, MAX_OP_DIGEST_BYTES, OpDigest, digest};
pub use encoding::{Encoding, Release};
pub use graph::{Graph, Output, Step};
pub use material::ResolvedImage;
pub use name::step_name;
pub use op::Op;
pub use platform::{ParsePlatformError, Platform};
pub use preimage::NotComputable;
pub use provenance::{Provenance, ProvenanceError};
pub use selector::{Selectors, below_root};
pub use vertex::{Patterns, Vertex};

#[cfg(test)]
mod tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
