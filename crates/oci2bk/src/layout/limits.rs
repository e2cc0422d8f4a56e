//! How large and how many documents a cache export may have.
//!
//! The documents are read into memory, so a limit is checked against the file's real size before
//! anything is allocated. The values are far above what BuildKit can export (its own importer
//! refuses manifests and configs over 1 MiB) and low enough that no layout exhausts a machine.

/// The most bytes read of `oci-layout`.
pub const OCI_LAYOUT_FILE: u64 = 64 << 10;

/// The most bytes read of `index.json`.
pub const INDEX_FILE: u64 = 64 << 20;

/// The most bytes read of one manifest or index blob. A layer descriptor takes about 500 bytes, so
/// this is a cache of some 130,000 layers.
pub const MANIFEST: u64 = 64 << 20;

/// How deep indexes may be nested below `index.json`. Tools make one or two levels.
pub const INDEX_DEPTH: usize = 8;

/// How many manifests and indexes are read while looking for a cache in one layout.
pub const DOCUMENTS: usize = 10_000;

/// The most bytes of all manifests and indexes that are looked at in one layout.
pub const DOCUMENTS_BYTES: u64 = 256 << 20;

/// How many members an archive of a layout may have. What is remembered of each takes about 100
/// bytes.
pub const ARCHIVE_MEMBERS: usize = 1_000_000;

/// How many values one JSON document may have. A record of a cache config has about 12, a step in
/// provenance about 50.
pub const JSON_VALUES: usize = 16_000_000;

/// How many of the values may be objects. A record of a cache config has 3 or 4, a step in provenance
/// about 20. The largest becomes a structure of some 400 bytes.
pub const JSON_OBJECTS: usize = 4_000_000;

/// How many layers a cache may have: those of its config, and those in the chains of an inline cache.
/// What a state has of each takes about 2 KiB of memory.
pub const LAYERS: usize = 250_000;

/// The longest selector of a link, in bytes. BuildKit makes digests of them (v0.32.2
/// `solver/llbsolver/ops/{exec,file}.go`). It is a part of a key in `cache.db`, which is limited.
pub const SELECTOR: usize = 1024;
