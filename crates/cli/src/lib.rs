//! The `oci2bk` command: converts a BuildKit cache export into the state directory of a buildkitd, manages
//! the necessary keys, verifies such directories and shows the content of both.
//!
//! Results go to stdout, progress and errors to stderr. Only this crate prints or exits.
//!
//! It is a library so that the tests can build another program from it. Only [`main()`] is public, and it is
//! not a stable interface.

mod args;
mod clock;
mod code;
mod convert;
mod daemon;
mod du;
mod explain;
mod failure;
mod gc;
mod generate;
mod hint;
mod inspect;
mod keys;
mod mounts;
mod output;
mod pack;
mod progress;
mod report;
mod signals;
mod snapshotter;
mod sparse;
mod state;
mod summary;
mod table;
mod verify;
mod version;
mod warmth;
mod warning;

use std::process::ExitCode;

use crate::args::Command;

/// Caches and states are millions of short texts in maps. docs/design/measurements.md has the benefit.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the command: parses its arguments, prints its result, and returns its exit code.
pub fn main() -> ExitCode {
    let arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(error) => return args::refuse(error),
    };
    let outcome = match &arguments.command {
        Command::Convert(arguments) => convert::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Sparse(arguments) => sparse::run(arguments),
        Command::Keys(arguments) => keys::run(arguments),
        Command::Mounts(arguments) => mounts::run(arguments),
        Command::Pack(arguments) => pack::run(arguments),
        Command::State(arguments) => state::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Du(arguments) => du::run(arguments),
        Command::Limits => output::result(&args::limits()),
        Command::Completions(arguments) => generate::completions(arguments),
        Command::Man(arguments) => generate::man(arguments),
        Command::Explain(arguments) => explain::run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            // After a result, such as that of a verification, the exit code says enough.
            if arguments.command.is_json() && !output::has_result() {
                // Why it cannot be printed was said if it can be.
                let _ = failure.print_json();
            }
            failure.code().into()
        }
    }
}
