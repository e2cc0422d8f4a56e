//! The `oci2bk` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    oci2bk_cli::main()
}
