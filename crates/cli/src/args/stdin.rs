//! Checks that stdin is used only once.

use std::path::Path;

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::{Arguments, Command, KeysCommand};

/// The paths of stdin.
const STDIN: [&str; 4] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// Rejects a command that would read stdin for several key sources: the second would be empty.
pub(super) fn check(command: &Command) -> Result<(), clap::Error> {
    let is_stdin = |path: &&Path| STDIN.iter().any(|stdin| *path == Path::new(stdin));
    if key_sources(command).into_iter().filter(is_stdin).count() < 2 {
        return Ok(());
    }
    let message = "stdin is named as several key sources, and can be read only once; write one of them to a \
                   file, or give it as <(command)";
    Err(Arguments::command().error(ErrorKind::ArgumentConflict, message))
}

fn key_sources(command: &Command) -> Vec<&Path> {
    let none = &[][..];
    let (keys, files, other) = match command {
        Command::Convert(arguments) => (&arguments.keys, &*arguments.dockerfile.files, None),
        Command::Inspect(arguments) => {
            (&arguments.keys, &*arguments.dockerfile.dockerfile.files, None)
        }
        Command::Verify(arguments) => (&arguments.keys, none, None),
        Command::Explain(arguments) => {
            let files = &*arguments.dockerfile.dockerfile.files;
            (&arguments.keys, files, arguments.llb.as_deref())
        }
        Command::Keys(arguments) => match &arguments.command {
            Some(KeysCommand::Attach(arguments)) => {
                (&arguments.keys, &*arguments.dockerfile.dockerfile.files, None)
            }
            None => (&arguments.sources, &*arguments.dockerfile.dockerfile.files, None),
        },
        Command::Sparse(_)
        | Command::Mounts(_)
        | Command::State(_)
        | Command::Du(_)
        | Command::Pack(_)
        | Command::Limits
        | Command::Completions(_)
        | Command::Man(_) => return Vec::new(),
    };
    let keys = keys.iter().map(|source| source.path.as_path());
    keys.chain(files.iter().map(std::path::PathBuf::as_path)).chain(other).collect()
}
