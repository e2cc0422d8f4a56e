//! Protobuf's JSON: 64-bit integers are strings, enums have names, zero values are omitted (protocolbuffers
//! `docs/programming-guides/json.md`, as written by Go's `protojson`).

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{
    BuildOp, CacheOpt, CdiDevice, ChownOpt, CopyAction, DiffOp, ExecOp, ExtraHost, FileAction,
    FileOp, Input, InputIndex, MergeOp, Meta, MkdirAction, MkfileAction, Mount, NamedUser, Op,
    PassthroughOp, Platform, Present, RmAction, SecretEnv, SecretOpt, SourceOp, SymlinkAction,
    TmpfsOpt, Ulimit, UserOpt,
};
use codec::from_objects;

from_objects!(
    BuildOp,
    CacheOpt,
    CdiDevice,
    ChownOpt,
    CopyAction,
    DiffOp,
    ExecOp,
    ExtraHost,
    FileAction,
    FileOp,
    Input,
    InputIndex,
    MergeOp,
    Meta,
    MkdirAction,
    MkfileAction,
    Mount,
    NamedUser,
    Op,
    PassthroughOp,
    Platform,
    Present,
    RmAction,
    SecretEnv,
    SecretOpt,
    SourceOp,
    SymlinkAction,
    TmpfsOpt,
    Ulimit,
    UserOpt,
);

#[derive(Deserialize)]
#[serde(untagged)]
enum Number<'a> {
    Number(i64),
    Text(#[serde(borrow)] std::borrow::Cow<'a, str>),
}

impl Number<'_> {
    fn value<E: de::Error>(&self) -> Result<i64, E> {
        match self {
            Self::Number(value) => Ok(*value),
            Self::Text(text) => text.parse().map_err(E::custom),
        }
    }
}

pub(super) fn int64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Number::deserialize(deserializer)?.value()
}

pub(super) fn int64s<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    let numbers = Vec::<Number<'de>>::deserialize(deserializer)?;
    numbers.iter().map(Number::value).collect()
}

/// Defines functions that read an enum whose values have these names, numbered from 0.
macro_rules! enums {
    ($($function:ident: $($name:literal),+;)+) => {$(
        pub(super) fn $function<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
            value(deserializer, &[$($name),+])
        }
    )+};
}

enums! {
    network: "UNSET", "HOST", "NONE";
    security: "SANDBOX", "INSECURE";
    mount_type: "BIND", "SECRET", "SSH", "CACHE", "TMPFS";
    content_cache: "DEFAULT", "ON", "OFF";
    sharing: "SHARED", "PRIVATE", "LOCKED";
}

/// Reads the value of an enum. A value without a name is printed as a number.
fn value<'de, D: Deserializer<'de>>(
    deserializer: D,
    names: &'static [&'static str],
) -> Result<i32, D::Error> {
    let value = match Number::deserialize(deserializer)? {
        Number::Number(value) => i32::try_from(value).ok(),
        Number::Text(text) => {
            let index = names.iter().position(|name| *name == text);
            let index = index.ok_or_else(|| de::Error::custom("there is no value of that name"))?;
            i32::try_from(index).ok()
        }
    };
    value.ok_or_else(|| de::Error::custom("a value is too large"))
}
