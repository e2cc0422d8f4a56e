//! Cache mounts with `uid=`, `gid=` or `mode=`: they are on an empty directory that a step of its own makes
//! (BuildKit v0.34.2 `frontend/dockerfile/dockerfile2llb/convert_runmount.go` `setCacheUIDGID`).

use bkstate::ids::{KeyId, RecordId, ResultId};
use bkstate::state::State;
use llb::op::{Action, ChownOpt, FileAction, FileOp, Kind, MkdirAction, Op, UserOpt};
use llb::{Encoding, Platform};
use serde::{Deserialize, Serialize};

/// The mode of a mount without `mode=`.
const USUAL_MODE: u32 = 0o755;

/// All that `mode=` can give: a client leaves the other bits out (BuildKit v0.34.2 `client/llb/fileop.go`).
const PERMISSIONS: u32 = 0o777;

/// The directory that the step makes, and on which the mount is.
pub(super) const DIRECTORY: &str = "cache";

/// Owner and permissions of a mount with `uid=`, `gid=` or `mode=`.
///
/// ```
/// use oci2bk::mounts::Owner;
///
/// let owner = Owner::new(Some(1000), None, Some(0o770)).expect("one of them is given");
/// assert_eq!(owner, Owner { uid: 1000, gid: 0, mode: 0o770 });
/// assert_eq!(owner.to_string(), "uid=1000,gid=0,mode=0770");
/// // setgid is not a permission, and a build leaves it out, too.
/// assert_eq!(Owner::new(Some(1000), None, Some(0o2770)), Some(owner));
/// assert_eq!(Owner::new(None, None, None), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The permissions.
    pub mode: u32,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "uid={},gid={},mode={:04o}", self.uid, self.gid, self.mode)
    }
}

impl Owner {
    /// Returns the owner of a mount with these options; `None` without any. What is not given is as for a
    /// frontend, and of the mode only the permissions count.
    pub fn new(uid: Option<u32>, gid: Option<u32>, mode: Option<u32>) -> Option<Self> {
        if uid.is_none() && gid.is_none() && mode.is_none() {
            return None;
        }
        let (uid, gid) = (uid.unwrap_or_default(), gid.unwrap_or_default());
        Some(Self { uid, gid, mode: mode.unwrap_or(USUAL_MODE) & PERMISSIONS })
    }

    /// Returns whether a file can have it.
    pub(super) fn is_possible(&self) -> bool {
        self.uid != u32::MAX && self.gid != u32::MAX && self.mode <= PERMISSIONS
    }

    /// Returns the key of the step that makes the directory, for a daemon with this encoding; `None` if there
    /// is no such step.
    pub(super) fn key(&self, encoding: Encoding) -> Option<KeyId> {
        let by_id = |id| Some(UserOpt::ById(id));
        let mkdir = MkdirAction {
            path: format!("/{DIRECTORY}"),
            mode: self.mode.cast_signed(),
            make_parents: false,
            owner: Some(ChownOpt { user: by_id(self.uid), group: by_id(self.gid) }),
            timestamp: -1,
        };
        let action =
            FileAction { input: -1, secondary_input: -1, output: 0, action: Action::Mkdir(mkdir) };
        let kind = Kind::File(FileOp { actions: vec![action] });
        let op = Op { inputs: 0, kind, platform: None };
        // The op has no platform.
        let digest = llb::digest(&op, encoding, &Platform::of_machine()).ok()?;
        Some(KeyId::from(digest.record(0)))
    }

    /// Returns what the step was asked for that made `record`, a directory with this owner: the key of the step
    /// says it, for a daemon of any release. `None` if `state` has no such step.
    ///
    /// The mode can be one with more permissions. A daemon takes away what its umask has, which is 0022 for
    /// Docker Engine 28 (BuildKit v0.25.2 `solver/llbsolver/file/backend.go` `mkdir`; moby v28.5.2
    /// `cmd/dockerd/daemon_unix.go` `setDefaultUmask`).
    pub(super) fn asked_for(self, state: &State, record: &RecordId) -> Option<Self> {
        let result = ResultId { worker: state.worker_id.clone(), record: Some(record.clone()) };
        let keys = state.solver.by_result.get(&result)?;
        let is_proven = |owner: &Self| {
            let mut encodings = Encoding::ALL.into_iter();
            encodings.any(|encoding| owner.key(encoding).is_some_and(|key| keys.contains(&key)))
        };
        let modes = (self.mode..=PERMISSIONS).filter(|mode| mode & self.mode == self.mode);
        modes.map(|mode| Self { mode, ..self }).find(is_proven)
    }
}

#[cfg(test)]
mod tests {
    use bkstate::ids::WorkerId;
    use bkstate::worker::Worker;
    use bkstate::{Digest, Time};
    use llb::Release;

    use super::*;

    #[test]
    fn the_step_has_the_keys_that_daemons_gave_it() {
        let owner = Owner { uid: 1000, gid: 1001, mode: 0o770 };
        // Found in roots of v0.32.2 and v0.16.0.
        for (release, key) in [
            (
                Release::V0_18,
                "sha256:1622d97a9ebb6f74c08a112091f99afc742f1896c6fcb659a75dd6ff0085353d",
            ),
            (
                Release::V0_13,
                "sha256:cbcadd64f2f55f717c31f8f4d8681bb3d7d67672c5b6e47ea7ec3c16cd5fadad",
            ),
        ] {
            let encoding = Encoding { release, ..Encoding::NEWEST };
            let expected: Digest = key.parse().unwrap();
            assert_eq!(owner.key(encoding), Some(KeyId::from(expected)));
        }
    }

    #[test]
    fn the_mode_is_the_one_that_the_step_was_asked_for() {
        let asked = Owner { uid: 1000, gid: 1001, mode: 0o770 };
        let record = RecordId::derive("made");
        let mut state = State::empty(Worker::default(), WorkerId::derive("worker"));
        assert_eq!(asked.asked_for(&state, &record), None);
        let result = ResultId { worker: state.worker_id.clone(), record: Some(record.clone()) };
        let key = asked.key(Encoding::NEWEST).unwrap();
        state.solver.add_result(&key, result, Time::UNIX_EPOCH);
        for made in [0o770, 0o750, 0o700] {
            let made = Owner { mode: made, ..asked };
            assert_eq!(made.asked_for(&state, &record), Some(asked));
        }
        // A directory of another owner, or with more permissions, is not what the step made.
        for other in [Owner { uid: 0, ..asked }, Owner { mode: 0o771, ..asked }] {
            assert_eq!(other.asked_for(&state, &record), None);
        }
        assert_eq!(asked.asked_for(&state, &RecordId::derive("other")), None);
    }
}
