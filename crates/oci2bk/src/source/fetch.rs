//! Commands that fetch a cache from another place, with the user's own values.

use std::collections::BTreeMap;

use super::ParseSourceError;

/// The directory into which the commands fetch.
const DIRECTORY: &str = "cache";
/// Substring of the prefix of manifests in a bucket with which the name alone is enough (see
/// `layout::mirror`).
const MANIFESTS: &str = "manifests/";
/// BuildKit's default container (v0.34.2 `cache/remotecache/azblob/utils.go` `getConfig`).
const AZURE_CONTAINER: &str = "buildkit-cache";

/// Attributes by their names.
pub(super) type Attributes = BTreeMap<String, String>;

/// Quotes `text` as one word of a shell.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns the advice for `type=s3`, whose keys are the prefixes followed by the name (v0.34.2
/// `cache/remotecache/s3/s3.go` `manifestKey`). Secret attributes are not repeated.
pub(super) fn s3(attributes: &Attributes) -> ParseSourceError {
    let prefix = attributes.get("prefix").map(String::as_str).unwrap_or_default();
    // Only whole directories can be mirrored.
    let (above, start) = prefix.split_at(prefix.rfind('/').map_or(0, |at| at + 1));
    let bucket = match attributes.get("bucket") {
        Some(bucket) => word(&format!("s3://{bucket}/{above}")),
        // The daemon's own setting.
        None if above.is_empty() => "s3://\"$AWS_BUCKET\"/".to_owned(),
        None => format!("s3://\"$AWS_BUCKET\"/{}", word(above)),
    };
    let mut command = format!("aws s3 sync {bucket} {DIRECTORY}");
    if !start.is_empty() {
        command += &format!(" --exclude '*' --include {}", word(&format!("{start}*")));
    }
    for (key, option) in [("region", "--region"), ("endpoint_url", "--endpoint-url")] {
        if let Some(value) = attributes.get(key) {
            command += &format!(" {option} {}", word(value));
        }
    }
    let manifests = attributes.get("manifests_prefix").map(|prefix| format!("{start}{prefix}"));
    elsewhere("in S3", command, mirror(attributes, manifests))
}

/// Returns the advice for `type=azblob`, whose keys are prefixes and name as the parts of a path (`utils.go`
/// `manifestKey`).
pub(super) fn azure(attributes: &Attributes) -> ParseSourceError {
    let container = attributes.get("container").map_or(AZURE_CONTAINER, String::as_str);
    let mut command = format!(
        "mkdir -p {DIRECTORY} && az storage blob download-batch --destination {DIRECTORY} --source {}",
        word(container)
    );
    let of_url = || {
        let (_, host) = attributes.get("account_url")?.split_once("://")?;
        host.split(['.', '/', ':']).next().map(str::to_owned)
    };
    if let Some(account) = attributes.get("account_name").cloned().or_else(of_url) {
        command += &format!(" --account-name {}", word(&account));
    }
    let prefix = attributes.get("prefix").map(|prefix| prefix.trim_matches('/'));
    let prefix = prefix.filter(|prefix| !prefix.is_empty());
    if let Some(prefix) = prefix {
        command += &format!(" --pattern {}", word(&format!("{prefix}/*")));
    }
    let manifests = attributes.get("manifests_prefix").map(|manifests| {
        let parts = prefix.into_iter().chain(manifests.split('/'));
        parts.filter(|part| !part.is_empty()).map(|part| format!("{part}/")).collect()
    });
    elsewhere("in Azure Blob Storage", command, mirror(attributes, manifests))
}

/// Returns the source argument for the mirror of a cache; `manifests` is the part of manifest paths before
/// the name, relative to the directory.
fn mirror(attributes: &Attributes, manifests: Option<String>) -> String {
    // Several names all belong to the same cache.
    let name = attributes.get("name").and_then(|names| names.split(';').next());
    match (name.filter(|name| !name.is_empty()), manifests) {
        (name, Some(manifests)) if !manifests.contains(MANIFESTS) => {
            let name = name.unwrap_or("buildkit");
            word(&format!("s3dir:{DIRECTORY}:{manifests}{name}"))
        }
        (Some(name), _) => word(&format!("s3dir:{DIRECTORY}:{name}")),
        (None, _) => format!("s3dir:{DIRECTORY}"),
    }
}

/// Returns the advice for a file or directory on another machine; `None` if `text` is not one.
pub(super) fn url(text: &str) -> Option<ParseSourceError> {
    let (scheme, rest) = text.split_once("://")?;
    let (place, file, directory) = match scheme {
        "s3" => ("in S3", "aws s3 cp", "aws s3 sync"),
        "gs" => {
            ("in Google Cloud Storage", "gcloud storage cp", "gcloud storage rsync --recursive")
        }
        "http" | "https" => {
            let command = format!("curl --fail --location --output cache.tar {}", word(text));
            return Some(elsewhere("on another machine", command, "cache.tar".to_owned()));
        }
        _ => return None,
    };
    let name = rest.rsplit('/').next().unwrap_or_default();
    let is_archive = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];
    Some(if is_archive.iter().any(|ending| name.ends_with(ending)) {
        elsewhere(place, format!("{file} {} .", word(text)), word(name))
    } else {
        let command = format!("{directory} {} {DIRECTORY}", word(text));
        elsewhere(place, command, DIRECTORY.to_owned())
    })
}

fn elsewhere(place: &'static str, command: String, then: String) -> ParseSourceError {
    ParseSourceError::Elsewhere { place, command, then }
}
