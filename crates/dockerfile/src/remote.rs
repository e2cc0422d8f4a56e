//! Sources of ADD that are not in the build context: URLs and git repositories.

use crate::frontend::Frontend;
use crate::path;
use crate::value::boolean;

/// What the source of an ADD is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path in the build context, or in a stage.
    Path,
    /// A file that is downloaded.
    Http {
        /// What it is called.
        name: String,
    },
    /// A repository.
    Git,
    /// A repository, but with options that frontends refuse.
    Refused,
}

/// Tells what a source is (`ParseGitRef` in `dfgitutil/git_ref.go`, `isHTTPSource` in `convert_copy.go`).
pub(crate) fn classify(source: &str, frontend: Frontend) -> Source {
    match git(source, frontend) {
        Some(true) => Source::Git,
        Some(false) => Source::Refused,
        None if source.starts_with("http://") || source.starts_with("https://") => {
            let name = Url::parse(source).map(|url| path::base(&url.path).to_owned());
            let name = name.filter(|name| !matches!(&**name, "." | "/"));
            Source::Http { name: name.unwrap_or_else(|| "__unnamed__".to_owned()) }
        }
        None => Source::Path,
    }
}

/// Returns whether the source names a repository, and whether its options are valid.
fn git(source: &str, frontend: Frontend) -> Option<bool> {
    if ["./", "../", "github.com/"].iter().any(|prefix| source.starts_with(prefix)) {
        return None;
    }
    let scheme = source.split_once("://").map(|(scheme, _)| scheme);
    let scheme = scheme.filter(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric()));
    let query = match scheme {
        Some(scheme) => {
            let url = Url::parse(source)?;
            match &*scheme.to_ascii_lowercase() {
                "http" | "https" if url.path.ends_with(".git") => {}
                "git" | "ssh" => {}
                _ => return None,
            }
            url.query
        }
        None => scp_query(source, frontend)?,
    };
    Some(!has_queries(frontend) || query.is_none_or(|query| is_valid_query(&query)))
}

/// Repositories have options behind `?` since v0.24.
fn has_queries(frontend: Frontend) -> bool {
    frontend.since(18)
}

/// Returns the query of `user@host:path?query#fragment`.
fn scp_query(source: &str, frontend: Frontend) -> Option<Option<String>> {
    let word = |text: &str, other: &[char]| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || other.contains(&c))
    };
    let (user, rest) = source.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    if !word(user, &['-', '_']) || !word(host, &['-', '.']) || path.contains('\n') {
        return None;
    }
    if !has_queries(frontend) {
        return Some(None);
    }
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    Some(path.split_once('?').map(|(_, query)| query.to_owned()))
}

/// Returns whether the options of a repository are those that there are, each once (`loadQuery`).
fn is_valid_query(query: &str) -> bool {
    let mut names = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let valid = match name {
            "ref" | "tag" | "branch" | "subdir" | "checksum" | "commit" => !value.is_empty(),
            "keep-git-dir" | "submodules" | "fetch-by-commit" => {
                value.is_empty() || boolean(value).is_some()
            }
            "mtime" => matches!(value, "checkout" | "commit"),
            _ => false,
        };
        if !valid || names.contains(&name) {
            return false;
        }
        names.push(name);
    }
    true
}

/// The parts of a URL that matter here (Go `net/url`).
struct Url {
    /// Decoded.
    path: String,
    query: Option<String>,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        unescape(fragment)?;
        let (_, rest) = rest.split_once("://")?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if !is_host(host) {
            return None;
        }
        Some(Self { path: unescape(path)?, query })
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) => (name, port),
            None => return false,
        },
        None => host.split_at(host.rfind(':').unwrap_or(host.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    port.bytes().all(|byte| byte.is_ascii_digit())
        && name.chars().all(|c| {
            !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"".contains(c)
        })
}

/// Decodes `%` and two digits. `None` if others follow it.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        bytes.push(match (byte, rest) {
            (b'%', [high, low, behind @ ..]) => {
                rest = behind;
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            (b'%', _) => return None,
            (byte, _) => *byte,
        });
    }
    Some(crate::text::decode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let of = |source| classify(source, Frontend::NEWEST);
        let http = |name: &str| Source::Http { name: name.to_owned() };
        assert_eq!(of("https://a.b/c/d%20e.tar?x=y#z"), http("d e.tar"));
        assert_eq!(of("http://a.b"), http("__unnamed__"));
        assert_eq!(of("http://a.b/"), http("__unnamed__"));
        assert_eq!(of("https://a.b/%zz"), http("__unnamed__"));
        assert_eq!(of("https://a.b:x/c"), http("__unnamed__"));
        for git in [
            "https://a.b/c.git",
            "https://a.b/c.git#main:d",
            "https://u:p@a.b/c.git?ref=x&subdir=y",
            "git@a.b:c",
            "git@a.b:c?tag=x#y",
            "ssh://a/b",
            "git://a/b",
        ] {
            assert_eq!(of(git), Source::Git, "{git}");
        }
        for path in
            ["a", "./git@a.b:c", "github.com/a/b.git", "ftp://a/b", "HTTP://a/b", "a@b", "git@a:"]
        {
            let expected = if path == "git@a:" { Source::Git } else { Source::Path };
            assert_eq!(of(path), expected, "{path}");
        }
        assert_eq!(of("https://a.b/c.git?x=y"), Source::Refused);
        assert_eq!(of("https://a.b/c.git?ref=a&ref=b"), Source::Refused);
        let old = Frontend::of("0.16.0".parse().unwrap());
        assert_eq!(classify("https://a.b/c.git?x=y", old), Source::Git);
    }
}
