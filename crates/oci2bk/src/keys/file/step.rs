//! The description of a step in a keys file.

/// The allowed words in a keys file, which are the first words of [`step_name`].
///
/// [`step_name`]: llb::step_name
const KINDS: [&str; 10] =
    ["RUN", "COPY", "MKFILE", "MKDIR", "RM", "SYMLINK", "MERGE", "DIFF", "BUILD", "PASSTHROUGH"];

/// Returns the kind of the step that a source calls `name`.
///
/// A name continues with arguments, which may be secrets. So no part of it is passed on: the result is one of
/// our words or none.
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
