//! Rules, and what they remove.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The file system of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Its size in bytes.
    #[serde(rename = "size")]
    pub total: u64,
    /// Its free bytes, including those reserved for root.
    #[serde(rename = "free_size")]
    pub free: u64,
}

/// The file system cannot be queried.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the size of the file system of {}", path.display())]
#[non_exhaustive]
pub struct DiskError {
    /// A path in it.
    pub path: PathBuf,
    /// The error of the kernel.
    #[source]
    pub source: std::io::Error,
}

impl Disk {
    /// Returns the file system of `path` (`util/disk/disk_unix.go`).
    ///
    /// ```
    /// use bkstate::gc::{Disk, DiskError};
    ///
    /// let temp = tempfile::tempdir()?;
    /// let disk = Disk::of(temp.path())?;
    /// assert!(disk.free <= disk.total);
    ///
    /// let DiskError { path, source, .. } = Disk::of(&temp.path().join("absent")).unwrap_err();
    /// assert!(path.ends_with("absent") && source.kind() == std::io::ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the kernel does not report it.
    pub fn of(path: &Path) -> Result<Self, DiskError> {
        let disk = rustix::fs::statfs(path)
            .map_err(|error| DiskError { path: path.to_owned(), source: error.into() })?;
        let block = u64::try_from(disk.f_bsize).unwrap_or_default();
        Ok(Self {
            total: block.saturating_mul(disk.f_blocks),
            free: block.saturating_mul(disk.f_bfree),
        })
    }
}

/// The rules by which a daemon keeps its root small, as `buildctl debug workers` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Policy {
    /// Applied one after another.
    pub rules: Vec<Rule>,
}

/// A rule of a policy (`PruneInfo` in `client/prune.go`). Zero means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rule {
    /// Apply only to records that match one of them; to all if there are none.
    pub filters: Vec<String>,
    /// Also apply to the daemon's internal records.
    pub all: bool,
    /// Apply only to records that were not used for this long.
    #[serde(rename = "keep_seconds", serialize_with = "seconds")]
    pub keep_duration: Duration,
    /// Remove nothing while all records together take less than this.
    pub reserved_space: u64,
    /// Maximum size of all records together.
    pub max_used_space: u64,
    /// Space that should be free on the disk.
    pub min_free_space: u64,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// The records of an unused state that a rule removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Loss {
    /// The index of the rule, from 0.
    pub rule: usize,
    /// The bytes that are kept.
    #[serde(rename = "kept_size")]
    pub keeps: u64,
    /// How long a record must have been unused before the rule removes it; zero if that does not matter.
    #[serde(rename = "unused_seconds", serialize_with = "seconds")]
    pub unused_for: Duration,
}

impl Policy {
    /// Returns what the rules remove from a state of `size` bytes, counted as the daemon does: for each
    /// record its blob and its snapshot. The records are those of build steps.
    pub fn losses(&self, size: u64, disk: Disk) -> Vec<Loss> {
        let rules = self.rules.iter().enumerate();
        rules
            .filter(|(_, rule)| rule.may_match_steps())
            .filter_map(|(number, rule)| {
                let keeps = rule.kept(size, disk);
                // Reaching the limit is already too much.
                (keeps == 0 || size >= keeps).then_some(Loss {
                    rule: number,
                    keeps: keeps.min(size),
                    unused_for: rule.keep_duration,
                })
            })
            .collect()
    }
}

/// Returns the conditions of a filter, all of which have to hold. Commas in quoted values separate none; the
/// values of `~=` can be quoted by slashes and bars as well (containerd v2 `pkg/filters/parser.go`).
fn conditions(filter: &str) -> impl Iterator<Item = &str> {
    let mut quote = None;
    let mut escaped = false;
    let mut before = ['\0'; 2];
    filter.split(move |ch: char| {
        let separates = match quote {
            None => {
                if ch == '"' || (before == ['~', '='] && matches!(ch, '/' | '|')) {
                    quote = Some(ch);
                }
                ch == ','
            }
            Some(end) => {
                if ch == end && !escaped {
                    quote = None;
                }
                escaped = ch == '\\' && !escaped;
                false
            }
        };
        before = [before[1], ch];
        separates
    })
}

impl Rule {
    /// Returns whether a filter can match a record of a build step, whose type is `regular`. Only comparisons
    /// with the type are understood, which are all that the daemon's own rules use.
    pub(super) fn may_match_steps(&self) -> bool {
        let excludes = |condition: &str| match condition.trim().split_once("==") {
            Some((field, value)) => {
                let value = value.trim();
                // An escape can stand for any character.
                let is_plain = !value.contains('\\');
                field.trim() == "type" && is_plain && value.trim_matches('"') != "regular"
            }
            None => false,
        };
        self.filters.is_empty()
            || self.filters.iter().any(|filter| !conditions(filter).any(excludes))
    }

    /// Returns the bytes that the rule keeps of `size`; 0 keeps nothing (`calculateKeepBytes` in
    /// `cache/manager.go`).
    fn kept(&self, size: u64, disk: Disk) -> u64 {
        let Self { reserved_space, max_used_space, min_free_space, .. } = *self;
        let lacking = min_free_space.saturating_sub(disk.free);
        let keeps = if lacking > 0 {
            let rest = size.saturating_sub(lacking);
            if max_used_space == 0 { rest } else { max_used_space.min(rest) }
        } else if min_free_space != 0 && max_used_space == 0 {
            // The daemon intends to remove nothing, but removes one record: it compares with "less than".
            size
        } else {
            max_used_space
        };
        keeps.max(reserved_space)
    }
}
