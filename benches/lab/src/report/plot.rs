//! The plot of build times: a bar for the median of each scenario, a line from the shortest to the
//! longest.

use super::Report;
use crate::scenario::Builder;
use crate::stats::Summary;
use crate::units::seconds;

/// All lengths are in the plot's own units, about a pixel each.
const ROW: u64 = 26;
const TOP: u64 = 34;
const LABELS: u64 = 190;
const BARS: u64 = 480;
const VALUES: u64 = 80;

/// Draws it as SVG. Scenarios without a sound build are omitted.
pub(super) fn svg(report: &Report) -> String {
    let rows: Vec<_> = report
        .scenarios
        .iter()
        .filter_map(|row| Some((row.scenario, row.builds.as_ref()?.time)))
        .collect();
    let longest = rows.iter().map(|(_, time)| time.max).max().unwrap_or(0).max(1);
    let (width, height) = (LABELS + BARS + VALUES, TOP + ROW * rows.len() as u64 + 8);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"21\" font-weight=\"bold\">Time of a build: median, shortest to longest \
         of {}</text>\n",
        report.header.repeats
    );
    for (place, (scenario, time)) in rows.into_iter().enumerate() {
        svg += &bar(place as u64, scenario, time, longest);
    }
    svg + "</svg>\n"
}

fn bar(place: u64, scenario: &str, time: Summary, longest: u64) -> String {
    let scale = |micros: u64| LABELS as f64 + micros as f64 * BARS as f64 / longest as f64;
    let top = TOP + place * ROW;
    let (text, middle) = (top + 16, top + ROW / 2);
    format!(
        "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{scenario}</text>\n\
         <rect x=\"{LABELS}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>\n\
         <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#222\"/>\n\
         <text x=\"{:.1}\" y=\"{text}\">{}</text>\n",
        LABELS - 8,
        top + 4,
        scale(time.median) - LABELS as f64,
        ROW - 8,
        colour(scenario),
        scale(time.min),
        scale(time.max),
        scale(time.max) + 6.0,
        seconds(time.median)
    )
}

/// Returns the colour of a scenario; related ways have the same.
fn colour(scenario: &str) -> &'static str {
    match crate::scenario::find(scenario).map(|scenario| scenario.builder) {
        Some(
            Builder::Converted
            | Builder::ConvertedWithMounts
            | Builder::LayersImportLayout
            | Builder::LayersImportSparse,
        ) => "#2a9d5c",
        Some(Builder::ImportsLayout | Builder::ImportsFromRegistry) => "#d98c2b",
        Some(Builder::Same | Builder::Copied | Builder::Baked) => "#7aa6d6",
        Some(Builder::New) | None => "#b0b0b0",
    }
}
