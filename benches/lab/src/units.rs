//! Formats quantities, deterministically.

/// Formats a duration in microseconds as seconds.
pub(crate) fn seconds(micros: u64) -> String {
    let decimals = if micros < 10_000_000 { 2 } else { 1 };
    format!("{:.decimals$} s", micros as f64 / 1e6)
}

/// Formats a duration that may not have been measured.
pub(crate) fn seconds_or_dash(micros: Option<u64>) -> String {
    micros.map_or_else(|| "–".to_owned(), seconds)
}

/// Formats bytes in decimal units; zero is `0`.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        1..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Returns the start of a digest, enough to distinguish those of a report.
pub(crate) fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_for_people() {
        assert_eq!(seconds(284_400), "0.28 s");
        assert_eq!(seconds(39_500_000), "39.5 s");
        assert_eq!(seconds_or_dash(None), "–");
        assert_eq!(
            [0, 32, 1500, 76_708_111, 2_000_000_000].map(bytes),
            ["0", "32 B", "1.5 kB", "76.7 MB", "2.00 GB"]
        );
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("é"), "é");
    }
}
