//! The sessions on pages are run: the commands after `$` in blocks marked `console`, one block after another,
//! in a directory with a cache and its provenance. Their output must match the page, where `…` matches
//! anything in a line, a line `...` any lines, and `[exit code 5]` an exit code other than 0.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use testkit::process::run;

use crate::pages::repository;

pub(crate) const PAGES: [&str; 3] = ["baking", "what-is-where", "troubleshooting"];

/// A command and its output.
#[derive(Debug, Default)]
struct Exchange<'a> {
    command: &'a str,
    output: Vec<&'a str>,
    code: i32,
}

fn exchanges(page: &str) -> Vec<Exchange<'_>> {
    let mut exchanges: Vec<Exchange<'_>> = Vec::new();
    let mut in_session = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_session = line == "```console";
        } else if !in_session {
        } else if let Some(command) = line.strip_prefix("$ ") {
            exchanges.push(Exchange { command, ..Exchange::default() });
        } else if let Some(exchange) = exchanges.last_mut() {
            let code = line.strip_prefix("[exit code ").and_then(|rest| rest.strip_suffix(']'));
            match code.and_then(|code| code.parse().ok()) {
                Some(code) => exchange.code = code,
                None => exchange.output.push(line),
            }
        }
    }
    exchanges
}

/// Returns whether the printed lines match the page.
fn agree(said: &[&str], printed: &[&str]) -> bool {
    match said.split_first() {
        None => printed.is_empty(),
        Some((&"...", rest)) => (0..=printed.len()).any(|skip| agree(rest, &printed[skip..])),
        Some((line, rest)) => printed.split_first().is_some_and(|(first, others)| {
            agree_line(line, first.trim_end()) && agree(rest, others)
        }),
    }
}

fn agree_line(said: &str, printed: &str) -> bool {
    match said.split_once('…') {
        None => said == printed,
        Some((start, rest)) => printed.strip_prefix(start).is_some_and(|tail| {
            tail.char_indices()
                .map(|(at, _)| at)
                .chain([tail.len()])
                .any(|at| agree_line(rest, &tail[at..]))
        }),
    }
}

/// Runs the sessions of the page with this name.
pub(crate) fn prove(page: &str) -> Result<()> {
    let dir = tempfile::Builder::new().prefix(page).tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let fixture = repository().join("fixtures/index");
    run(Command::new("cp").arg("-r").arg(fixture.join("cache")).arg(dir.path()))?;
    // The type of a key source is detected from its content: pages use either name.
    for name in ["provenance.json", "metadata.json"] {
        fs::copy(fixture.join("keys/provenance.json"), dir.path().join(name))?;
    }
    // The typed word is the name of the command.
    let programs = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let program = Path::new(env!("CARGO_BIN_EXE_oci2bk-under-test"));
    std::os::unix::fs::symlink(program, programs.path().join("oci2bk"))?;
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH")?);

    let text = fs::read_to_string(repository().join("docs").join(page).with_extension("md"))?;
    let exchanges = exchanges(&text);
    ensure!(!exchanges.is_empty(), "there is no session on the page");
    for exchange in exchanges {
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {}", exchange.command)])
            .current_dir(dir.path())
            .envs([("PATH", path.as_str()), ("LC_ALL", "C")])
            .env_remove("BUILDKIT_PROGRESS")
            .env_remove("SOURCE_DATE_EPOCH")
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<_> = printed.lines().collect();
        ensure!(
            output.status.code() == Some(exchange.code),
            "{} ends with {}:\n{printed}",
            exchange.command,
            output.status
        );
        ensure!(
            agree(&exchange.output, &lines),
            "{} prints\n{printed}\nand the page says\n{}",
            exchange.command,
            exchange.output.join("\n")
        );
    }
    Ok(())
}
