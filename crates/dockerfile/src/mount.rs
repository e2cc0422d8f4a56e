//! Mounts of RUN: `--mount=type=…,…`.

use crate::error::Reason;
use crate::frontend::Frontend;
use crate::value::{boolean, fields, size, unsigned};

/// The type of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// A mount, with its variables expanded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mount {
    pub(crate) kind: Type,
    pub(crate) from: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) readonly: bool,
    pub(crate) size: i64,
    pub(crate) id: String,
    /// 0 shared, 1 private, 2 locked; `None` if not given.
    pub(crate) sharing: Option<i32>,
    pub(crate) required: bool,
    pub(crate) env: Option<String>,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

impl Mount {
    /// Returns whether owner or mode are given.
    pub(crate) fn has_owner(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || self.mode.is_some()
    }
}

/// Returns the stage or image that a mount is from, which is known before variables are (`parseMount` without an
/// expander in `instructions/commands_runmount.go`). Empty if none is named.
pub(crate) fn from(text: &str) -> Result<String, Reason> {
    let mut from = String::new();
    for field in fields(text).ok_or_else(|| Reason::value(text, "it is not a list"))? {
        let Some((key, value)) = field.split_once('=') else { continue };
        if key.eq_ignore_ascii_case("from") {
            if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                return Err(Reason::value(
                    text,
                    "'from' doesn't support variable expansion, define alias stage instead",
                ));
            }
            value.clone_into(&mut from);
        }
    }
    Ok(from)
}

/// Reads a mount (`parseMount`). `expand` expands the variables of a value.
pub(crate) fn parse(
    text: &str,
    frontend: Frontend,
    mut expand: impl FnMut(&str) -> Result<String, Reason>,
) -> Result<Mount, Reason> {
    let wrong = |problem| Reason::value(text, problem);
    let mut mount = Mount::default();
    let mut readonly = None;
    for field in fields(text).ok_or_else(|| wrong("it is not a list"))? {
        let takes_required = |kind| matches!(kind, Type::Secret | Type::Ssh);
        let Some((key, value)) = field.split_once('=') else {
            match &*field.to_lowercase() {
                "readonly" | "ro" => readonly = Some(true),
                "readwrite" | "rw" => readonly = Some(false),
                "required" if takes_required(mount.kind) => mount.required = true,
                _ => return Err(wrong("a field must be a key=value pair")),
            }
            continue;
        };
        let value = expand(value)?;
        let truth = || boolean(&value).ok_or_else(|| wrong("a value is neither true nor false"));
        let number =
            |radix| unsigned(&value, radix).ok_or_else(|| wrong("a value is not a number"));
        match &*key.to_lowercase() {
            "type" => mount.kind = kind(&value).ok_or_else(|| wrong("unsupported mount type"))?,
            "from" => mount.from = value,
            "source" | "src" => mount.source = value,
            "target" | "dst" | "destination" => mount.target = value,
            "readonly" | "ro" => readonly = Some(truth()?),
            "readwrite" | "rw" => readonly = Some(!truth()?),
            "required" if takes_required(mount.kind) => mount.required = truth()?,
            "size" if mount.kind == Type::Tmpfs => {
                mount.size = size(&value).ok_or_else(|| wrong("a value is not a size"))?;
            }
            "id" => mount.id = value,
            "sharing" => {
                let sharing = sharing(&value).ok_or_else(|| wrong("unsupported sharing value"))?;
                mount.sharing = Some(sharing);
            }
            "mode" => mount.mode = Some(number(8)?),
            "uid" => mount.uid = Some(number(10)?),
            "gid" => mount.gid = Some(number(10)?),
            "env" if frontend.since(10) => mount.env = Some(value),
            _ => return Err(wrong("unexpected key")),
        }
    }
    let is_cache_or_tmpfs = matches!(mount.kind, Type::Cache | Type::Tmpfs);
    mount.readonly = readonly.unwrap_or(!is_cache_or_tmpfs);
    check(&mount).map_err(wrong)?;
    Ok(mount)
}

fn kind(text: &str) -> Option<Type> {
    Some(match &*text.to_lowercase() {
        "bind" => Type::Bind,
        "cache" => Type::Cache,
        "tmpfs" => Type::Tmpfs,
        "secret" => Type::Secret,
        "ssh" => Type::Ssh,
        _ => return None,
    })
}

fn sharing(text: &str) -> Option<i32> {
    Some(match &*text.to_lowercase() {
        "shared" => 0,
        "private" => 1,
        "locked" => 2,
        _ => return None,
    })
}

/// Returns what a mount of its type cannot have, or lacks.
fn check(mount: &Mount) -> Result<(), &'static str> {
    match mount.kind {
        Type::Bind | Type::Tmpfs if mount.has_owner() => {
            return Err("mode, uid and gid are not allowed for this type of mount");
        }
        Type::Secret if !mount.from.is_empty() => {
            return Err("secret mount should not have a from");
        }
        Type::Secret if [&mount.source, &mount.target, &mount.id].iter().all(|s| s.is_empty()) => {
            return Err("invalid secret mount. one of source, target required");
        }
        Type::Secret if !mount.source.is_empty() && !mount.id.is_empty() => {
            return Err("both source and id can't be set");
        }
        _ => {}
    }
    match mount.sharing {
        Some(_) if mount.kind != Type::Cache => Err("invalid cache sharing set for this mount"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount, String> {
        let expand = |value: &str| Ok(value.replace("$T", "cache"));
        super::parse(text, Frontend::NEWEST, expand).map_err(|reason| reason.to_string())
    }

    #[test]
    fn values_are_expanded_and_keys_have_any_case() {
        let mount = parse("TYPE=$T,Target=/c,id=a,sharing=LOCKED,ro,mode=0700").unwrap();
        let expected = Mount {
            kind: Type::Cache,
            target: "/c".to_owned(),
            id: "a".to_owned(),
            sharing: Some(2),
            readonly: true,
            mode: Some(0o700),
            ..Mount::default()
        };
        assert_eq!(mount, expected);
        assert!(parse("target=/a").unwrap().readonly);
        assert!(!parse("target=/a,rw").unwrap().readonly);
        assert!(!parse("type=tmpfs,target=/a,size=1k").unwrap().readonly);
        assert!(parse("type=secret,id=a,required").unwrap().required);
    }

    #[test]
    fn mounts_that_cannot_be_are_refused() {
        for (text, problem) in [
            ("", "not a list"),
            ("target", "key=value"),
            ("type=x", "unsupported mount type"),
            ("size=1", "unexpected key"),
            ("required=true,type=ssh", "unexpected key"),
            ("type=secret,id=a,required=x", "neither true nor false"),
            ("uid=1", "not allowed"),
            ("type=secret", "one of source, target required"),
            ("type=secret,from=a,id=b", "should not have a from"),
            ("type=secret,src=a,id=b", "both source and id"),
            ("sharing=shared", "invalid cache sharing"),
            ("type=cache,mode=9", "not a number"),
        ] {
            assert!(parse(text).unwrap_err().contains(problem), "{text}");
        }
    }

    #[test]
    fn the_origin_is_known_before_variables_are() {
        assert_eq!(from("from=a,type=bind,target=/$x").as_deref(), Ok("a"));
        assert_eq!(from("target=/a").as_deref(), Ok(""));
        assert_eq!(from("from=a$").as_deref(), Ok("a$"));
        assert!(from("from=$a").is_err());
    }
}
