//! Caches that are not on this machine, in the words of the user.

use std::collections::BTreeMap;
use std::fmt;

use super::ParseSourceError;

/// Attributes by their names.
pub(super) type Attributes = BTreeMap<String, String>;

/// Where a cache is that another program has to fetch. What is secret among the words that name it is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remote {
    /// `type=s3`, whose keys are prefixes and name one behind the other (v0.34.2 `cache/remotecache/s3/s3.go`
    /// `manifestKey`).
    S3 {
        /// The bucket, which the daemon may take from its environment.
        bucket: Option<String>,
        /// What all keys start with.
        prefix: String,
        /// The region of the bucket.
        region: Option<String>,
        /// Where it is, if not at Amazon.
        endpoint: Option<String>,
        /// What stands behind the prefix in the keys of manifests, if it is not `manifests/`.
        manifests: Option<String>,
        /// The name of the cache, if it has one. Of several, all are of the same cache.
        name: Option<String>,
    },
    /// `type=azblob`, whose keys are prefixes and name as the parts of a path (v0.34.2
    /// `cache/remotecache/azblob/utils.go` `manifestKey`).
    Azure {
        /// The container.
        container: Option<String>,
        /// The account, which may be a part of a URL.
        account: Option<String>,
        /// What all keys start with.
        prefix: Option<String>,
        /// What stands behind the prefix in the keys of manifests, if it is not `manifests`.
        manifests: Option<String>,
        /// The name of the cache, if it has one. Of several, all are of the same cache.
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

    /// What names a file or a directory on another machine; `None` if `text` does not.
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

/// Where that is.
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
