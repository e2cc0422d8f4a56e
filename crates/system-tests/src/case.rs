//! One build of the table: its input, the export of its cache, and the source of its keys.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The name of its test.
    pub name: &'static str,
    /// Makes the Dockerfile; `World` fills in `{registry}` and `{web}`.
    pub dockerfile: fn() -> String,
    /// Makes the build context.
    pub context: fn(&Context),
    /// Edits a file of the context that a step in the middle of the build reads.
    pub edit: fn(&Context),
    /// Additional arguments of buildctl; `{context}` is the context directory.
    pub arguments: &'static [&'static str],
    /// The form of its cache export.
    pub export: Export,
    /// The source of its keys.
    pub keys: Keys,
}

impl Case {
    /// A build without a context, with the default form of cache and keys.
    pub const fn plain(name: &'static str, dockerfile: fn() -> String) -> Self {
        Self {
            name,
            dockerfile,
            context: |_| {},
            edit: |_| {},
            arguments: &[],
            export: Export::MAX,
            keys: Keys::Provenance,
        }
    }
}

/// The form of the cache export.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    /// The results in it.
    pub mode: Mode,
    /// Attributes of `--export-cache` after `type`, `dest` and `mode`, with a leading comma.
    pub attributes: &'static str,
}

/// The results in an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The results of every step.
    Max,
    /// The results that are part of the final one.
    Min,
}

impl Mode {
    /// Returns its name in buildctl.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

impl Export {
    /// The default of a daemon of the pinned release, with every step's result.
    pub const MAX: Self = Self { mode: Mode::Max, attributes: "" };

    /// Returns whether the layers of the export contain the same archives as those of the base image, with
    /// any compression: estargz adds entries to the archive.
    pub fn keeps_diff_ids(&self) -> bool {
        !self.attributes.contains("estargz")
    }

    /// The index style, the default up to v0.20.
    pub const INDEX: Self = Self { mode: Mode::Max, attributes: ",image-manifest=false" };
}

/// The source of op digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// SLSA provenance v1 from the local exporter: an in-toto statement.
    Provenance,
    /// The same in SLSA v0.2.
    ProvenanceV02,
    /// The attestation manifests of an image exported to an OCI layout.
    Attestation,
    /// The same in the layout of the cache itself, which then does not need `--keys`.
    Inside,
    /// Provenance, converted with `oci2bk keys` and attached to the cache with `oci2bk keys attach`.
    Attached,
    /// `docker buildx build --metadata-file`.
    Metadata,
    /// The `cache.db` of the daemon that exported.
    Donor,
    /// Its `cache-debug.db`.
    CacheDebug,
    /// Its build history, through `history.db`.
    History,
    /// Its root directory, unchanged.
    Root,
    /// `docker buildx history export`.
    Bundle,
    /// LLB in protobuf, which is built in this case, not a Dockerfile.
    Definition,
    /// Provenance that the local exporter writes beside the cache, which then does not need `--keys`.
    Beside,
    /// The output of the tar exporter.
    Tar,
    /// The response of the frontend to `frontend.convertllb`.
    Answer,
}

impl Keys {
    /// Returns whether the source has the ops, and not only their digests.
    pub fn have_ops(self) -> bool {
        !matches!(self, Self::Attached | Self::Donor | Self::CacheDebug)
    }
}

/// A build context while it is made.
#[derive(Clone, Debug)]
pub struct Context {
    dir: PathBuf,
}

impl Context {
    /// Creates an empty context in `dir`, and replaces an existing one.
    pub fn create(dir: &Path) -> Self {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).expect("the scratch directory is writable");
        Self { dir: dir.to_owned() }
    }

    /// Returns its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file, and creates the directories above it.
    pub fn file(&self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("context directory");
        }
        fs::write(&path, contents).expect("context file");
        path
    }

    /// Writes a file with these permission bits.
    pub fn file_mode(&self, path: &str, contents: &str, mode: u32) {
        let path = self.file(path, contents);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("context mode");
    }

    /// Writes a file whose name is these bytes.
    pub fn file_bytes(&self, name: &[u8], contents: &str) {
        self.file(OsStr::from_bytes(name), contents);
    }

    /// Creates a symbolic link.
    pub fn symlink(&self, path: &str, target: &str) {
        std::os::unix::fs::symlink(target, self.dir.join(path)).expect("context symlink");
    }

    /// Creates a hard link to a file.
    pub fn hard_link(&self, path: &str, existing: &str) {
        fs::hard_link(self.dir.join(existing), self.dir.join(path)).expect("context hard link");
    }

    /// Gives a file an extended attribute.
    pub fn xattr(&self, path: &str, name: &str, value: &[u8]) {
        rustix::fs::lsetxattr(self.dir.join(path), name, value, XattrFlags::empty())
            .expect("context xattr");
    }
}
