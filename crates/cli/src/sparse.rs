//! `oci2bk sparse`.

use std::path::Path;

use oci2bk::CacheExport;
use oci2bk::sparse::{self, Sparse};
use oci2bk::text::{self, one_line, size};
use serde::Serialize;

use crate::args::{self, Format};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(arguments: &args::Sparse) -> Result<(), Failure> {
    let limits = arguments.limits.limits();
    sparse::check_place(&arguments.directory)?;
    let exports = CacheExport::read_sources(&arguments.sources, &limits)?;
    let sparse = sparse::write(&exports, &arguments.directory, &limits)?;
    let written = Written::new(&arguments.directory, &sparse);
    output::result(&match arguments.format {
        Format::Table => written.table(),
        Format::Json => text::to_json(&written)?,
    })
}

/// A sparse layout, as data.
#[derive(Debug, Serialize)]
pub(crate) struct Written {
    layout: String,
    size: u64,
    caches: Vec<Cache>,
}

#[derive(Debug, Serialize)]
struct Cache {
    reference: String,
    manifest: String,
    cache_from: String,
}

impl Written {
    pub(crate) fn new(path: &Path, sparse: &Sparse) -> Self {
        let caches = sparse.caches.iter().map(|cache| Cache {
            reference: cache.of.to_string(),
            manifest: cache.digest.to_string(),
            cache_from: cache.source.attributes(),
        });
        let layout = path.to_string_lossy().into_owned();
        Self { layout, size: sparse.bytes, caches: caches.collect() }
    }

    /// Returns the `--cache-from` value for each cache.
    pub(crate) fn cache_from(&self) -> Vec<String> {
        self.caches.iter().map(|cache| cache.cache_from.clone()).collect()
    }

    fn table(&self) -> String {
        let caches = match self.caches.len() {
            1 => "a cache".to_owned(),
            caches => format!("{caches} caches"),
        };
        let mut lines = vec![format!(
            "{} has the index of {caches}, {}, and no layers",
            one_line(&self.layout),
            size(self.size)
        )];
        let from = self.caches.iter().map(|cache| one_line(&cache.cache_from));
        lines.extend(from.map(|from| format!("  --cache-from {from}")));
        lines.join("\n")
    }
}
