//! Advice for a root with layers but without steps.

use oci2bk::Degree;
use oci2bk::text::one_line;

/// The documentation of keys.
const KEYS_PAGE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "#why-keys-are-needed");

/// Returns the note for a root that has layers but no steps; `None` for others.
pub(crate) fn layers_note(degree: Option<Degree>) -> Option<&'static str> {
    (degree == Some(Degree::Layers)).then_some(
        "it has layers and knows no steps: builds are CACHED with --cache-from of a cache of these layers, of which \
         the index is enough (oci2bk sparse)",
    )
}

/// Returns the note of `explain` for such a root, in which it finds no step.
pub(crate) fn no_steps_note(degree: Option<Degree>) -> Option<&'static str> {
    (degree == Some(Degree::Layers)).then_some(
        "the root has layers and knows no steps; a build learns them from the cache that it imports with \
         --cache-from: explain that one, of which the index is enough",
    )
}

/// Returns the advice of a report for a root that has layers only. `caches` are the `--cache-from` values;
/// without any, the sources are images or archives.
pub(crate) fn advice(caches: &[String], has_steps: bool) -> Vec<String> {
    let mut lines =
        vec!["the layers are warm: none of them is fetched or unpacked again".to_owned()];
    if !has_steps {
        return lines;
    }
    lines.push(match caches {
        [] => "write the index of the cache with oci2bk sparse SRC DIR, build with --cache-from \
               type=local,src=DIR, and all steps are CACHED"
            .to_owned(),
        caches => {
            let caches = caches.iter().map(|cache| format!("--cache-from {}", one_line(cache)));
            let caches: Vec<_> = caches.collect();
            format!("keep {} in the build, and all steps are CACHED", caches.join(" "))
        }
    });
    lines.push(format!("with keys, builds need no option: {KEYS_PAGE}"));
    lines
}
