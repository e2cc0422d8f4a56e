//! What an export notes while it packs files.

use std::io::{self, Write};

use bkstate::digest::Hasher;

use super::credentials;
use crate::cancel::Cancel;
use crate::pack::Observer;
use crate::progress::{Event, MountWork, Progress};

/// Maximum number of files with credentials that are named.
const NAMED: usize = 20;

/// Hashes what passes through.
pub(super) struct Hashed<'w, W> {
    pub(super) out: &'w mut W,
    pub(super) hasher: Hasher,
    pub(super) bytes: u64,
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.out.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reports progress, and notes files with credentials.
pub(super) struct Watcher<'w> {
    pub(super) work: &'w MountWork,
    pub(super) progress: &'w dyn Progress,
    pub(super) cancel: &'w Cancel,
    pub(super) done: u64,
    pub(super) credentials: Vec<String>,
    pub(super) credential_count: u64,
}

impl Observer for Watcher<'_> {
    fn file(&mut self, path: &[u8]) {
        if !credentials::is_named_so(path) {
            return;
        }
        self.credential_count += 1;
        if self.credentials.len() < NAMED {
            self.credentials.push(String::from_utf8_lossy(path).into_owned());
        }
    }

    fn read(&mut self, bytes: u64) {
        self.done += bytes;
        self.progress.event(Event::MountAdvanced { work: self.work, done: self.done });
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
