//! Images among the materials of provenance.

use std::collections::BTreeMap;

use codec::Digest;
use serde::Deserialize;

use super::platform::Platform;

/// An image that a build resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolvedImage {
    /// Its name, with the tag if it has one.
    pub name: String,
    /// The digest to which the name resolved: an index or a manifest.
    pub digest: Digest,
    /// The platform for which it was resolved; the daemon's if not given.
    pub platform: Option<Platform>,
}

/// A material (v0.2) or a resolved dependency (v1).
#[derive(Deserialize)]
pub(super) struct Material {
    #[serde(default)]
    uri: String,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

impl Material {
    /// Returns the image, if the material is one: a package URL of type `docker`, or `oci` for one in a
    /// layout (`RefToPURL` in `util/purl/image.go`).
    pub(super) fn image(&self) -> Option<ResolvedImage> {
        let digest = format!("sha256:{}", self.digest.get("sha256")?).parse().ok()?;
        let (kind, rest) = self.uri.strip_prefix("pkg:")?.split_once('/')?;
        if !matches!(kind, "docker" | "oci") {
            return None;
        }
        let (path, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let name = match path.rsplit_once('@') {
            Some((name, version)) => format!("{}:{}", decoded(name)?, decoded(version)?),
            None => decoded(path)?,
        };
        let mut qualifiers = qualifiers.split('&').filter_map(|pair| pair.split_once('='));
        let platform = match qualifiers.find(|(key, _)| *key == "platform") {
            Some((_, platform)) => Some(decoded(platform)?.parse().ok()?),
            None => None,
        };
        Some(ResolvedImage { name, digest, platform })
    }
}

/// Decodes the percent-encoding of `text`; `None` if the result is not text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, encoded)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        let (digits, after) = encoded.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(uri: &str) -> Option<(String, Option<String>)> {
        let digest = [("sha256".to_owned(), Digest::of("image").hex().to_string())].into();
        let image = Material { uri: uri.to_owned(), digest }.image()?;
        assert_eq!(image.digest, Digest::of("image"));
        Some((image.name, image.platform.map(|platform| platform.to_string())))
    }

    #[test]
    fn images_are_told_from_other_materials() {
        for (uri, name, platform) in [
            ("pkg:docker/busybox@1.36?platform=linux%2Famd64", "busybox:1.36", Some("linux/amd64")),
            (
                "pkg:docker/localhost%3A5000/a/b@latest?digest=sha256%3A0&platform=linux%2Farm%2Fv7",
                "localhost:5000/a/b:latest",
                Some("linux/arm/v7"),
            ),
            ("pkg:docker/127.0.0.1:5000/a", "127.0.0.1:5000/a", None),
            ("pkg:oci/app@x", "app:x", None),
        ] {
            let expected = Some((name.to_owned(), platform.map(str::to_owned)));
            assert_eq!(image(uri), expected, "{uri}");
        }
        for uri in [
            "https://example.com/file",
            "pkg:git/a@b",
            "pkg:docker",
            "pkg:docker/%f",
            "pkg:docker/%ff",
            "pkg:docker/%é0",
            "pkg:docker/a?platform=linux",
            "",
        ] {
            assert_eq!(image(uri), None, "{uri}");
        }
        let commit = [("sha1".to_owned(), "00".to_owned())].into();
        let uri = "pkg:docker/a".to_owned();
        assert_eq!(Material { uri, digest: commit }.image(), None);
    }
}
