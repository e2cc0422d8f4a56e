//! The document of a file op (`ops/file.go`, `fileOp.CacheMap`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use codec::gojson;
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};

use super::error::NotComputable;
use super::{go, index};
use crate::encoding::{Encoding, Release};
use crate::op::{
    Action, ChownOpt, CopyAction, FileAction, FileOp, MkdirAction, MkfileAction, SymlinkAction,
    UserOpt,
};

#[derive(Serialize)]
struct Document {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Actions")]
    actions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    indexes: Vec<[i64; 3]>,
}

/// Writes the document. `inputs` is the number of inputs of the op.
pub(crate) fn file(
    op: &FileOp,
    inputs: usize,
    encoding: Encoding,
) -> Result<String, NotComputable> {
    let mut actions = Vec::with_capacity(op.actions.len());
    let mut indexes = Vec::with_capacity(op.actions.len());
    for (at, action) in op.actions.iter().enumerate() {
        let json = match &action.action {
            Action::Copy(copy) => {
                let src = hashed_source(copy, action, inputs);
                go(&HashedCopy::new(copy, src, encoding.release), encoding)
            }
            Action::Mkfile(mkfile) => go(&HashedMkfile::new(mkfile, encoding.release), encoding),
            Action::Mkdir(mkdir) => go(&HashedMkdir::new(mkdir, encoding.release), encoding),
            Action::Rm(rm) => go(rm, encoding),
            Action::Symlink(link) => go(&HashedSymlink::new(link, encoding.release), encoding),
            Action::Lost => return Err(NotComputable::LostAction { index: at }),
        }?;
        actions.push(STANDARD.encode(json));
        indexes.push([action.input, action.secondary_input, action.output]);
    }
    if are_default(&indexes) {
        indexes.clear();
    }
    Ok(go(&Document { kind: "buildkit.file.v0", actions, indexes }, encoding)?)
}

/// Returns whether the actions form the default chain, whose indexes are omitted (`isDefaultIndexes`): the
/// first changes input 0, each other the previous one, the last is output 0, and all copy from input 1 or
/// from none.
///
/// Here the action before action i has index n + i - 1, where n is the number of actions. That is correct
/// only if there are as many inputs as actions; other chains are written with indexes.
fn are_default(indexes: &[[i64; 3]]) -> bool {
    let count = i64::try_from(indexes.len()).unwrap_or(i64::MAX);
    (0..count).zip(indexes).all(|(at, [input, secondary, output])| {
        let chained = if at == 0 { 0 } else { count + (at - 1) };
        let output_of_chain = if at == count - 1 { 0 } else { -1 };
        *input == chained && matches!(secondary, -1 | 1) && *output == output_of_chain
    })
}

/// Returns the hashed path of a copy: only its last part if it comes from an input, because the selector of
/// that input has the rest.
fn hashed_source<'a>(copy: &'a CopyAction, action: &FileAction, inputs: usize) -> &'a str {
    match usize::try_from(action.secondary_input) {
        Ok(input) if input < inputs => base_name(&copy.src),
        _ => &copy.src,
    }
}

/// Go's `path.Base`.
fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path, trimmed) {
        ("", _) => ".",
        (_, "") => "/",
        _ => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HashedCopy<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    src: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    dest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i32,
    #[serde(skip_serializing_if = "is_zero")]
    follow_symlink: bool,
    #[serde(skip_serializing_if = "is_zero")]
    dir_copy_contents: bool,
    #[serde(skip_serializing_if = "is_zero")]
    attempt_unpack_docker_compatibility: bool,
    #[serde(skip_serializing_if = "is_zero")]
    create_dest_path: bool,
    #[serde(skip_serializing_if = "is_zero")]
    allow_wildcard: bool,
    #[serde(skip_serializing_if = "is_zero")]
    allow_empty_wildcard: bool,
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: i64,
    #[serde(rename = "include_patterns", skip_serializing_if = "<[String]>::is_empty")]
    include_patterns: &'a [String],
    #[serde(rename = "exclude_patterns", skip_serializing_if = "<[String]>::is_empty")]
    exclude_patterns: &'a [String],
    #[serde(skip_serializing_if = "is_zero")]
    always_replace_existing_dest_paths: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    mode_str: &'a str,
    #[serde(rename = "required_paths", skip_serializing_if = "<[String]>::is_empty")]
    required_paths: &'a [String],
}

impl<'a> HashedCopy<'a> {
    fn new(copy: &'a CopyAction, src: &'a str, release: Release) -> Self {
        Self {
            src,
            dest: &copy.dest,
            owner: Owner::new(copy.owner.as_ref(), release),
            mode: copy.mode,
            follow_symlink: copy.follow_symlink,
            dir_copy_contents: copy.dir_copy_contents,
            attempt_unpack_docker_compatibility: copy.attempt_unpack_docker_compatibility,
            create_dest_path: copy.create_dest_path,
            allow_wildcard: copy.allow_wildcard,
            allow_empty_wildcard: copy.allow_empty_wildcard,
            timestamp: copy.timestamp,
            include_patterns: &copy.include_patterns,
            exclude_patterns: &copy.exclude_patterns,
            always_replace_existing_dest_paths: copy.always_replace_existing_dest_paths,
            mode_str: &copy.mode_str,
            required_paths: &copy.required_paths,
        }
    }
}

#[derive(Serialize)]
struct HashedMkfile<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i32,
    #[serde(skip_serializing_if = "<[u8]>::is_empty", serialize_with = "gojson::base64")]
    data: &'a [u8],
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: i64,
}

impl<'a> HashedMkfile<'a> {
    fn new(mkfile: &'a MkfileAction, release: Release) -> Self {
        Self {
            path: &mkfile.path,
            mode: mkfile.mode,
            data: &mkfile.data,
            owner: Owner::new(mkfile.owner.as_ref(), release),
            timestamp: mkfile.timestamp,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HashedMkdir<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    mode: i32,
    #[serde(skip_serializing_if = "is_zero")]
    make_parents: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: i64,
}

impl<'a> HashedMkdir<'a> {
    fn new(mkdir: &'a MkdirAction, release: Release) -> Self {
        Self {
            path: &mkdir.path,
            mode: mkdir.mode,
            make_parents: mkdir.make_parents,
            owner: Owner::new(mkdir.owner.as_ref(), release),
            timestamp: mkdir.timestamp,
        }
    }
}

#[derive(Serialize)]
struct HashedSymlink<'a> {
    #[serde(rename = "oldpath", skip_serializing_if = "str::is_empty")]
    old_path: &'a str,
    #[serde(rename = "newpath", skip_serializing_if = "str::is_empty")]
    new_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    timestamp: i64,
}

impl<'a> HashedSymlink<'a> {
    fn new(link: &'a SymlinkAction, release: Release) -> Self {
        Self {
            old_path: &link.old_path,
            new_path: &link.new_path,
            owner: Owner::new(link.owner.as_ref(), release),
            timestamp: link.timestamp,
        }
    }
}

/// `pb.ChownOpt`.
#[derive(Serialize)]
struct Owner<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<User<'a>>,
}

impl<'a> Owner<'a> {
    fn new(owner: Option<&'a ChownOpt>, release: Release) -> Option<Self> {
        let user = |user: &'a Option<UserOpt>| user.as_ref().map(|user| User { user, release });
        owner.map(|owner| Self { user: user(&owner.user), group: user(&owner.group) })
    }
}

/// `pb.UserOpt`: an object `User` with at most one field, which was renamed twice.
struct User<'a> {
    user: &'a UserOpt,
    release: Release,
}

impl Serialize for User<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut outer = serializer.serialize_struct("User", 1)?;
        outer.serialize_field("User", &OneUser(self))?;
        outer.end()
    }
}

struct OneUser<'a>(&'a User<'a>);

impl Serialize for OneUser<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            #[serde(skip_serializing_if = "str::is_empty")]
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            input: Option<i64>,
        }
        let User { user, release } = *self.0;
        let mut map = serializer.serialize_map(None)?;
        match user {
            UserOpt::ByName(named) => {
                let input = index(named.input, release);
                map.serialize_entry(release.by_name(), &Named { name: &named.name, input })?;
            }
            UserOpt::ById(0) if !release.prints_zero_id() => {}
            UserOpt::ById(id) => map.serialize_entry(release.by_id(), id)?,
        }
        map.end()
    }
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_name_is_go_path_base() {
        // The output of Go 1.26's path.Base.
        let table = [
            ("", "."),
            (".", "."),
            ("/.", "."),
            ("/", "/"),
            ("////", "/"),
            ("x/", "x"),
            ("abc", "abc"),
            ("abc/def", "def"),
            ("a/b/.x", ".x"),
            ("a/b/c.", "c."),
            ("a/b/c.x//", "c.x"),
            ("/src/*.txt", "*.txt"),
            ("..", ".."),
        ];
        for (path, base) in table {
            assert_eq!(base_name(path), base, "{path:?}");
        }
    }

    #[test]
    fn only_the_usual_chain_has_default_indexes() {
        let default: [&[[i64; 3]]; 4] = [
            &[[0, -1, 0]],
            &[[0, 1, 0]],
            &[[0, 1, -1], [2, 1, 0]],
            &[[0, -1, -1], [3, 1, -1], [4, -1, 0]],
        ];
        for indexes in default {
            assert!(are_default(indexes), "{indexes:?}");
        }
        let other: [&[[i64; 3]]; 8] = [
            &[[-1, -1, 0]],
            &[[1, -1, 0]],
            &[[0, 2, 0]],
            &[[0, 0, 0]],
            &[[0, 1, -1]],
            &[[0, 1, 1]],
            &[[0, 1, 0], [2, 1, 0]],
            &[[0, 1, -1], [1, 1, 0]],
        ];
        for indexes in other {
            assert!(!are_default(indexes), "{indexes:?}");
        }
    }
}
