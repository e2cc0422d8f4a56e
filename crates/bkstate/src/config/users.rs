//! The users of a machine, and the numbers that it has set aside for their user namespaces.
//!
//! `passwd(5)`, `subuid(5)` and `subgid(5)`, as RootlessKit v2.3.6 reads them (`pkg/parent/idtools/idtools.go`).

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::MAX_BYTES;
use crate::dir::{Dir, DirError, if_there};
use crate::worker::{IdMap, OwnerMap, ParseMapError};

const PASSWD: &str = "passwd";
const SUBUID: &str = "subuid";
const SUBGID: &str = "subgid";

/// Why the owners of a user's namespace are not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// A file cannot be opened.
    #[error("cannot read the users of the machine")]
    Dir(#[from] DirError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than any of its kind.
    #[error("{} has more than {MAX_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line of a file does not have its form.
    #[error("{} has a line of another form: {line:?}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line.
        line: String,
    },
    /// The machine has no such user.
    #[error("{} has no user {user:?}", path.display())]
    NoUser {
        /// The list of users.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// No numbers are set aside for the user.
    #[error("{} has no numbers for the user {user}, and a rootless buildkitd needs some", path.display())]
    NoNumbers {
        /// The list of numbers.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// The numbers are no map.
    #[error("cannot use the numbers in {} for the user {user}", path.display())]
    Map {
        /// The list of numbers.
        path: PathBuf,
        /// The user.
        user: String,
        /// The cause.
        #[source]
        source: ParseMapError,
    },
}

/// A user of a machine.
struct User<'t> {
    name: &'t str,
    id: u32,
    group: u32,
}

/// Returns the owners in the user namespace of a rootless daemon of `user`, a name or a number, whose root is
/// `root`. The machine is the nearest directory above the root that has lists of users in `etc`: that of an image
/// that is being made, or `/`.
///
/// ```
/// use bkstate::config::{UserError, owners_of_user};
///
/// let image = tempfile::tempdir()?;
/// let etc = image.path().join("etc");
/// std::fs::create_dir(&etc)?;
/// std::fs::write(etc.join("passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:985::/home/user:/bin/sh\n")?;
/// std::fs::write(etc.join("subuid"), "user:100000:65536\n")?;
/// std::fs::write(etc.join("subgid"), "# one more\nuser:200000:65536\n1000:400000:10\n")?;
/// let root = image.path().join("home/user/.local/share/buildkit");
///
/// let map = owners_of_user(&root, "user")?;
/// assert_eq!(map.root(), (1000, 985));
/// let groups = "0:985:1,1:200000:65536,65537:400000:10";
/// assert_eq!(map.to_string(), format!("0:1000:1,1:100000:65536, groups {groups}"));
/// assert!(matches!(owners_of_user(&root, "other"), Err(UserError::NoUser { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns an error if a list cannot be read, or the user has no numbers in it.
pub fn owners_of_user(root: &Path, user: &str) -> Result<OwnerMap, UserError> {
    let etc = etc_above(root)?;
    let users = read(&etc, PASSWD)?;
    let found = find(&etc, &users, user)?;
    let map = |list, own| {
        let ranges = numbers(&etc, list, &found)?;
        let (path, user) = (etc.path().join(list), found.name.to_owned());
        IdMap::of_user(own, ranges).map_err(|source| UserError::Map { path, user, source })
    };
    Ok(OwnerMap::new(map(SUBUID, found.id)?, map(SUBGID, found.group)?))
}

/// Opens `etc` of the machine that has the root `root`.
fn etc_above(root: &Path) -> Result<Dir, UserError> {
    let absolute = std::path::absolute(root)
        .map_err(|source| UserError::Read { path: root.to_owned(), source })?;
    for above in absolute.ancestors().skip(1) {
        let Some(machine) = if_there(Dir::open(above))? else { continue };
        let Some(etc) = if_there(machine.dir("etc"))? else { continue };
        if etc.find(PASSWD)?.is_some() || etc.find(SUBUID)?.is_some() {
            return Ok(etc);
        }
    }
    Ok(Dir::open(Path::new("/"))?.dir("etc")?)
}

/// Reads a list. It is a file of a machine that may not be trusted, so no link is followed.
fn read(etc: &Dir, name: &str) -> Result<String, UserError> {
    let path = etc.path().join(name);
    let mut text = String::new();
    let mut file = etc.file(name)?.take(MAX_BYTES + 1);
    match file.read_to_string(&mut text) {
        Ok(length) if u64::try_from(length).unwrap_or(u64::MAX) > MAX_BYTES => {
            Err(UserError::TooLarge { path })
        }
        Ok(_) => Ok(text),
        Err(source) => Err(UserError::Read { path, source }),
    }
}

fn find<'t>(etc: &Dir, users: &'t str, wanted: &str) -> Result<User<'t>, UserError> {
    let path = etc.path().join(PASSWD);
    let parse = |line: &'t str| -> Option<User<'t>> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (id, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User { name, id, group })
    };
    for line in lines(users) {
        let Some(user) = parse(line) else {
            return Err(UserError::Line { path, line: line.to_owned() });
        };
        if user.name == wanted || user.id.to_string() == wanted {
            return Ok(user);
        }
    }
    Err(UserError::NoUser { path, user: wanted.to_owned() })
}

/// Returns the first numbers and the counts that the list `name` has for `user`, in its order.
fn numbers(etc: &Dir, name: &str, user: &User<'_>) -> Result<Vec<(u32, u32)>, UserError> {
    let path = etc.path().join(name);
    let text = read(etc, name)?;
    let id = user.id.to_string();
    let mut found = Vec::new();
    for line in lines(&text) {
        let fields: Vec<_> = line.split(':').collect();
        let range = match *fields {
            [owner, ..] if owner != user.name && owner != id => continue,
            [_, first, count] => first.parse().ok().zip(count.parse().ok()),
            _ => None,
        };
        let Some(range) = range else {
            return Err(UserError::Line { path, line: line.to_owned() });
        };
        found.push(range);
    }
    if found.is_empty() {
        return Err(UserError::NoNumbers { path, user: user.name.to_owned() });
    }
    Ok(found)
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const USERS: &str = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";

    fn owners(users: &str, subuid: &str, subgid: &str) -> Result<OwnerMap, UserError> {
        let machine = tempfile::tempdir().unwrap();
        let etc = machine.path().join("etc");
        fs::create_dir(&etc).unwrap();
        for (name, text) in [(PASSWD, users), (SUBUID, subuid), (SUBGID, subgid)] {
            fs::write(etc.join(name), text).unwrap();
        }
        owners_of_user(&machine.path().join("home/alice/buildkit"), "alice")
    }

    #[test]
    fn lists_without_the_user_or_of_another_form_are_named() {
        let fine = "alice:100000:65536\n";
        let message =
            |users, subuid, subgid| owners(users, subuid, subgid).unwrap_err().to_string();
        for (error, expected) in [
            (
                message("root:x:0:0::/root:/bin/sh\n", fine, fine),
                "etc/passwd has no user \"alice\"",
            ),
            (
                message("alice:x\n", fine, fine),
                "etc/passwd has a line of another form: \"alice:x\"",
            ),
            (message(USERS, "bob:1:2\n", fine), "etc/subuid has no numbers for the user alice"),
            (message(USERS, fine, ""), "etc/subgid has no numbers for the user alice"),
            (
                message(USERS, "alice:1\n", fine),
                "etc/subuid has a line of another form: \"alice:1\"",
            ),
            (message(USERS, "alice:1000:9\n", fine), "etc/subuid for the user alice"),
        ] {
            assert!(error.contains(expected), "{error}");
        }
        assert!(owners(USERS, fine, fine).is_ok());
        // Lines of others may have any form.
        assert!(owners(USERS, &format!("bob:\n{fine}"), fine).is_ok());
    }

    #[test]
    fn a_list_that_is_a_link_is_not_followed() {
        let machine = tempfile::tempdir().unwrap();
        let etc = machine.path().join("etc");
        fs::create_dir(&etc).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", etc.join(PASSWD)).unwrap();
        let error = owners_of_user(&machine.path().join("root"), "alice").unwrap_err();
        assert!(matches!(error, UserError::Dir(_)), "{error}");
        assert_eq!(error.to_string(), "cannot read the users of the machine");
    }
}
