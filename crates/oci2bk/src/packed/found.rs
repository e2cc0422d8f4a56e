//! What a root has: its state, its packed trees, and images that nothing needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bkstate::Root;
use bkstate::packed::{ImageId, Images, Mounted};
use bkstate::root::Location;
use bkstate::snapshots::{Kind, Trees};
use bkstate::state::{Damage, State, VerifyError};

use super::PackedError;

/// Opens a root that exists, to change it.
pub(super) fn open(location: Location) -> Result<Root, PackedError> {
    let worker = location.worker().clone();
    let root = match Root::check_to_write(location.clone())? {
        Some(root) => root,
        None => return Err(VerifyError::NoState { root: location.root().to_owned() }.into()),
    };
    if !root.worker().can_be_packed() {
        return Err(PackedError::Worker { worker: Box::new(worker) });
    }
    drop(root);
    Ok(Root::open_to_write(location)?)
}

/// Reads the state. Of a damaged one nothing is packed.
pub(super) fn read(root: &Root) -> Result<State, PackedError> {
    let verified = root.verify_databases()?;
    let damage: Vec<_> = verified.damage.into_iter().filter(|d| !Damage::is_harmless(d)).collect();
    match verified.state.filter(|_| damage.is_empty()) {
        Some(state) => Ok(state),
        None => Err(PackedError::Damaged { root: root.path().to_owned(), damage }),
    }
}

/// The snapshots in each image.
pub(super) type Packed = BTreeMap<ImageId, BTreeSet<u64>>;

/// Returns the snapshots in each image, and those that are directories and that no daemon changes any more.
pub(super) fn chosen(state: &State, trees: &Trees) -> Result<(Packed, BTreeSet<u64>), PackedError> {
    let mut packed = Packed::new();
    for (id, image) in state.packed(std::slice::from_ref(trees))? {
        packed.entry(image).or_default().insert(id);
    }
    let mut directories = BTreeSet::new();
    for snapshot in state.snapshots.by_name.values().filter(|s| s.kind == Kind::Committed) {
        let found = trees.find(snapshot.id)?;
        if found.fs && found.packed.is_none() {
            directories.insert(snapshot.id);
        }
    }
    Ok((packed, directories))
}

/// What became of the images to which no link leads.
#[derive(Default)]
pub(super) struct Rest {
    pub(super) removed: Vec<PathBuf>,
    pub(super) mounted: Vec<PathBuf>,
}

pub(super) fn remove_unused(root: &Root, state: &State) -> Result<Rest, PackedError> {
    let mut rest = Rest::default();
    let Some(trees) = root.trees()? else { return Ok(rest) };
    let (packed, _) = chosen(state, &trees)?;
    let mut images = Images::open(root.dir())?;
    let unused: Vec<_> =
        images.iter().map(|(id, _)| id).filter(|id| !packed.contains_key(id)).collect();
    for id in unused {
        let path = images.image_path(id);
        if !matches!(images.mounted(id)?, Mounted::No) {
            rest.mounted.push(images.mount_point(id));
            continue;
        }
        images.remove(id)?;
        rest.removed.push(path);
    }
    Ok(rest)
}
