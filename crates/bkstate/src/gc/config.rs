//! `buildkitd.toml`, as far as garbage collection goes (`cmd/buildkitd/config/config.go`).

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use super::amount::parse_duration;
use super::{Disk, DiskSpace, ParseDiskSpaceError, ParseDurationError, Policy, Rule};

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// What `[worker.oci]` says of garbage collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcConfig {
    /// `gc`: whether there is any.
    pub enabled: bool,
    /// `reservedSpace`, or `gckeepstorage` by its older name.
    pub reserved_space: DiskSpace,
    /// `maxUsedSpace`.
    pub max_used_space: DiskSpace,
    /// `minFreeSpace`.
    pub min_free_space: DiskSpace,
    /// `[[worker.oci.gcpolicy]]`: rules in place of the daemon's own.
    pub rules: Vec<RuleConfig>,
}

/// A rule as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleConfig {
    /// `filters`.
    pub filters: Vec<String>,
    /// `all`.
    pub all: bool,
    /// `keepDuration`.
    pub keep_duration: Duration,
    /// `reservedSpace`, or `keepBytes` by its older name.
    pub reserved_space: DiskSpace,
    /// `maxUsedSpace`.
    pub max_used_space: DiskSpace,
    /// `minFreeSpace`.
    pub min_free_space: DiskSpace,
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadGcConfigError {
    /// It cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
    /// No configuration is that large.
    #[error("the configuration {} has more than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not what a daemon takes.
    #[error("the configuration {} cannot be used", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: GcConfigError,
    },
}

/// Why a text is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcConfigError {
    /// It is no TOML.
    #[error("it is no TOML")]
    Toml(#[from] toml::de::Error),
    /// A value is of another type than the daemon takes.
    #[error("{key} has to be {expected}")]
    Type {
        /// Its key.
        key: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A value is no amount.
    #[error("{key} is wrong")]
    DiskSpace {
        /// Its key.
        key: &'static str,
        /// Why.
        #[source]
        source: ParseDiskSpaceError,
    },
    /// A value is no duration.
    #[error("{key} is wrong")]
    Duration {
        /// Its key.
        key: &'static str,
        /// Why.
        #[source]
        source: ParseDurationError,
    },
}

impl Default for GcConfig {
    /// No configuration.
    fn default() -> Self {
        Self {
            enabled: true,
            reserved_space: DiskSpace::NONE,
            max_used_space: DiskSpace::NONE,
            min_free_space: DiskSpace::NONE,
            rules: Vec::new(),
        }
    }
}

impl GcConfig {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub fn read(path: &Path) -> Result<Self, ReadGcConfigError> {
        let path = path.to_owned();
        let error = |source| ReadGcConfigError::Read { path: path.clone(), source };
        let mut text = String::new();
        let mut file = File::open(&path).map_err(error)?.take(MAX_BYTES + 1);
        let length = file.read_to_string(&mut text).map_err(error)?;
        if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(ReadGcConfigError::TooLarge { path });
        }
        Self::from_toml(&text).map_err(|source| ReadGcConfigError::Invalid { path, source })
    }

    /// Reads a `buildkitd.toml`. Like the daemon, it takes keys in any case.
    ///
    /// # Errors
    /// When it is no TOML, or a value about garbage collection is not what the daemon takes.
    pub fn from_toml(text: &str) -> Result<Self, GcConfigError> {
        let config: Table = text.parse()?;
        let none = Table::new();
        let worker = table(&config, "worker")?.unwrap_or(&none);
        let oci = table(worker, "oci")?.unwrap_or(&none);
        let rules = match member(oci, "gcpolicy") {
            None => Vec::new(),
            Some(Value::Array(rules)) => {
                rules.iter().map(RuleConfig::new).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(GcConfigError::Type { key: "gcpolicy", expected: "a list" }),
        };
        let mut config = Self {
            enabled: boolean(oci, "gc")?.unwrap_or(true),
            reserved_space: disk_space(oci, "reservedSpace")?,
            max_used_space: disk_space(oci, "maxUsedSpace")?,
            min_free_space: disk_space(oci, "minFreeSpace")?,
            rules,
        };
        let older = disk_space(oci, "gckeepstorage")?;
        if config.has_no_limits() {
            config.reserved_space = older;
        }
        Ok(config)
    }

    /// The policy of a daemon whose root is on `disk` (`getGCPolicy` in `cmd/buildkitd/main.go`,
    /// `DefaultGCPolicy` in `cmd/buildkitd/config/gcpolicy.go`).
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

    /// The rules of the daemon itself, with the limits that are configured or its own.
    fn own_rules(&self, disk: Disk) -> [RuleConfig; 4] {
        let limits = self.limits(disk);
        let within = |keep_duration, all| RuleConfig { keep_duration, all, ..limits.clone() };
        let types = ["source.local", "exec.cachemount", "source.git.checkout"];
        [
            RuleConfig {
                filters: types.map(|name| format!("type=={name}")).into(),
                keep_duration: days(2),
                max_used_space: DiskSpace::Bytes(512_000_000),
                ..RuleConfig::default()
            },
            within(days(60), false),
            within(Duration::ZERO, false),
            within(Duration::ZERO, true),
        ]
    }

    /// The limits that are configured, or the daemon's own (`DetectDefaultGCCap`), in a rule.
    fn limits(&self, disk: Disk) -> RuleConfig {
        let at_most = |percent, bytes| {
            let part = DiskSpace::Percent(percent);
            if part.bytes(disk) > bytes { DiskSpace::Bytes(bytes) } else { part }
        };
        let (reserved_space, max_used_space, min_free_space) = if self.has_no_limits() {
            (at_most(10, 10_000_000_000), at_most(80, 100_000_000_000), DiskSpace::Percent(20))
        } else {
            (self.reserved_space, self.max_used_space, self.min_free_space)
        };
        RuleConfig { reserved_space, max_used_space, min_free_space, ..RuleConfig::default() }
    }

    fn has_no_limits(&self) -> bool {
        self.reserved_space.is_none()
            && self.max_used_space.is_none()
            && self.min_free_space.is_none()
    }

    /// The lines of `buildkitd.toml` with which no rule takes anything of a state of `size` bytes on
    /// `disk` that no build has used, or nothing if none does anyway. They stand for those about
    /// garbage collection that are in it.
    pub fn keeping(&self, size: u64, disk: Disk) -> Option<String> {
        let policy = self.policy(disk);
        let losses = policy.losses(size, disk);
        if losses.is_empty() {
            return None;
        }
        // What is less than the reserved space is never removed. Whole units are easier to read.
        let enough = DiskSpace::Bytes((size / UNIT + 1).saturating_mul(UNIT));
        let mut lines = String::from("[worker.oci]\n");
        if self.rules.is_empty() {
            self.limits(disk).raised(enough, disk).write_limits(&mut lines);
            return Some(lines);
        }
        for (number, rule) in self.rules.iter().enumerate() {
            let lossy = losses.iter().any(|loss| loss.rule == number);
            let rule = if lossy { rule.raised(enough, disk) } else { rule.clone() };
            lines.push_str("  [[worker.oci.gcpolicy]]\n");
            rule.write(&mut lines);
        }
        Some(lines)
    }
}

/// What reserved space is rounded up to.
const UNIT: u64 = 1 << 30;

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 60 * 60)
}

impl Default for RuleConfig {
    /// A rule without limits, which takes everything.
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
    fn new(value: &Value) -> Result<Self, GcConfigError> {
        let Value::Table(rule) = value else {
            return Err(GcConfigError::Type { key: "gcpolicy", expected: "a list of tables" });
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

    /// The same with so much space reserved, and so much allowed.
    fn raised(&self, enough: DiskSpace, disk: Disk) -> Self {
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
            let filters: Vec<_> = self
                .filters
                .iter()
                .map(|filter| Value::from(filter.as_str()).to_string())
                .collect();
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

/// The value of `key`, in whatever case it is written.
fn member<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let by_case = || table.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    table.get(key).or_else(|| Some(by_case()?.1))
}

fn table<'a>(within: &'a Table, key: &'static str) -> Result<Option<&'a Table>, GcConfigError> {
    match member(within, key) {
        None => Ok(None),
        Some(Value::Table(table)) => Ok(Some(table)),
        Some(_) => Err(GcConfigError::Type { key, expected: "a table" }),
    }
}

fn boolean(table: &Table, key: &'static str) -> Result<Option<bool>, GcConfigError> {
    match member(table, key) {
        None => Ok(None),
        Some(Value::Boolean(value)) => Ok(Some(*value)),
        Some(_) => Err(GcConfigError::Type { key, expected: "true or false" }),
    }
}

fn strings(table: &Table, key: &'static str) -> Result<Vec<String>, GcConfigError> {
    let wrong = || GcConfigError::Type { key, expected: "a list of texts" };
    match member(table, key) {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => {
            values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// A number or a text, as a text.
fn text(table: &Table, key: &'static str) -> Result<String, GcConfigError> {
    match member(table, key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Integer(number)) => Ok(number.to_string()),
        Some(_) => Err(GcConfigError::Type { key, expected: "a number or a text" }),
    }
}

fn disk_space(table: &Table, key: &'static str) -> Result<DiskSpace, GcConfigError> {
    text(table, key)?.parse().map_err(|source| GcConfigError::DiskSpace { key, source })
}

fn duration(table: &Table, key: &'static str) -> Result<Duration, GcConfigError> {
    parse_duration(&text(table, key)?).map_err(|source| GcConfigError::Duration { key, source })
}
