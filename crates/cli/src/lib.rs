//! The `oci2bk` command: turns a BuildKit cache export into the state directory of a buildkitd,
//! keeps the keys that this takes, verifies such directories and shows what is in either.
//!
//! stdout carries the result, stderr progress and errors. This crate is the only one that prints
//! or exits.
//!
//! It is a library so that another program can be the command, too: that of the tests. Only [`main()`] can be
//! called, and nothing of it is promised.

mod args;
mod builder;
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
mod last_used;
mod output;
mod progress;
mod report;
mod signals;
mod sparse;
mod summary;
mod verify;
mod version;
mod warmth;

use std::process::ExitCode;

use crate::args::Command;

/// Caches and states are millions of short texts in maps. ARCHITECTURE.md has what this saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the command: reads its arguments, prints what comes of it, and tells how it ended.
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
            failure.code().into()
        }
    }
}
