//! Hints about a root, and about layers that cannot be stored in it.

use std::io::ErrorKind;
use std::path::Path;

use bkstate::root::{LockError, OpenRootError, RootError};
use bkstate::state::{self, ExistingError};
use bkstate::usage::UsageError;
use bkstate::worker::{Executor, Snapshotter, Worker};
use oci2bk::convert::ConvertError;
use oci2bk::inspect::InspectError;
use oci2bk::mounts::MountsError;
use oci2bk::packed::PackedError;
use oci2bk::unpack::RightsError;
use oci2bk::verify::{MendError, VerifyError};

use super::source::word;

pub(super) fn of_convert(error: &ConvertError) -> Option<String> {
    match error {
        ConvertError::Rights { source: RightsError::Denied { .. }, .. } => {
            let packed = "leave layers packed with --no-extract, which takes no privileges";
            Some(format!("{packed}; for a rootless buildkitd, put rootlesskit before the command"))
        }
        ConvertError::Rights { .. } => Some(packed()),
        ConvertError::Unpack { source, .. } | ConvertError::UnpackExisting { source, .. }
            if source.missing_owner().is_some() =>
        {
            Some(
                "give the user of the daemon more numbers in /etc/subuid and /etc/subgid"
                    .to_owned(),
            )
        }
        ConvertError::ChainTooLong { .. } | ConvertError::TooManySnapshots { .. } => Some(packed()),
        ConvertError::Unpack { source, .. } | ConvertError::UnpackExisting { source, .. } => {
            (source.is_denied() || source.can_stay_packed()).then(packed)
        }
        ConvertError::Link { .. } => Some("copy what has to be with --blobs auto".to_owned()),
        ConvertError::Existing(error) => of_existing(error),
        ConvertError::Open(error) => of_open(error),
        _ => None,
    }
}

fn packed() -> String {
    "leave layers packed with --no-extract".to_owned()
}

/// Returns a hint about a root that cannot be opened, such as one in use.
pub(super) fn of_open(error: &OpenRootError) -> Option<String> {
    if let OpenRootError::Root(RootError::Owner { .. } | RootError::InForeign { .. }) = error {
        return Some(of_foreign(error));
    }
    let OpenRootError::Lock(LockError::Database { holder, .. } | LockError::InUse { holder, .. }) =
        error
    else {
        return None;
    };
    let name = holder.name.as_deref()?;
    ["dockerd", "containerd"].contains(&name).then(|| {
        "stop Docker Engine or buildkitd, and then containerd, such as with: systemctl stop docker \
         docker.socket containerd"
            .to_owned()
    })
}

/// Returns a hint about a root that belongs to another user, or would be made in a directory of one.
fn of_foreign(error: &OpenRootError) -> String {
    let rootless = "for a rootless buildkitd, run as its user, with rootlesskit before the command, or give its \
                    owners with --map-user NAME or --map";
    match error {
        OpenRootError::Root(RootError::Owner { path, user, .. }) => format!(
            "{rootless}; for any other, give another directory, or an empty one after: chown {user} {}",
            word(&path.to_string_lossy())
        ),
        OpenRootError::Root(RootError::InForeign { path, .. }) => format!(
            "{rootless}; for any other, make the directory first: mkdir -p -m 700 {}",
            word(&path.to_string_lossy())
        ),
        _ => rootless.to_owned(),
    }
}

fn of_existing(error: &ExistingError) -> Option<String> {
    match error {
        ExistingError::Damaged { root, .. } => Some(of_damaged(root)),
        ExistingError::OtherWorker { found, .. } => of_other_worker(found),
        ExistingError::OtherNamespace { found, .. } => Some(format!(
            "give the namespace of the builder with --containerd-namespace {}",
            word(found)
        )),
        ExistingError::Verify(error) => of_state(error),
        _ => None,
    }
}

/// Returns a hint about a root with the state of another worker only, whose directory is `found`.
fn of_other_worker(found: &str) -> Option<String> {
    let worker = Worker::of_directory(found)?;
    if worker.executor() != Executor::Oci {
        return Some(
            "for the containerd worker, give the root of its containerd with --containerd-root; for Docker Engine, \
             give --engine"
                .to_owned(),
        );
    }
    // An unknown snapshotter cannot be given.
    let snapshotter: Snapshotter = worker.snapshotter().parse().ok()?;
    Some(format!("if its daemon still has that snapshotter, give --snapshotter {snapshotter}"))
}

pub(super) fn of_state(error: &state::VerifyError) -> Option<String> {
    match error {
        state::VerifyError::OtherWorker { found, .. } => of_other_worker(found),
        _ => None,
    }
}

/// Returns a hint about the damaged state in `root`.
fn of_damaged(root: &Path) -> String {
    format!(
        "see what a daemon would do about it with: oci2bk verify {}",
        word(&root.to_string_lossy())
    )
}

pub(super) fn of_verify(error: &VerifyError) -> Option<String> {
    match error {
        VerifyError::Rights(_) => Some("verify without --trees".to_owned()),
        VerifyError::State(error) => of_state(error),
        _ => None,
    }
}

pub(super) fn of_mend(error: &MendError) -> Option<String> {
    match error {
        MendError::Verify(error) => of_verify(error),
        MendError::Existing(error) => of_existing(error),
        _ => None,
    }
}

pub(super) fn of_usage(error: &UsageError) -> Option<String> {
    match error {
        UsageError::Damaged { root, .. } => Some(of_damaged(root)),
        UsageError::State(error) => of_state(error),
        UsageError::Tree { source, .. } if source.source.kind() == ErrorKind::PermissionDenied => Some(
            "the files of a rootless buildkitd are read in its user namespace: rootlesskit oci2bk du".to_owned(),
        ),
        _ => None,
    }
}

pub(super) fn of_mounts(error: &MountsError) -> Option<String> {
    match error {
        MountsError::Open(error) => of_open(error),
        MountsError::Usage(error) => of_usage(error),
        MountsError::Existing(error) => of_existing(error),
        MountsError::Exists { .. } => Some(
            "keep those of the root with --exists keep, or replace them with --exists replace"
                .to_owned(),
        ),
        MountsError::NotThere { .. } => {
            Some("see which there are with oci2bk mounts ls".to_owned())
        }
        MountsError::One { form: "tar:" | "dir:", .. } => {
            Some("an oci: layout has any number of them".to_owned())
        }
        _ => None,
    }
}

pub(super) fn of_packed(error: &PackedError) -> Option<String> {
    match error {
        PackedError::Open(error) => of_open(error),
        PackedError::State(error) => of_state(error),
        PackedError::Damaged { root, .. } => Some(of_damaged(root)),
        PackedError::NotMounted { image, point } => Some(format!(
            "mount it: mount -t erofs -o ro,loop {} {}",
            word(&image.to_string_lossy()),
            word(&point.to_string_lossy())
        )),
        PackedError::OldMkfs { .. } | PackedError::NoCompression { .. } => {
            Some("compress with lz4, or install a newer erofs-utils".to_owned())
        }
        PackedError::Mount { .. } => {
            Some("the kernel needs EROFS and loop devices: modprobe erofs loop".to_owned())
        }
        PackedError::Mkfs { .. } => {
            Some("give a file on a larger disk with --output, if space is missing".to_owned())
        }
        _ => None,
    }
}

pub(super) fn of_inspect(error: &InspectError) -> Option<String> {
    match error {
        InspectError::Damaged { root, .. } => Some(of_damaged(root)),
        InspectError::Open(error) => of_open(error),
        InspectError::State(error) => of_state(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use bkstate::dir::DirError;

    use oci2bk::Digest;
    use oci2bk::convert::LinkError;
    use oci2bk::unpack::UnpackError;

    use super::*;

    fn denied() -> RightsError {
        let source = Error::from(ErrorKind::PermissionDenied);
        RightsError::Denied { action: "make a device", source }
    }

    fn unpack(source: UnpackError) -> ConvertError {
        let digest = Digest::of("layer");
        ConvertError::Unpack { digest, root: "root".into(), source: Box::new(source) }
    }

    #[test]
    fn layers_that_cannot_be_unpacked_can_be_left_packed() {
        let layer = Digest::of("layer");
        let chain = ConvertError::ChainTooLong { layer, description: None };
        let many = ConvertError::TooManySnapshots { count: 3, limit: 2 };
        let entries = unpack(UnpackError::TooManyEntries { layer, limit: 1 });
        for error in [chain, many, entries] {
            assert_eq!(of_convert(&error), Some(packed()), "{error}");
        }
        let rights = ConvertError::Rights { root: "root".into(), source: denied() };
        let hint = packed()
            + ", which takes no privileges; for a rootless buildkitd, put rootlesskit before the \
                             command";
        assert_eq!(of_convert(&rights), Some(hint));
        let source = RightsError::NoMarks { place: "a tmpfs".to_owned() };
        let rights = ConvertError::Rights { root: "root".into(), source };
        assert_eq!(of_convert(&rights), Some(packed()));
        // It would also be wrong when packed.
        let wrong = UnpackError::WrongBlobSize { layer, expected: 1, found: 2 };
        assert_eq!(of_convert(&unpack(wrong)), None);
    }

    #[test]
    fn what_cannot_be_linked_can_be_copied() {
        let digest = Digest::of("layer");
        let link = ConvertError::Link { digest, reason: LinkError::InArchive };
        assert!(of_convert(&link).unwrap().ends_with("--blobs auto"));
    }

    #[test]
    fn damage_is_listed_by_verify() {
        let root = || "a root".into();
        let existing = || ExistingError::Damaged { root: root(), damage: Vec::new() };
        let hints = [
            of_convert(&ConvertError::Existing(existing())),
            of_mend(&MendError::Existing(existing())),
            of_usage(&UsageError::Damaged { root: root(), damage: Vec::new() }),
            of_inspect(&InspectError::Damaged { root: root(), damage: Vec::new() }),
        ];
        for hint in hints {
            assert!(hint.unwrap().ends_with(": oci2bk verify 'a root'"));
        }
    }

    #[test]
    fn the_files_of_rootless_daemons_are_read_in_their_namespace() {
        let tree = |kind| {
            let source = DirError { action: "open", path: "fs".into(), source: Error::from(kind) };
            of_usage(&UsageError::Tree { id: 3, source })
        };
        assert!(tree(ErrorKind::PermissionDenied).unwrap().ends_with(": rootlesskit oci2bk du"));
        assert_eq!(tree(ErrorKind::NotFound), None);
    }

    #[test]
    fn trees_can_be_left_out_of_a_verification() {
        assert_eq!(of_verify(&VerifyError::Rights(denied())).unwrap(), "verify without --trees");
        assert!(of_mend(&MendError::Verify(VerifyError::Rights(denied()))).is_some());
    }
}
