//! References of images (distribution/reference).

/// A reference, in its normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// With the registry, without tag and digest.
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL: &str = "library/";

impl Reference {
    /// Parses `text` (`ParseNormalizedNamed`). Names have lower case, and are made of parts with separators
    /// between letters and digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) => (text, Some(digest)),
            None => (text, None),
        };
        let first = text.split('/').next().unwrap_or_default();
        let is_registry = text.contains('/')
            && (first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(char::is_uppercase));
        let (registry, path) = match is_registry {
            true => (first, &text[first.len() + 1..]),
            false => (DEFAULT_REGISTRY, text),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        let official = registry == DEFAULT_REGISTRY && !path.contains('/');
        let name = format!("{registry}/{}{path}", if official { OFFICIAL } else { "" });
        let valid = is_host(registry)
            && path.split('/').all(is_part)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest)
            && name.len() <= 255;
        let own = |text: Option<&str>| text.map(str::to_owned);
        valid.then(|| Self { name, tag: own(tag), digest: own(digest) })
    }

    /// Returns it without tag and digest.
    pub(crate) fn repository(&self) -> &str {
        &self.name
    }

    /// Returns it with what was given of tag and digest.
    pub(crate) fn as_given(&self) -> String {
        match (&self.tag, &self.digest) {
            (None, None) => self.name.clone(),
            _ => self.tagged(),
        }
    }

    /// Returns it with the tag `latest`, if it has neither tag nor digest (`TagNameOnly`).
    pub(crate) fn tagged(&self) -> String {
        let mut text = self.name.clone();
        match (&self.tag, &self.digest) {
            (Some(tag), _) => text.extend([":", tag]),
            (None, None) => text.push_str(":latest"),
            (None, Some(_)) => {}
        }
        if let Some(digest) = &self.digest {
            text.extend(["@", digest]);
        }
        text
    }

    /// Returns it as people write it, without the tag `latest`: the name of a named context
    /// (`NamedContext` in `dockerui/config.go`).
    pub(crate) fn familiar(&self) -> String {
        let tagged = self.tagged();
        let text = tagged.strip_prefix(DEFAULT_REGISTRY).and_then(|text| text.strip_prefix('/'));
        let text = text.map_or(&*tagged, |text| text.strip_prefix(OFFICIAL).unwrap_or(text));
        text.strip_suffix(":latest").unwrap_or(text).to_owned()
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !part.is_empty()
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.split('.').all(part) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Returns whether a part of a path is letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_part(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = part;
    loop {
        let words = rest.trim_start_matches(alphanumeric);
        if words.len() == rest.len() {
            return false;
        }
        if words.is_empty() {
            return true;
        }
        rest = words.trim_start_matches(['.', '_', '-']);
        let separator = &words[..words.len() - rest.len()];
        let dashes = !separator.is_empty() && separator.bytes().all(|b| b == b'-');
        if !dashes && !matches!(separator, "." | "_" | "__") {
            return false;
        }
    }
}

fn is_tag(tag: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    !tag.is_empty() && tag.len() <= 128 && !tag.starts_with(['.', '-']) && tag.chars().all(inner)
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_normal_forms() {
        let table = [
            ("alpine", "docker.io/library/alpine:latest", "alpine"),
            ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
            ("docker.io/library/alpine:latest", "docker.io/library/alpine:latest", "alpine"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b"),
            ("localhost/a", "localhost/a:latest", "localhost/a"),
            ("a.b:5000/c_d/e--f:X", "a.b:5000/c_d/e--f:X", "a.b:5000/c_d/e--f:X"),
        ];
        for (text, tagged, familiar) in table {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(
                (reference.tagged(), reference.familiar()),
                (tagged.to_owned(), familiar.to_owned())
            );
        }
        let digest = format!("alpine@sha256:{}", "0".repeat(64));
        assert_eq!(Reference::parse(&digest).unwrap().familiar(), digest);
    }

    #[test]
    fn other_texts_are_no_names() {
        let hex = "0".repeat(64);
        for text in ["", "A", "a/B", "a b", "a..b", "a-", "_a", "a:", "a:b:c", "a@b", "$x", &hex] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}
