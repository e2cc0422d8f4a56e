//! The garbage collection settings of Docker Engine: `builder.gc` in `daemon.json` (Docker Engine v29
//! `daemon/config/builder.go`, `daemon/internal/builder-next/controller.go` `getGCPolicy`).

use codec::FormatError;
use serde_json::{Map, Value, json};

use super::amount::parse_duration;
use super::config::disk_space;
use super::{Disk, DiskSpace, GcConfig, Loss, RuleConfig};
use crate::config::{ConfigError, Table, boolean, member, strings, table};
use crate::worker::Worker;

/// Filters with the time for which a record was not used.
const UNUSED_FOR: [&str; 2] = ["until", "unused-for"];

impl GcConfig {
    /// Reads the value of `builder` in a `daemon.json`, as JSON. Keys match in any case, as in the daemon.
    ///
    /// ```
    /// use bkstate::gc::{DiskSpace, GcConfig};
    ///
    /// let config = GcConfig::from_daemon_json(r#"{"gc": {"defaultKeepStorage": "20GB"}}"#)?;
    /// assert_eq!(config.reserved_space, DiskSpace::Bytes(20 << 30));
    /// assert!(GcConfig::from_daemon_json(r#"{"gc": {"enabled": 1}}"#).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if it is not JSON, or the daemon would reject a value.
    pub fn from_daemon_json(builder: &str) -> Result<Self, ConfigError> {
        let builder = serde_json::from_str(builder);
        Self::of_builder(&builder.map_err(|error| ConfigError::Json(FormatError::new(error)))?)
    }

    pub(crate) fn of_builder(builder: &Value) -> Result<Self, ConfigError> {
        let Value::Object(builder) = without_nulls(builder) else {
            return Err(ConfigError::Type { key: "builder", expected: "an object" });
        };
        let nothing = Table::new();
        let gc = table(&builder, "gc")?.unwrap_or(&nothing);
        let rules = match member(gc, "policy") {
            None => Vec::new(),
            Some(Value::Array(rules)) => rules.iter().map(rule).collect::<Result<_, _>>()?,
            Some(_) => return Err(ConfigError::Type { key: "policy", expected: "a list" }),
        };
        Ok(Self {
            enabled: boolean(gc, "enabled")?.unwrap_or(true),
            reserved_space: first_of(gc, "defaultReservedSpace", "defaultKeepStorage")?,
            max_used_space: disk_space(gc, "defaultMaxUsedSpace")?,
            min_free_space: disk_space(gc, "defaultMinFreeSpace")?,
            rules,
            ..Self::of_daemon(&Worker::of_engine(None))
        })
    }

    /// Returns the settings with which nothing of `enough` bytes is removed, as JSON.
    pub(super) fn keeping_json(&self, enough: DiskSpace, disk: Disk, losses: &[Loss]) -> String {
        let gc = if self.rules.is_empty() {
            let raised = self.limits(disk).raised(enough, disk);
            Value::Object(limits(&raised, disk, "default"))
        } else {
            let rules = self.rules.iter().enumerate().map(|(number, rule)| {
                let lossy = losses.iter().any(|loss| loss.rule == number);
                let rule = if lossy { rule.raised(enough, disk) } else { rule.clone() };
                written(&rule, disk)
            });
            json!({"policy": rules.collect::<Vec<_>>()})
        };
        let document = json!({"builder": {"gc": gc}});
        // A value that was made here can be written.
        serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            members.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(values) => values.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Returns the value of `key`, or that of its older name.
fn first_of(
    table: &Table,
    key: &'static str,
    older: &'static str,
) -> Result<DiskSpace, ConfigError> {
    match disk_space(table, key)? {
        none if none.is_none() => disk_space(table, older),
        found => Ok(found),
    }
}

fn rule(value: &Value) -> Result<RuleConfig, ConfigError> {
    let Value::Object(value) = value else {
        return Err(ConfigError::Type { key: "policy", expected: "a list of objects" });
    };
    let mut rule = RuleConfig {
        all: boolean(value, "all")?.unwrap_or_default(),
        reserved_space: first_of(value, "reservedSpace", "keepStorage")?,
        max_used_space: disk_space(value, "maxUsedSpace")?,
        min_free_space: disk_space(value, "minFreeSpace")?,
        ..RuleConfig::default()
    };
    let mut conditions = Vec::new();
    for filter in filters(value)? {
        let (name, text) = filter.split_once('=').unwrap_or((&filter, ""));
        let (name, text) = (name.trim().to_lowercase(), text.trim());
        if UNUSED_FOR.contains(&name.as_str()) {
            rule.keep_duration = parse_duration(text)
                .map_err(|source| ConfigError::Duration { key: "filter", source })?;
        } else if text.is_empty() {
            conditions.push(name);
        } else {
            let operator = if name == "id" { "~=" } else { "==" };
            conditions.push(format!("{name}{operator}{text}"));
        }
    }
    if !conditions.is_empty() {
        rule.filters.push(conditions.join(","));
    }
    Ok(rule)
}

/// Returns the filters of a rule as `name=value`. An older form has an object for each name.
fn filters(rule: &Table) -> Result<Vec<String>, ConfigError> {
    let Some(Value::Object(names)) = member(rule, "filter") else {
        return strings(rule, "filter");
    };
    let values = names.iter().flat_map(|(name, values)| {
        let values = values.as_object().into_iter().flat_map(Table::keys);
        values.map(move |value| format!("{name}={value}"))
    });
    Ok(values.collect())
}

fn written(rule: &RuleConfig, disk: Disk) -> Value {
    let mut members = limits(rule, disk, "");
    let conditions = rule.filters.iter().flat_map(|filter| filter.split(','));
    let mut filters: Vec<_> =
        conditions.map(|condition| condition.replace("==", "=").replace("~=", "=")).collect();
    if !rule.keep_duration.is_zero() {
        filters.push(format!("unused-for={}s", rule.keep_duration.as_secs()));
    }
    if !filters.is_empty() {
        members.insert("filter".to_owned(), json!(filters));
    }
    if rule.all {
        members.insert("all".to_owned(), json!(true));
    }
    Value::Object(members)
}

/// Returns the limits of a rule. The engine knows no percentages.
fn limits(rule: &RuleConfig, disk: Disk, prefix: &str) -> Map<String, Value> {
    let name = |name: &str| match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}{}{}", name[..1].to_uppercase(), &name[1..]),
    };
    let limits = [
        ("reservedSpace", rule.reserved_space),
        ("maxUsedSpace", rule.max_used_space),
        ("minFreeSpace", rule.min_free_space),
    ];
    let set = limits.into_iter().filter(|(_, limit)| !limit.is_none());
    set.map(|(key, limit)| {
        let text = DiskSpace::Bytes(limit.bytes(disk)).to_string();
        (name(key), json!(text.trim_matches('"')))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GB: u64 = 1_000_000_000;
    /// A disk of 100 GiB.
    const DISK: Disk = Disk { total: 100 << 30, free: 50 << 30 };

    fn config(builder: &Value) -> GcConfig {
        GcConfig::of_builder(builder).unwrap()
    }

    fn limits_of(config: &GcConfig) -> Vec<[u64; 3]> {
        let rules = config.policy(DISK).rules;
        rules
            .iter()
            .map(|rule| [rule.reserved_space, rule.max_used_space, rule.min_free_space])
            .collect()
    }

    #[test]
    fn an_engine_has_no_caps_and_keeps_a_part_for_what_is_short_lived() {
        let rest = [11 * GB, 81 * GB, 21 * GB];
        // e · π · φ percent of 11 GB.
        let short_lived = [0, 1_519_933_800, 0];
        assert_eq!(limits_of(&config(&json!({}))), [short_lived, rest, rest, rest]);
        let small = Disk { total: 10 << 30, free: 0 };
        let policy = config(&json!({})).policy(small);
        assert_eq!(policy.rules[0].max_used_space, 512_000_000);
    }

    #[test]
    fn configured_limits_take_the_place_of_the_defaults() {
        for (gc, expected) in [
            (json!({"defaultKeepStorage": "20GB"}), [20 << 30, 0, 0]),
            (json!({"DefaultReservedSpace": "1gb", "defaultKeepStorage": "2gb"}), [1 << 30, 0, 0]),
            (json!({"defaultMaxUsedSpace": "40MB", "policy": null}), [0, 40 << 20, 0]),
        ] {
            assert_eq!(limits_of(&config(&json!({"gc": gc})))[1..], [expected; 3], "{gc}");
        }
        assert!(limits_of(&config(&json!({"gc": {"enabled": false}}))).is_empty());
    }

    #[test]
    fn configured_rules_take_the_place_of_the_engines_own() {
        let policy = json!([
            {"keepStorage": "10GB", "filter": ["unused-for=48h", "type=exec.cachemount"]},
            {"maxUsedSpace": "50GB", "all": true, "filter": {"until": {"24h": true}}},
        ]);
        let rules = config(&json!({"gc": {"policy": policy}})).rules;
        assert_eq!(rules[0].filters, ["type==exec.cachemount"]);
        assert_eq!(rules[0].keep_duration, Duration::from_hours(48));
        assert_eq!((rules[1].all, rules[1].keep_duration), (true, Duration::from_hours(24)));
        assert!(rules[1].filters.is_empty());
    }

    #[test]
    fn what_the_engine_refuses_is_refused() {
        let refused = |builder: &Value| GcConfig::of_builder(builder).unwrap_err();
        let error = refused(&json!({"gc": {"policy": 1}}));
        assert!(matches!(error, ConfigError::Type { key: "policy", .. }), "{error}");
        let error = refused(&json!({"gc": {"defaultMaxUsedSpace": "much"}}));
        assert_eq!(error.to_string(), "defaultMaxUsedSpace is wrong");
        let error = refused(&json!({"gc": {"policy": [{"filter": ["until=soon"]}]}}));
        assert!(matches!(error, ConfigError::Duration { key: "filter", .. }), "{error}");
    }

    #[test]
    fn the_proposed_settings_keep_everything() {
        let rules = json!({"policy": [{"maxUsedSpace": "1GB", "filter": ["unused-for=48h"]}]});
        for gc in [json!({}), json!({"defaultKeepStorage": "1GB"}), rules] {
            let config = config(&json!({"gc": gc}));
            let proposed = config.keeping(90 * GB, DISK).unwrap();
            let json: Value = serde_json::from_str(&proposed).unwrap();
            let after = GcConfig::of_builder(&json["builder"]).unwrap();
            assert_eq!(after.policy(DISK).losses(90 * GB, DISK), [], "{proposed}");
        }
    }
}
