//! Values in flags and options: numbers, truth values, sizes and lists, as Go and its libraries read them.

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseUint` of 32 bits: digits only.
pub(crate) fn unsigned(text: &str, radix: u32) -> Option<u32> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    digits.then(|| u32::from_str_radix(text, radix).ok())?
}

/// Go's `strconv.ParseInt` in decimal.
pub(crate) fn signed(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let all = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    all.then(|| text.parse().ok())?
}

/// A size in bytes, with binary units (`RAMInBytes` in docker/go-units `size.go`).
pub(crate) fn size(text: &str) -> Option<i64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let (number, unit) = match text.as_bytes()[last] {
        b' ' => (&text[..last], &text[last + 1..]),
        _ => text.split_at(last + 1),
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let number: f64 = plain.then(|| number.parse().ok())??;
    if number < 0.0 {
        return None;
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let factor: u64 = 1 << shift;
    // A power of two is exact, and a cast rounds down, as in Go.
    Some((number * factor as f64) as i64)
}

/// The fields of one line of comma-separated values (tonistiigi/go-csvvalue). `None` if it is empty or a quote is
/// misplaced.
pub(crate) fn fields(line: &str) -> Option<Vec<String>> {
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return None;
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(mut quoted) = rest.strip_prefix('"') else {
            let (field, behind) = match rest.split_once(',') {
                Some((field, behind)) => (field, Some(behind)),
                None => (rest, None),
            };
            if field.contains('"') {
                return None;
            }
            fields.push(field.to_owned());
            match behind {
                Some(behind) => rest = behind,
                None => return Some(fields),
            }
            continue;
        };
        let mut field = String::new();
        loop {
            let (part, behind) = quoted.split_once('"')?;
            field.push_str(part);
            match behind.strip_prefix('"') {
                Some(more) => {
                    field.push('"');
                    quoted = more;
                }
                None => {
                    quoted = behind;
                    break;
                }
            }
        }
        fields.push(field);
        match quoted.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return quoted.is_empty().then_some(fields),
        }
    }
}

/// Returns whether a text is a mode in symbols, such as `u+x,go-w` (tonistiigi/dchapes-mode `mode.go`).
pub(crate) fn is_symbolic_mode(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && text.split(',').all(|clause| {
            let changes = clause.trim_start_matches(['a', 'u', 'g', 'o']);
            changes.starts_with(['+', '-', '='])
                && changes.chars().all(|c| "+-=rstwXxugo".contains(c))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        let table = [
            ("0", Some(0)),
            ("32", Some(32)),
            ("1k", Some(1024)),
            ("1.5 KiB", Some(1536)),
            ("2MB", Some(2 << 20)),
            ("64b", Some(64)),
            ("-1", None),
            ("k", None),
            ("1bb", None),
            ("1kbb", None),
            ("1x", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn lists_may_have_quotes() {
        let of = |line: &str| fields(line).map(|fields| fields.join("|"));
        assert_eq!(of("a,b=c,").as_deref(), Some("a|b=c|"));
        assert_eq!(of(r#""a,b","c""d""#).as_deref(), Some(r#"a,b|c"d"#));
        assert_eq!(of("a\r\n").as_deref(), Some("a"));
        for line in ["", "\n", "a\"b", "\"a", "\"a\"b"] {
            assert_eq!(of(line), None, "{line:?}");
        }
        // Only a quoted field can be last without a comma behind it being another field.
        assert_eq!(of("\"a\",").as_deref(), Some("a|"));
    }

    #[test]
    fn numbers_are_as_in_go() {
        assert_eq!(unsigned("0755", 8), Some(0o755));
        assert_eq!(unsigned("+7", 8), None);
        assert_eq!(unsigned("8", 8), None);
        assert_eq!(unsigned("", 10), None);
        assert_eq!(signed("+5"), Some(5));
        assert_eq!(signed("-"), None);
        assert_eq!(boolean("T"), Some(true));
        assert_eq!(boolean("yes"), None);
    }

    #[test]
    fn modes_may_be_symbols() {
        for mode in ["u+x", "a=rwX,g-w+s", "=", "+t", "u=g"] {
            assert!(is_symbolic_mode(mode), "{mode}");
        }
        for mode in ["", "u", "7x", "u+y", "u+x,", "z+x"] {
            assert!(!is_symbolic_mode(mode), "{mode}");
        }
    }
}
