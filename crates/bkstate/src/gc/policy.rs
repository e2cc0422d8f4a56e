//! Rules, and what they take.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The file system of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Its size in bytes.
    #[serde(rename = "size")]
    pub total: u64,
    /// The bytes of it that are free, those for root included.
    #[serde(rename = "free_size")]
    pub free: u64,
}

/// The file system cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the size of the file system of {}", path.display())]
pub struct DiskError {
    /// A path in it.
    pub path: PathBuf,
    /// What the kernel answered.
    #[source]
    pub source: std::io::Error,
}

impl Disk {
    /// The file system that `path` is in (`util/disk/disk_unix.go`).
    ///
    /// ```
    /// use bkstate::gc::{Disk, DiskError};
    ///
    /// let temp = tempfile::tempdir()?;
    /// let disk = Disk::of(temp.path())?;
    /// assert!(disk.free <= disk.total);
    ///
    /// let DiskError { path, source } = Disk::of(&temp.path().join("absent")).unwrap_err();
    /// assert!(path.ends_with("absent") && source.kind() == std::io::ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the kernel does not tell.
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

/// What a daemon does to keep its root small, as `buildctl debug workers` lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Applied one after another.
    pub rules: Vec<Rule>,
}

/// A rule of a policy (`PruneInfo` in `client/prune.go`). Zero means no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Only records that one of them matches; all if there are none.
    pub filters: Vec<String>,
    /// Records of the daemon itself, too.
    pub all: bool,
    /// Only records that were not used for so long.
    #[serde(rename = "keep_seconds", serialize_with = "seconds")]
    pub keep_duration: Duration,
    /// Nothing as long as all records together have less than that.
    pub reserved_space: u64,
    /// The most that all records together should have.
    pub max_used_space: u64,
    /// What should be free on the disk.
    pub min_free_space: u64,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// What a rule takes of a state that no build has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The number of the rule, from 0.
    pub rule: usize,
    /// The bytes that are kept.
    #[serde(rename = "kept_size")]
    pub keeps: u64,
    /// How long a record must have been unused before the rule takes it; zero if that does not
    /// matter.
    #[serde(rename = "unused_seconds", serialize_with = "seconds")]
    pub unused_for: Duration,
}

impl Policy {
    /// What the rules take of a state of `size` bytes, counted as the daemon does: for each record
    /// its blob and its snapshot. The records are those of build steps.
    pub fn losses(&self, size: u64, disk: Disk) -> Vec<Loss> {
        let rules = self.rules.iter().enumerate();
        rules
            .filter(|(_, rule)| rule.may_match_steps())
            .filter_map(|(number, rule)| {
                let keeps = rule.kept(size, disk);
                // The limit itself is too much already.
                (keeps == 0 || size >= keeps).then_some(Loss {
                    rule: number,
                    keeps: keeps.min(size),
                    unused_for: rule.keep_duration,
                })
            })
            .collect()
    }
}

impl Rule {
    /// Whether a filter may match a record of a build step, whose type is `regular`. Of a filter only
    /// comparisons with the type are understood, which are those that the daemon's own rules have.
    pub(super) fn may_match_steps(&self) -> bool {
        let excludes = |condition: &str| match condition.trim().split_once("==") {
            Some((field, value)) => {
                field.trim() == "type" && value.trim().trim_matches('"') != "regular"
            }
            None => false,
        };
        self.filters.is_empty()
            || self.filters.iter().any(|filter| !filter.split(',').any(excludes))
    }

    /// How many bytes the rule keeps of `size`; 0 is none (`calculateKeepBytes` in
    /// `cache/manager.go`).
    fn kept(&self, size: u64, disk: Disk) -> u64 {
        let Self { reserved_space, max_used_space, min_free_space, .. } = *self;
        let lacking = min_free_space.saturating_sub(disk.free);
        let keeps = if lacking > 0 {
            let rest = size.saturating_sub(lacking);
            if max_used_space == 0 { rest } else { max_used_space.min(rest) }
        } else if min_free_space != 0 && max_used_space == 0 {
            // The daemon means to take nothing, but takes one record: it compares with less.
            size
        } else {
            max_used_space
        };
        keeps.max(reserved_space)
    }
}
