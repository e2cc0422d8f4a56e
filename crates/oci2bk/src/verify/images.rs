//! Hashes the images with packed trees.

use std::io::Read as _;

use bkstate::Digest;
use bkstate::digest::Hasher;
use bkstate::dir::DirError;
use bkstate::packed::Superblock;
use bkstate::state::{PackedDamage, Parts};

use super::{Verifier, VerifyError};

/// Size of reads from an image.
const READ_BYTES: usize = 256 * 1024;

/// The results of hashing.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    pub(super) images: usize,
    pub(super) bytes: u64,
    pub(super) damage: Vec<PackedDamage>,
}

/// Hashes the images in the root that have the size and the UUID of their description. The others have been reported, or are
/// elsewhere.
pub(super) fn hash(parts: &Parts, verifier: &Verifier<'_>) -> Result<Hashed, VerifyError> {
    let mut hashed = Hashed::default();
    for images in parts.trees.iter().map(bkstate::snapshots::Trees::images) {
        for (id, image) in images.iter().filter(|(_, image)| image.file.is_none()) {
            let path = images.image_path(id);
            let failed = |source| DirError { action: "read", path: path.clone(), source };
            // What cannot be opened has been reported too.
            let Ok(Some(mut file)) = images.file(id) else { continue };
            let uuid = Superblock::read(&file).map_err(failed)?.map(|found| found.uuid);
            if file.metadata().map_err(failed)?.len() != image.size || uuid != Some(image.uuid) {
                continue;
            }
            let (mut hasher, mut buffer) = (Hasher::new(), vec![0; READ_BYTES]);
            loop {
                verifier.check()?;
                let length = file.read(&mut buffer).map_err(failed)?;
                if length == 0 {
                    break;
                }
                hasher.update(&buffer[..length]);
            }
            hashed.images += 1;
            hashed.bytes = hashed.bytes.saturating_add(image.size);
            let found: Digest = hasher.finish();
            if found != image.digest {
                hashed.damage.push(PackedDamage::Digest { path, found, expected: image.digest });
            }
        }
    }
    Ok(hashed)
}
