//! `oci2bk du`.

use std::fmt::Write as _;

use bkstate::usage::{Filters, Totals, Usage};
use bkstate::{Root, Time};
use comfy_table::{Table, presets};
use oci2bk::text::{self, one_line, shortened};

use crate::args::{Du, Format};
use crate::failure::Failure;
use crate::output::{self, note};
use crate::summary::legacy_note;
use crate::table::WIDE;

pub(crate) fn run(arguments: &Du) -> Result<(), Failure> {
    let filters = Filters::new(arguments.filters.iter().cloned());
    let root = Root::open(arguments.root.resolve()?.location)?;
    let mut usages = root.usage()?;
    let legacy = usages.iter().filter(|usage| usage.legacy).count();
    if let Some(text) = legacy_note(legacy, root.path()) {
        note(format_args!("note: {text}"));
    }
    usages.retain(|usage| filters.matches(usage));
    if arguments.format == Format::Json {
        let lines: Result<Vec<_>, _> = usages.iter().map(text::to_json_line).collect();
        return if usages.is_empty() { Ok(()) } else { output::result(&lines?.join("\n")) };
    }
    let mut text = if arguments.verbose { verbose(&usages) } else { table(&usages) };
    // As in buildctl: sums over some of the records would be mistaken for those over all.
    if filters.is_empty() {
        text += &totals(&usages);
    }
    output::result(text.trim_end())
}

fn table(usages: &[Usage]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let has_mounts = usages.iter().any(|usage| usage.cache_mount.is_some());
    let has_packed = usages.iter().any(|usage| usage.packed);
    let mut header = vec!["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"];
    header.extend(has_packed.then_some("PACKED"));
    header.extend(has_mounts.then_some("CACHE MOUNT"));
    table.set_header(header);
    let marked = |text: String, mark| if mark { text + "*" } else { text };
    for usage in usages {
        let mut row = vec![
            marked(one_line(usage.id.as_str()), usage.mutable),
            (!usage.in_use).to_string(),
            marked(units(usage.size), usage.shared),
            usage.last_used_at.map(|time| time.to_string()).unwrap_or_default(),
        ];
        row.extend(has_packed.then(|| usage.packed.to_string()));
        row.extend(usage.cache_mount.as_deref().map(|id| shortened(id, WIDE)));
        table.add_row(row);
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Formats the records exactly as `buildctl du --verbose`.
fn verbose(usages: &[Usage]) -> String {
    let mut text = String::new();
    for usage in usages {
        let parents: Vec<_> = usage.parents.iter().map(|parent| parent.as_str()).collect();
        let some = |text: &str| (!text.is_empty()).then(|| one_line(text));
        let lines = [
            ("ID", Some(one_line(usage.id.as_str()))),
            ("Parents", some(&parents.join(";"))),
            ("Created at", usage.created_at.map(go_time)),
            ("Mutable", Some(usage.mutable.to_string())),
            ("Reclaimable", Some((!usage.in_use).to_string())),
            ("Shared", Some(usage.shared.to_string())),
            ("Size", Some(units(usage.size))),
            ("Description", some(&usage.description)),
            ("Usage count", Some(usage.usage_count.to_string())),
            ("Last used", usage.last_used_at.map(go_time)),
            ("Type", some(&usage.record_type)),
        ];
        for (name, value) in lines {
            value.into_iter().for_each(|value| line(&mut text, name, &value));
        }
        text.push('\n');
    }
    text
}

fn totals(usages: &[Usage]) -> String {
    let totals = Totals::of(usages);
    let mut text = String::new();
    if totals.shared > 0 {
        line(&mut text, "Shared", &units(totals.shared));
        line(&mut text, "Private", &units(totals.private()));
    }
    if totals.packed > 0 {
        line(&mut text, "Packed", &units(totals.packed));
    }
    line(&mut text, "Reclaimable", &units(totals.reclaimable));
    line(&mut text, "Total", &units(totals.total));
    text
}

/// Appends a line with the value in the column of Go's tabwriter.
fn line(text: &mut String, name: &str, value: &str) {
    let tabs = if name.len() + 1 < 8 { "\t\t" } else { "\t" };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name}:{tabs}{value}");
}

/// Formats a time as Go does.
fn go_time(time: Time) -> String {
    time.to_string().replacen('T', " ", 1).replacen('Z', " +0000 UTC", 1)
}

/// Formats bytes in a suitable decimal unit, as `buildctl` does.
fn units(bytes: i64) -> String {
    let names = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let size = bytes.unsigned_abs();
    let mut unit: u64 = 1;
    let mut name = None;
    for next in names {
        if size / unit < 1000 {
            break;
        }
        unit *= 1000;
        name = Some(next);
    }
    match name {
        Some(name) => format!("{:.2}{name}", bytes as f64 / unit as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_as_buildctl_prints_them() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (-1, "-1B"),
            (1000, "1.00kB"),
            (8192, "8.19kB"),
            (999_999, "1000.00kB"),
            (1_000_000, "1.00MB"),
            (1_234_567_890, "1.23GB"),
            (i64::MAX, "9.22EB"),
        ] {
            assert_eq!(units(bytes), text);
        }
        let time = Time::from_unix_nanos(1_795_299_875_120_000_000);
        assert_eq!(go_time(time), "2026-11-21 22:24:35.12 +0000 UTC");
    }
}
