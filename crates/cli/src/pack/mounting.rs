//! Says how to mount an image.

use std::path::Path;

use oci2bk::text::path;

/// Returns the lines of /etc/fstab and of a systemd unit that mount `image` on `point` before buildkitd starts.
pub(super) fn advice(image: &Path, point: &Path) -> Vec<String> {
    let (image_text, point_text) = (path(image), path(point));
    let unit = format!("{}.mount", unit_name(&point.to_string_lossy()));
    let fstab = format!(
        "{} {} erofs ro,loop,x-systemd.required-by=buildkit.service,x-systemd.before=buildkit.service 0 0",
        fstab_word(&image.to_string_lossy()),
        fstab_word(&point.to_string_lossy())
    );
    let lines = [
        String::new(),
        "Mount it before buildkitd starts. In /etc/fstab:".to_owned(),
        format!("  {}", path(Path::new(&fstab))),
        format!("or as /etc/systemd/system/{}:", path(Path::new(&unit))),
        "  [Mount]".to_owned(),
        format!("  What={}", unit_word(&image_text)),
        format!("  Where={}", unit_word(&point_text)),
        "  Type=erofs".to_owned(),
        "  Options=ro,loop".to_owned(),
        "with this in the [Unit] of buildkitd:".to_owned(),
        format!("  RequiresMountsFor={}", unit_word(&point_text)),
    ];
    lines.into()
}

/// Escapes a word of fstab(5).
fn fstab_word(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        ' ' => "\\040".to_owned(),
        '\t' => "\\011".to_owned(),
        '\n' => "\\012".to_owned(),
        '\\' => "\\134".to_owned(),
        '#' => "\\043".to_owned(),
        letter => letter.to_string(),
    });
    escaped.collect()
}

/// Escapes what stands for something else in a unit (systemd.unit(5)).
fn unit_word(text: &str) -> String {
    text.replace('%', "%%")
}

/// Returns the name of the unit for a path, as `systemd-escape --path` does.
fn unit_name(path: &str) -> String {
    let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
    let joined = names.join("/");
    let mut escaped = String::new();
    for (at, byte) in joined.bytes().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if at == 0 => escaped.push_str("\\x2e"),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b':' | b'_' | b'.' => {
                escaped.push(char::from(byte));
            }
            byte => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    if escaped.is_empty() { "-".to_owned() } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_the_names_that_systemd_gives_them() {
        for (path, name) in [
            ("/var/lib/buildkit/packed/1", "var-lib-buildkit-packed-1"),
            ("/srv//build-kit/x y/", "srv-build\\x2dkit-x\\x20y"),
            ("/.hidden/a.b", "\\x2ehidden-a.b"),
            ("/", "-"),
            ("/ä", "\\xc3\\xa4"),
        ] {
            assert_eq!(unit_name(path), name);
        }
    }

    #[test]
    fn words_of_fstab_are_escaped() {
        assert_eq!(fstab_word("/a b\\c\t#"), "/a\\040b\\134c\\011\\043");
        assert_eq!(unit_word("/100%"), "/100%%");
    }
}
