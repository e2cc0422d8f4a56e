//! Hints about words that do not name a source on this machine: a command that fetches the source, in the
//! user's terms.

use oci2bk::source::{ParseSourceError, Remote};

/// The directory into which the suggested commands fetch.
const DIRECTORY: &str = "cache";
/// The prefix of manifests in a bucket must contain this for the name alone to suffice (see
/// `oci2bk::layout::mirror`).
const MANIFESTS: &str = "manifests/";
/// The default container of BuildKit (v0.34.2 `cache/remotecache/azblob/utils.go` `getConfig`).
const AZURE_CONTAINER: &str = "buildkit-cache";

/// Returns a hint about `error`; `None` if its message suffices.
pub(crate) fn of_word(error: &ParseSourceError) -> Option<String> {
    Some(match error {
        ParseSourceError::Registry { reference } => format!(
            "copy it into a layout first, such as with: regctl image copy {} ocidir://{DIRECTORY}:latest",
            word(reference)
        ),
        ParseSourceError::Transport { text } => format!(
            "copy it into a layout first, such as with: skopeo copy --all {} oci:{DIRECTORY}:latest",
            word(text)
        ),
        ParseSourceError::Elsewhere(remote) => {
            let (command, then) = fetch(remote)?;
            format!("give {then} when you have fetched it with: {command}")
        }
        ParseSourceError::Actions => "export the cache there with --cache-to \
                                      type=local,dest=cache,mode=max, too, and keep the directory, such as \
                                      with actions/upload-artifact"
            .to_owned(),
        ParseSourceError::Type { .. } => "export the cache with --cache-to type=local,dest=DIR, or copy the \
                                          image with an inline cache into an OCI layout"
            .to_owned(),
        _ => return None,
    })
}

/// Quotes `text` as one word of a shell, if necessary.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns the command that fetches a cache, and the name of the fetched cache.
fn fetch(remote: &Remote) -> Option<(String, String)> {
    Some(match remote {
        Remote::S3 { bucket, prefix, region, endpoint, manifests, name } => {
            // Only whole directories are mirrored.
            let (above, start) = prefix.split_at(prefix.rfind('/').map_or(0, |at| at + 1));
            let bucket = match bucket {
                Some(bucket) => word(&format!("s3://{bucket}/{above}")),
                // The daemon takes it from this variable.
                None if above.is_empty() => "s3://\"$AWS_BUCKET\"/".to_owned(),
                None => format!("s3://\"$AWS_BUCKET\"/{}", word(above)),
            };
            let mut command = format!("aws s3 sync {bucket} {DIRECTORY}");
            if !start.is_empty() {
                command += &format!(" --exclude '*' --include {}", word(&format!("{start}*")));
            }
            for (value, option) in [(region, "--region"), (endpoint, "--endpoint-url")] {
                if let Some(value) = value {
                    command += &format!(" {option} {}", word(value));
                }
            }
            let manifests = manifests.as_ref().map(|prefix| format!("{start}{prefix}"));
            (command, mirror(name.as_deref(), manifests))
        }
        Remote::Azure { container, account, prefix, manifests, name } => {
            let container = container.as_deref().unwrap_or(AZURE_CONTAINER);
            let mut command = format!(
                "mkdir -p {DIRECTORY} && az storage blob download-batch --destination {DIRECTORY} --source {}",
                word(container)
            );
            if let Some(account) = account {
                command += &format!(" --account-name {}", word(account));
            }
            if let Some(prefix) = prefix {
                command += &format!(" --pattern {}", word(&format!("{prefix}/*")));
            }
            let manifests = manifests.as_ref().map(|manifests| {
                let parts = prefix.as_deref().into_iter().chain(manifests.split('/'));
                parts.filter(|part| !part.is_empty()).map(|part| format!("{part}/")).collect()
            });
            (command, mirror(name.as_deref(), manifests))
        }
        Remote::Url(url) => of_url(url)?,
        _ => return None,
    })
}

/// Returns the name of a mirrored cache. In paths below the directory, `manifests` comes before `name`.
fn mirror(name: Option<&str>, manifests: Option<String>) -> String {
    match (name, manifests) {
        (name, Some(manifests)) if !manifests.contains(MANIFESTS) => {
            let name = name.unwrap_or("buildkit");
            word(&format!("s3dir:{DIRECTORY}:{manifests}{name}"))
        }
        (Some(name), _) => word(&format!("s3dir:{DIRECTORY}:{name}")),
        (None, _) => format!("s3dir:{DIRECTORY}"),
    }
}

fn of_url(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (file, directory) = match scheme {
        "s3" => ("aws s3 cp", "aws s3 sync"),
        "gs" => ("gcloud storage cp", "gcloud storage rsync --recursive"),
        _ => {
            let command = format!("curl --fail --location --output cache.tar {}", word(url));
            return Some((command, "cache.tar".to_owned()));
        }
    };
    let name = rest.rsplit('/').next().unwrap_or_default();
    let is_archive = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];
    Some(if is_archive.iter().any(|ending| name.ends_with(ending)) {
        (format!("{file} {} .", word(url)), word(name))
    } else {
        (format!("{directory} {} {DIRECTORY}", word(url)), DIRECTORY.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use oci2bk::Source;

    use super::*;

    fn hint(text: &str) -> String {
        of_word(&text.parse::<Source>().unwrap_err()).unwrap()
    }

    #[test]
    fn what_is_elsewhere_is_fetched_with_one_command() {
        for (text, expected, given) in [
            (
                "type=s3,bucket=b,region=eu-west-1",
                "aws s3 sync s3://b/ cache --region eu-west-1",
                "s3dir:cache",
            ),
            (
                "type=s3,bucket=b,prefix=ci/app/,name=main;pr-7,access_key_id=A,secret_access_key=S",
                "aws s3 sync s3://b/ci/app/ cache",
                "s3dir:cache:main",
            ),
            (
                "prefix=ci/app-,name=a b,bucket=b,type=s3,endpoint_url=http://[::1]:9000",
                "aws s3 sync s3://b/ci/ cache --exclude '*' --include 'app-*' --endpoint-url \
                 'http://[::1]:9000'",
                "'s3dir:cache:a b'",
            ),
            (
                "type=s3,prefix=it's/,manifests_prefix=m/,blobs_prefix=b/,name=main",
                r#"aws s3 sync s3://"$AWS_BUCKET"/'it'\''s/' cache"#,
                "s3dir:cache:m/main",
            ),
            (
                "type=s3,bucket=b,manifests_prefix=old/manifests/",
                "aws s3 sync s3://b/ cache",
                "s3dir:cache",
            ),
            (
                "type=azblob,account_url=https://builds.blob.core.windows.net,secret_access_key=S,name=main",
                "mkdir -p cache && az storage blob download-batch --destination cache --source \
                 buildkit-cache --account-name builds",
                "s3dir:cache:main",
            ),
            (
                "type=azblob,account_name=a,container=c,prefix=/ci/app/,manifests_prefix=m",
                "mkdir -p cache && az storage blob download-batch --destination cache --source c \
                 --account-name a --pattern 'ci/app/*'",
                "s3dir:cache:ci/app/m/buildkit",
            ),
            ("s3://b/ci/", "aws s3 sync s3://b/ci/ cache", "cache"),
            ("s3://b/ci/app.tar.zst", "aws s3 cp s3://b/ci/app.tar.zst .", "app.tar.zst"),
            ("gs://b/c d", "gcloud storage rsync --recursive 'gs://b/c d' cache", "cache"),
            ("gs://b/c.tar", "gcloud storage cp gs://b/c.tar .", "c.tar"),
            (
                "https://x.io/c?d=1&e",
                "curl --fail --location --output cache.tar 'https://x.io/c?d=1&e'",
                "cache.tar",
            ),
        ] {
            let said = hint(text);
            assert_eq!(
                said,
                format!("give {given} when you have fetched it with: {expected}"),
                "{text}"
            );
            assert!(!said.contains("access_key"), "{said}");
        }
    }

    #[test]
    fn what_other_tools_read_is_copied_with_one_command() {
        for text in
            ["type=registry,ref=a.io/b:c", "ref=a.io/b:c,type=registry", "docker://a.io/b:c"]
        {
            assert!(hint(text).ends_with("regctl image copy a.io/b:c ocidir://cache:latest"));
        }
        // Characters with a meaning for the shell are quoted.
        assert!(hint("docker://a; rm -r b").ends_with("copy 'a; rm -r b' ocidir://cache:latest"));
        assert!(hint("dir:it's").ends_with(r"copy --all 'dir:it'\''s' oci:cache:latest"));
        assert!(
            hint("docker-daemon:a:b")
                .ends_with("skopeo copy --all docker-daemon:a:b oci:cache:latest")
        );
        assert!(hint("type=gha,scope=x").contains("--cache-to type=local,dest=cache,mode=max"));
        assert!(hint("type=inline").contains("--cache-to type=local,dest=DIR"));
        let empty = "oci:/cache:".parse::<Source>().unwrap_err();
        assert_eq!(of_word(&empty), None);
    }
}
