//! The program that users run. `system-tests` has the tests of its behaviour, with another program on the
//! same library; here are tests of what only this program can get wrong.
//!
//! Cargo builds the programs of a package for its tests only, and the lab's tests need this one.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::process::Command;

fn oci2bk(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_oci2bk")).args(arguments).output().unwrap()
}

#[test]
fn has_the_version_of_its_package() {
    let output = oci2bk(&["--version"]);
    assert!(output.status.success(), "{output:?}");
    let version = concat!("oci2bk ", env!("CARGO_PKG_VERSION"));
    assert!(output.stdout.starts_with(version.as_bytes()), "{output:?}");
}

#[test]
fn exits_with_the_code_of_the_command() {
    let output = oci2bk(&["verify", "/does/not/exist"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = oci2bk(&["no-such-command"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
