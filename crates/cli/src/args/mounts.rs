//! The arguments of `mounts`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bkstate::Time;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use oci2bk::mounts::{Existing, MountsSource, Owner, Selection, Wanted};
use oci2bk::release::Target;
use oci2bk::source::{ParseSourceError, Reference, Source};

use super::common::{Format, LimitArguments, PROGRESS_VARIABLE, ProgressMode, more_help};
use super::daemon::{BUILDER, CONFIG, DaemonArguments, ENGINE, RootArguments};
use crate::clock;

const EXAMPLES: &str = "\
Examples:
  # What the builds of a builder have collected in RUN --mount=type=cache
  oci2bk mounts ls --builder ci

  # Attach it to the cache of these builds, for convert --mounts
  oci2bk mounts export --builder ci --attach ./cache";

const LS_EXAMPLES: &str = "\
Examples:
  # Those of a root
  oci2bk mounts ls /var/lib/buildkit

  # Those in a layout
  oci2bk mounts ls oci:cache

  # For programs
  oci2bk mounts ls /var/lib/buildkit --format json";

const EXPORT_EXAMPLES: &str = "\
Examples:
  # All cache mounts, beside the cache of the same builds
  oci2bk mounts export /var/lib/buildkit --attach ./cache

  # Two of them, in a layout of their own, which skopeo copies to a registry
  oci2bk mounts export /var/lib/buildkit target=/root/.m2 id=npm --to oci:mounts:main

  # The files of one, for the cache of a CI system
  oci2bk mounts export --builder ci target=/go/pkg/mod --to tar:go.tar";

const IMPORT_EXAMPLES: &str = "\
Examples:
  # All cache mounts of a layout
  oci2bk mounts import oci:mounts:main /var/lib/buildkit

  # The files of a CI system's cache, in place of what the builder has
  oci2bk mounts import tar:go.tar --builder ci --id target=/go/pkg/mod --exists replace

  # A directory, as RUN --mount=type=cache,target=/home/app/.npm,uid=1000 has it
  oci2bk mounts import dir:npm /var/lib/buildkit --id target=/home/app/.npm --uid 1000";

#[derive(Debug, Args)]
#[command(after_long_help = more_help(EXAMPLES))]
pub(crate) struct Mounts {
    #[command(subcommand)]
    pub(crate) command: MountsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MountsCommand {
    /// List the cache mounts of a root, or of a layout
    Ls(MountsLs),
    /// Export cache mounts from the root of a stopped buildkitd
    ///
    /// Such directories often hold credentials, such as .npmrc or settings.xml of Maven. Files with such names
    /// are exported like all others, and listed on stderr: look at them before you publish what was exported.
    Export(MountsExport),
    /// Import cache mounts into the root of a stopped buildkitd
    ///
    /// Nothing checks the files of a cache mount, and steps of later builds can run what is in them: import only
    /// what you trust.
    Import(MountsImport),
}

#[derive(Debug, Args)]
#[command(after_long_help = more_help(LS_EXAMPLES))]
pub(crate) struct MountsLs {
    /// The root of a stopped buildkitd, or a layout
    ///
    /// The kind is detected from the content. A layout has the forms that convert takes.
    #[arg(
        value_name = "ROOT|LAYOUT",
        required_unless_present_any = [CONFIG, BUILDER, ENGINE],
        conflicts_with_all = [BUILDER, ENGINE]
    )]
    pub(crate) place: Option<OsString>,

    #[command(flatten)]
    pub(crate) daemon: DaemonArguments,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
#[command(
    after_long_help = more_help(EXPORT_EXAMPLES),
    group = ArgGroup::new("destination").args(["to", "attach"]).multiple(true).required(true)
)]
pub(crate) struct MountsExport {
    /// The root of the buildkitd, such as /var/lib/buildkit
    ///
    /// It is left out with --builder and --engine.
    #[arg(value_name = "ROOT", required_unless_present_any = [BUILDER, ENGINE])]
    root: Option<OsString>,

    /// The cache mounts to export [default: all]
    ///
    /// ID is the id that mounts ls lists, or target=PATH or id=NAME as in the Dockerfile, or a record. Those with
    /// from= cannot be exported: their files are on those of a stage or image.
    #[arg(value_name = "ID")]
    ids: Vec<OsString>,

    /// The build argument BUILDKIT_CACHE_MOUNT_NS of the builds, for target= and id=
    #[arg(long, value_name = "NS", default_value = "", hide_default_value = true)]
    namespace: String,

    /// Where to export to: oci:DIR[:TAG], oci-archive:FILE[:TAG], tar:FILE or dir:DIR
    ///
    /// oci:DIR is a layout, new or existing, and oci-archive:FILE a tar archive of one. The artifact in it has
    /// TAG, by default mounts. tar:FILE and dir:DIR have the files of one mount.
    #[arg(long, value_name = "TO")]
    pub(crate) to: Option<To>,

    /// Attach the cache mounts to a cache, where convert --mounts finds them
    ///
    /// LAYOUT is the cache, as for keys attach. Without --to, the artifact is written into its layout. What was
    /// attached before is replaced.
    #[arg(long, value_name = "LAYOUT")]
    pub(crate) attach: Option<Source>,

    #[command(flatten)]
    pub(crate) daemon: DaemonArguments,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

impl MountsExport {
    /// Returns the root; `None` if other options name the daemon.
    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref().filter(|_| !self.is_named()).map(Path::new)
    }

    pub(crate) fn selection(&self) -> Selection {
        // With a builder the first word is an id too.
        let first = self.root.iter().filter(|_| self.is_named());
        let words = first.chain(&self.ids);
        let wanted = words.filter_map(|word| word.to_string_lossy().parse().ok()).collect();
        Selection { wanted, namespace: self.namespace.clone() }
    }

    fn is_named(&self) -> bool {
        self.daemon.builder.is_some() || self.daemon.storage.engine
    }
}

#[derive(Debug, Args)]
#[command(after_long_help = more_help(IMPORT_EXAMPLES))]
pub(crate) struct MountsImport {
    /// What to import: a layout, oci:DIR[:TAG|@DIGEST], oci-archive:FILE, tar:FILE or dir:DIR
    ///
    /// A layout has the forms that convert takes; TAG or DIGEST is that of the artifact, or of the cache to which
    /// it is attached. tar:FILE, which can be compressed with gzip or zstd, and dir:DIR have the files of one
    /// mount, whose id --id gives.
    #[arg(value_name = "SRC")]
    pub(crate) source: MountsSource,

    #[command(flatten)]
    pub(crate) root: RootArguments,

    /// The cache mount to import, as for mounts export [default: all of the layout]
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<Wanted>,

    /// The build argument BUILDKIT_CACHE_MOUNT_NS of the builds, for target= and id=
    #[arg(long, value_name = "NS", default_value = "", hide_default_value = true)]
    namespace: String,

    /// What to do with cache mounts that the root has already
    #[arg(long, value_enum, default_value_t = Exists::Fail)]
    pub(crate) exists: Exists,

    /// The uid= of the mount in the Dockerfile, for tar:FILE and dir:DIR
    #[arg(long, value_name = "N")]
    uid: Option<u32>,

    /// The gid= of the mount in the Dockerfile, for tar:FILE and dir:DIR
    #[arg(long, value_name = "N")]
    gid: Option<u32>,

    /// The mode= of the mount in the Dockerfile, in octal, for tar:FILE and dir:DIR
    #[arg(long, value_name = "M", value_parser = mode)]
    mode: Option<u32>,

    /// The release of the buildkitd that will use the root, such as v0.16.0
    ///
    /// It matters for cache mounts with uid=, gid= or mode=. By default it is as for convert.
    #[arg(long, value_name = "VERSION")]
    pub(crate) buildkit: Option<Target>,

    #[command(flatten)]
    pub(crate) limits: LimitArguments,

    /// When the cache mounts count as last used, until a daemon measures them
    ///
    /// TIME has the forms that convert takes. By default it is SOURCE_DATE_EPOCH, or unknown. A daemon measures new
    /// mounts about a second after its start. For its garbage collection that is a use, whatever TIME is.
    #[arg(long, value_name = "TIME", value_parser = clock::parse)]
    pub(crate) last_used: Option<Time>,

    /// How to show progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto, env = PROGRESS_VARIABLE)]
    pub(crate) progress: ProgressMode,

    /// The form of the result on stdout
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

impl MountsImport {
    pub(crate) fn selection(&self) -> Selection {
        Selection { wanted: self.ids.clone(), namespace: self.namespace.clone() }
    }

    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::new(self.uid, self.gid, self.mode)
    }
}

/// What happens with mounts that the root has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exists {
    /// End with exit code 1, and change nothing
    Fail,
    /// Keep those of the root
    Keep,
    /// Replace them
    Replace,
}

impl From<Exists> for Existing {
    fn from(exists: Exists) -> Self {
        match exists {
            Exists::Fail => Self::Fail,
            Exists::Keep => Self::Keep,
            Exists::Replace => Self::Replace,
        }
    }
}

/// Where cache mounts are exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    Layout { path: PathBuf, tag: Option<String> },
    Archive { path: PathBuf, tag: Option<String> },
    Tar(PathBuf),
    Directory(PathBuf),
}

/// Why a text is not a place to export to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseToError {
    #[error("it is none of oci:DIR[:TAG], oci-archive:FILE[:TAG], tar:FILE and dir:DIR")]
    Form,
    #[error("a digest is that of something that exists; give a tag")]
    Digest,
    #[error(transparent)]
    Source(#[from] ParseSourceError),
}

impl FromStr for To {
    type Err = ParseToError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = |path: &str| match path {
            "" => Err(ParseToError::Form),
            path => Ok(PathBuf::from(path)),
        };
        if let Some(file) = text.strip_prefix("tar:") {
            return Ok(Self::Tar(path(file)?));
        }
        if let Some(directory) = text.strip_prefix("dir:") {
            return Ok(Self::Directory(path(directory)?));
        }
        let is_archive = text.starts_with("oci-archive:");
        if !is_archive && !text.starts_with("oci:") {
            return Err(ParseToError::Form);
        }
        let Source { path, reference } = text.parse()?;
        let tag = match reference {
            Reference::Default => None,
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => return Err(ParseToError::Digest),
        };
        Ok(if is_archive { Self::Archive { path, tag } } else { Self::Layout { path, tag } })
    }
}

/// Parses permissions in octal.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "it has to be an octal number up to 7777".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_export_to_have_four_forms() {
        let layout = |path: &str, tag: Option<&str>| {
            Ok(To::Layout { path: path.into(), tag: tag.map(str::to_owned) })
        };
        for (text, expected) in [
            ("oci:a/b", layout("a/b", None)),
            ("oci:a:main", layout("a", Some("main"))),
            ("oci-archive:a.tar", Ok(To::Archive { path: "a.tar".into(), tag: None })),
            ("tar:a:b", Ok(To::Tar("a:b".into()))),
            ("dir:/a", Ok(To::Directory("/a".into()))),
            ("tar:", Err(ParseToError::Form)),
            ("a.tar", Err(ParseToError::Form)),
            ("docker://a", Err(ParseToError::Form)),
        ] {
            assert_eq!(text.parse::<To>(), expected, "{text}");
        }
        let digest = format!("oci:a@sha256:{}", "0".repeat(64));
        assert_eq!(digest.parse::<To>(), Err(ParseToError::Digest));
        assert!(matches!("oci:".parse::<To>(), Err(ParseToError::Source(_))));
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(mode("0770"), Ok(0o770));
        for wrong in ["", "9", "10000", "u+x"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
