//! Errors as data, for programs on the other side of an interface.
//!
//! ```
//! use std::path::Path;
//!
//! use oci2bk::error_report::ErrorReport;
//! use oci2bk::{About, CacheExport, Class, Limits};
//!
//! let uploads = Path::new("/srv/uploads");
//! let source = "/srv/uploads/7/cache".parse()?;
//! let error = CacheExport::read_sources(&[source], &Limits::untrusted()).unwrap_err();
//!
//! let report = ErrorReport::of(&error);
//! assert_eq!((report.kind, report.class), ("layout.not-found", Class::Io));
//! assert!(report.message.contains("/srv/uploads/7/cache"));
//!
//! // Who sent the upload is not to learn where it lies.
//! let shown = report.hiding(&[(uploads, "your upload")]);
//! assert!(shown.message.contains("your upload/7/cache"), "{}", shown.message);
//!
//! // An error of a caller, which knows what it is about.
//! let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
//! let report = ErrorReport::with(&full, About::new("service.disk-full", Class::Io));
//! assert_eq!(report.limit, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::error::Error;
use std::path::Path;

use bkstate::{About, Class, Classified};
use serde::{Serialize, Serializer};

/// An error of an operation as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// What is wrong, in a word that does not change between releases ([`Classified::kind`]).
    pub kind: &'static str,
    /// Its class.
    #[serde(serialize_with = "word")]
    pub class: Class,
    /// The name of the limit that was exceeded, if it can be raised.
    pub limit: Option<&'static str>,
    /// The message, for people.
    pub message: String,
    /// The messages of its causes, that of the last one at the end. What an earlier message says already is
    /// left out.
    pub causes: Vec<String>,
}

fn word<S: Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.as_str())
}

impl ErrorReport {
    /// Returns `error` as data.
    pub fn of(error: &(impl Error + Classified)) -> Self {
        Self::with(error, error.about())
    }

    /// Returns `error`, which is about `about`, as data.
    pub fn with(error: &dyn Error, about: About) -> Self {
        let message = error.to_string();
        let mut said = vec![message.clone()];
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // A transparent error has the message of its cause, and some messages contain it.
            if !said.iter().any(|before| before.contains(&text)) {
                said.push(text);
            }
            source = cause.source();
        }
        let causes = said.split_off(1);
        Self { kind: about.kind, class: about.class, limit: about.limit_name, message, causes }
    }

    /// Replaces the paths of `places` by words, for people who are not to see the paths of this machine.
    ///
    /// Errors name the paths that the caller gave, what is below them, and the directory for temporary files
    /// ([`std::env::temp_dir`]); on a builder also the files of its daemons. A path that is in none of
    /// `places` stays. Of places that contain each other, the longest counts.
    #[must_use]
    pub fn hiding(self, places: &[(&Path, &str)]) -> Self {
        let mut places: Vec<_> =
            places.iter().map(|(path, word)| (path.display().to_string(), *word)).collect();
        places.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let hide = |text: String| {
            places.iter().fold(text, |text, (path, word)| replace_path(&text, path, word))
        };
        let causes = self.causes.into_iter().map(hide).collect();
        Self { message: hide(self.message), causes, ..self }
    }
}

/// Replaces `path` where it is in `text` as a whole: not the beginning of another name.
fn replace_path(text: &str, path: &str, word: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(path).filter(|_| !path.is_empty()) {
        let (before, found) = rest.split_at(start);
        let behind = &found[path.len()..];
        let goes_on = |next: char| next.is_alphanumeric() || matches!(next, '-' | '_' | '.');
        let is_whole = path.ends_with('/') || !behind.starts_with(goes_on);
        replaced.push_str(before);
        replaced.push_str(if is_whole { word } else { path });
        rest = behind;
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read /srv/up/7/cache")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("/srv/up/7/cache/index.json is a directory")]
    struct Inner;

    impl Classified for Outer {
        fn about(&self) -> About {
            About::of_limit("test.outer", "manifest")
        }
    }

    #[test]
    fn an_error_is_reported_with_its_causes() {
        let report = ErrorReport::of(&Outer(Inner));
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "kind": "test.outer",
                "class": "limit",
                "limit": "manifest",
                "message": "cannot read /srv/up/7/cache",
                "causes": ["/srv/up/7/cache/index.json is a directory"],
            })
        );
    }

    #[test]
    fn places_are_hidden_and_the_longest_counts() {
        let places = [(Path::new("/srv/up"), "uploads"), (Path::new("/srv/up/7"), "your upload")];
        let report = ErrorReport::of(&Outer(Inner)).hiding(&places);
        assert_eq!(report.message, "cannot read your upload/cache");
        assert_eq!(report.causes, ["your upload/cache/index.json is a directory"]);
    }

    #[test]
    fn the_beginning_of_another_name_is_not_a_place() {
        for (text, expected) in [
            ("/srv/up: no", "W: no"),
            ("/srv/upper and /srv/up-2", "/srv/upper and /srv/up-2"),
            ("\"/srv/up\" (/srv/up/a)", "\"W\" (W/a)"),
            ("/srv/up", "W"),
        ] {
            assert_eq!(replace_path(text, "/srv/up", "W"), expected);
        }
        assert_eq!(replace_path("text", "", "W"), "text");
        assert_eq!(replace_path("/srv/up/a", "/srv/up/", "W/"), "W/a");
    }
}
