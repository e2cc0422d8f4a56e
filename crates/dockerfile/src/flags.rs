//! Flags of instructions.

use crate::error::Reason;
use crate::frontend::Frontend;

/// The type of a flag's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    String,
    /// Strings: the flag may be repeated.
    Strings,
}

/// A flag that an instruction has since `docker/dockerfile:1.N`.
pub(crate) type Known = (&'static str, Kind, u32);

pub(crate) const FROM: &[Known] = &[("platform", Kind::String, 0)];

pub(crate) const COPY: &[Known] = &[
    ("chown", Kind::String, 0),
    ("from", Kind::String, 0),
    ("chmod", Kind::String, 0),
    ("link", Kind::Bool, 0),
    ("exclude", Kind::Strings, 20),
    ("parents", Kind::Bool, 20),
];

pub(crate) const ADD: &[Known] = &[
    ("chown", Kind::String, 0),
    ("chmod", Kind::String, 0),
    ("link", Kind::Bool, 0),
    ("keep-git-dir", Kind::Bool, 6),
    ("checksum", Kind::String, 6),
    ("unpack", Kind::Bool, 17),
    ("exclude", Kind::Strings, 20),
];

pub(crate) const RUN: &[Known] = &[
    ("mount", Kind::Strings, 0),
    ("network", Kind::String, 0),
    ("security", Kind::String, 20),
    ("device", Kind::Strings, 27),
];

pub(crate) const HEALTHCHECK: &[Known] = &[
    ("interval", Kind::String, 0),
    ("timeout", Kind::String, 0),
    ("start-period", Kind::String, 0),
    ("start-interval", Kind::String, 6),
    ("retries", Kind::String, 0),
];

/// The flags of an instruction.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    values: Vec<(&'static str, String)>,
}

impl Flags {
    /// Reads the words of an instruction that has the flags `known` (`BFlags.Parse` in
    /// `instructions/bflag.go`).
    pub(crate) fn parse(
        words: &[String],
        known: &[Known],
        frontend: Frontend,
    ) -> Result<Self, Reason> {
        let mut flags = Self::default();
        for word in words {
            let word = word.strip_prefix("--").unwrap_or(word);
            let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
            let of_name =
                known.iter().find(|(known, _, since)| *known == name && frontend.since(*since));
            let short = || name.chars().take(100).collect();
            let &(name, kind, _) = of_name.ok_or_else(|| Reason::UnknownFlag { flag: short() })?;
            let wrong = |problem| Reason::Flag { flag: short(), problem };
            if kind != Kind::Strings && flags.get(name).is_some() {
                return Err(wrong("duplicate flag specified"));
            }
            let value = match (kind, value) {
                (Kind::Bool, None) => "true".to_owned(),
                (Kind::Bool, Some(value)) => match &*value.to_lowercase() {
                    "" => return Err(wrong("missing a value on flag")),
                    value @ ("true" | "false") => value.to_owned(),
                    _ => return Err(wrong("expecting boolean value for flag")),
                },
                (_, Some(value)) => value.to_owned(),
                (_, None) => return Err(wrong("missing a value on flag")),
            };
            flags.values.push((name, value));
        }
        Ok(flags)
    }

    /// Returns the value of a flag, if it is given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(flag, _)| *flag == name).map(|(_, value)| &**value)
    }

    /// Returns the value of a flag; empty if it is not given.
    pub(crate) fn string(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// Returns the values of a flag that may be repeated.
    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        let of_name = self.values.iter().filter(|(flag, _)| *flag == name);
        of_name.map(|(_, value)| value.clone()).collect()
    }

    /// Returns whether a flag is true, if it is given.
    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], known: &[Known], version: &str) -> Result<Flags, String> {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        let frontend = Frontend::of(version.parse().unwrap());
        Flags::parse(&words, known, frontend).map_err(|reason| reason.to_string())
    }

    #[test]
    fn values_have_types() {
        let flags = parse(
            &["--link", "--parents=FALSE", "--exclude=a", "--exclude=b", "--from="],
            COPY,
            "0.34.2",
        );
        let flags = flags.unwrap();
        assert_eq!((flags.bool("link"), flags.bool("parents")), (Some(true), Some(false)));
        assert_eq!(
            (flags.strings("exclude"), flags.string("from")),
            (vec!["a".into(), "b".into()], "".into())
        );
        assert_eq!(flags.bool("chown"), None);
    }

    #[test]
    fn wrong_flags_are_refused() {
        for (words, problem) in [
            (&["--x=1"][..], "unknown flag: --x"),
            (&["--link=x"], "expecting boolean value for flag: --link"),
            (&["--link="], "missing a value on flag: --link"),
            (&["--from"], "missing a value on flag: --from"),
            (&["--from=a", "--from=b"], "duplicate flag specified: --from"),
        ] {
            assert_eq!(parse(words, COPY, "0.34.2").unwrap_err(), problem);
        }
        assert_eq!(parse(&["--parents"], COPY, "0.16.0").unwrap_err(), "unknown flag: --parents");
    }
}
