//! The `lab` command: measures whole builds on builders that were warmed in different ways.
#![allow(clippy::print_stderr, reason = "a command")]

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use clap::Parser as _;
use lab::args::Arguments;
use lab::cli;

fn main() -> ExitCode {
    match cli::run(&Arguments::parse(), &mut io::stdout(), &mut io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader may close the pipe before the end.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
