//! File operations: copying, making and removing.

use serde::{Deserialize, Serialize};

use super::is_zero;
use crate::members;

/// Copies, makes and removes files (`pb.FileOp`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct FileOp {
    /// The actions, in order.
    pub actions: Vec<FileAction>,
}

/// One action of a file op (`pb.FileAction`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileAction {
    /// The file system to change: an input of the op, or, counting on from there, an earlier action; -1 for
    /// an empty file system.
    pub input: i64,
    /// The source of a copy, counted as `input`; -1 for none.
    pub secondary_input: i64,
    /// The index of the op's output that it becomes, or -1.
    pub output: i64,
    /// The action.
    pub action: Action,
}

/// An action of a file op.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Copies.
    Copy(CopyAction),
    /// Makes a file.
    Mkfile(MkfileAction),
    /// Makes a directory.
    Mkdir(MkdirAction),
    /// Removes.
    Rm(RmAction),
    /// Makes a symbolic link (v0.19 and later).
    Symlink(SymlinkAction),
    /// Unknown: provenance of v0.19 to v0.32 omits symbolic links (`jsonFileAction` in `solver/pb/json.go`
    /// has no field for them).
    Lost,
}

/// Copies (`pb.FileActionCopy`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the fields of pb.FileActionCopy")]
pub struct CopyAction {
    /// The source path.
    pub src: String,
    /// The destination path.
    pub dest: String,
    /// Owner of the copies.
    pub owner: Option<ChownOpt>,
    /// Permission bits, -1 to keep.
    pub mode: i32,
    /// Whether a symbolic link at `src` is followed.
    pub follow_symlink: bool,
    /// Whether only the content of a directory is copied, not the directory.
    pub dir_copy_contents: bool,
    /// Whether an archive is unpacked.
    pub attempt_unpack_docker_compatibility: bool,
    /// Whether missing directories are made.
    pub create_dest_path: bool,
    /// Whether `src` may have wildcards.
    pub allow_wildcard: bool,
    /// Whether they may match nothing.
    pub allow_empty_wildcard: bool,
    /// Modification time in nanoseconds, -1 to keep.
    #[serde(deserialize_with = "members::int64")]
    pub timestamp: i64,
    /// Patterns of files to copy; all if empty.
    #[serde(rename = "include_patterns")]
    pub include_patterns: Vec<String>,
    /// Patterns of files not to copy.
    #[serde(rename = "exclude_patterns")]
    pub exclude_patterns: Vec<String>,
    /// Whether an existing file of another type at `dest` is replaced (v0.14 and later).
    pub always_replace_existing_dest_paths: bool,
    /// Permission bits as text (v0.17 and later).
    pub mode_str: String,
    /// Paths that must exist (v0.26 and later).
    #[serde(rename = "required_paths")]
    pub required_paths: Vec<String>,
}

/// Makes a file (`pb.FileActionMkFile`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct MkfileAction {
    /// Its path.
    pub path: String,
    /// Permission bits.
    pub mode: i32,
    /// Its content.
    #[serde(deserialize_with = "members::bytes")]
    pub data: Vec<u8>,
    /// Owner.
    pub owner: Option<ChownOpt>,
    /// Modification time in nanoseconds, -1 for now.
    #[serde(deserialize_with = "members::int64")]
    pub timestamp: i64,
}

/// Makes a directory (`pb.FileActionMkDir`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MkdirAction {
    /// Its path.
    pub path: String,
    /// Permission bits.
    pub mode: i32,
    /// Whether missing parents are made.
    pub make_parents: bool,
    /// Owner.
    pub owner: Option<ChownOpt>,
    /// Modification time in nanoseconds, -1 for now.
    #[serde(deserialize_with = "members::int64")]
    pub timestamp: i64,
}

/// Removes (`pb.FileActionRm`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RmAction {
    /// The path.
    #[serde(skip_serializing_if = "is_zero")]
    pub path: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_not_found: bool,
    /// Whether `path` may have wildcards.
    #[serde(skip_serializing_if = "is_zero")]
    pub allow_wildcard: bool,
}

/// Makes a symbolic link (`pb.FileActionSymlink`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct SymlinkAction {
    /// Its target.
    #[serde(rename = "oldpath")]
    pub old_path: String,
    /// Its path.
    #[serde(rename = "newpath")]
    pub new_path: String,
    /// Owner.
    pub owner: Option<ChownOpt>,
    /// Modification time in nanoseconds, -1 for now.
    #[serde(deserialize_with = "members::int64")]
    pub timestamp: i64,
}

/// An owner (`pb.ChownOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct ChownOpt {
    /// The user.
    pub user: Option<UserOpt>,
    /// The group.
    pub group: Option<UserOpt>,
}

/// A user or group (`pb.UserOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UserOpt {
    /// A name, looked up in `/etc/passwd` or `/etc/group` of an input.
    ByName(NamedUser),
    /// A number.
    ById(u32),
}

/// A user or group by name (`pb.NamedUserOpt`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default)]
pub struct NamedUser {
    /// The name.
    pub name: String,
    /// The input with the `/etc/passwd` or `/etc/group`.
    pub input: i64,
}
