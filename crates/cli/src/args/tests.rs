use std::path::PathBuf;

use clap::{CommandFactory as _, Parser as _};
use oci2bk::convert::StoreBlobs;

use super::common::limits_and_exit_codes;
use super::*;

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

fn parsed(words: &[&str]) -> Result<Places, clap::Error> {
    let words = ["oci2bk", "convert"].iter().chain(words);
    Arguments::try_parse_from(words).map(|arguments| match arguments.command {
        Command::Convert(convert) => convert.places,
        Command::Keys(_) | Command::Verify(_) => panic!("not convert"),
    })
}

#[test]
fn the_last_word_is_the_root_wherever_the_options_are() {
    for words in [
        &["a", "type=local,src=b", "/var/lib/buildkit"][..],
        &["--jobs", "2", "a", "b", "/var/lib/buildkit"],
        &["a", "--keys", "k", "b", "--no-extract", "/var/lib/buildkit", "--dry-run"],
        &["--dry-run", "--", "a", "b", "/var/lib/buildkit"],
    ] {
        let places = parsed(words).unwrap();
        let paths: Vec<_> = places.sources.iter().map(|s| s.path.as_path()).collect();
        assert_eq!(paths, ["a", "b"].map(std::path::Path::new));
        assert_eq!(places.root, PathBuf::from("/var/lib/buildkit"));
    }
}

#[test]
fn a_root_without_a_source_is_refused() {
    assert!(parsed(&["only-one"]).unwrap_err().to_string().contains("the last word is the root"));
    assert!(parsed(&[]).is_err());
    let error = parsed(&["oci:dir@sha256:abc", "r"]).unwrap_err().to_string();
    assert!(error.contains("64 lowercase hex digits"), "{error}");
}

#[test]
fn releases_without_this_format_of_state_are_refused() {
    let parse = |release: &str| {
        Arguments::try_parse_from(["oci2bk", "convert", "a", "r", "--buildkit", release])
    };
    let Command::Convert(convert) = parse("0.16").unwrap().command else { panic!("keys") };
    assert_eq!(convert.buildkit.to_string(), "v0.16.0");
    assert!(parse("v0.33.0").is_ok());
    for refused in ["v0.10.6", "v1.0.0", "latest"] {
        assert!(parse(refused).is_err(), "{refused}");
    }
}

#[test]
fn layers_are_unpacked_or_stored_or_both() {
    let parse = |words: &str| {
        let words = ["oci2bk", "convert", "a", "r"].into_iter().chain(words.split(' '));
        Arguments::try_parse_from(words)
    };
    let Command::Convert(convert) = parse("--blobs none --trust-blobs").unwrap().command else {
        panic!("not convert")
    };
    assert!(convert.layers.extract && convert.layers.trust_blobs);
    assert_eq!(convert.layers.blobs, StoreBlobs::None);
    assert!(parse("--blobs hardlink --no-extract").is_ok());
    let error = parse("--blobs none --no-extract").unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("leave nothing of a layer"), "{error}");
}

#[test]
fn limits_are_settings_that_help_lists() {
    let parse = |setting: &str| {
        Arguments::try_parse_from(["oci2bk", "convert", "a", "r", "--limit", setting])
    };
    let Command::Convert(convert) = parse("layer-entries=50M").unwrap().command else {
        panic!("keys")
    };
    assert_eq!(convert.limits.limits().layer_entries, 50_000_000);
    assert!(parse("entries=1").unwrap_err().to_string().contains("there are layer-entries"));
    let help = limits_and_exit_codes();
    let row = "  layer-size=1Ti         Bytes of one unpacked layer, holes of sparse files \
               included\n";
    assert!(help.contains(row), "{help}");
}

#[test]
fn keys_are_written_or_attached() {
    let parse = |words: &str| {
        let arguments = Arguments::try_parse_from(words.split(' '));
        arguments.map(|arguments| match arguments.command {
            Command::Keys(keys) => keys,
            Command::Convert(_) | Command::Verify(_) => panic!("not keys"),
        })
    };
    let keys = parse("oci2bk keys a b -o c").unwrap();
    assert_eq!(keys.sources, [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!(keys.output, Some(PathBuf::from("c")));
    assert!(keys.command.is_none());

    let keys = parse("oci2bk keys attach oci:dir:main --keys a b --keys c --tag keys").unwrap();
    let Some(KeysCommand::Attach(attach)) = keys.command else { panic!("not attach") };
    assert_eq!(attach.layout, "oci:dir:main".parse().unwrap());
    assert_eq!(attach.keys, ["a", "b", "c"].map(PathBuf::from));
    assert_eq!(attach.tag.as_deref(), Some("keys"));

    // A file of that name can be given with its directory.
    assert_eq!(parse("oci2bk keys ./attach -o -").unwrap().sources.len(), 1);
    for wrong in ["keys", "keys a", "keys -o a", "keys attach a", "keys attach a -o b --keys c"] {
        assert!(parse(&format!("oci2bk {wrong}")).is_err(), "{wrong}");
    }
}
