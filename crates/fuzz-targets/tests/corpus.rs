//! Runs the targets of `fuzz/` on all committed files: the seeds, and former crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::print_stdout, reason = "which file it was shows if it panics")]

use std::fs;
use std::path::{Path, PathBuf};

use fuzz_targets as targets;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Returns the files of a directory, which may be missing.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs a target on its files and returns their number.
fn replay(name: &str) -> usize {
    let directories = ["corpus", "crashes"].map(|kind| fuzz().join(kind).join(name));
    let files: Vec<_> = directories.iter().flat_map(|directory| files(directory)).collect();
    for file in &files {
        // The name is visible if it panics.
        println!("{}", file.display());
        targets::run(name, &fs::read(file).unwrap());
    }
    files.len()
}

#[test]
fn seeds_and_former_crashes_do_no_harm() {
    for (name, _) in targets::TARGETS {
        assert!(replay(name) > 0, "{name} has no seed");
    }
}

#[test]
fn damaged_seeds_do_no_harm() {
    // A small part of what the fuzzer does, in every test run.
    for (name, _) in targets::TARGETS {
        for file in files(&fuzz().join("corpus").join(name)) {
            let seed = fs::read(file).unwrap();
            for step in 1..12 {
                let at = seed.len() * step / 12;
                targets::run(name, &seed[..at]);
                let mut damaged = seed.clone();
                damaged[at] ^= 0x80 >> (step % 8);
                targets::run(name, &damaged);
            }
        }
    }
}

#[test]
fn each_target_has_its_program() {
    let programs: Vec<_> = files(&fuzz().join("fuzz_targets"));
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let mut names: Vec<_> = targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    let stems: Vec<_> =
        programs.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, stems);
    for (name, program) in names.iter().zip(&programs) {
        assert!(fs::read_to_string(program).unwrap().contains(&format!("run(\"{name}\"")));
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is no binary");
    }
}
