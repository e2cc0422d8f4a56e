//! Paths, as Go's package `path` and BuildKit's `util/system` handle them on Linux.

/// Go's `path.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Go's `path.Join`: empty parts do not count.
pub(crate) fn join(parts: &[&str]) -> String {
    let parts: Vec<_> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { String::new() } else { clean(&parts.join("/")) }
}

/// Go's `path.Base`.
pub(crate) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path, trimmed) {
        ("", _) => ".",
        (_, "") => "/",
        _ => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// Returns an absolute path: `path` as it is, or behind `parent` (`NormalizePath` in `util/system/path.go`). An
/// absolute path is not cleaned.
pub(crate) fn behind(parent: &str, path: &str) -> String {
    let parent = match parent {
        "" => "/".to_owned(),
        _ if parent.starts_with('/') => parent.to_owned(),
        _ => join(&["/", parent]),
    };
    match path {
        "" => parent,
        _ if path.starts_with('/') => path.to_owned(),
        _ => join(&[&parent, path]),
    }
}

/// Keeps the slash, or the slash and dot, at the end of a path that was cleaned.
pub(crate) fn keep_end(original: &str, mut path: String) -> String {
    if original.ends_with('/') {
        if !path.ends_with('/') {
            path.push('/');
        }
    } else if original.ends_with("/.") {
        if path != "/" {
            path.push('/');
        }
        path.push('.');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_in_go() {
        let table = [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/../b", "b"),
            ("a/../..", ".."),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("./a/./", "a"),
        ];
        for (path, expected) in table {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert_eq!(join(&["", ""]), "");
        assert_eq!(join(&["/", "", "../a"]), "/a");
        assert_eq!((base(""), base("//"), base("/a/b/")), (".", "/", "b"));
    }

    #[test]
    fn only_relative_paths_are_cleaned() {
        assert_eq!(behind("/w", "/a//b/../c"), "/a//b/../c");
        assert_eq!(behind("/w//x", "y/."), "/w/x/y");
        assert_eq!(behind("w", ""), "/w");
        assert_eq!(behind("", "a"), "/a");
    }

    #[test]
    fn the_end_of_a_directory_is_kept() {
        assert_eq!(keep_end("./", "/w".to_owned()), "/w/");
        assert_eq!(keep_end("./", "/".to_owned()), "/");
        assert_eq!(keep_end("d/.", "/d".to_owned()), "/d/.");
        assert_eq!(keep_end("/.", "/".to_owned()), "/.");
        assert_eq!(keep_end("..", "/d".to_owned()), "/d");
    }
}
