//! Limits on the cost of the input: the only place for limits that can be changed.
//!
//! Caches, layers and key sources come over a network and may be hostile. Limits that do not follow from a
//! format, from containerd or from the kernel are here, with defaults far above what real caches need (25 GB,
//! a million records) and low enough that no input exhausts a machine. [`docs/limits.md`] has the table, and
//! the fixed limits.
//!
//! To add one, add it to the table below and to [`docs/limits.md`], and check it where the input is read:
//! [`Layout::limits`](crate::layout::Layout::limits) has them for everything in a layout;
//! [`unpack`](crate::unpack::unpack) and [`read_source`](crate::keys::read_source) take them as an argument.
//! The command line and its help need no change.
//!
//! Limits from people are parsed as on the command line:
//!
//! ```
//! use oci2bk::Limits;
//! use oci2bk::limits::{Bound, LIMITS, Limit, ParseSettingError, Setting, amount};
//!
//! let help = |limit: &Limit| {
//!     format!("{}={}: {}", limit.name(), amount(limit.default), limit.description)
//! };
//! assert_eq!(help(&LIMITS[0]), "layer-entries=20M: Entries of one layer.");
//!
//! let settings: Vec<Setting> =
//!     ["manifest=1Mi", "config=64M"].into_iter().map(str::parse).collect::<Result<_, _>>()?;
//! let limits = Limits::with(&settings);
//! // A bound knows its limit, for error messages.
//! assert_eq!(limits.of_manifest(), Bound { value: 1 << 20, name: "manifest" });
//! assert_eq!(limits.of_config(), Bound { value: 64_000_000, name: "config" });
//!
//! let unknown = "patience=7".parse::<Setting>().unwrap_err();
//! assert!(matches!(unknown, ParseSettingError::UnknownName { name } if name == "patience"));
//! # Ok::<(), ParseSettingError>(())
//! ```
//!
//! Indexes may be nested [`MAX_INDEX_DEPTH`] deep. Deeper ones are rejected:
//!
//! ```
//! use oci2bk::Limits;
//! use oci2bk::layout::Layout;
//! use oci2bk::limits::MAX_INDEX_DEPTH;
//! use oci2bk::manifest::{OCI_INDEX, SelectError, other_manifests};
//! use serde_json::json;
//!
//! let temporary = tempfile::tempdir()?;
//! std::fs::create_dir_all(temporary.path().join("blobs/sha256"))?;
//! let mut index = json!({"manifests": []}).to_string();
//! std::fs::write(temporary.path().join("index.json"), &index)?;
//! let layout = Layout::open(temporary.path(), &Limits::default())?;
//! for _ in 0..=MAX_INDEX_DEPTH {
//!     let digest = layout.writer()?.put_blob(index.as_bytes())?;
//!     let entry = json!({"mediaType": OCI_INDEX, "digest": digest, "size": index.len()});
//!     index = json!({"manifests": [entry]}).to_string();
//! }
//! layout.writer()?.put_index(index.into_bytes())?;
//!
//! let layout = Layout::open(temporary.path(), &Limits::default())?;
//! assert!(matches!(other_manifests(&layout), Err(SelectError::TooDeep { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`docs/limits.md`]: https://github.com/oci2bk/oci2bk/blob/main/docs/limits.md

use std::fmt;
use std::str::FromStr;

/// Defines [`Limits`], [`LIMITS`] and the names from one table. The first line of a limit's documentation is
/// its description for people.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+
    $field:ident $constant:ident $name:literal = $default:expr, untrusted $untrusted:expr;)+) => {
        /// Limits on the amounts in the input.
        ///
        /// ```
        /// use oci2bk::Limits;
        ///
        /// // Any release may add limits.
        /// let limits = Limits { layer_entries: 1000, ..Limits::default() };
        /// assert_eq!(limits.path, 4095);
        ///
        /// // As on the command line.
        /// let limits = Limits::with(&["layer-entries=50M".parse()?]);
        /// assert_eq!(limits.layer_entries, 50_000_000);
        /// # Ok::<(), oci2bk::limits::ParseSettingError>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Limits {
            /// Returns limits for input from people whom the caller does not trust, such as an upload to a
            /// service: enough for an ordinary cache of some gigabytes. The page of limits that the module names
            /// has the numbers. Like the defaults they may be raised; they are lowered only for safety.
            ///
            /// A conversion within them writes at most `total_size` bytes and `total_entries` files. A service
            /// sets these two to what its disk has:
            ///
            /// ```
            /// use oci2bk::Limits;
            ///
            /// let limits = Limits { total_size: 10 << 30, ..Limits::untrusted() };
            /// assert!(limits.layer_entries < Limits::default().layer_entries);
            /// ```
            pub const fn untrusted() -> Self {
                Self { $($field: $untrusted,)+ }
            }
        }

        /// Names of the limits, for errors about one.
        pub(crate) mod name {
            $(pub(crate) const $constant: &str = $name;)+
        }

        /// All limits.
        pub const LIMITS: &[Limit] = &[$(Limit {
            name: $name,
            description: first(&[$($doc),+]),
            default: $default,
            untrusted: $untrusted,
            place: |limits| &mut limits.$field,
        },)+];
    };
}

limits! {
    /// Entries of one layer.
    layer_entries LAYER_ENTRIES "layer-entries" = 20_000_000, untrusted 1_000_000;
    /// Bytes of one unpacked layer, holes of sparse files included.
    layer_size LAYER_SIZE "layer-size" = 1 << 40, untrusted 16 << 30;
    /// How many times as large as its blob an unpacked layer may be, if it is larger than `ratio-from`.
    ///
    /// Real layers are rarely above 20; gzip cannot exceed 1032, zstd can. The limit also applies to a layout
    /// in a compressed archive, and to all layers of a conversion together: their total may be that many
    /// times the bytes of their blobs. Each blob counts once, although it can be in many chains of layers and
    /// is unpacked for each.
    layer_ratio LAYER_RATIO "layer-ratio" = 200, untrusted 100;
    /// Bytes of an unpacked layer, or of all layers of a conversion, up to which `layer-ratio` does not matter.
    ///
    /// Small layers of zeros, such as an empty database, can be compressed far better than others.
    ratio_from RATIO_FROM "ratio-from" = 4 << 30, untrusted 1 << 30;
    /// Bytes of memory for the names of one layer's directories.
    ///
    /// They are needed again after the last entry. A directory takes some 200.
    layer_directories LAYER_DIRECTORIES "layer-directories" = 1 << 30, untrusted 128 << 20;
    /// Bytes of paths looked up for one layer, to find links in them and directories in layers below.
    ///
    /// If a directory of a path is missing or a link, the path is looked up once for each of its components,
    /// up to 8192 times with many links. A directory without an entry in the layer is looked up in the layers
    /// below, until one has it. Each lookup counts as the length of the path plus 256 bytes. The default
    /// takes some minutes.
    layer_lookups LAYER_LOOKUPS "layer-lookups" = 16 << 30, untrusted 1 << 30;
    /// Bytes of all unpacked layers of one conversion, holes of sparse files included.
    ///
    /// A cache of 25 GB unpacks to some 100 GB, and to several times that if layers are in several chains, as
    /// with `COPY --link`. Layers that stay packed are still read, and count.
    total_size TOTAL_SIZE "total-size" = 2 << 40, untrusted 64 << 30;
    /// Entries of all unpacked layers of one conversion.
    ///
    /// This many small files of one disk block each take 400 GB.
    total_entries TOTAL_ENTRIES "total-entries" = 100_000_000, untrusted 4_000_000;
    /// Bytes of paths looked up for all layers of one conversion, see `layer-lookups`.
    ///
    /// Ordinary caches take less than a hundredth of it. The default takes some twenty minutes.
    total_lookups TOTAL_LOOKUPS "total-lookups" = 64 << 30, untrusted 4 << 30;
    /// Snapshots that one conversion unpacks.
    ///
    /// Each step of a build makes at most one.
    snapshots SNAPSHOTS "snapshots" = 100_000, untrusted 2000;
    /// Bytes of the name of an entry of a layer, and of the target of a link.
    ///
    /// The maximum length of a path in Linux. A longer name can still be that of a short path.
    path PATH "path" = 4095, untrusted 4095;
    /// Bytes of all extended attributes of one entry of a layer, names and values.
    xattrs XATTRS "xattrs" = 128 << 10, untrusted 128 << 10;
    /// Bytes of a cache config.
    ///
    /// A record takes about 250, so the default is a cache of some 1,000,000 records.
    config CONFIG "config" = 256 << 20, untrusted 32 << 20;
    /// Layers of a cache: those of its config, and those in the chains of an inline cache.
    ///
    /// Each takes about 2 KiB of memory in a state.
    cache_layers CACHE_LAYERS "cache-layers" = 250_000, untrusted 10_000;
    /// Bytes of `oci-layout`, of `index.json`, and of one manifest or index.
    ///
    /// A layer's descriptor takes about 500, so the default is a cache of some 30,000 blobs.
    manifest MANIFEST "manifest" = 16 << 20, untrusted 4 << 20;
    /// Manifests and indexes of one layout.
    manifests MANIFESTS "manifests" = 10_000, untrusted 1000;
    /// Bytes of all manifests and indexes of one layout.
    manifests_size MANIFESTS_SIZE "manifests-size" = 256 << 20, untrusted 32 << 20;
    /// Members of a layout in a tar archive.
    ///
    /// The index takes about 100 bytes for each.
    archive_members ARCHIVE_MEMBERS "archive-members" = 1_000_000, untrusted 100_000;
    /// Files and directories of a mirror of a cache in S3 or Azure.
    mirror_files MIRROR_FILES "mirror-files" = 1_000_000, untrusted 100_000;
    /// Bytes of a layout in a compressed archive, decompressed.
    ///
    /// They take the same space in a temporary file. Layers are compressed themselves, so it is hardly larger
    /// than the archive.
    archive_size ARCHIVE_SIZE "archive-size" = 128 << 30, untrusted 32 << 30;
    /// Bytes of one document with keys, such as provenance.
    ///
    /// Provenance of a build of a thousand steps has about a million.
    keys_document KEYS_DOCUMENT "keys-document" = 64 << 20, untrusted 16 << 20;
    /// Bytes of all documents with keys in one layout, build history or bundle.
    keys_documents KEYS_DOCUMENTS "keys-documents" = 512 << 20, untrusted 64 << 20;
    /// Bytes of a bundle of build history, decompressed.
    ///
    /// It also contains logs and traces of the builds.
    bundle_size BUNDLE_SIZE "bundle-size" = 1 << 30, untrusted 128 << 20;
    /// Members of a bundle of build history.
    ///
    /// A bundle of one build has about ten.
    bundle_members BUNDLE_MEMBERS "bundle-members" = 20_000, untrusted 2000;
    /// Outputs of ops tried to find the keys of a cache, from all key sources together.
    ///
    /// Each takes one hash; the default takes some ten seconds. Most ops have one output, and as many digests
    /// as there are encodings in BuildKit releases: three or four. For the ops in a `cache.db` at least eight
    /// outputs are tried.
    key_outputs KEY_OUTPUTS "key-outputs" = 64 << 20, untrusted 4 << 20;
    /// Values in one JSON document.
    ///
    /// A record of a cache config has about 12, a step in provenance about 50.
    json_values JSON_VALUES "json-values" = 15_000_000, untrusted 2_000_000;
    /// Objects in one JSON document.
    ///
    /// A record of a cache config has 3 or 4, a step in provenance about 20. The largest becomes a
    /// structure of some 400 bytes.
    json_objects JSON_OBJECTS "json-objects" = 4_000_000, untrusted 500_000;
    /// Comparisons of what builds ask for with what a cache has, to explain why they are not cached.
    ///
    /// A step is compared with each cached step of the same name, and, if it is not found, with those on the
    /// same inputs. A build of a thousand steps takes some tens of thousands.
    comparisons COMPARISONS "comparisons" = 10_000_000, untrusted 1_000_000;
}

/// How deep indexes may be nested below `index.json`. Tools make one or two levels.
pub const MAX_INDEX_DEPTH: usize = 8;

/// Maximum number of layers in the chain of a snapshot, itself included: overlayfs accepts no more lower
/// layers (Linux 6.18 `fs/overlayfs/params.h` `OVL_MAX_STACK`), so nothing could be mounted on a longer one.
///
/// ```
/// use oci2bk::limits::MAX_CHAIN;
///
/// assert_eq!(MAX_CHAIN, 500);
/// ```
pub const MAX_CHAIN: usize = 500;

/// The value of a limit, and its name, for advice on how to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Its value.
    pub value: u64,
    /// Returns its name on the command line.
    pub name: &'static str,
}

/// A limit that can be changed.
#[derive(Clone, Copy)]
pub struct Limit {
    name: &'static str,
    /// What it limits.
    pub description: &'static str,
    /// Its default.
    pub default: u64,
    /// Its value in [`Limits::untrusted`].
    pub untrusted: u64,
    place: fn(&mut Limits) -> &mut u64,
}

impl Limit {
    /// Returns its name on the command line and in
    /// [`Classified::limit_name`](bkstate::Classified::limit_name).
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name(), self.default)
    }
}

/// Returns the first line of a doc comment in the table.
const fn first(lines: &[&'static str]) -> &'static str {
    lines[0].trim_ascii()
}

/// A change of limits: one with a new value, from `NAME=VALUE`, or all of them, from `untrusted`
/// ([`Limits::untrusted`]).
///
/// The value is an integer, which may end in `K`, `M`, `G` or `T` for powers of 1000, or in `Ki`, `Mi`, `Gi`
/// or `Ti` for powers of 1024.
///
/// ```
/// use oci2bk::Limits;
///
/// let limits = Limits::with(&["untrusted".parse()?, "total-size=10Gi".parse()?]);
/// assert_eq!(limits, Limits { total_size: 10 << 30, ..Limits::untrusted() });
/// # Ok::<(), oci2bk::limits::ParseSettingError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Setting(Change);

#[derive(Debug, Clone, Copy)]
enum Change {
    One { limit: &'static Limit, value: u64 },
    Untrusted,
}

/// The word for [`Limits::untrusted`].
const UNTRUSTED: &str = "untrusted";

/// Why a text is not a [`Setting`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSettingError {
    /// It has no `=`.
    #[error("it is neither NAME=VALUE, such as layer-entries=50M, nor {UNTRUSTED}")]
    NoValue,
    /// The limit does not exist.
    #[error("there is no limit {name:?}; there are {}", names())]
    UnknownName {
        /// The name.
        name: String,
    },
    /// The value is not a number, or is too large.
    #[error("{value:?} is not a number such as 4096, 50M or 4Gi")]
    Value {
        /// The value.
        value: String,
    },
}

fn names() -> String {
    let names: Vec<_> = LIMITS.iter().map(Limit::name).collect();
    names.join(", ")
}

impl FromStr for Setting {
    type Err = ParseSettingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == UNTRUSTED {
            return Ok(Self(Change::Untrusted));
        }
        let (name, value) = text.split_once('=').ok_or(ParseSettingError::NoValue)?;
        let limit = LIMITS
            .iter()
            .find(|limit| limit.name() == name)
            .ok_or_else(|| ParseSettingError::UnknownName { name: name.to_owned() })?;
        let value = parse_amount(value)
            .ok_or_else(|| ParseSettingError::Value { value: value.to_owned() })?;
        Ok(Self(Change::One { limit, value }))
    }
}

/// Units, and the exponents of their base.
const UNITS: [(char, u32); 4] = [('K', 1), ('M', 2), ('G', 3), ('T', 4)];

fn parse_amount(text: &str) -> Option<u64> {
    let (text, base) = match text.strip_suffix('i') {
        Some(text) => (text, 1024_u64),
        None => (text, 1000),
    };
    let unit = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit));
    let (digits, power) = match unit {
        Some((unit, power)) => (text.strip_suffix(unit)?, power),
        None if base == 1024 => return None,
        None => (text, 0),
    };
    // No sign, which Rust accepts for integers.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(base.pow(power))
}

/// Formats an amount in the form of [`Setting`], in the largest unit that divides it.
pub fn amount(value: u64) -> String {
    for (base, ending) in [(1024_u64, "i"), (1000, "")] {
        for (unit, power) in UNITS.into_iter().rev() {
            if value > 0 && value.is_multiple_of(base.pow(power)) {
                return format!("{}{unit}{ending}", value / base.pow(power));
            }
        }
    }
    value.to_string()
}

impl Limits {
    /// Returns the default limits with these changes, in their order.
    pub fn with<'s>(settings: impl IntoIterator<Item = &'s Setting>) -> Self {
        let mut limits = Self::default();
        for Setting(change) in settings {
            match change {
                Change::One { limit, value } => *(limit.place)(&mut limits) = *value,
                Change::Untrusted => limits = Self::untrusted(),
            }
        }
        limits
    }

    /// Returns the maximum size of a cache config, in bytes.
    pub fn of_config(&self) -> Bound {
        Bound { value: self.config, name: name::CONFIG }
    }

    /// Returns the maximum size of a manifest, in bytes.
    pub fn of_manifest(&self) -> Bound {
        Bound { value: self.manifest, name: name::MANIFEST }
    }

    /// Returns the maximum size of one of several manifests, if `left` bytes are left for all.
    pub(crate) fn of_manifests(&self, left: u64) -> Bound {
        smaller(self.of_manifest(), Bound { value: left, name: name::MANIFESTS_SIZE })
    }

    /// Returns the maximum size of a document with keys, if `left` bytes are left for all.
    pub(crate) fn of_keys_document(&self, left: u64) -> Bound {
        let one = Bound { value: self.keys_document, name: name::KEYS_DOCUMENT };
        smaller(one, Bound { value: left, name: name::KEYS_DOCUMENTS })
    }

    /// Returns the maximum size of a layout in a compressed archive of `size` bytes.
    pub(crate) fn of_archive(&self, size: u64) -> Bound {
        smaller(Bound { value: self.archive_size, name: name::ARCHIVE_SIZE }, self.by_ratio(size))
    }

    /// Returns the maximum size of the unpacked layer of a blob of `size` bytes.
    pub(crate) fn of_unpacked(&self, size: u64) -> Bound {
        smaller(Bound { value: self.layer_size, name: name::LAYER_SIZE }, self.by_ratio(size))
    }

    /// Returns the maximum size of all unpacked layers, in bytes.
    pub(crate) fn of_all_unpacked(&self) -> Bound {
        Bound { value: self.total_size, name: name::TOTAL_SIZE }
    }

    /// Returns the maximum size of the unpacked layers of blobs with `size` bytes in total, without holes.
    pub(crate) fn by_ratio(&self, size: u64) -> Bound {
        let by_ratio = size.saturating_mul(self.layer_ratio);
        match self.ratio_from {
            from if from > by_ratio => Bound { value: from, name: name::RATIO_FROM },
            _ => Bound { value: by_ratio, name: name::LAYER_RATIO },
        }
    }
}

/// Returns the bound that is reached first.
pub(crate) fn smaller(one: Bound, other: Bound) -> Bound {
    if other.value < one.value { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_their_limit_and_the_last_counts() {
        let settings = ["layer-entries=50M", "path=1Mi", "layer-entries=7", "layer-ratio=1K"];
        let settings = settings.map(|text| text.parse().unwrap());
        let limits = Limits::with(&settings);
        let expected =
            Limits { layer_entries: 7, path: 1 << 20, layer_ratio: 1000, ..Limits::default() };
        assert_eq!(limits, expected);
        assert_eq!(Limits::with(&[]), Limits::default());
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        let parse = |text: &str| text.parse::<Setting>().map(|_| ()).unwrap_err();
        assert_eq!(parse("path"), ParseSettingError::NoValue);
        for name in ["", "paths", "layer_entries", "PATH"] {
            let error = parse(&format!("{name}=1"));
            assert_eq!(error, ParseSettingError::UnknownName { name: name.to_owned() });
            assert!(error.to_string().contains("layer-entries, layer-size"), "{error}");
        }
        for value in ["", "-1", "+1", "1.5G", "i", "1i", "1KB", "K", "1e9", "99999999T", " 1"] {
            let error = parse(&format!("path={value}"));
            assert_eq!(error, ParseSettingError::Value { value: value.to_owned() }, "{value}");
        }
    }

    #[test]
    fn amounts_are_written_as_they_are_read() {
        for (value, text) in [
            (0, "0"),
            (7, "7"),
            (4095, "4095"),
            (20_000_000, "20M"),
            (1 << 40, "1Ti"),
            (3 << 20, "3Mi"),
            (1_024_000, "1000Ki"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(amount(value), text);
            assert_eq!(parse_amount(text), Some(value));
        }
    }

    #[test]
    fn small_layers_are_free_of_the_ratio() {
        let limits = Limits::default();
        let of = |size| limits.of_unpacked(size);
        assert_eq!(of(0), Bound { value: 4 << 30, name: "ratio-from" });
        assert_eq!(of(1 << 30), Bound { value: 200 << 30, name: "layer-ratio" });
        assert_eq!(of(1 << 50), Bound { value: 1 << 40, name: "layer-size" });
        assert_eq!(of(u64::MAX), Bound { value: 1 << 40, name: "layer-size" });
        let limits = Limits { layer_size: 100, ..limits };
        assert_eq!(limits.of_unpacked(1), Bound { value: 100, name: "layer-size" });
    }

    #[test]
    fn what_is_untrusted_may_cost_no_more_than_other_input() {
        for limit in LIMITS {
            assert!(limit.untrusted <= limit.default, "{limit:?}");
        }
        let limits = Limits::untrusted();
        let small = 4_000_000;
        assert_eq!(limits.of_unpacked(small), Bound { value: 1 << 30, name: "ratio-from" });
        assert_eq!(limits.by_ratio(small), Bound { value: 1 << 30, name: "ratio-from" });
    }

    #[test]
    fn names_are_those_of_the_fields() {
        let fields = format!("{:?}", Limits::default());
        let fields = fields.split(['{', ',']).skip(1).filter_map(|field| field.split_once(':'));
        let fields: Vec<_> = fields.map(|(field, _)| field.trim().replace('_', "-")).collect();
        let names: Vec<_> = LIMITS.iter().map(Limit::name).collect();
        assert_eq!(names, fields);
    }

    #[test]
    fn the_documentation_has_them_all() {
        let documentation = include_str!("../tests/data/limits.md");
        let rows = documentation.lines().filter(|line| line.starts_with("| `"));
        let rows: Vec<_> = rows.collect();
        let expected: Vec<_> = LIMITS
            .iter()
            .map(|limit| {
                let description = limit.description.trim_end_matches('.');
                let [default, untrusted] = [limit.default, limit.untrusted].map(amount);
                format!("| `{}` | {default} | {untrusted} | {description} |", limit.name())
            })
            .collect();
        assert_eq!(rows, expected);
    }
}
