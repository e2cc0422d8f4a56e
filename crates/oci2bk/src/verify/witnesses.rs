//! Checks whether unpacked trees still have attributes that copying often loses, by the entries that
//! conversions have recorded for that ([`crate::unpack::witness`]).
//!
//! Only these entries are examined, at most five for each snapshot. Snapshots that daemons made have none.

use std::collections::BTreeSet;

use bkstate::state::{Parts, State};

use super::trees::{TreeDamage, holder};
use super::{Verifier, VerifyError};
use crate::unpack::EntryName;
use crate::unpack::witness::{Witness, sees_trusted};

/// Returns the losses in the trees of `state`, except those with the ids `compared`, which were compared
/// completely.
pub(super) fn look_at(
    state: &State,
    parts: &Parts,
    compared: &BTreeSet<u64>,
    verifier: &Verifier<'_>,
) -> Result<Vec<TreeDamage>, VerifyError> {
    let sees_trusted = sees_trusted();
    let mut lost = Vec::new();
    for snapshot in state.snapshots.by_name.values() {
        verifier.check()?;
        let mut noted = Witness::of(&snapshot.labels).peekable();
        if compared.contains(&snapshot.id) || noted.peek().is_none() {
            continue;
        }
        // A missing one is reported elsewhere.
        let Some(trees) = holder(snapshot.id, &parts.trees)? else { continue };
        let tree = trees.fs(snapshot.id)?;
        for witness in noted.filter(|witness| sees_trusted || !witness.is_trusted()) {
            let path = EntryName::new(&witness.path);
            let is_there = witness.is_there(&tree).map_err(|errno| VerifyError::Entry {
                snapshot: snapshot.id,
                path: path.clone(),
                source: errno.into(),
            })?;
            if is_there {
                continue;
            }
            let snapshot = snapshot.id;
            lost.push(match witness.attribute {
                Some(name) => {
                    TreeDamage::LostAttributes { snapshot, path, name: EntryName::new(&name) }
                }
                None => TreeDamage::LostWhiteouts { snapshot, path },
            });
        }
    }
    Ok(lost)
}
