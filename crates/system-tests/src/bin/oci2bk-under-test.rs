//! The command, for the tests of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    oci2bk_cli::main()
}
