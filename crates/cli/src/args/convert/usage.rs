//! The usage of `convert`, and errors about it.

use clap::error::ErrorKind;

pub(super) const USAGE: &str = "oci2bk convert [OPTIONS] <SRC>... <ROOT>\n       \
                     oci2bk convert [OPTIONS] <SRC>... --builder <NAME>\n       \
                     oci2bk convert [OPTIONS] <SRC> --config <FILE>";

/// Returns an error in clap's style, with the usage of `convert`.
pub(super) fn refusal(kind: ErrorKind, message: &str) -> clap::Error {
    clap::Command::new("convert").override_usage(USAGE).error(kind, message)
}
