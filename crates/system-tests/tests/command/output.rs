//! Progress, colours, and closed pipes.

use std::fs::File;
use std::io::{PipeWriter, Read as _, pipe};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::*;

/// Returns a pipe without a reader.
fn broken() -> PipeWriter {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn plain_progress_has_a_line_for_each_stage_and_layer() {
    for (flag, variable) in
        [(Some("plain"), ""), (Some("auto"), "quiet"), (None, ""), (None, "plain")]
    {
        let mut command = convert(index(), &Place::new());
        command.env("BUILDKIT_PROGRESS", variable);
        command.args(flag.map(|flag| format!("--progress={flag}")));
        let printed = Printed::of(&mut command, 0);
        let lines: Vec<_> = printed.stderr.lines().collect();
        for stage in ["layers", "publish", "verify"] {
            assert!(lines.contains(&stage), "{}", printed.stderr);
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with("  sha256:")).count(), 12);
        assert!(lines.iter().all(|line| line.trim_end() == *line), "{}", printed.stderr);
    }
}

#[test]
fn quiet_says_nothing_but_what_is_wrong() {
    for (flag, variable) in [(Some("quiet"), "plain"), (None, "quiet")] {
        let place = Place::new();
        for (code, said, why) in [(0, "", ""), (1, "error: ", "another worker")] {
            let mut command = convert(index(), &place);
            command.env("BUILDKIT_PROGRESS", variable);
            command.args(flag.map(|flag| format!("--progress={flag}")));
            let printed = Printed::of(&mut command, code);
            assert_eq!(printed.stderr.is_empty(), said.is_empty(), "{}", printed.stderr);
            assert!(printed.stderr.starts_with(said), "{}", printed.stderr);
            assert!(printed.stderr.contains(why), "{}", printed.stderr);
            if code == 0 {
                place.hand_over();
            }
        }
    }
}

#[test]
fn rawjson_is_an_object_for_each_event() {
    let printed = Printed::of(convert(index(), &Place::new()).arg("--progress=rawjson"), 0);
    let events: Vec<Value> =
        printed.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((of("stage-started"), of("stage-finished")), (6, 6));
    assert_eq!((of("layer-started"), of("layer-finished")), (12, 12));
    for event in events.iter().filter(|event| event["layer"].is_object()) {
        let layer = &event["layer"];
        assert!(layer["blob"].as_str().unwrap().starts_with("sha256:"), "{event}");
        assert!(layer["blob_size"].is_u64() && layer["read_size"].is_u64(), "{event}");
    }
    let started = events.iter().filter(|event| event["event"] == "stage-started");
    let stages: Vec<_> = started.map(|event| event["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["read", "keys", "plan", "layers", "verify", "publish"]);
    assert_eq!(of("warning"), 0);

    // Without keys, the steps are no part of the state.
    let words = [fixture("index/cache")];
    let printed = Printed::of(convert(&words, &Place::new()).arg("--progress=rawjson"), 0);
    let warnings = printed.stderr.lines().filter(|line| line.contains(r#""event":"warning""#));
    let warnings: Vec<Value> = warnings.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(warnings.len(), 1, "{}", printed.stderr);
    assert_eq!(warnings[0]["warning"]["kind"], "incomplete");
}

/// Runs the command with a terminal as stderr, and returns the output to the terminal.
pub(super) fn on_a_terminal(command: &mut Command) -> String {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    // Without a kind of terminal there are neither colours nor bars.
    let mut child =
        command.env("TERM", "xterm").stdout(Stdio::null()).stderr(terminal).spawn().unwrap();
    // So that reading ends when the command has ended.
    command.stderr(Stdio::null());
    let mut text = Vec::new();
    // Linux ends a terminal without writers with an error.
    let _ = File::from(master).read_to_end(&mut text);
    child.wait().unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_terminal_gets_colours_unless_it_wants_none() {
    let words = [fixture("index/cache"), "--require-keys".to_owned()];
    let refused = || convert(&words, &Place::new());
    assert!(on_a_terminal(&mut refused()).starts_with("\x1b[1;31merror:\x1b[0m "));
    assert!(on_a_terminal(refused().env("NO_COLOR", "")).starts_with('\x1b'));
    let plain = on_a_terminal(refused().env("NO_COLOR", "1"));
    assert!(plain.starts_with("error: ") && !plain.contains('\x1b'), "{plain:?}");
    assert!(!Printed::of(&mut refused(), 4).stderr.contains('\x1b'));
}

#[test]
fn a_terminal_gets_bars_and_is_left_clean() {
    let shown = on_a_terminal(&mut convert(index(), &Place::new()));
    assert!(shown.contains("layers") && shown.contains("\x1b[2K"), "{shown:?}");
    let plain = on_a_terminal(convert(index(), &Place::new()).arg("--progress=plain"));
    assert!(plain.contains("publish") && !plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn bars_without_a_terminal_are_no_failure() {
    Printed::of(convert(index(), &Place::new()).arg("--progress=tty"), 0);
}

#[test]
fn a_reader_of_stdout_that_goes_away_is_no_failure() {
    for words in [&["--dry-run"][..], &["--dry-run", "--format=json"], &["--format=json"], &[]] {
        let place = Place::new();
        let mut command = convert(index(), &place);
        let status = command.args(words).stdout(broken()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{words:?}");
    }
}

#[test]
fn a_reader_of_stderr_that_goes_away_stops_nothing() {
    for progress in ["plain", "rawjson", "tty"] {
        let place = Place::new();
        let mut command = convert(index(), &place);
        command.args(["--progress", progress]).stdout(Stdio::null());
        assert_eq!(command.stderr(broken()).status().unwrap().code(), Some(0), "{progress}");
        assert!(place.root().join("cache.db").exists());
        place.hand_over();
        let mut again = convert(index(), &place);
        assert_eq!(again.stderr(broken()).status().unwrap().code(), Some(1), "{progress}");
    }
}

#[test]
fn a_full_stdout_is_a_failure() {
    let mut command = convert(index(), &Place::new());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command.arg("--dry-run").stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("stdout") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn help_tells_the_exit_codes_and_goes_to_stdout() {
    for words in [&["--help"][..], &["convert", "--help"]] {
        let printed = Printed::of(command().args(words), 0);
        for code in ["0  done", "3  the input is damaged", "6  the root is in use"] {
            assert!(printed.stdout.contains(code), "{}", printed.stdout);
        }
        assert_eq!(printed.stderr, "");
    }
    let printed = Printed::of(&mut command(), 2);
    assert!(printed.stderr.starts_with("Convert a BuildKit cache export"), "{}", printed.stderr);
    let version = Printed::of(command().arg("--version"), 0).stdout;
    assert_eq!(version.lines().next(), Some(concat!("oci2bk ", env!("CARGO_PKG_VERSION"))));
}
