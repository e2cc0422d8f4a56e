use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use oci2bk::convert::StoreBlobs;
use oci2bk::keys::KeyPath;

use super::*;

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

/// Returns a command and all its subcommands.
fn all_commands(command: clap::Command) -> Vec<clap::Command> {
    let below: Vec<_> = command.get_subcommands().cloned().flat_map(all_commands).collect();
    [command].into_iter().chain(below).collect()
}

#[test]
fn help_has_one_form() {
    let mut wrong = Vec::new();
    let mut check = |of: String, text: &str, is_long: bool| {
        let first = text.split("\n\n").next().unwrap_or_default();
        let long = text.contains("\n\n");
        let is_sentence = first.ends_with('.');
        if !first.starts_with(char::is_uppercase) || is_sentence || long && !text.ends_with('.') {
            wrong.push(format!("{of}: {text:?}"));
        }
        assert!(is_long || !long, "{of}");
    };
    for command in all_commands(Arguments::command()) {
        let name = command.get_name().to_owned();
        check(name.clone(), &command.get_about().unwrap().to_string(), false);
        if let Some(text) = command.get_long_about() {
            check(name.clone(), &text.to_string(), true);
        }
        let examples = command.get_after_long_help().unwrap().to_string();
        assert!(examples.starts_with("Examples:\n  # "), "{name} has no examples");
        for argument in command.get_arguments() {
            let of = format!("{name} {}", argument.get_id());
            check(of.clone(), &argument.get_help().unwrap().to_string(), false);
            if let Some(text) = argument.get_long_help() {
                check(of.clone(), &text.to_string(), true);
            }
            for value in argument.get_possible_values() {
                if let Some(help) = value.get_help() {
                    check(format!("{of} {}", value.get_name()), &help.to_string(), false);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn parsed(words: &[&str]) -> Result<Places, clap::Error> {
    let words = ["oci2bk", "convert"].iter().chain(words);
    Arguments::try_parse_from(words).map(|arguments| match arguments.command {
        Command::Convert(convert) => convert.places,
        other => panic!("{other:?}"),
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
        assert_eq!(places.root, Some(PathBuf::from("/var/lib/buildkit")));
    }
}

#[test]
fn a_root_without_a_source_is_refused() {
    assert!(parsed(&["only-one"]).unwrap_err().to_string().contains("the last word is the root"));
    let error = parsed(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{error}");
    assert!(error.to_string().contains("<SRC>..."), "{error}");
    let error = parsed(&["oci:dir@sha256:abc", "r"]).unwrap_err().to_string();
    assert!(error.contains("64 lowercase hex digits"), "{error}");
}

#[test]
fn releases_without_this_format_of_state_are_refused() {
    let parse = |release: &str| {
        Arguments::try_parse_from(["oci2bk", "convert", "a", "r", "--buildkit", release])
    };
    let Command::Convert(convert) = parse("0.16").unwrap().command else { panic!("keys") };
    assert_eq!(convert.buildkit.map(|target| target.to_string()).as_deref(), Some("v0.16.0"));
    assert!(parse("v0.33.0").is_ok());
    for (refused, message) in [
        ("v0.10.6", "the state of BuildKit v0.10.6 has another format"),
        ("v1.0.0", "the state of BuildKit v1.0.0 may have another format"),
        ("latest", "a version has two or three numbers"),
    ] {
        let error = parse(refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{error}");
        assert!(error.to_string().contains(message), "{error}");
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
        panic!("another command")
    };
    assert_eq!(convert.limits.limits().layer_entries, 50_000_000);
    assert!(parse("entries=1").unwrap_err().to_string().contains("there are layer-entries"));
    let mut command = Arguments::command();
    let help = command.find_subcommand_mut("limits").unwrap().render_long_help().to_string();
    let row = "  layer-size=1Ti           16Gi  Bytes of one unpacked layer, holes of sparse files \
               included\n";
    let untrusted = parse("untrusted").unwrap();
    let Command::Convert(convert) = untrusted.command else { panic!("another command") };
    assert_eq!(convert.limits.limits(), oci2bk::Limits::untrusted());
    assert!(help.contains(row), "{help}");
    assert!(limits().starts_with("layer-entries=20M "), "{}", limits());
    let jobs = Arguments::try_parse_from(["oci2bk", "convert", "a", "r", "--jobs", "0"]);
    let error = jobs.unwrap_err().to_string();
    assert!(error.contains("'--jobs <N>': it has to be a number from 1 on"), "{error}");
}

#[test]
fn keys_are_written_or_attached() {
    let parse = |words: &str| {
        let arguments = Arguments::try_parse_from(words.split(' '));
        arguments.map(|arguments| match arguments.command {
            Command::Keys(keys) => keys,
            other => panic!("{other:?}"),
        })
    };
    let keys = parse("oci2bk keys a b -o c").unwrap();
    assert_eq!(keys.sources, ["a", "b"].map(|path| KeyPath::from(OsString::from(path))));
    assert_eq!(keys.output, Some(PathBuf::from("c")));
    assert!(keys.command.is_none());

    let keys = parse("oci2bk keys attach oci:dir:main --keys a b --keys c --tag keys").unwrap();
    let Some(KeysCommand::Attach(attach)) = keys.command else { panic!("not attach") };
    assert_eq!(attach.layout, "oci:dir:main".parse().unwrap());
    assert_eq!(attach.keys, ["a", "b", "c"].map(|path| KeyPath::from(OsString::from(path))));
    assert_eq!(attach.tag.as_deref(), Some("keys"));

    // A file with that name can be given with its directory.
    assert_eq!(parse("oci2bk keys ./attach -o -").unwrap().sources.len(), 1);
    for wrong in ["keys", "keys a", "keys -o a", "keys attach a", "keys attach a -o b --keys c"] {
        assert!(parse(&format!("oci2bk {wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn the_root_is_left_out_where_it_follows_from_the_daemon() {
    let sources = |words: &[&str]| {
        let places = parsed(words).unwrap();
        (places.sources.len(), places.root.is_some())
    };
    assert_eq!(sources(&["a", "b", "--builder", "ci"]), (2, false));
    assert_eq!(sources(&["a", "--config", "c"]), (1, false));
    assert_eq!(sources(&["a", "r", "--config", "c"]), (1, true));

    let verify = |words: &[&str]| {
        let words = ["oci2bk", "verify"].iter().chain(words);
        Arguments::try_parse_from(words).is_ok()
    };
    for right in [&["r"][..], &["--builder", "ci"], &["--config", "c"], &["r", "--config", "c"]] {
        assert!(verify(right), "{right:?}");
    }
    for wrong in [&[][..], &["r", "--builder", "ci"], &["r", "--docker-root", "d"]] {
        assert!(!verify(wrong), "{wrong:?}");
    }
}

/// Returns the command and all its subcommands, with their words.
pub(super) fn commands() -> Vec<(String, clap::Command)> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), root)];
    while let Some((words, command)) = pending.pop() {
        for below in command.get_subcommands() {
            pending.push((format!("{words} {}", below.get_name()), below.clone()));
        }
        found.push((words, command));
    }
    found
}

#[test]
fn every_command_and_option_is_documented() {
    for (words, command) in commands() {
        assert!(command.get_about().is_some(), "{words} has no help");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{words} {} has no help", argument.get_id());
            assert!(!help.ends_with('.') && help.len() <= 100, "{words}: {help}");
        }
    }
}

#[test]
fn help_has_examples_and_they_are_right() {
    for (words, command) in commands() {
        let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<_> = help
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| line.starts_with("oci2bk "))
            .collect();
        assert!(!examples.is_empty(), "{words} has no examples");
        for example in examples {
            let typed = example.split(" > ").next().unwrap();
            assert!(
                typed.starts_with(&format!("oci2bk{words}")),
                "{example} is of another command"
            );
            if let Err(error) = Arguments::try_parse_from(typed.split(' ')) {
                panic!("{example}: {error}");
            }
        }
    }
}
