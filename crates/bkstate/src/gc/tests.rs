//! Configurations as people write them, and their effect in a daemon. The end-to-end suite compares with
//! `buildctl debug workers` of a real daemon.

use std::time::Duration;

use proptest::prelude::*;

use super::amount::parse_duration;
use super::*;
use crate::config::ConfigError;

const GB: u64 = 1_000_000_000;

/// The disk of a daemon v0.32.2 that printed the numbers of the first test.
const DISK: Disk = Disk { total: 270_553_174_016, free: 229_341_241_344 };

/// Reserved, most used and least free of each rule.
fn limits(text: &str, disk: Disk) -> Vec<[u64; 3]> {
    let policy = GcConfig::from_toml(text).unwrap().policy(disk);
    let rules = policy.rules.iter();
    rules.map(|rule| [rule.reserved_space, rule.max_used_space, rule.min_free_space]).collect()
}

#[test]
fn the_daemons_own_rules_depend_on_the_disk() {
    let rest = [10 * GB, 100 * GB, 51 * GB];
    assert_eq!(limits("", DISK), [[0, 512_000_000, 0], rest, rest, rest]);
    let policy = GcConfig::default().policy(DISK);
    let durations: Vec<_> = policy.rules.iter().map(|rule| rule.keep_duration.as_secs()).collect();
    assert_eq!(durations, [48 * 3600, 60 * 24 * 3600, 0, 0]);
    assert_eq!(
        policy.rules.iter().map(|rule| rule.all).collect::<Vec<_>>(),
        [false, false, false, true]
    );
    // On 8 GiB: percentages of the disk.
    let small = Disk { total: 8 << 30, free: 1 << 30 };
    assert_eq!(limits("", small)[2], [GB, 7 * GB, 2 * GB]);
    let unknown = Disk { total: 0, free: 0 };
    assert_eq!(limits("", unknown)[2], [2 * GB, 2 * GB, 2 * GB]);
}

#[test]
fn configured_limits_take_the_place_of_all_of_the_daemons_own() {
    for (text, limit) in [
        ("[worker.oci]\ngckeepstorage = 9000\n", [9000, 0, 0]),
        ("[worker.oci]\nreservedSpace = 20\ngckeepstorage = 9000\n", [20, 0, 0]),
        ("[worker.oci]\nmaxUsedSpace = \"40MB\"\n", [0, 40 << 20, 0]),
        ("[Worker.OCI]\nMAXUSEDSPACE = \"1g\"\nminfreespace=\"10%\"", [0, 1 << 30, 26 * GB]),
        ("worker = {oci = {reservedSpace = \"1.5 kib\"}}", [1536, 0, 0]),
        ("[worker.containerd]\nreservedSpace = 20\n", [10 * GB, 100 * GB, 51 * GB]),
    ] {
        assert_eq!(limits(text, DISK)[1..], [limit; 3], "{text}");
    }
    assert_eq!(GcConfig::from_toml("[worker.oci]\ngc = false\n").unwrap().policy(DISK).rules, []);
}

#[test]
fn configured_rules_take_the_place_of_the_daemons_own() {
    let text = "
        [worker.oci]
          reservedSpace = \"1GB\"
        [[worker.oci.gcpolicy]]
          all = true
          keepBytes = 20
          filters = [ \"type==source.local\", \"type==regular,description==x\" ]
          keepDuration = 3600
        [[worker.oci.gcpolicy]]
          reservedSpace = \"20%\"
          keepBytes = 20
          keepDuration = \"24h\"
    ";
    let policy = GcConfig::from_toml(text).unwrap().policy(DISK);
    let [first, second] = &policy.rules[..] else { panic!("{policy:?}") };
    assert!(first.all && first.reserved_space == 20);
    assert_eq!(first.keep_duration, Duration::from_secs(3600));
    assert_eq!(first.filters.len(), 2);
    assert_eq!((second.reserved_space, second.keep_duration.as_secs()), (51 * GB, 24 * 3600));
}

#[test]
fn what_the_daemon_refuses_is_refused() {
    let refused = |text: &str| GcConfig::from_toml(text).unwrap_err();
    let error = refused("[worker");
    assert!(matches!(error, ConfigError::Toml { line: 1, .. }), "{error}");
    assert!(error.to_string().starts_with("it is not TOML: "), "{error}");
    for (text, key, expected) in [
        ("worker = 1", "worker", "a table"),
        ("[worker]\noci = 1", "oci", "a table"),
        ("[worker.oci]\ngc = \"no\"", "gc", "true or false"),
        ("[worker.oci]\nreservedSpace = [1]", "reservedSpace", "a number or a text"),
        ("[worker.oci]\ngcpolicy = 1", "gcpolicy", "a list"),
        ("[worker.oci]\ngcpolicy = [1]", "gcpolicy", "a list of tables"),
        ("[[worker.oci.gcpolicy]]\nfilters = \"type==regular\"", "filters", "a list of texts"),
        ("[[worker.oci.gcpolicy]]\nfilters = [1]", "filters", "a list of texts"),
    ] {
        let error = refused(text);
        let is_type =
            matches!(error, ConfigError::Type { key: k, expected: e } if (k, e) == (key, expected));
        assert!(is_type, "{text}: {error}");
        assert_eq!(error.to_string(), format!("{key} has to be {expected}"));
    }
    for amount in ["10 percent", "-1", "1 xb", "1ib"] {
        let error = refused(&format!("[worker.oci]\nreservedSpace = \"{amount}\""));
        assert_eq!(error.to_string(), "reservedSpace is wrong");
        let ConfigError::DiskSpace { key: "reservedSpace", source } = error else {
            panic!("{amount}: {error}")
        };
        assert_eq!(source, ParseDiskSpaceError { text: amount.to_owned() });
    }
    let error = refused("[worker.oci]\nreservedSpace = -1");
    assert!(matches!(error, ConfigError::DiskSpace { key: "reservedSpace", .. }), "{error}");
    let error = refused("[[worker.oci.gcpolicy]]\nkeepDuration = \"2 days\"");
    assert_eq!(error.to_string(), "keepDuration is wrong");
    let ConfigError::Duration { key: "keepDuration", source } = error else { panic!("{error}") };
    assert_eq!(
        source.to_string(),
        "\"2 days\" is not a duration, such as 172800 (seconds) or \"48h\""
    );
}

#[test]
fn durations_are_those_of_go() {
    // The results of Go 1.26's time.ParseDuration, in nanoseconds.
    for (text, nanoseconds) in [
        ("", 0),
        ("0", 0),
        ("1", 1_000_000_000),
        ("3600", 3_600_000_000_000),
        ("48h", 172_800_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("+5.s", 5_000_000_000),
        ("1m1ms1us1ns", 60_001_001_001),
        ("1µs", 1_000),
        ("3.1415926535s", 3_141_592_653),
    ] {
        assert_eq!(parse_duration(text).unwrap(), Duration::from_nanos(nanoseconds), "{text}");
    }
    for text in ["h", ".", ".s", "1.2.3s", "1d", "-1h", "1 h", "99999999999h"] {
        let error = parse_duration(text).unwrap_err();
        assert_eq!(error, ParseDurationError { text: text.to_owned() });
        let form = "is not a duration, such as 172800 (seconds) or \"48h\"";
        assert_eq!(error.to_string(), format!("{text:?} {form}"));
    }
}

#[test]
fn amounts_are_binary_whatever_they_are_called() {
    let bytes = |text: &str| text.parse::<DiskSpace>();
    for (text, amount) in [
        ("", DiskSpace::NONE),
        ("512", DiskSpace::Bytes(512)),
        ("512b", DiskSpace::Bytes(512)),
        ("1.5k", DiskSpace::Bytes(1536)),
        ("20 GB", DiskSpace::Bytes(20 << 30)),
        ("20gib", DiskSpace::Bytes(20 << 30)),
        ("1T", DiskSpace::Bytes(1 << 40)),
        ("1pb", DiskSpace::Bytes(1 << 50)),
        ("10%", DiskSpace::Percent(10)),
    ] {
        assert_eq!(bytes(text), Ok(amount), "{text}");
    }
    for text in ["GB", "1 2", "1e", "1gbb", "-5", "10.5%", "%", "nan", "1eb", "9999999pb"] {
        let error = bytes(text).unwrap_err();
        assert_eq!(error, ParseDiskSpaceError { text: text.to_owned() });
        let form = "is not an amount of disk space, such as 512000000, \"20GB\" or \"10%\"";
        assert_eq!(error.to_string(), format!("{text:?} {form}"));
    }
}

#[test]
fn a_state_within_the_limits_stays_whatever_its_age() {
    assert_eq!(GcConfig::default().policy(DISK).losses(99 * GB, DISK), []);
    assert_eq!(GcConfig::default().keeping(99 * GB, DISK), None);
}

#[test]
fn what_is_above_a_limit_goes() {
    let losses = |size, disk| GcConfig::default().policy(disk).losses(size, disk);
    let lost = |keeps| {
        let loss = |rule, days: u64| Loss {
            rule,
            keeps,
            unused_for: Duration::from_secs(days * 24 * 3600),
        };
        vec![loss(1, 60), loss(2, 0), loss(3, 0)]
    };
    assert_eq!(losses(100 * GB, DISK), lost(100 * GB));
    assert_eq!(losses(150 * GB, DISK), lost(100 * GB));
    // The disk is nearly full: it lacks 41 GB of free space.
    let full = Disk { free: 10 * GB, ..DISK };
    assert_eq!(losses(60 * GB, full), lost(19 * GB));
    // But reserved space stays.
    assert_eq!(losses(30 * GB, full), lost(10 * GB));
    assert_eq!(losses(9 * GB, full), []);
}

#[test]
fn a_rule_without_limits_takes_what_is_old() {
    let text = "[[worker.oci.gcpolicy]]\nkeepDuration = \"48h\"\n";
    let losses = |text: &str| GcConfig::from_toml(text).unwrap().policy(DISK).losses(1, DISK);
    let unused_for = Duration::from_secs(48 * 3600);
    assert_eq!(losses(text), [Loss { rule: 0, keeps: 0, unused_for }]);
    let others = "filters = [\"type==source.local\", \"type==\\\"frontend\\\",shared==true\"]";
    assert_eq!(losses(&format!("{text}{others}")), []);
    assert_eq!(losses(&format!("{text}filters = [\"type!=source.local\"]")).len(), 1);
    for (filter, is_of_steps) in [
        (r#"type==exec.cachemount,description~="a b""#, false),
        (r#"description~="a b",type==exec.cachemount"#, false),
        (r#"description=="a,type==frontend""#, true),
        (r#"description=="a\",type==frontend""#, true),
        (r#"description=="a\\",type==frontend"#, false),
        ("description~=/a,type==frontend/", true),
        ("description~=|a,type==frontend|,type==regular", true),
        ("description==/a,type==frontend", false),
        (r#"type=="\x72egular""#, true),
    ] {
        // TOML reads the text between three apostrophes as it is.
        let text = format!("{text}filters = ['''{filter}''']");
        assert_eq!(losses(&text).len(), usize::from(is_of_steps), "{filter}");
    }
    // The daemon removes one record although it intends to remove none.
    let free = "[[worker.oci.gcpolicy]]\nminFreeSpace = 1\n";
    assert_eq!(losses(free), [Loss { rule: 0, keeps: 1, unused_for: Duration::ZERO }]);
}

fn amount() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("0".to_owned()),
        (0..200_u64).prop_map(|gb| format!("\"{gb}GB\"")),
        (0..300_000_000_000_u64).prop_map(|bytes| bytes.to_string()),
        (0..100_u64).prop_map(|percent| format!("\"{percent}%\"")),
    ]
}

fn limit_lines() -> impl Strategy<Value = String> {
    [amount(), amount(), amount()].prop_map(|[reserved, used, free]| {
        format!("reservedSpace = {reserved}\nmaxUsedSpace = {used}\nminFreeSpace = {free}\n")
    })
}

fn configurations() -> impl Strategy<Value = String> {
    let rule = (limit_lines(), any::<bool>(), 0..100_u64, any::<bool>()).prop_map(
        |(limits, all, hours, filtered)| {
            let filters = if filtered { "filters = [\"type==\\\"x\\\"\"]\n" } else { "" };
            format!(
                "[[worker.oci.gcpolicy]]\nall = {all}\nkeepDuration = \"{hours}h\"\n{filters}{limits}"
            )
        },
    );
    let rules = proptest::collection::vec(rule, 0..4).prop_map(|rules| rules.concat());
    prop_oneof![
        rules,
        limit_lines().prop_map(|limits| format!("[worker.oci]\n{limits}")),
        Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn with_the_lines_that_are_proposed_nothing_goes(
        text in configurations(),
        size in 0..300_000_000_000_u64,
        total in 0..400_000_000_000_u64,
        free in 0..400_000_000_000_u64,
    ) {
        let disk = Disk { total, free: free.min(total) };
        let config = GcConfig::from_toml(&text).unwrap();
        let lossless = config.policy(disk).losses(size, disk).is_empty();
        let lines = config.keeping(size, disk);
        prop_assert_eq!(lossless, lines.is_none());
        if let Some(lines) = lines {
            let proposed = GcConfig::from_toml(&lines).unwrap();
            prop_assert_eq!(proposed.rules.len(), config.rules.len());
            prop_assert_eq!(proposed.policy(disk).losses(size, disk), []);
            for (new, old) in proposed.rules.iter().zip(&config.rules) {
                prop_assert_eq!(&new.filters, &old.filters);
                prop_assert_eq!((new.all, new.keep_duration), (old.all, old.keep_duration));
            }
        }
    }
}
