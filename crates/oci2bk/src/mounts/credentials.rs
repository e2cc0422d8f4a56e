//! Names of files that usually hold credentials.

/// Names that tools give to files with tokens, passwords or keys.
const NAMES: [&str; 22] = [
    ".dockercfg",
    ".git-credentials",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".yarnrc",
    ".yarnrc.yml",
    "_netrc",
    "auth.json",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "gradle.properties",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "netrc",
    "pip.conf",
    "settings-security.xml",
    "settings.xml",
];

/// Files with a common name that hold credentials in these directories.
const IN_DIRECTORIES: [(&str, &str); 2] = [(".docker", "config.json"), (".kube", "config")];

/// Returns whether a file with this path usually holds credentials.
pub(super) fn is_named_so(path: &[u8]) -> bool {
    let mut parts = path.rsplit(|byte| *byte == b'/');
    let name = parts.next().unwrap_or_default();
    let directory = parts.next().unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let is_token = lower == b"token" || lower.ends_with(b".token") || lower.ends_with(b"_token");
    let known = NAMES.iter().any(|known| known.as_bytes() == lower);
    let within = IN_DIRECTORIES
        .iter()
        .any(|(above, known)| above.as_bytes() == directory && known.as_bytes() == name);
    is_token || known || within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        for path in [
            ".netrc",
            "a/.npmrc",
            ".m2/settings.xml",
            ".docker/config.json",
            ".cargo/credentials",
            "x/github.token",
            "TOKEN",
        ] {
            assert!(is_named_so(path.as_bytes()), "{path}");
        }
        for path in ["", "config.json", "a/settings.xml/b", "tokens", "credentials/x", "lib.rs"] {
            assert!(!is_named_so(path.as_bytes()), "{path}");
        }
    }
}
