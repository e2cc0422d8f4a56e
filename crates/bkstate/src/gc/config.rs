//! The garbage collection settings of `buildkitd.toml` (`cmd/buildkitd/config/config.go`).

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::amount::parse_duration;
use super::{Disk, DiskSpace, Policy, Rule};
use crate::config::{ConfigError, Table, boolean, member, parse, strings, text, worker_table};
use crate::worker::{Executor, Worker};

/// The garbage collection of a daemon without a configuration. Each kind of worker has its own defaults:
/// [`Worker::gc_defaults`](crate::worker::Worker::gc_defaults).
///
/// ```
/// use bkstate::gc::{Disk, DiskSpace, GcConfig, GcDefaults, GcFile};
/// use bkstate::worker::Worker;
///
/// let disk = Disk { total: 40_000_000_000, free: 30_000_000_000 };
/// let defaults = GcDefaults::BUILDKITD;
/// assert_eq!(defaults.reserved_space.0.bytes(disk), 4_000_000_000);
/// assert_eq!(defaults.max_used_space.1, DiskSpace::Bytes(100_000_000_000));
/// assert_eq!(defaults.min_free_space.bytes(disk), 8_000_000_000);
/// assert_eq!(defaults.short_lived, DiskSpace::Bytes(512_000_000));
/// assert_eq!(GcConfig::default().defaults, defaults);
///
/// // Docker Engine has no maximum of its own for the parts of the disk.
/// let engine = GcConfig::of_daemon(&Worker::of_engine(None));
/// assert_eq!(engine.defaults, GcDefaults::ENGINE);
/// assert_eq!(engine.file, GcFile::Engine);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcDefaults {
    /// The part of the disk reserved for records, and its maximum.
    pub reserved_space: (DiskSpace, DiskSpace),
    /// The part of the disk that records may take at most, and its maximum.
    pub max_used_space: (DiskSpace, DiskSpace),
    /// The space of the disk that should stay free.
    pub min_free_space: DiskSpace,
    /// The maximum for cache mounts and for sources that a build can fetch again, if unused for two days.
    pub short_lived: DiskSpace,
    /// Whether that maximum is a part of the reserved space, if that is more: 13.8 percent of it.
    pub short_lived_grows: bool,
}

impl GcDefaults {
    /// The defaults of buildkitd since BuildKit v0.17 (`cmd/buildkitd/config/gcpolicy.go` `DefaultGCPolicy`,
    /// `cmd/buildkitd/config/gcpolicy_unix.go` `DetectDefaultGCCap`).
    pub const BUILDKITD: Self = Self {
        reserved_space: (DiskSpace::Percent(10), DiskSpace::Bytes(10_000_000_000)),
        max_used_space: (DiskSpace::Percent(80), DiskSpace::Bytes(100_000_000_000)),
        min_free_space: DiskSpace::Percent(20),
        short_lived: DiskSpace::Bytes(512_000_000),
        short_lived_grows: false,
    };

    /// The defaults of the builder in Docker Engine since Engine v28 (v29
    /// `daemon/internal/builder-next/worker/gc.go` `DefaultGCPolicy`).
    pub const ENGINE: Self = Self {
        reserved_space: (DiskSpace::Percent(10), DiskSpace::Bytes(u64::MAX)),
        max_used_space: (DiskSpace::Percent(80), DiskSpace::Bytes(u64::MAX)),
        short_lived_grows: true,
        ..Self::BUILDKITD
    };
}

/// The file in which garbage collection is configured, and the form of its settings there.
///
/// ```
/// use bkstate::gc::GcFile;
/// use bkstate::worker::Executor;
///
/// let file: GcFile = GcFile::of(Executor::Engine);
/// assert_eq!(file.name(), "daemon.json");
/// assert_eq!(GcFile::of(Executor::Oci).name(), "buildkitd.toml");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GcFile {
    /// The table `[worker.oci]` in `buildkitd.toml`.
    OciWorker,
    /// The table `[worker.containerd]` in `buildkitd.toml`.
    ContainerdWorker,
    /// `builder.gc` in `daemon.json`.
    Engine,
}

impl GcFile {
    /// Returns the file for `executor`.
    pub fn of(executor: Executor) -> Self {
        match executor {
            Executor::Oci => Self::OciWorker,
            Executor::Containerd => Self::ContainerdWorker,
            Executor::Engine => Self::Engine,
        }
    }

    /// Returns the name of the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::OciWorker | Self::ContainerdWorker => "buildkitd.toml",
            Self::Engine => "daemon.json",
        }
    }

    /// Returns the name of the table in `buildkitd.toml`.
    fn table(self) -> &'static str {
        match self {
            Self::ContainerdWorker => "worker.containerd",
            Self::OciWorker | Self::Engine => "worker.oci",
        }
    }
}

/// The garbage collection settings of a daemon.
///
/// ```
/// use bkstate::gc::GcConfig;
/// use bkstate::worker::Worker;
///
/// assert_eq!(GcConfig::of_daemon(&Worker::default()), GcConfig::default());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcConfig {
    /// The file that has them.
    pub file: GcFile,
    /// The values of settings that are not configured.
    pub defaults: GcDefaults,
    /// `gc`: whether garbage is collected.
    pub enabled: bool,
    /// `reservedSpace`, or its older name `gckeepstorage`.
    pub reserved_space: DiskSpace,
    /// `maxUsedSpace`.
    pub max_used_space: DiskSpace,
    /// `minFreeSpace`.
    pub min_free_space: DiskSpace,
    /// `[[worker.oci.gcpolicy]]`: rules that replace the daemon's own.
    pub rules: Vec<RuleConfig>,
}

/// A configured rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleConfig {
    /// `filters`.
    pub filters: Vec<String>,
    /// `all`.
    pub all: bool,
    /// `keepDuration`.
    pub keep_duration: Duration,
    /// `reservedSpace`, or its older name `keepBytes`.
    pub reserved_space: DiskSpace,
    /// `maxUsedSpace`.
    pub max_used_space: DiskSpace,
    /// `minFreeSpace`.
    pub min_free_space: DiskSpace,
}

impl Default for GcConfig {
    /// No configuration.
    fn default() -> Self {
        Self::of_daemon(&Worker::default())
    }
}

impl GcConfig {
    /// Returns the settings of a daemon without a configuration.
    pub fn of_daemon(worker: &Worker) -> Self {
        Self {
            file: GcFile::of(worker.executor()),
            defaults: worker.gc_defaults(),
            enabled: true,
            reserved_space: DiskSpace::NONE,
            max_used_space: DiskSpace::NONE,
            min_free_space: DiskSpace::NONE,
            rules: Vec::new(),
        }
    }

    /// Reads a `buildkitd.toml`. Keys match in any case, as in the daemon.
    ///
    /// # Errors
    /// Returns an error if the text is not TOML, or the daemon would reject a value about garbage collection.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let worker = Worker::default();
        Self::of_worker(&worker_table(&parse(text)?, worker.executor())?, &worker)
    }

    /// Reads the table of `worker`.
    pub(crate) fn of_worker(table: &Table, worker: &Worker) -> Result<Self, ConfigError> {
        let rules = match member(table, "gcpolicy") {
            None => Vec::new(),
            Some(Value::Array(rules)) => {
                rules.iter().map(RuleConfig::new).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(ConfigError::Type { key: "gcpolicy", expected: "a list" }),
        };
        let mut config = Self {
            enabled: boolean(table, "gc")?.unwrap_or(true),
            reserved_space: disk_space(table, "reservedSpace")?,
            max_used_space: disk_space(table, "maxUsedSpace")?,
            min_free_space: disk_space(table, "minFreeSpace")?,
            rules,
            ..Self::of_daemon(worker)
        };
        let older = disk_space(table, "gckeepstorage")?;
        if config.has_no_limits() {
            config.reserved_space = older;
        }
        Ok(config)
    }

    /// Returns the policy of a daemon whose root is on `disk` (`getGCPolicy` in `cmd/buildkitd/main.go`).
    pub fn policy(&self, disk: Disk) -> Policy {
        if !self.enabled {
            return Policy::default();
        }
        let own;
        let rules = if self.rules.is_empty() {
            own = self.own_rules(disk);
            &own[..]
        } else {
            &self.rules
        };
        Policy { rules: rules.iter().map(|rule| rule.on(disk)).collect() }
    }

    /// Returns the daemon's own rules, with configured or default limits.
    fn own_rules(&self, disk: Disk) -> [RuleConfig; 4] {
        let limits = self.limits(disk);
        let within = |keep_duration, all| RuleConfig { keep_duration, all, ..limits.clone() };
        let types = ["source.local", "exec.cachemount", "source.git.checkout"];
        [
            RuleConfig {
                filters: types.map(|name| format!("type=={name}")).into(),
                keep_duration: days(2),
                max_used_space: self.short_lived(limits.reserved_space, disk),
                ..RuleConfig::default()
            },
            within(days(60), false),
            within(Duration::ZERO, false),
            within(Duration::ZERO, true),
        ]
    }

    /// Returns a rule with the configured or default limits.
    pub(super) fn limits(&self, disk: Disk) -> RuleConfig {
        let smaller = |(part, most): (DiskSpace, DiskSpace)| {
            if part.bytes(disk) > most.bytes(disk) { most } else { part }
        };
        let (reserved_space, max_used_space, min_free_space) = if self.has_no_limits() {
            let GcDefaults { reserved_space, max_used_space, min_free_space, .. } = self.defaults;
            (smaller(reserved_space), smaller(max_used_space), min_free_space)
        } else {
            (self.reserved_space, self.max_used_space, self.min_free_space)
        };
        RuleConfig { reserved_space, max_used_space, min_free_space, ..RuleConfig::default() }
    }

    fn short_lived(&self, reserved: DiskSpace, disk: Disk) -> DiskSpace {
        let least = self.defaults.short_lived;
        if !self.defaults.short_lived_grows {
            return least;
        }
        let part = u128::from(reserved.bytes(disk)) * SHORT_LIVED_PART + SHORT_LIVED_WHOLE / 2;
        let part = u64::try_from(part / SHORT_LIVED_WHOLE).unwrap_or(u64::MAX);
        DiskSpace::Bytes(part.max(least.bytes(disk)))
    }

    fn has_no_limits(&self) -> bool {
        self.reserved_space.is_none()
            && self.max_used_space.is_none()
            && self.min_free_space.is_none()
    }

    /// Returns the lines of its file with which no rule removes anything from an unused state of
    /// `size` bytes on `disk`; `None` if no rule does so anyway. They replace the lines about garbage
    /// collection in the file.
    pub fn keeping(&self, size: u64, disk: Disk) -> Option<String> {
        let policy = self.policy(disk);
        let losses = policy.losses(size, disk);
        if losses.is_empty() {
            return None;
        }
        // Records below the reserved space are never removed. Whole units are easier to read.
        let enough = DiskSpace::Bytes((size / UNIT + 1).saturating_mul(UNIT));
        if self.file == GcFile::Engine {
            return Some(self.keeping_json(enough, disk, &losses));
        }
        let table = self.file.table();
        let mut lines = format!("[{table}]\n");
        if self.rules.is_empty() {
            self.limits(disk).raised(enough, disk).write_limits(&mut lines);
            return Some(lines);
        }
        for (number, rule) in self.rules.iter().enumerate() {
            let lossy = losses.iter().any(|loss| loss.rule == number);
            let rule = if lossy { rule.raised(enough, disk) } else { rule.clone() };
            let _ = writeln!(lines, "  [[{table}.gcpolicy]]");
            rule.write(&mut lines);
        }
        Some(lines)
    }
}

/// The part of the reserved space for short-lived records, e · π · φ percent, in millionths of a percent.
const SHORT_LIVED_PART: u128 = 13_817_580;
const SHORT_LIVED_WHOLE: u128 = 100_000_000;

/// Reserved space is rounded up to this.
const UNIT: u64 = 1 << 30;

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 60 * 60)
}

impl Default for RuleConfig {
    /// A rule without limits, which matches everything.
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            all: false,
            keep_duration: Duration::ZERO,
            reserved_space: DiskSpace::NONE,
            max_used_space: DiskSpace::NONE,
            min_free_space: DiskSpace::NONE,
        }
    }
}

impl RuleConfig {
    fn new(value: &Value) -> Result<Self, ConfigError> {
        let Value::Object(rule) = value else {
            return Err(ConfigError::Type { key: "gcpolicy", expected: "a list of tables" });
        };
        let reserved_space = match disk_space(rule, "reservedSpace")? {
            none if none.is_none() => disk_space(rule, "keepBytes")?,
            reserved => reserved,
        };
        Ok(Self {
            filters: strings(rule, "filters")?,
            all: boolean(rule, "all")?.unwrap_or_default(),
            keep_duration: duration(rule, "keepDuration")?,
            reserved_space,
            max_used_space: disk_space(rule, "maxUsedSpace")?,
            min_free_space: disk_space(rule, "minFreeSpace")?,
        })
    }

    fn on(&self, disk: Disk) -> Rule {
        Rule {
            filters: self.filters.clone(),
            all: self.all,
            keep_duration: self.keep_duration,
            reserved_space: self.reserved_space.bytes(disk),
            max_used_space: self.max_used_space.bytes(disk),
            min_free_space: self.min_free_space.bytes(disk),
        }
    }

    /// Returns the rule with at least `enough` space reserved and allowed.
    pub(super) fn raised(&self, enough: DiskSpace, disk: Disk) -> Self {
        let too_small = |limit: DiskSpace| limit.bytes(disk) < enough.bytes(disk);
        let has_limit = !self.max_used_space.is_none();
        let raises_limit = has_limit && too_small(self.max_used_space);
        Self {
            reserved_space: enough,
            max_used_space: if raises_limit { enough } else { self.max_used_space },
            ..self.clone()
        }
    }

    fn write(&self, lines: &mut String) {
        if !self.filters.is_empty() {
            let filters: Vec<_> = self.filters.iter().map(|filter| quoted(filter)).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "  filters = [{}]", filters.join(", "));
        }
        if self.all {
            lines.push_str("  all = true\n");
        }
        let (seconds, nanoseconds) =
            (self.keep_duration.as_secs(), self.keep_duration.subsec_nanos());
        let _ = match (seconds, nanoseconds) {
            (0, 0) => Ok(()),
            (_, 0) if seconds % 3600 == 0 => {
                writeln!(lines, "  keepDuration = \"{}h\"", seconds / 3600)
            }
            (_, 0) => writeln!(lines, "  keepDuration = {seconds}"),
            _ => writeln!(lines, "  keepDuration = \"{seconds}s{nanoseconds}ns\""),
        };
        self.write_limits(lines);
    }

    fn write_limits(&self, lines: &mut String) {
        for (key, limit) in [
            ("reservedSpace", self.reserved_space),
            ("maxUsedSpace", self.max_used_space),
            ("minFreeSpace", self.min_free_space),
        ] {
            if !limit.is_none() {
                let _ = writeln!(lines, "  {key} = {limit}");
            }
        }
    }
}

/// Writes a text as TOML does, which differs from JSON in one character.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

pub(super) fn disk_space(table: &Table, key: &'static str) -> Result<DiskSpace, ConfigError> {
    text(table, key)?.parse().map_err(|source| ConfigError::DiskSpace { key, source })
}

fn duration(table: &Table, key: &'static str) -> Result<Duration, ConfigError> {
    parse_duration(&text(table, key)?).map_err(|source| ConfigError::Duration { key, source })
}
