//! Rows of the image store: what containerd knows about the name of an image.

use std::collections::BTreeMap;

use super::Namespace;
use crate::bolt::{Node, Tree};
use crate::digest::Digest;
use crate::time::Time;
use crate::varint;

/// Prefix of the content labels with which an index or a manifest keeps its parts (containerd v2.4.2
/// `core/images/mediatypes.go` `ChildGCLabels`).
///
/// ```
/// use bkstate::Digest;
/// use bkstate::metadata::{Content, LABEL_REFERENCE};
///
/// fn parts(manifest: &Content) -> impl Iterator<Item = Digest> {
///     let labels = manifest.labels.iter().filter(|(name, _)| name.starts_with(LABEL_REFERENCE));
///     labels.filter_map(|(_, part)| part.parse().ok())
/// }
///
/// let config = Digest::of("{}");
/// let labels = [(format!("{LABEL_REFERENCE}config"), config.to_string())].into();
/// assert!(parts(&Content { labels, ..Content::default() }).eq([config]));
/// ```
pub const LABEL_REFERENCE: &str = "containerd.io/gc.ref.content.";

/// The name of an image, and its top object: an index or a manifest in the content store.
///
/// containerd keeps the top object as long as the name exists, and the parts of the image as long as labels of
/// their parents refer to them ([`LABEL_REFERENCE`]).
///
/// ```
/// use bkstate::metadata::{ImageRow, Namespace};
/// use bkstate::{Digest, Time};
///
/// let digest = Digest::of("a manifest");
/// let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
/// let row = ImageRow { created_at: Time::UNIX_EPOCH, digest, media_type, size: 10 };
///
/// let mut namespace = Namespace::default();
/// namespace.add_image("docker.io/library/debian:12", &row);
/// assert!(namespace.images.is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// When the name was made.
    pub created_at: Time,
    /// The digest of the top object.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

impl ImageRow {
    /// Returns its entries (containerd v2.4.2 `core/metadata/images.go` `writeImage`).
    fn tree(&self) -> Tree {
        let size = varint::encode_signed(self.size.cast_signed());
        let target = [
            ("digest", self.digest.to_string().into_bytes()),
            ("mediatype", self.media_type.clone().into_bytes()),
            ("size", size),
        ];
        let time = || Node::Value(self.created_at.to_go_binary().to_vec());
        let values = target.into_iter().map(|(key, value)| (key, Node::Value(value)));
        tree([("createdat", time()), ("target", Node::Bucket(tree(values))), ("updatedat", time())])
    }
}

/// The top object of an image, as it is stored.
pub(crate) struct ImageTarget<'n> {
    pub(crate) digest: Option<&'n str>,
    pub(crate) media_type: Option<&'n str>,
}

/// Returns the top object in the row of an image.
fn target(row: &Node) -> Option<ImageTarget<'_>> {
    let Node::Bucket(row) = row else { return None };
    let Node::Bucket(target) = row.entries.get(b"target".as_slice())? else { return None };
    let text = |key: &[u8]| match target.entries.get(key)? {
        Node::Value(value) => std::str::from_utf8(value).ok(),
        Node::Bucket(_) => None,
    };
    Some(ImageTarget { digest: text(b"digest"), media_type: text(b"mediatype") })
}

impl Namespace {
    /// Returns the digest of the image with this name, as it is stored; `None` if there is none.
    ///
    /// ```
    /// use bkstate::metadata::Namespace;
    ///
    /// assert_eq!(Namespace::default().image("docker.io/library/debian:12"), None);
    /// ```
    pub fn image(&self, name: &str) -> Option<&str> {
        target(self.images.as_ref()?.entries.get(name.as_bytes())?)?.digest
    }

    /// Returns the top objects of the images, in the order of their names.
    pub(crate) fn image_targets(&self) -> impl Iterator<Item = ImageTarget<'_>> {
        let rows = self.images.iter().flat_map(|images| images.entries.values());
        rows.filter_map(target)
    }

    /// Adds the name of an image; an existing one is replaced.
    ///
    /// ```
    /// use bkstate::metadata::{ImageRow, Namespace};
    /// use bkstate::{Digest, Time};
    ///
    /// let (digest, name) = (Digest::of("an index"), "docker.io/library/debian:12");
    /// let media_type = "application/vnd.oci.image.index.v1+json".to_owned();
    /// let mut namespace = Namespace::default();
    /// let row = ImageRow { created_at: Time::UNIX_EPOCH, digest, media_type, size: 8 };
    /// namespace.add_image(name, &row);
    /// assert_eq!(namespace.image(name), Some(digest.to_string().as_str()));
    /// ```
    pub fn add_image(&mut self, name: &str, row: &ImageRow) {
        let images = self.images.get_or_insert_with(Tree::default);
        images.entries.insert(name.as_bytes().to_vec(), Node::Bucket(row.tree()));
    }
}

fn tree<'k>(entries: impl IntoIterator<Item = (&'k str, Node)>) -> Tree {
    let entries = entries.into_iter().map(|(key, node)| (key.as_bytes().to_vec(), node));
    Tree { sequence: 0, entries: entries.collect::<BTreeMap<_, _>>() }
}
