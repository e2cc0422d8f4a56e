//! Roots given by `--config` and `--builder`.

use std::fs;

use super::*;

/// Returns `convert` and `verify` without a root.
fn rootless(words: &[&str], place: &Place) -> [Command; 2] {
    let (mut convert, mut verify) = (command(), command());
    convert.args(["convert", "--no-extract"]).args(index()).args(words);
    verify.arg("verify").args(words);
    for command in [&mut convert, &mut verify] {
        command.env("BUILDX_CONFIG", place.temp.path().join("buildx"));
    }
    [convert, verify]
}

#[test]
fn the_root_of_a_configuration_is_converted_into_and_verified() {
    let place = Place::new();
    let config = place.temp.path().join("buildkitd.toml");
    fs::write(&config, format!("root = {:?}\n", place.root())).unwrap();
    let [mut convert, mut verify] = rootless(&["--config", config.to_str().unwrap()], &place);
    Printed::of(&mut convert, 0);
    let printed = Printed::of(&mut verify, 0);
    assert!(printed.stdout.starts_with(&format!("{} is sound", place.root().display())));

    fs::write(&config, "[worker.oci]\n").unwrap();
    for command in &mut rootless(&["--config", config.to_str().unwrap()], &place) {
        Printed::of(command, 1).says(&["buildkitd.toml has no root"]);
    }
    fs::write(&config, "[worker.oci]\nsnapshotter = \"zfs\"\n").unwrap();
    for command in &mut rootless(&["--config", config.to_str().unwrap()], &place) {
        Printed::of(command, 1).says(&["would not use the state", "its snapshotter is zfs"]);
    }
}

#[test]
fn the_snapshotter_is_that_of_the_configuration_or_of_the_option() {
    let place = Place::new();
    let config = place.temp.path().join("buildkitd.toml");
    let native = format!("root = {:?}\n[worker.oci]\nsnapshotter = \"native\"\n", place.root());
    fs::write(&config, native).unwrap();
    for command in &mut rootless(&["--config", config.to_str().unwrap()], &place) {
        Printed::of(command, 0);
    }
    assert!(place.root().join("runc-native/workerid").exists());

    // The root is that of this snapshotter now.
    let root = place.root();
    let words = [root.to_str().unwrap()];
    let [mut convert, mut verify] = rootless(&words, &place);
    let refused = Printed::of(&mut convert, 1);
    refused.says(&["another worker (runc-native)", "--snapshotter native"]);
    Printed::of(&mut verify, 1).says(&["runc-native", "--snapshotter native"]);
    let words = [root.to_str().unwrap(), "--snapshotter=native"];
    for command in &mut rootless(&words, &place) {
        Printed::of(command, 0);
    }
    let stargz = ["--config", config.to_str().unwrap(), "--snapshotter=stargz"];
    let [mut convert, _] = rootless(&stargz, &place);
    Printed::of(&mut convert, 1).says(&["on stargz", "--snapshotter native"]);
}

#[test]
fn only_the_oci_worker_has_a_choice_of_snapshotters() {
    let place = Place::new();
    for (words, said) in [
        (["--engine", "--snapshotter=native"], "cannot be used with"),
        (["--containerd-root=/c", "--snapshotter=native"], "cannot be used with"),
        (["--jobs=1", "--snapshotter=zfs"], "is not a known snapshotter"),
    ] {
        let mut command = convert(index(), &place);
        Printed::of(command.args(words), 2).says(&[said]);
    }
    assert!(!place.root().exists());
}

#[test]
fn the_volume_of_a_builder_is_converted_into_and_verified() {
    let place = Place::new();
    let docker = place.temp.path().join("docker");
    let words = ["--builder", "ci", "--docker-root", docker.to_str().unwrap()];
    for command in &mut rootless(&words, &place) {
        Printed::of(command, 1).says(&["docker buildx inspect --bootstrap ci"]);
    }
    let volume = docker.join("volumes/buildx_buildkit_ci0_state/_data");
    fs::create_dir_all(&volume).unwrap();
    let [mut convert, mut verify] = rootless(&words, &place);
    let printed = Printed::of(&mut convert, 0);
    assert!(printed.stdout.starts_with(&format!("{} is warm", volume.display())));
    Printed::of(&mut verify, 0);
    assert!(volume.join("cache.db").is_file());
}
