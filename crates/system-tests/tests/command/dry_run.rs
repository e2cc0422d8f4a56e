use super::*;

#[test]
fn nothing_is_written() {
    let place = Place::new();
    for format in ["table", "json"] {
        Printed::of(convert(index(), &place).args(["--dry-run", "--format", format]), 0);
        assert!(place.names().is_empty());
    }
    std::fs::create_dir(place.root()).unwrap();
    let before = place.root().metadata().unwrap().modified().unwrap();
    let metadata = place.temp.path().join("metadata.json");
    let metadata = metadata.to_str().unwrap();
    Printed::of(convert(index(), &place).args(["--dry-run", "--metadata-file", metadata]), 0);
    assert_eq!(place.names(), ["root"]);
    assert_eq!(place.root().metadata().unwrap().modified().unwrap(), before);
}

#[test]
fn the_table_has_a_line_for_each_step() {
    let printed = Printed::of(convert(index(), &Place::new()).arg("--dry-run"), 0);
    let lines: Vec<_> = printed.stdout.lines().collect();
    assert!(lines[0].contains("STEP") && lines[0].contains("LAYER"), "{}", printed.stdout);
    assert!(lines.iter().any(|line| line.contains("COPY /busybox /bin/busybox")));
    assert!(lines.iter().any(|line| line.contains("13 of") && line.contains("provenance.json")));
    assert!(lines.last().unwrap().starts_with("20 steps, 13 layers in 12 blobs"));
    assert!(lines.iter().all(|line| line.trim_end() == *line));
    assert_eq!(printed.stderr, "");
}

#[test]
fn the_json_is_the_plan() {
    let printed =
        Printed::of(convert(index(), &Place::new()).args(["--dry-run", "--format=json"]), 0);
    let plan = printed.json();
    assert_eq!(plan["steps"].as_array().unwrap().len(), 20);
    assert_eq!(plan["layers"].as_array().unwrap().len(), 13);
    assert_eq!(plan["blobs"].as_object().unwrap().len(), 12);
    assert_eq!(plan["sources"][0]["style"], "index");
    assert_eq!(plan["key_sources"][0]["resolved_count"], 13);
    assert_eq!(plan["lost"].as_array().unwrap().len(), 0);
    // Except for paths, the same every time.
    let again = Place::new();
    let stdout =
        Printed::of(convert(index(), &again).args(["--dry-run", "--format=json"]), 0).stdout;
    let root = plan["root"].as_str().unwrap();
    assert_eq!(printed.stdout, stdout.replace(again.root().to_str().unwrap(), root));
}

#[test]
fn a_plan_with_losses_is_shown_and_still_refused() {
    let words = [fixture("index/cache"), "--keys".to_owned(), fixture("min/keys/metadata.json")];
    let printed = Printed::of(convert(&words, &Place::new()).arg("--dry-run"), 4);
    assert_eq!(printed.stdout.matches("(no key)").count(), 13, "{}", printed.stdout);
    printed.says(&["--keys", "--allow-unkeyed"]);
    let allowed = ["--dry-run", "--allow-unkeyed"];
    let printed = Printed::of(convert(&words, &Place::new()).args(allowed), 0);
    printed.says(&["13 steps have no key"]);
}

#[test]
fn a_root_that_could_not_be_converted_into_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.root()).unwrap();
    std::fs::create_dir(place.root().join("runc-native")).unwrap();
    Printed::of(convert(index(), &place).arg("--dry-run"), 1).says(&["another worker"]);
}
