//! The pages in `docs/reference` contain the usage of each command.
//!
//! It is between `<!-- options: oci2bk COMMAND -->` and `<!-- /options: oci2bk COMMAND -->`, on the page of
//! that command. With `OCI2BK_BLESS`, the test writes it and does not compare.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Arg;
use clap::builder::PossibleValue;

use super::tests::commands;

/// Returns the page of a command: `keys attach` is on that of `keys`.
fn page(words: &str) -> PathBuf {
    let command = words.split_whitespace().next().unwrap();
    directory().join(command).with_extension("md")
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference")
}

/// Returns the marks around the usage of a command.
fn marks(words: &str) -> [String; 2] {
    ["", "/"].map(|slash| format!("<!-- {slash}options: oci2bk{words} -->"))
}

/// Formats usage, arguments, options and examples of a command.
fn usage(command: &clap::Command) -> String {
    let synopsis = command.clone().render_usage().to_string();
    let synopsis: Vec<_> = synopsis.trim_start_matches("Usage:").lines().map(str::trim).collect();
    let mut text = format!("\n## Usage\n\n```text\n{}\n```\n", synopsis.join("\n"));
    let shown = |argument: &&Arg| {
        !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
    };
    let mut arguments: Vec<_> = command.get_arguments().filter(shown).collect();
    // The order in which they are typed; sorting is stable.
    arguments.sort_by_key(|argument| !argument.is_positional());
    if !arguments.is_empty() {
        text += "\n| argument, option | |\n|---|---|\n";
    }
    for argument in arguments {
        writeln!(text, "| {} | {} |", label(argument), description(argument)).unwrap();
    }
    write!(text, "\n### Examples\n\n```sh\n{}\n```\n\n", examples(command)).unwrap();
    text
}

fn label(argument: &Arg) -> String {
    let mut names: Vec<String> = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    let mut label = names.join(", ");
    if argument.get_action().takes_values() {
        for value in argument.get_value_names().unwrap_or_default() {
            let value = if names.is_empty() { value.to_string() } else { format!(" <{value}>") };
            label += &value;
        }
    }
    format!("`{}`", label.replace('|', "\\|"))
}

fn description(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help()).unwrap().to_string();
    let (first, rest) = help.split_once("\n\n").unwrap_or((&help, ""));
    let (first, note) = first.split_once(" [").unwrap_or((first, ""));
    let mut text = format!("{}.", prose(first));
    if !rest.is_empty() {
        write!(text, " {}", prose(&rest.replace("\n\n", " "))).unwrap();
    }
    if let Some(default) = note.strip_prefix("default: ") {
        write!(text, " Default: {}.", default.trim_end_matches(']')).unwrap();
    }
    let values: Vec<PossibleValue> = argument.get_possible_values();
    for value in values.iter().filter(|value| !value.is_hide_set()) {
        let help = value.get_help().map(|help| format!(": {help}")).unwrap_or_default();
        write!(text, "<br>`{}`{}", value.get_name(), prose(&help)).unwrap();
    }
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
    let defaults: Vec<_> = defaults.map(|value| format!("`{value}`")).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        write!(text, "<br>Default: {}", defaults.join(", ")).unwrap();
    }
    if let Some(variable) = argument.get_env() {
        write!(text, "<br>Environment: `{}`", variable.to_string_lossy()).unwrap();
    }
    text
}

/// Escapes plain text for a cell of a Markdown table.
fn prose(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let is_code = word.starts_with("--") || word.contains(['=', '[', '|', '@', '_', '*', '<']);
        let code = word.trim_end_matches([',', '.', ';', ':', ')']);
        let word = match &word[code.len()..] {
            after if is_code => format!("`{code}`{after}"),
            _ => word.to_owned(),
        };
        word.replace('|', "\\|")
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the examples at the end of `--help`.
fn examples(command: &clap::Command) -> String {
    let help = command.get_after_long_help().unwrap().to_string();
    let examples = help.strip_prefix("Examples:\n").unwrap().lines();
    let examples = examples.take_while(|line| line.is_empty() || line.starts_with(' '));
    let lines: Vec<_> = examples.map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    lines.join("\n").trim_end().to_owned()
}

#[test]
fn the_reference_has_what_is_defined() {
    let mut wrong = Vec::new();
    let mut expected = Vec::new();
    for (words, command) in commands().into_iter().filter(|(words, _)| !words.is_empty()) {
        let page = page(&words);
        let text = fs::read_to_string(&page).unwrap();
        let [begin, end] = marks(&words);
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page:?}: {begin}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{page:?}: {end}"));
        let made = format!("{before}{begin}\n{}{end}{after}", usage(&command));
        if made != text {
            if std::env::var_os("OCI2BK_BLESS").is_some() {
                fs::write(&page, made).unwrap();
            } else {
                wrong.push(format!("{} is not what defines oci2bk{words}", page.display()));
            }
        }
        expected.push(begin);
    }
    assert!(wrong.is_empty(), "{}; renew it with OCI2BK_BLESS=1", wrong.join("\n"));

    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for line in text.lines().filter(|line| line.starts_with("<!-- options: ")) {
            assert!(expected.iter().any(|mark| mark == line), "there is no such command: {line}");
        }
    }
}

#[test]
fn help_becomes_markdown() {
    assert_eq!(
        prose("as with --keys, or DIR[:TAG|@DIGEST]."),
        "as with `--keys`, or `DIR[:TAG\\|@DIGEST]`."
    );
    let jobs = Arg::new("jobs").short('j').long("jobs").value_name("N");
    let jobs = jobs.help("How many [default: all]").default_value("2").env("JOBS");
    assert_eq!(label(&jobs), "`-j, --jobs <N>`");
    assert_eq!(
        description(&jobs),
        "How many. Default: all.<br>Default: `2`<br>Environment: `JOBS`"
    );
}
