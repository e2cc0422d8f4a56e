//! What a keys file says of a step.

/// The words that may stand in a keys file, which are those that [`step_name`] starts with.
///
/// [`step_name`]: llb::step_name
const KINDS: [&str; 10] =
    ["RUN", "COPY", "MKFILE", "MKDIR", "RM", "SYMLINK", "MERGE", "DIFF", "BUILD", "PASSTHROUGH"];

/// The kind of the step that a source calls `name`.
///
/// A name goes on with arguments, and these may be secrets. So nothing of it is passed on: the word
/// is one of ours or there is none.
pub(super) fn kind(name: &str) -> Option<&'static str> {
    let word = name.split(' ').next()?;
    KINDS.into_iter().find(|kind| *kind == word)
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn a_name_is_cut_down_to_a_known_word() {
        for (name, expected) in [
            ("RUN curl -H 'Authorization: token'", Some("RUN")),
            ("COPY /secret /dest, MKDIR /b", Some("COPY")),
            ("DIFF", Some("DIFF")),
            ("RUN\tsecret", None),
            ("secret", None),
            ("run secret", None),
            ("[build 1/2] RUN secret", None),
            ("", None),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
