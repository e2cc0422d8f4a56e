//! Garbage of a containerd.

use std::path::Path;

use anyhow::Result;
use testkit::Daemon;

use crate::process::run;

/// The namespace of an image that is removed.
const NAMESPACE: &str = "garbage";

/// Makes containerd collect garbage: imports the image in `archive` into a separate namespace, removes it, and
/// waits for the collection.
pub(super) fn collect(daemon: &Daemon, archive: &Path) -> Result<()> {
    let containerd = daemon.containerd()?;
    let ctr = || containerd.ctr(NAMESPACE);
    run(ctr().args(["images", "import", "--index-name", "garbage:1"]).arg(archive))?;
    let names = containerd.list(NAMESPACE, "images")?;
    run(ctr().args(["images", "rm", "--sync"]).args(names)).map(drop)
}
