//! Ops as JSON, in the spelling of every release.
//!
//! Provenance has each op as Go's JSON of `pb.Op`. Since v0.18 `solver/pb/json.go` determines the spelling;
//! before, the field tags of the generated code did. They differ in the keys of oneofs (v0.17 has no tags for
//! them, so the Go names appear: `Exec`, `Copy`, `ByID`) and in whether zero values are printed, so each key
//! is accepted in every spelling, and a missing field is zero. Fields that do not affect any digest are
//! ignored.

use std::collections::BTreeSet;
use std::fmt;

use codec::from_objects;
use serde::{Deserialize, Deserializer, de};

use super::op::{
    Action, BuildOp, CopyAction, DiffOp, ExecOp, FileAction, FileOp, Kind, MergeOp, MkdirAction,
    MkfileAction, NamedUser, Op, PassthroughOp, RmAction, SymlinkAction, UserOpt,
};
use super::platform::Platform;

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct JsonOp {
    #[serde(default)]
    inputs: Vec<de::IgnoredAny>,
    #[serde(default, rename = "Op")]
    op: Option<JsonKind>,
    #[serde(default)]
    platform: Option<Platform>,
}

from_objects!(JsonOp);

/// The last vertex of a definition is `{}` since v0.18, and `null` before.
#[derive(Default)]
struct JsonKind {
    exec: Option<Box<ExecOp>>,
    source: Option<de::IgnoredAny>,
    file: Option<FileOp>,
    build: Option<BuildOp>,
    merge: Option<MergeOp>,
    diff: Option<DiffOp>,
    passthrough: Option<PassthroughOp>,
    /// Whether it has any other member.
    other: bool,
}

impl<'de> Deserialize<'de> for JsonKind {
    // Not derived with `flatten`, which buffers the content of unknown members.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> de::Visitor<'de> for KindVisitor {
    type Value = JsonKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the kind of the operation as its member")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<JsonKind, A::Error> {
        let mut kind = JsonKind::default();
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let known = match &*name {
                "exec" | "Exec" => {
                    kind.exec = map.next_value()?;
                    "exec"
                }
                "source" | "Source" => {
                    kind.source = map.next_value()?;
                    "source"
                }
                "file" | "File" => {
                    kind.file = map.next_value()?;
                    "file"
                }
                "build" | "Build" => {
                    kind.build = map.next_value()?;
                    "build"
                }
                "merge" | "Merge" => {
                    kind.merge = map.next_value()?;
                    "merge"
                }
                "diff" | "Diff" => {
                    kind.diff = map.next_value()?;
                    "diff"
                }
                "passthrough" | "Passthrough" => {
                    kind.passthrough = map.next_value()?;
                    "passthrough"
                }
                _ => {
                    map.next_value::<de::IgnoredAny>()?;
                    kind.other = true;
                    continue;
                }
            };
            if !seen.insert(known) {
                return Err(de::Error::duplicate_field(known));
            }
        }
        Ok(kind)
    }
}

impl From<JsonKind> for Kind {
    fn from(json: JsonKind) -> Self {
        None.or(json.exec.map(Self::Exec))
            .or(json.file.map(Self::File))
            .or(json.merge.map(Self::Merge))
            .or(json.diff.map(Self::Diff))
            .or(json.build.map(Self::Build))
            .or(json.passthrough.map(Self::Passthrough))
            .or(json.source.map(|_| Self::Source))
            .unwrap_or(if json.other { Self::Unknown } else { Self::Return })
    }
}

impl<'de> Deserialize<'de> for Op {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <JsonOp as Deserialize>::deserialize(deserializer)?;
        Ok(Self {
            inputs: json.inputs.len(),
            kind: json.op.map_or(Kind::Return, Kind::from),
            platform: json.platform,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonFileAction {
    #[serde(default)]
    input: i64,
    #[serde(default)]
    secondary_input: i64,
    #[serde(default)]
    output: i64,
    #[serde(default, rename = "Action")]
    action: Option<JsonAction>,
}

#[derive(Deserialize)]
struct JsonAction {
    #[serde(default, alias = "Copy")]
    copy: Option<CopyAction>,
    #[serde(default, alias = "Mkfile")]
    mkfile: Option<MkfileAction>,
    #[serde(default, alias = "Mkdir")]
    mkdir: Option<MkdirAction>,
    #[serde(default, alias = "Rm")]
    rm: Option<RmAction>,
    #[serde(default, alias = "Symlink")]
    symlink: Option<SymlinkAction>,
}

impl From<JsonAction> for Action {
    fn from(json: JsonAction) -> Self {
        None.or(json.copy.map(Self::Copy))
            .or(json.mkfile.map(Self::Mkfile))
            .or(json.mkdir.map(Self::Mkdir))
            .or(json.rm.map(Self::Rm))
            .or(json.symlink.map(Self::Symlink))
            .unwrap_or(Self::Lost)
    }
}

impl<'de> Deserialize<'de> for FileAction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = JsonFileAction::deserialize(deserializer)?;
        Ok(Self {
            input: json.input,
            secondary_input: json.secondary_input,
            output: json.output,
            action: json.action.map_or(Action::Lost, Action::from),
        })
    }
}

#[derive(Deserialize)]
struct JsonUserOpt {
    #[serde(default, rename = "User")]
    user: Option<JsonUser>,
}

#[derive(Deserialize)]
struct JsonUser {
    #[serde(default, rename = "byName", alias = "ByName")]
    by_name: Option<NamedUser>,
    #[serde(default, rename = "byId", alias = "byID", alias = "ByID")]
    by_id: Option<u32>,
}

impl<'de> Deserialize<'de> for UserOpt {
    /// An empty user option is id 0, as in `UserOpt.UnmarshalJSON` (`solver/pb/json.go`).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = JsonUserOpt::deserialize(deserializer)?;
        Ok(match json.user {
            Some(JsonUser { by_name: Some(user), .. }) => Self::ByName(user),
            Some(JsonUser { by_name: None, by_id }) => Self::ById(by_id.unwrap_or_default()),
            None => Self::ById(0),
        })
    }
}
