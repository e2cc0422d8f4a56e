//! `oci2bk pack`.

mod mounting;

use std::path::Path;

use oci2bk::packed::{PackReport, Packer, UndoReport};
use oci2bk::text::{self, path, size};

use crate::args::{Format, Pack};
use crate::failure::Failure;
use crate::output;
use crate::progress::Display;
use crate::signals::Signals;

/// Whether overlayfs shows files on several file systems as if they were on one (Linux
/// `Documentation/filesystems/overlayfs.rst`, `xino`).
const XINO: &str = "/sys/module/overlay/parameters/xino_auto";

pub(crate) fn run(arguments: &Pack) -> Result<(), Failure> {
    let location = arguments.root.resolve()?.location;
    let display = Display::shared(arguments.progress);
    let signals = Signals::catch()?;
    let mut packer = Packer::new()
        .all(arguments.all)
        .compression(arguments.compress.unwrap_or_default())
        .progress(display.clone())
        .cancel(signals.cancel());
    if let Some(image) = &arguments.output {
        packer = packer.image(image);
    }
    if arguments.undo {
        let report = packer.undo(location).map_err(|error| Failure::under(&signals, error))?;
        display.finish();
        return output::result(&match arguments.format {
            Format::Table => undone(&report),
            Format::Json => text::to_json(&report)?,
        });
    }
    let report = packer.pack(location).map_err(|error| Failure::under(&signals, error))?;
    display.finish();
    output::result(&match arguments.format {
        Format::Table => packed(&report, is_xino_off(Path::new(XINO))),
        Format::Json => text::to_json(&report)?,
    })
}

fn is_xino_off(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "N")
}

fn snapshots(count: usize) -> String {
    match count {
        1 => "1 snapshot".to_owned(),
        count => format!("{count} snapshots"),
    }
}

fn packed(report: &PackReport, is_xino_off: bool) -> String {
    let PackReport { root, image, entries, bytes, kept, completed, record_bytes, .. } = report;
    let mut lines = Vec::new();
    match image {
        Some(image) => {
            let of = snapshots(report.snapshots);
            lines.push(format!("{} has the trees of {of}", path(&image.path)));
            lines.push(format!("  {entries} entries, {} in {}", size(*bytes), size(image.size)));
            lines.push(format!("  {}, UUID {}", image.digest, image.uuid));
        }
        None => lines.push(format!("{} has nothing more to pack", path(root))),
    }
    if *completed > 0 {
        lines.push(format!("  {} of an earlier run completed", snapshots(*completed)));
    }
    if *kept > 0 {
        lines.push(format!(
            "  {} stay directories, because a daemon may change them",
            snapshots(*kept)
        ));
    }
    if report.too_long > 0 {
        let of = snapshots(report.too_long);
        lines.push(format!(
            "  {of} stay as they are, because this mkfs.erofs takes no names of 255 bytes"
        ));
    }
    lines.extend(rest(&report.removed, &report.still_mounted));
    let Some(image) = image else { return lines.join("\n") };
    lines.extend(mounting::advice(&image.path, &image.mount_point));
    lines.push(String::new());
    lines.push(
        "Collecting the records of packed trees frees nothing. In buildkitd.toml, keep them:"
            .to_owned(),
    );
    lines.push(format!("  [worker.oci]\n    reservedSpace = {:?}", reserved(*record_bytes)));
    if is_xino_off {
        lines.push(String::new());
        lines.push(format!(
            "Files of packed trees have a device number of their own here, so du -x and the like leave them out in \
             builds. Change that with overlay.xino_auto=Y on the command line of the kernel, or now:\n  echo Y > {XINO}"
        ));
    }
    lines.join("\n")
}

fn undone(report: &UndoReport) -> String {
    let of = snapshots(report.snapshots);
    let mut lines = vec![format!("{}: {of} copied back to directories", path(&report.root))];
    lines.extend(rest(&report.removed, &report.still_mounted));
    lines.join("\n")
}

/// Says what became of images without links.
fn rest(removed: &[std::path::PathBuf], mounted: &[std::path::PathBuf]) -> Vec<String> {
    let removed =
        removed.iter().map(|image| format!("  no longer used: the image {}", path(image)));
    let mounted = mounted.iter().map(|point| {
        format!("  no longer used, but mounted on {}: unmount it and run this again", path(point))
    });
    removed.chain(mounted).collect()
}

/// Returns the space for these records as buildkitd.toml has it, rounded up.
fn reserved(bytes: u64) -> String {
    format!("{}MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_space_is_enough() {
        for (bytes, text) in [(0, "0MB"), (1, "1MB"), (1_000_000, "1MB"), (2_500_001, "3MB")] {
            assert_eq!(reserved(bytes), text);
        }
    }

    #[test]
    fn the_kernel_tells_whether_file_systems_show() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("xino_auto");
        assert!(!is_xino_off(&file));
        for (text, off) in [("N\n", true), ("Y\n", false)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(is_xino_off(&file), off);
        }
    }
}
