//! A cache in a tar archive.

use std::path::Path;
use std::process::Command;

use oci2bk::export::CacheExport;
use oci2bk::limits::Limits;
use oci2bk::source::{Reference, Source};

use super::fixture::ALL;
use super::tree::describe;
use super::{converted, ways};

/// Packs the content of `dir` with the `tar` of the system.
fn pack(dir: &Path, archive: &Path) {
    let status = Command::new("tar").arg("-C").arg(dir).arg("-cf").arg(archive).arg(".").status();
    assert!(status.unwrap().success());
}

#[test]
fn an_archive_gives_the_same_tree_as_the_directory() {
    for fixture in ALL {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("cache.tar");
        pack(&fixture.layout(), &path);
        let source = Source { path, reference: Reference::Default };
        for converter in ways() {
            let tree = |exports: &[CacheExport]| {
                let temp = tempfile::tempdir().unwrap();
                converted(exports, &[fixture], temp.path(), &converter).unwrap();
                describe(temp.path())
            };
            let archive = tree(&CacheExport::read_all(&source, &Limits::default()).unwrap());
            assert!(archive == tree(&[fixture.export()]), "{}", fixture.name);
        }
    }
}
