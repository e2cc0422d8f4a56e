//! A case: layers, and their expected outcome.

use std::io::Write as _;
use std::path::Path;

use archives::{Member, archive};

pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A layer's blob.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: &'static str,
    /// The uncompressed archive, for the diffID.
    pub(crate) tar: Vec<u8>,
}

impl Blob {
    pub(crate) fn plain(tar: Vec<u8>) -> Self {
        Self { bytes: tar.clone(), media_type: PLAIN, tar }
    }

    pub(crate) fn gzip(tar: Vec<u8>) -> Self {
        Self { bytes: gzip(&tar), media_type: GZIP, tar }
    }

    pub(crate) fn zstd(tar: Vec<u8>) -> Self {
        Self { bytes: zstd(&tar), media_type: ZSTD, tar }
    }

    /// Returns the same blob with other bytes.
    pub(crate) fn with_bytes(self, bytes: Vec<u8>) -> Self {
        Self { bytes, ..self }
    }
}

impl<const N: usize> From<[Member; N]> for Blob {
    fn from(members: [Member; N]) -> Self {
        Self::plain(archive(&members))
    }
}

impl From<Vec<Member>> for Blob {
    fn from(members: Vec<Member>) -> Self {
        Self::plain(archive(&members))
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// The expected outcome of the layers of a case.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// All unpack, and the last has these names, sorted by bytes.
    Unpacks(Vec<String>),
    /// The last is rejected, with an error whose messages contain this text.
    Refused(&'static str),
}

/// containerd's behaviour with the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containerd {
    /// The same: equal trees, or an error too.
    Same,
    /// It unpacks what we reject. The text says why rejecting is better.
    Unpacks(&'static str),
    /// It rejects what we unpack. The text says why unpacking is right.
    Refuses(&'static str),
    /// It must not be tried. The text is the reason.
    NotTried(&'static str),
}

type Layers = dyn Fn(&Path) -> Vec<Blob> + Send + Sync;

/// Hostile layers.
pub(crate) struct Case {
    /// `item::case`; the item is a heading of `docs/hostile-input.md`.
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) containerd: Containerd,
    /// Makes the layers, lowest first, given the path of a directory that must stay untouched.
    pub(crate) layers: Box<Layers>,
    /// Values for `--limit`.
    pub(crate) limits: Vec<&'static str>,
    /// Whether they are for a rootless daemon, with the owners of [`OWNERS`].
    pub(crate) rootless: bool,
}

/// The map of owners of rootless daemons: that of nobody but root is changed.
pub(crate) const OWNERS: &str = "0:0:1,1:100000:65536";

impl Case {
    /// Creates a case with one layer that unpacks to these names.
    pub(crate) fn unpacks<B: Into<Blob>>(
        name: &str,
        names: &[&str],
        layer: impl Fn(&Path) -> B + Send + Sync + 'static,
    ) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self::new(name, Outcome::Unpacks(names), move |outside| vec![layer(outside).into()])
    }

    /// Creates a case with one layer that is rejected.
    pub(crate) fn refused<B: Into<Blob>>(
        name: &str,
        text: &'static str,
        layer: impl Fn(&Path) -> B + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, Outcome::Refused(text), move |outside| vec![layer(outside).into()])
    }

    pub(crate) fn new(
        name: &str,
        outcome: Outcome,
        layers: impl Fn(&Path) -> Vec<Blob> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            outcome,
            containerd: Containerd::Same,
            layers: Box::new(layers),
            limits: Vec::new(),
            rootless: false,
        }
    }

    /// Returns the same case on top of another layer.
    pub(crate) fn on<B: Into<Blob>>(self, below: impl Fn() -> B + Send + Sync + 'static) -> Self {
        let above = self.layers;
        let layers = Box::new(move |outside: &Path| {
            let mut chain = vec![below().into()];
            chain.extend(above(outside));
            chain
        });
        Self { layers, ..self }
    }

    pub(crate) fn containerd(self, containerd: Containerd) -> Self {
        Self { containerd, ..self }
    }

    /// Returns the same case for a rootless daemon. containerd would have to be in a user namespace.
    pub(crate) fn rootless(self) -> Self {
        let containerd = Containerd::NotTried("it takes a user namespace");
        Self { rootless: true, containerd, ..self }
    }

    pub(crate) fn limit(mut self, setting: &'static str) -> Self {
        self.limits.push(setting);
        self
    }

    /// Returns the heading of its item.
    pub(crate) fn item(&self) -> &str {
        self.name.split_once("::").map_or(&self.name, |(item, _)| item)
    }
}

/// Returns a path as bytes for an entry.
pub(crate) fn text(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes()
}
