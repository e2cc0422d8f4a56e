//! The benefit for a user at a glance: the first build on a new builder after an edit to one source file.

use super::{Builds, Report};
use crate::units::{bytes, seconds};

/// The compared ways: their scenario, their name and their colour.
const WAYS: [(&str, &str, &str); 3] = [
    ("cache-from-registry-edit", "--cache-from a registry", "#d98c2b"),
    ("converted-edit", "a root by oci2bk", "#2a9d5c"),
    ("baked-edit", "a root on which the build ran", "#7aa6d6"),
];

/// All lengths are in the picture's own units, about a pixel each.
const ROW: u64 = 34;
const TOP: u64 = 42;
const LABELS: u64 = 210;
const BARS: u64 = 330;
const VALUES: u64 = 210;

/// Draws it as SVG. Ways without a sound build are omitted.
pub(super) fn svg(report: &Report) -> String {
    let rows: Vec<_> = WAYS
        .into_iter()
        .filter_map(|(scenario, name, colour)| Some((name, colour, report.builds(scenario)?)))
        .collect();
    let longest = rows.iter().map(|(_, _, builds)| builds.time.median).max().unwrap_or(0).max(1);
    let (width, height) = (LABELS + BARS + VALUES, TOP + ROW * rows.len() as u64 + 8);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"26\" font-weight=\"bold\">First build on a new builder, after an edit \
         to one source file</text>\n"
    );
    for (place, (name, colour, builds)) in rows.into_iter().enumerate() {
        let top = TOP + place as u64 * ROW;
        let length = builds.time.median as f64 * BARS as f64 / longest as f64;
        svg += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LABELS}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{}, {}</text>\n",
            LABELS - 10,
            top + 21,
            top + 5,
            ROW - 10,
            LABELS as f64 + length + 8.0,
            top + 21,
            seconds(builds.time.median),
            fetched(builds)
        );
    }
    svg + "</svg>\n"
}

/// Returns the picture and the same in words, for a page in the root of the repository.
pub(super) fn section(report: &Report) -> String {
    let picture = "![First build on a new builder after an edit to one source file]\
                   (docs/after-edit.svg)\n";
    let [(registry, ..), (converted, ..), _] = WAYS;
    match (report.builds(registry), report.builds(converted)) {
        (Some(registry), Some(converted)) => format!(
            "{picture}\nAfter an edit to one source file, the first build on a new builder took \
             **{}** with `--cache-from` a registry, {}. On a root by `oci2bk` it took **{}**, {}. \
             (Medians of {} builds, {} threads.)\n",
            seconds(registry.time.median),
            fetched(registry),
            seconds(converted.time.median),
            fetched(converted),
            report.header.repeats,
            report.header.machine.threads
        ),
        _ => picture.to_owned(),
    }
}

fn fetched(builds: &Builds) -> String {
    match builds.fetched_bytes {
        0 => "nothing fetched".to_owned(),
        fetched => format!("{} fetched", bytes(fetched)),
    }
}
