//! `oci2bk sparse`.

use oci2bk::CacheExport;
use oci2bk::sparse::{self, Sparse};
use oci2bk::text::{self, one_line, size};

use crate::args::{self, Format};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(arguments: &args::Sparse) -> Result<(), Failure> {
    let limits = arguments.limits.limits();
    sparse::check_place(&arguments.directory)?;
    let exports = CacheExport::read_sources(&arguments.sources, &limits)?;
    let sparse = sparse::write(&exports, &arguments.directory, &limits)?;
    output::result(&match arguments.format {
        Format::Table => table(&sparse),
        Format::Json => text::to_json(&sparse)?,
    })
}

fn table(sparse: &Sparse) -> String {
    let caches = match sparse.caches.len() {
        1 => "a cache".to_owned(),
        caches => format!("{caches} caches"),
    };
    let mut lines = vec![format!(
        "{} has the index of {caches}, {}, and no layers",
        text::path(&sparse.path),
        size(sparse.bytes)
    )];
    let from = sparse.caches.iter().map(|cache| one_line(&cache.source.attributes()));
    lines.extend(from.map(|from| format!("  --cache-from {from}")));
    lines.join("\n")
}
