//! `oci2bk completions` and `oci2bk man`: output generated from the definition of the command line.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use bkstate::dir::Dir;
use clap::{Command, CommandFactory as _};
use roff::{Roff, roman};

use crate::args::{Arguments, Completions, Man};
use crate::failure::Failure;
use crate::output::{self, FileError};

/// Prints the completions for a shell.
pub(crate) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut text);
    output::result(String::from_utf8_lossy(&text).trim_end())
}

/// Writes a page for the command, and one for each of its subcommands.
pub(crate) fn man(arguments: &Man) -> Result<(), Failure> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source: FileError| Failure::WriteMan { path, source }
    };
    let dir = Dir::open(&arguments.dir);
    let dir = dir.map_err(|error| failed(&arguments.dir)(error.into()))?;
    for page in pages(&command).map_err(|error| failed(&arguments.dir)(error.into()))? {
        let written = output::write_into(&dir, OsStr::new(&page.name), &page.text);
        written.map_err(failed(&arguments.dir.join(&page.name)))?;
    }
    Ok(())
}

/// A manual page.
struct Page {
    name: String,
    text: Vec<u8>,
}

/// Returns the pages of a built command, and of its subcommands.
fn pages(command: &Command) -> io::Result<Vec<Page>> {
    let visible = || command.get_subcommands().filter(|below| !below.is_hide_set());
    let mut written = vec![page(command, visible().next().is_some())?];
    for below in visible() {
        written.extend(pages(below)?);
    }
    Ok(written)
}

fn page(command: &Command, has_commands: bool) -> io::Result<Page> {
    let source = concat!("oci2bk ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone()).source(source).manual("oci2bk");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_commands {
        man.render_subcommands_section(&mut text)?;
    }
    closing_sections(command).to_writer(&mut text)?;
    Ok(Page { name: man.get_filename(), text })
}

/// Formats the end of `--help`: paragraphs with a heading become sections, and keep their lines.
fn closing_sections(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let mut literal = false;
    for line in help.lines() {
        let heading = line.strip_suffix(':').filter(|text| text.starts_with(char::is_uppercase));
        if let Some(heading) = heading {
            if literal {
                roff.control("fi", []);
            }
            roff.control("SH", [heading.to_uppercase().as_str()]);
            roff.control("nf", []);
            literal = true;
        } else {
            roff.text([roman(line)]);
        }
    }
    if literal {
        roff.control("fi", []);
    }
    roff
}
