//! Warnings of a conversion, on stderr.

mod losses;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bkstate::Digest;
use bkstate::root::Stranger;
use oci2bk::convert::{LeftPacked, PackedReason};
use oci2bk::image::WholeImage;
use oci2bk::keys::{SourceDescription, SourceError, UnreadHistory};
use oci2bk::layout::BadCopy;
use oci2bk::text::one_line;

pub(crate) use self::losses::{of_dropped, of_future, of_losses, of_releases, of_unused_layers};
use crate::hint::{ELSEWHERE, behind, of_key_source, of_limit, raise};
use crate::output::{note, with_causes};

/// Maximum number of layers that stay packed to list. A chain of them can have any number.
const NAMED_LAYERS: usize = 10;

/// Notes on stderr that a signature proves nothing here.
pub(crate) fn of_signature(source: &SourceDescription) {
    note(format_args!("the signature of the {source} is not checked; its keys need no trust"));
}

/// Warns on stderr about a build history without its provenance. The same builder has other keys.
pub(crate) fn of_unread(history: &UnreadHistory) {
    note(format_args!("warning: {history}{}", behind(Some(ELSEWHERE.to_owned()))));
}

/// Warns on stderr why a file found beside the cache has no keys.
pub(crate) fn of_found(error: &SourceError) {
    note(format_args!(
        "warning: {}; it was found with the cache, and is left out{}",
        with_causes(error),
        behind(of_key_source(error).or_else(|| of_limit(error)))
    ));
}

/// Warns on stderr about layers of the root that differ from the cache.
pub(crate) fn of_different(root: &Path, different: &BTreeSet<Digest>) {
    for chain_id in different {
        note(format_args!(
            "warning: {} has a layer that a BuildKit before v0.33.1 unpacked and that is not what the \
             cache has (chainID {chain_id}); the layer of the cache is stored beside it",
            root.display()
        ));
    }
}

/// Warns on stderr about omitted images.
pub(crate) fn of_unused_images(unused: &[String]) {
    for image in unused {
        note(format_args!(
            "warning: no step of the caches uses the image in {}; it is left out",
            image
        ));
    }
}

/// Warns on stderr about images that no daemon finds by their digests.
pub(crate) fn of_nameless_images(images: &[WholeImage]) {
    for image in images.iter().filter(|image| image.name().is_none()) {
        note(format_args!(
            "warning: the image in {reference} has no name, so only its layers are warm; with \
             --image NAME={reference} a FROM with its digest needs no registry either",
            reference = one_line(&image.image.reference)
        ));
    }
}

/// Warns on stderr about names of images for which the daemon has no place.
pub(crate) fn of_names_without_store<'n>(names: impl IntoIterator<Item = &'n String>) {
    for name in names {
        note(format_args!(
            "warning: a buildkitd with the OCI worker has no image store, so FROM {name} asks the \
             registry; FROM with the digest of the image does not"
        ));
    }
}

/// Warns on stderr about damaged blobs of the root.
pub(crate) fn of_mended(root: &Path, mended: &BTreeSet<Digest>) {
    for blob in mended {
        note(format_args!(
            "warning: the blob {blob} in {} was damaged; that of the cache replaces it",
            root.display()
        ));
    }
}

/// Warns on stderr about layers with ignored trailing bytes.
pub(crate) fn of_trailing(trailing: &BTreeMap<Digest, u64>) {
    for (blob, bytes) in trailing {
        note(format_args!(
            "warning: {bytes} bytes behind the gzip stream of layer {blob} were ignored; a daemon \
             without unpigz refuses such a layer"
        ));
    }
}

/// Warns on stderr about skipped copies of layers.
pub(crate) fn of_bad_copies(copies: &BTreeSet<BadCopy>) {
    for copy in copies {
        note(format_args!(
            "warning: the copy of layer {} in {} was skipped for a good one: {}",
            copy.blob,
            copy.layout.display(),
            one_line(&copy.why)
        ));
    }
}

/// Warns on stderr that other users can replace a root, through a directory on its path.
pub(crate) fn of_strangers(root: &Path, strangers: &[Stranger]) {
    if let Some(stranger) = strangers.first() {
        note(format_args!(
            "warning: {stranger}; users who can write there can replace {}, and a daemon would trust the \
             replacement",
            root.display()
        ));
    }
}

/// Warns on stderr about linked blobs that other processes may still be able to change.
pub(crate) fn of_unleased(blobs: usize) {
    if blobs > 0 {
        note(format_args!(
            "warning: the file system of the cache has no leases: a process that has one of the {blobs} \
             hard-linked blobs open for writing can still change it"
        ));
    }
}

/// Notes on stderr that a rootless daemon lacks files of layers.
pub(crate) fn of_left_out(entries: u64) {
    if entries > 0 {
        note(format_args!(
            "note: {entries} devices of layers were left out, as a rootless buildkitd does"
        ));
    }
}

/// Warns on stderr about layers that stay packed.
pub(crate) fn of_packed(left: &[LeftPacked]) {
    for line in all_left_packed(left) {
        note(format_args!("warning: {line}"));
    }
}

pub(crate) fn all_left_packed(left: &[LeftPacked]) -> Vec<String> {
    let (named, more) = left.split_at(left.len().min(NAMED_LAYERS));
    let mut lines: Vec<_> = named.iter().map(left_packed).collect();
    if !more.is_empty() {
        let more = more.len();
        lines.push(format!(
            "{more} more layers stay packed; --format json and --metadata-file name all"
        ));
    }
    lines
}

fn left_packed(LeftPacked { layer, reason, limit, .. }: &LeftPacked) -> String {
    match reason {
        PackedReason::CannotUnpack(why) => format!(
            "layer {layer} stays packed: it cannot be unpacked, and no step of the cache needs its \
             files: {}{}",
            one_line(why),
            behind(limit.map(raise))
        ),
        PackedReason::LiesOn(below) => {
            format!("layer {layer} stays packed, as it lies on layer {below}")
        }
        _ => format!("layer {layer} stays packed{}", behind(limit.map(raise))),
    }
}
