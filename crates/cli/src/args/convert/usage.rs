//! How `convert` is called, and what is said if it is not.

use clap::error::ErrorKind;

pub(super) const USAGE: &str = "oci2bk convert [OPTIONS] <SRC>... <ROOT>\n       \
                     oci2bk convert [OPTIONS] <SRC>... --builder <NAME>\n       \
                     oci2bk convert [OPTIONS] <SRC> --config <FILE>";

/// An error as clap's own look, with the usage of `convert`.
pub(super) fn refusal(kind: ErrorKind, message: &str) -> clap::Error {
    clap::Command::new("convert").override_usage(USAGE).error(kind, message)
}
