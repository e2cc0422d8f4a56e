//! Published files were synced before, and publishing was synced before the run reports success.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Start, Subject, layout};
use crate::strace::{Profile, is_change, publishing};

/// Follows a run call by call.
///
/// The root never refers to anything that is not on disk, and nothing is moved into place before its
/// dependencies are on disk: so no order in which a disk writes can break the state.
pub(crate) fn syncs_precede_publishing(bench: &Bench, start: Start) -> Result<()> {
    let dir = bench.memory()?;
    let subject = Subject::new(bench, start, dir.path())?;
    subject.reset()?;
    let profile = Profile::record(&subject.convert(), &dir.path().join("log"), &layout())?;
    let mut log = Log { root: &subject.root, unwritten: None, unnamed: None, published: 0 };
    for (_, _, line) in &profile.lines {
        log.follow(line)?;
    }
    ensure!(log.published >= 2, "only {} moves into the root were seen", log.published);
    ensure!(log.unnamed.is_none(), "the run ended before this was on disk: {:?}", log.unnamed);
    Ok(())
}

/// Returns whether a blob or a tree is moved.
fn is_content(line: &str) -> bool {
    ["/content/blobs/sha256>", "/snapshots/snapshots>"].iter().any(|place| line.contains(place))
}

struct Log<'l> {
    root: &'l Path,
    /// The last change to a file that may not be on disk.
    unwritten: Option<&'l str>,
    /// The last move into the root that may not be on disk.
    unnamed: Option<&'l str>,
    published: usize,
}

impl<'l> Log<'l> {
    fn follow(&mut self, line: &'l str) -> Result<()> {
        let name = line.split('(').next().unwrap_or_default();
        let root = self.root.to_str().context("a path in UTF-8")?;
        if !line.contains(root) || !is_change(line) || name == "flock" {
            return Ok(());
        }
        match name {
            "syncfs" => {
                self.unwritten = None;
                self.unnamed = None;
            }
            // The fsync of a directory makes its names durable.
            "fsync" => self.unnamed = None,
            _ if publishing(line, self.root).is_some() => {
                ensure!(
                    self.unwritten.is_none(),
                    "{line}\n  comes before what it names is on disk: {:?}",
                    self.unwritten
                );
                // Blobs and trees do not depend on each other.
                let together = self.unnamed.is_none_or(is_content) && is_content(line);
                ensure!(
                    together || self.unnamed.is_none(),
                    "{line}\n  comes before what it relies on is on disk: {:?}",
                    self.unnamed
                );
                self.unnamed = Some(line);
                self.published += 1;
            }
            // Removals need not be on disk.
            name if name.starts_with("unlink") || name == "rmdir" => {}
            _ => self.unwritten = Some(line),
        }
        Ok(())
    }
}
