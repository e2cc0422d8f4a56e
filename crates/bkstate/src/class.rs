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
use crate::{Class, Classified};

impl Classified for InputError {
    fn class(&self) -> Class {
        match self {
            Self::Kind(_) => Class::Input,
            Self::Io(error) => Class::of_reading(error),
        }
    }
}

impl Classified for ReadConfigError {
    fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } => source.class(),
            Self::TooLarge { .. } => Class::Limit,
            Self::Invalid { .. } => Class::Input,
            Self::Place(error) => error.class(),
        }
    }
}

impl Classified for PlaceError {
    fn class(&self) -> Class {
        Class::Io
    }
}

impl Classified for UserError {
    /// A user without numbers is an unusable place.
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } => Class::Limit,
            Self::Line { .. } | Self::Map { .. } => Class::Input,
            Self::Dir(_) | Self::Read { .. } | Self::NoUser { .. } | Self::NoNumbers { .. } => {
                Class::Io
            }
        }
    }
}

impl Classified for EngineError {
    /// An engine whose state has another form is an unusable place.
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            Self::Place(error) => error.class(),
            Self::GraphDriver { .. }
            | Self::Containerd { .. }
            | Self::MappedUsers { .. }
            | Self::Snapshotter { .. } => Class::Io,
        }
    }
}

impl Classified for RootError {
    /// An unusable root is an unusable place.
    fn class(&self) -> Class {
        Class::Io
    }
}

impl Classified for LockError {
    fn class(&self) -> Class {
        match self {
            Self::InUse { .. } | Self::Database { .. } | Self::Mounted { .. } => Class::InUse,
            Self::File(_) | Self::Unsupported { .. } => Class::Io,
        }
    }
}

impl Classified for OpenRootError {
    fn class(&self) -> Class {
        match self {
            Self::Root(error) => error.class(),
            Self::Lock(error) => error.class(),
            Self::Create { .. } => Class::Io,
        }
    }
}

impl Classified for ReadError {
    fn class(&self) -> Class {
        match self {
            Self::Io { .. } => Class::Io,
            _ => Class::Damaged,
        }
    }
}

impl Classified for DecodeError {
    fn class(&self) -> Class {
        match self {
            Self::Bolt(error) => error.class(),
            Self::Kind { .. } | Self::Value { .. } => Class::Damaged,
        }
    }
}

impl Classified for ReadStateError {
    fn class(&self) -> Class {
        match self {
            Self::Database { source, .. } => source.class(),
            Self::WorkerId { .. } => Class::Damaged,
            Self::Dir(_) | Self::WorkerIdFile { .. } => Class::Io,
        }
    }
}

impl Classified for VerifyError {
    /// A root without a state, or with the state of another worker, is an unusable place.
    fn class(&self) -> Class {
        match self {
            Self::Incomplete(_) => Class::Damaged,
            Self::NoState { .. }
            | Self::HalfPublished { .. }
            | Self::OtherWorker { .. }
            | Self::Dir(_) => Class::Io,
        }
    }
}

impl Classified for ExistingError {
    fn class(&self) -> Class {
        match self {
            Self::Verify(error) => error.class(),
            Self::Damaged { .. } => Class::Damaged,
            Self::OtherWorker { .. }
            | Self::OtherNamespace { .. }
            | Self::UnknownVersion { .. }
            | Self::OldRecords { .. } => Class::Io,
        }
    }
}

impl Classified for StagingError {
    fn class(&self) -> Class {
        Class::Io
    }
}

impl Classified for UsageError {
    fn class(&self) -> Class {
        match self {
            Self::State(error) => error.class(),
            Self::Damaged { .. } => Class::Damaged,
            Self::Tree { .. } => Class::Io,
        }
    }
}

impl Classified for DiskError {
    fn class(&self) -> Class {
        Class::Io
    }
}
