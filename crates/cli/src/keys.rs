//! `oci2bk keys` and `oci2bk keys attach`.

use std::collections::BTreeSet;
use std::path::Path;

use oci2bk::export::CacheExport;
use oci2bk::image::BaseImage;
use oci2bk::keys::{
    AttachError, Attached, DockerfileKeys, KeyPath, KeySource, KeysFile, SourceError, attach,
};
use oci2bk::limits::Limits;
use oci2bk::text;
use oci2bk::warning::Warning;

use crate::args::{Attach, Keys, KeysCommand};
use crate::failure::Failure;
use crate::output::{self, note};
use crate::warning;

pub(crate) fn run(arguments: &Keys) -> Result<(), Failure> {
    match (&arguments.command, &arguments.output) {
        (Some(KeysCommand::Attach(arguments)), _) => run_attach(arguments),
        (None, Some(output)) => write(arguments, output),
        // The command line requires one of them.
        (None, None) => Err(Failure::NoKeys),
    }
}

/// Writes the keys of the sources to the file `output`.
fn write(arguments: &Keys, output: &Path) -> Result<(), Failure> {
    let limits = arguments.limits.limits();
    let mut sources = read(&arguments.sources, &limits)?;
    sources.extend(read_dockerfiles(&arguments.dockerfile.sources(), &[], &limits)?);
    let keys = KeysFile::from_sources(&sources);
    if keys.is_empty() {
        return Err(Failure::NoKeys);
    }
    let json = keys.encode()?;
    if output == Path::new("-") || output::is_stdout(output) {
        // The output adds the line feed at the end.
        return output::result(text::escaped_json(&String::from_utf8_lossy(&json)).trim_end());
    }
    output::write_file(output, &json)
        .map_err(|source| Failure::WriteKeys { path: output.to_owned(), source })?;
    output::result(&format!("{} has the keys of {} ops", text::path(output), keys.len()))
}

fn run_attach(arguments: &Attach) -> Result<(), Failure> {
    let limits = arguments.limits.limits();
    let exports = CacheExport::read_all(&arguments.layout, &limits)?;
    let mut sources = read(&arguments.keys, &limits)?;
    let mut images = Vec::new();
    for export in &exports {
        images.extend(BaseImage::in_layout(&export.layout)?);
    }
    sources.extend(read_dockerfiles(&arguments.dockerfile.sources(), &images, &limits)?);
    let keys = KeysFile::from_sources(&sources);
    // An inline cache of several platforms counts as several caches, and the keys may belong to some of them.
    let mut nothing = None;
    let mut done = Vec::new();
    for export in exports {
        match attach(&export, &keys, arguments.tag.as_deref()) {
            Ok(attached) => done.push(describe(&export, &attached)),
            Err(error @ AttachError::NothingMatches { .. }) => nothing = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match nothing {
        Some(error) if done.is_empty() => Err(error.into()),
        _ => output::result(&done.join("\n")),
    }
}

fn describe(export: &CacheExport, attached: &Attached) -> String {
    let wanted: BTreeSet<_> = export.config.digests_with_inputs().collect();
    if attached.records < wanted.len() {
        let missing = wanted.len() - attached.records;
        note(format_args!("warning: the key sources have no key for {missing} of the records"));
    }
    let what = if attached.changed { "attached" } else { "were attached already" };
    format!(
        "keys of {} of {} records {what} to {} in {}\n  artifact {}",
        attached.records,
        wanted.len(),
        export.manifest.digest,
        text::path(export.layout.path()),
        attached.manifest
    )
}

/// Reads the source that the user named, and warns about a build history without its provenance.
pub(crate) fn read_source(named: &KeyPath, limits: &Limits) -> Result<Vec<KeySource>, SourceError> {
    let sources = named.read(limits)?;
    for history in sources.iter().filter_map(|source| source.unread.as_ref()) {
        warning::say(&Warning::UnreadHistory { history });
    }
    Ok(sources)
}

/// Reads Dockerfiles, and reports the instructions that frontends refuse.
pub(crate) fn read_dockerfiles(
    files: &[DockerfileKeys],
    images: &[BaseImage],
    limits: &Limits,
) -> Result<Vec<KeySource>, SourceError> {
    let mut sources = Vec::new();
    for file in files {
        sources.extend(file.read(images, limits)?);
    }
    for source in &sources {
        for error in &source.refused {
            warning::say(&Warning::Dockerfile { source: &source.description, error });
        }
    }
    Ok(sources)
}

/// Reads the sources, and reports their steps without keys.
fn read(named: &[KeyPath], limits: &Limits) -> Result<Vec<KeySource>, Failure> {
    let mut sources = Vec::new();
    for source in named {
        sources.extend(read_source(source, limits)?);
    }
    for source in &sources {
        if source.signed {
            warning::say(&Warning::Signature { source: &source.description });
        }
        for step in &source.uncomputable {
            note(format_args!(
                "warning: {} has no key for the step {}: {}",
                source.description, step.name, step.reason
            ));
        }
    }
    Ok(sources)
}
