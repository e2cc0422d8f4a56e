//! The class of each error.

use crate::bolt::ReadError;
use crate::config::{ReadConfigError, UserError};
use crate::decode::DecodeError;
use crate::engine::EngineError;
use crate::gc::DiskError;
use crate::input::InputError;
use crate::machine::PlaceError;
use crate::root::{LockError, OpenRootError, RootError};
use crate::state::{ExistingError, ReadStateError, StagingError, VerifyError};
use crate::usage::UsageError;
use crate::{About, Class, Classified};

impl Classified for InputError {
    fn about(&self) -> About {
        match self {
            Self::Directory | Self::Kind(_) => About::new("file.kind", Class::Input),
            Self::Io(error) => About::of_reading("file.io", error),
        }
    }
}

impl Classified for ReadConfigError {
    fn about(&self) -> About {
        match self {
            Self::Read { source, .. } => source.about(),
            Self::TooLarge { .. } => About::new("config.too-large", Class::Limit),
            Self::Place(error) => error.about(),
            Self::Invalid { .. } => About::new("config.invalid", Class::Input),
        }
    }
}

impl Classified for PlaceError {
    fn about(&self) -> About {
        match self {
            Self::Dir(_) => About::new("machine.dir", Class::Io),
            Self::Link(_) => About::new("machine.link", Class::Io),
        }
    }
}

impl Classified for UserError {
    /// A user without numbers is an unusable place.
    fn about(&self) -> About {
        match self {
            Self::Dir(_) => About::new("owner-map.dir", Class::Io),
            Self::Read { .. } => About::new("owner-map.read", Class::Io),
            Self::TooLarge { .. } => About::new("owner-map.too-large", Class::Limit),
            Self::Line { .. } => About::new("owner-map.line", Class::Input),
            Self::NoUser { .. } => About::new("owner-map.no-user", Class::Io),
            Self::NoNumbers { .. } => About::new("owner-map.no-numbers", Class::Io),
            Self::Map { .. } => About::new("owner-map.map", Class::Input),
        }
    }
}

impl Classified for EngineError {
    /// An engine whose state has another form is an unusable place.
    fn about(&self) -> About {
        match self {
            Self::Config(error) => error.about(),
            Self::Place(error) => error.about(),
            Self::GraphDriver { .. } => About::new("engine.graph-driver", Class::Io),
            Self::Containerd { .. } => About::new("engine.containerd", Class::Io),
            Self::MappedUsers { .. } => About::new("engine.mapped-users", Class::Io),
            Self::Snapshotter { .. } => About::new("engine.snapshotter", Class::Io),
        }
    }
}

impl Classified for RootError {
    /// An unusable root is an unusable place.
    fn about(&self) -> About {
        match self {
            Self::Dir(_) => About::new("root.dir", Class::Io),
            Self::DanglingLink { .. } => About::new("root.dangling-link", Class::Io),
            Self::Owner { .. } => About::new("root.owner", Class::Io),
            Self::InForeign { .. } => About::new("root.in-foreign", Class::Io),
            Self::Writable { .. } => About::new("root.writable", Class::Io),
            Self::Link(_) => About::new("root.link", Class::Io),
            Self::NotContainerd { .. } => About::new("root.not-containerd", Class::Io),
            Self::ContainerdState { .. } => About::new("root.containerd-state", Class::Io),
            Self::NotARoot { .. } => About::new("root.not-a-root", Class::Io),
        }
    }
}

impl Classified for LockError {
    fn about(&self) -> About {
        match self {
            Self::InUse { .. } => About::new("lock.in-use", Class::InUse),
            Self::Database { .. } => About::new("lock.database", Class::InUse),
            Self::Mounted { .. } => About::new("lock.mounted", Class::InUse),
            Self::File(_) => About::new("lock.file", Class::Io),
            Self::Unsupported { .. } => About::new("lock.unsupported", Class::Io),
        }
    }
}

impl Classified for OpenRootError {
    fn about(&self) -> About {
        match self {
            Self::Root(error) => error.about(),
            Self::Lock(error) => error.about(),
            Self::Create { .. } => About::new("root-open.create", Class::Io),
        }
    }
}

impl Classified for ReadError {
    fn about(&self) -> About {
        match self {
            Self::Io { .. } => About::new("bolt.io", Class::Io),
            Self::NoMeta { .. } => About::new("bolt.no-meta", Class::Damaged),
            Self::Truncated { .. } => About::new("bolt.truncated", Class::Damaged),
            Self::PageOutside { .. } => About::new("bolt.page-outside", Class::Damaged),
            Self::PageNumber { .. } => About::new("bolt.page-number", Class::Damaged),
            Self::PageType { .. } => About::new("bolt.page-type", Class::Damaged),
            Self::PageTooLarge { .. } => About::new("bolt.page-too-large", Class::Damaged),
            Self::PageShared { .. } => About::new("bolt.page-shared", Class::Damaged),
            Self::ElementOutside { .. } => About::new("bolt.element-outside", Class::Damaged),
            Self::KeyLength { .. } => About::new("bolt.key-length", Class::Damaged),
            Self::KeyOrder { .. } => About::new("bolt.key-order", Class::Damaged),
            Self::EmptyBranch { .. } => About::new("bolt.empty-branch", Class::Damaged),
            Self::ShortBucket { .. } => About::new("bolt.short-bucket", Class::Damaged),
            Self::ShortInline { .. } => About::new("bolt.short-inline", Class::Damaged),
            Self::BucketInInline { .. } => About::new("bolt.bucket-in-inline", Class::Damaged),
            Self::BucketsTooDeep { .. } => About::new("bolt.buckets-too-deep", Class::Damaged),
            Self::TreeTooHigh { .. } => About::new("bolt.tree-too-high", Class::Damaged),
            Self::FreelistTooLong { .. } => About::new("bolt.freelist-too-long", Class::Damaged),
        }
    }
}

impl Classified for DecodeError {
    fn about(&self) -> About {
        match self {
            Self::Bolt(error) => error.about(),
            Self::Kind { .. } => About::new("decode.kind", Class::Damaged),
            Self::Value { .. } => About::new("decode.value", Class::Damaged),
        }
    }
}

impl Classified for ReadStateError {
    fn about(&self) -> About {
        match self {
            Self::Dir(_) => About::new("read-state.dir", Class::Io),
            Self::Database { source, .. } => source.about(),
            Self::WorkerIdFile { .. } => About::new("read-state.worker-id-file", Class::Io),
            Self::WorkerId { .. } => About::new("read-state.worker-id", Class::Damaged),
        }
    }
}

impl Classified for VerifyError {
    /// A root without a state, or with the state of another worker, is an unusable place.
    fn about(&self) -> About {
        match self {
            Self::NoState { .. } => About::new("state.no-state", Class::Io),
            Self::HalfPublished { .. } => About::new("state.half-published", Class::Io),
            Self::OtherWorker { .. } => About::new("state.other-worker", Class::Io),
            Self::Incomplete(_) => About::new("state.incomplete", Class::Damaged),
            Self::Dir(_) => About::new("state.dir", Class::Io),
        }
    }
}

impl Classified for ExistingError {
    fn about(&self) -> About {
        match self {
            Self::OtherWorker { .. } => About::new("existing.other-worker", Class::Io),
            Self::OtherNamespace { .. } => About::new("existing.other-namespace", Class::Io),
            Self::UnknownVersion { .. } => About::new("existing.unknown-version", Class::Io),
            Self::OldRecords { .. } => About::new("existing.old-records", Class::Io),
            Self::Verify(error) => error.about(),
            Self::Damaged { .. } => About::new("existing.damaged", Class::Damaged),
        }
    }
}

impl Classified for StagingError {
    fn about(&self) -> About {
        match self {
            Self::OtherFileSystem { .. } => About::new("staging.other-file-system", Class::Io),
            Self::Dir(_) => About::new("staging.dir", Class::Io),
            Self::Database { .. } => About::new("staging.database", Class::Io),
            Self::Stored { .. } => About::new("staging.stored", Class::Io),
            Self::Commit { .. } => About::new("staging.commit", Class::Io),
            Self::File { .. } => About::new("staging.file", Class::Io),
        }
    }
}

impl Classified for UsageError {
    fn about(&self) -> About {
        match self {
            Self::State(error) => error.about(),
            Self::Damaged { .. } => About::new("usage.damaged", Class::Damaged),
            Self::Tree { .. } => About::new("usage.tree", Class::Io),
        }
    }
}

impl Classified for DiskError {
    fn about(&self) -> About {
        About::new("disk.unknown-size", Class::Io)
    }
}
