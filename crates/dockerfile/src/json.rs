//! Arrays of strings in JSON, as Go reads them.

use serde::de::IgnoredAny;

/// What arguments are that may be an array.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Array {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array with something else in it, which is an error.
    Other,
    /// Not an array in JSON: a command for a shell.
    No,
}

/// Reads the arguments of an instruction (`parseJSON` in `parser/line_parsers.go`).
pub(crate) fn array(text: &str) -> Array {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Array::No;
    }
    if let Some(strings) = (Parser { rest: text }).array() {
        return Array::Strings(strings);
    }
    match serde_json::from_str::<Vec<IgnoredAny>>(text) {
        Ok(_) => Array::Other,
        Err(_) => Array::No,
    }
}

/// Reads strings itself: Go takes half of a surrogate pair as U+FFFD, which `serde_json` refuses.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn array(mut self) -> Option<Vec<String>> {
        let mut strings = Vec::new();
        self.token('[')?;
        if self.token(']').is_none() {
            loop {
                strings.push(self.string()?);
                if self.token(',').is_none() {
                    self.token(']')?;
                    break;
                }
            }
        }
        self.skip_blanks();
        self.rest.is_empty().then_some(strings)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn token(&mut self, token: char) -> Option<()> {
        self.skip_blanks();
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.token('"')?;
        let mut string = String::new();
        loop {
            let mut chars = self.rest.chars();
            let c = chars.next()?;
            self.rest = chars.as_str();
            match c {
                '"' => return Some(string),
                '\\' => string.push(self.escaped()?),
                '\0'..='\u{1f}' => return None,
                _ => string.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = self.unit()?;
                match char::from_u32(unit) {
                    Some(c) => c,
                    None => self.second_half(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.rest = &self.rest[4..];
        u32::from_str_radix(digits, 16).ok()
    }

    /// Returns the character of two surrogates, the first of which was read. Reads nothing if there is no
    /// second one.
    fn second_half(&mut self, first: u32) -> Option<char> {
        let mut ahead = Parser { rest: self.rest.strip_prefix("\\u")? };
        let second = u16::try_from(ahead.unit()?).ok()?;
        let units = [u16::try_from(first).ok()?, second];
        let c = char::decode_utf16(units).next()?.ok()?;
        self.rest = ahead.rest;
        Some(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_strings_are_read_as_go_does() {
        let strings = |list: &[&str]| Array::Strings(list.iter().map(|&s| s.to_owned()).collect());
        assert_eq!(array("[]"), strings(&[]));
        assert_eq!(array(" [ \"a\" ,\t\"b c\" ] "), strings(&["a", "b c"]));
        assert_eq!(array(r#"["\u0041\n\"\/","\ud83d\ude00"]"#), strings(&["A\n\"/", "😀"]));
        assert_eq!(
            array(r#"["\ud83dx","\ude00","\ud83d\u0041"]"#),
            strings(&["\u{fffd}x", "\u{fffd}", "\u{fffd}A"])
        );
    }

    #[test]
    fn other_arrays_are_errors_and_other_texts_are_commands() {
        for text in ["[1]", "[\"a\", null]", "[[\"a\"]]", "[\"a\", {\"b\": 1}]"] {
            assert_eq!(array(text), Array::Other, "{text}");
        }
        for text in [
            "",
            "a",
            "\"a\"",
            "['a']",
            "[\"a\"",
            "[\"a\"] b",
            "[\"a\",]",
            "[\"\t\"]",
            "[\"\\x\"]",
            "[a]",
            "[\"\\u12g4\"]",
        ] {
            assert_eq!(array(text), Array::No, "{text}");
        }
    }
}
