//! Stands for the decoder of zstd, if the feature `zstd` is off.

use std::convert::Infallible;
use std::io::{self, BufRead, Read};
use std::marker::PhantomData;

/// The magic of a frame that is not skippable.
pub(super) const MAGIC: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];

/// There is none.
pub(crate) struct Frames<R> {
    never: Infallible,
    blob: PhantomData<R>,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(_: R) -> io::Result<Self> {
        Err(unsupported())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.never {}
    }
}

/// The error of everything that needs zstd.
pub(crate) fn unsupported() -> io::Error {
    let message =
        "this program was built without the feature zstd, so it neither reads nor writes zstd";
    io::Error::new(io::ErrorKind::Unsupported, message)
}
