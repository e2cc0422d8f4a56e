//! Hints are printed on separate lines after the error. Their texts are tested next to them; these tests
//! check that they are printed.

use std::fs;

use super::*;

/// Returns the hints in order, with nothing printed after them.
fn hints(printed: &Printed) -> Vec<&str> {
    let mut lines = printed.stderr.lines().skip_while(|line| !line.starts_with("hint: "));
    let hints: Vec<_> = lines.by_ref().map_while(|line| line.strip_prefix("hint: ")).collect();
    assert_eq!(lines.next(), None, "{}", printed.stderr);
    assert!(printed.stderr.starts_with("error: "), "{}", printed.stderr);
    hints
}

/// Returns the hints of a command that exits with `code`.
fn of(words: &[&str], code: i32) -> Vec<String> {
    let printed = Printed::of(command().args(words), code);
    hints(&printed).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_limit_that_is_reached_is_named_with_the_option_by_every_command() {
    let [cache, _, keys] = index();
    let place = Place::new();
    let root = place.root();
    let (root, sparse) = (root.to_str().unwrap(), place.temp.path().join("sparse"));
    for words in [
        &["convert", "--progress=quiet", &cache, root][..],
        &["sparse", &cache, sparse.to_str().unwrap()],
        &["keys", "attach", &cache, "--keys", &keys],
        &["inspect", &cache],
        &["explain", &cache, "--llb", &keys],
    ] {
        let words = [words, &["--limit", "manifest=10"]].concat();
        assert_eq!(of(&words, 3), ["allow for more with --limit manifest=VALUE"], "{words:?}");
    }
    let few = ["--limit", "json-objects=10"];
    let words = [&["keys", &keys, "-o", "-"][..], &few].concat();
    assert_eq!(of(&words, 3), ["allow for more with --limit json-objects=VALUE"]);
    assert!(place.names().is_empty());
}

#[test]
fn steps_without_keys_are_three_ways_on() {
    let place = Place::new();
    let words = [fixture("index/cache"), "--require-keys".to_owned()];
    let printed = Printed::of(&mut convert(words, &place), 4);
    let [dockerfile, give, go_on] = hints(&printed)[..] else { panic!("{}", printed.stderr) };
    assert!(
        dockerfile.ends_with("fixtures/index/Dockerfile")
            && dockerfile.contains("add --dockerfile")
    );
    assert!(give.starts_with("give the provenance of the build") && give.ends_with("with --keys"));
    assert_eq!(go_on, "go on without these steps with --allow-unkeyed");
    printed.says(&["\nnothing was written\nhint: "]);
}

#[test]
fn words_that_name_no_source_are_told_how_to_get_one() {
    let copy = "copy it into a layout first, such as with: regctl image copy a.io/b:c ocidir://cache:latest";
    let place = Place::new();
    let printed = Printed::of(&mut convert(["docker://a.io/b:c"], &place), 2);
    assert_eq!(hints(&printed), [copy]);
    let [cache, _, keys] = index();
    let image = convert([&*cache, "--image", "docker.io/library/a=docker://a.io/b:c"], &place)
        .output()
        .unwrap();
    let said = String::from_utf8(image.stderr).unwrap();
    assert!(said.ends_with(&format!("\nhint: {copy}\n")), "{said}");
    for words in [
        &["sparse", "docker://a.io/b:c", "sparse"][..],
        &["keys", "attach", "docker://a.io/b:c", "--keys", &keys],
        &["verify", "root", "--against", "docker://a.io/b:c"],
        &["inspect", "docker://a.io/b:c"],
        &["explain", "docker://a.io/b:c", "--llb", &keys],
    ] {
        assert_eq!(of(words, 2), [copy], "{words:?}");
    }
    // A path that does not exist may be a name.
    assert_eq!(of(&["inspect", "a.io/b:c"], 1), [copy]);
    assert_eq!(of(&["inspect", "/nowhere/cache"], 1), [""; 0]);
}

#[test]
fn what_is_no_cache_is_told_how_one_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let empty = temp.path().to_str().unwrap();
    let place = Place::new();
    let printed = Printed::of(&mut convert([empty], &place), 3);
    assert!(hints(&printed)[0].contains("--cache-to type=local,dest=DIR"), "{}", printed.stderr);
    // A sparse layout of a cache, which cannot be converted.
    let sparse = temp.path().join("sparse");
    Printed::of(command().arg("sparse").arg(fixture("min/cache")).arg(&sparse), 0);
    let printed = Printed::of(&mut convert([&sparse], &place), 3);
    assert_eq!(hints(&printed), ["keep the sparse layout for --cache-from"]);
}

#[test]
fn key_sources_without_keys_are_told_how_a_build_makes_them() {
    let temp = tempfile::tempdir().unwrap();
    let directory = temp.path().to_str().unwrap();
    let file = temp.path().join("min.json");
    fs::write(&file, r#"{"buildType": "x", "invocation": {}}"#).unwrap();
    for source in [directory, file.to_str().unwrap()] {
        let hints = of(&["keys", source, "-o", "-"], 3);
        assert!(hints[0].contains("--provenance=mode=max"), "{source}: {hints:?}");
    }
}

#[test]
fn options_that_do_not_fit_are_to_be_left_out() {
    let cache = fixture("index/cache");
    let keys = fixture("index/keys/provenance.json");
    let words = ["explain", &cache, "--llb", &keys, "--buildkit", "v0.30.0"];
    assert_eq!(of(&words, 2), ["leave out --buildkit"]);
}

#[test]
fn blobs_that_cannot_be_linked_can_be_copied() {
    let place = Place::new();
    let archive = place.temp.path().join("cache.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive).arg("-C").arg(fixture("min/cache")).arg(".");
    assert!(tar.status().unwrap().success());
    let mut command = convert([&archive], &place);
    let printed = Printed::of(command.args(["--blobs", "hardlink", "--progress", "quiet"]), 1);
    assert_eq!(hints(&printed), ["copy what has to be with --blobs auto"]);
}

#[test]
fn damage_is_listed_by_verify() {
    let place = Place::new();
    Printed::of(&mut convert(index(), &place), 0);
    let blobs = place.root().join("runc-overlayfs/content/blobs/sha256");
    let blob = fs::read_dir(&blobs).unwrap().next().unwrap().unwrap();
    fs::remove_file(blob.path()).unwrap();
    let printed = Printed::of(&mut convert(index(), &place), 5);
    let root = place.root();
    let expected =
        format!("see what a daemon would do about it with: oci2bk verify {}", root.display());
    assert_eq!(hints(&printed), [expected]);
}

#[test]
fn builders_that_are_not_there_are_told_how_to_make_them() {
    let place = Place::new();
    let mut words = command();
    words.args(["convert", "--no-extract"]).args(index());
    words.args(["--builder", "nobodys", "--docker-root"]).arg(place.temp.path());
    let printed = Printed::of(words.env("BUILDX_CONFIG", place.temp.path()), 1);
    let hints = hints(&printed);
    assert_eq!(hints.len(), 4, "{}", printed.stderr);
    assert!(hints[0].ends_with("docker buildx create --name nobodys"));
    assert!(hints[3].ends_with("give --docker-root"));
}
