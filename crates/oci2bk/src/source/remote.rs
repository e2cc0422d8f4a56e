//! Caches on other machines, in the user's terms.

use std::collections::BTreeMap;
use std::fmt;

use super::ParseSourceError;

/// Attributes by name.
pub(super) type Attributes = BTreeMap<String, String>;

/// Location of a cache that another program has to fetch, without the secrets in the words that name it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remote {
    /// `type=s3`; keys are concatenated prefixes and names (v0.34.2 `cache/remotecache/s3/s3.go`
    /// `manifestKey`).
    S3 {
        /// The bucket; if `None`, the daemon takes it from its environment.
        bucket: Option<String>,
        /// The prefix of all keys.
        prefix: String,
        /// The region of the bucket.
        region: Option<String>,
        /// The endpoint, if it is not at Amazon.
        endpoint: Option<String>,
        /// The part after the prefix in the keys of manifests, if it is not `manifests/`.
        manifests: Option<String>,
        /// The name of the cache, if it has one. If it has several, this is the first.
        name: Option<String>,
    },
    /// `type=azblob`; keys are prefixes and names joined like the parts of a path (v0.34.2
    /// `cache/remotecache/azblob/utils.go` `manifestKey`).
    Azure {
        /// The container.
        container: Option<String>,
        /// The account, possibly part of a URL.
        account: Option<String>,
        /// The prefix of all keys.
        prefix: Option<String>,
        /// The part after the prefix in the keys of manifests, if it is not `manifests`.
        manifests: Option<String>,
        /// The name of the cache, if it has one. If it has several, this is the first.
        name: Option<String>,
    },
    /// A URL of S3, Google Cloud Storage or a web server.
    Url(String),
}

impl Remote {
    pub(super) fn s3(mut attributes: Attributes) -> ParseSourceError {
        let name = name(&attributes);
        ParseSourceError::Elsewhere(Box::new(Self::S3 {
            bucket: attributes.remove("bucket"),
            prefix: attributes.remove("prefix").unwrap_or_default(),
            region: attributes.remove("region"),
            endpoint: attributes.remove("endpoint_url"),
            manifests: attributes.remove("manifests_prefix"),
            name,
        }))
    }

    pub(super) fn azure(mut attributes: Attributes) -> ParseSourceError {
        let name = name(&attributes);
        let of_url = |url: String| {
            let (_, host) = url.split_once("://")?;
            host.split(['.', '/', ':']).next().map(str::to_owned)
        };
        let account = attributes.remove("account_name");
        let account = account.or_else(|| of_url(attributes.remove("account_url")?));
        let prefix = attributes.get("prefix").map(|prefix| prefix.trim_matches('/').to_owned());
        ParseSourceError::Elsewhere(Box::new(Self::Azure {
            container: attributes.remove("container"),
            account,
            prefix: prefix.filter(|prefix| !prefix.is_empty()),
            manifests: attributes.remove("manifests_prefix"),
            name,
        }))
    }

    /// Returns the error for the name of a file or directory on another machine; `None` if `text` is not one.
    pub(super) fn url(text: &str) -> Option<ParseSourceError> {
        let (scheme, _) = text.split_once("://")?;
        let is_known = ["s3", "gs", "http", "https"].contains(&scheme);
        is_known.then(|| ParseSourceError::Elsewhere(Box::new(Self::Url(text.to_owned()))))
    }
}

fn name(attributes: &Attributes) -> Option<String> {
    let name = attributes.get("name")?.split(';').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Formats the location.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S3 { .. } => "in S3",
            Self::Azure { .. } => "in Azure Blob Storage",
            Self::Url(url) if url.starts_with("s3:") => "in S3",
            Self::Url(url) if url.starts_with("gs:") => "in Google Cloud Storage",
            Self::Url(_) => "on another machine",
        })
    }
}
