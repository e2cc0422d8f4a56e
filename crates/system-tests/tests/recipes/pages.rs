//! The pages of the repository: every link leads to an existing file, and to an existing heading if it names
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Directories with pages, in addition to the repository's root.
const DIRECTORIES: [&str; 5] = ["benches", "docs", "examples", "fixtures", "oracle"];

/// The table of contents of the site.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Returns the root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").components().collect()
}

/// Returns a page without its blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// Returns a line without its inline code.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Returns the targets of the links in a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// Returns the anchors that a forge and mdBook give to the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let title = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let count = seen.entry(slug.clone()).or_default();
            *count += 1;
            if *count == 1 { slug } else { format!("{slug}-{}", *count - 1) }
        })
        .collect()
}

/// Returns all pages, relative to the root.
fn pages() -> Result<Vec<PathBuf>> {
    let root = repository();
    let mut pages = Vec::new();
    let mut pending: Vec<_> = DIRECTORIES.iter().map(|name| root.join(name)).collect();
    let is_page = |path: &Path| path.extension().is_some_and(|extension| extension == "md");
    for entry in fs::read_dir(&root)? {
        let path = entry?.path();
        if is_page(&path) {
            pages.push(path.strip_prefix(&root)?.to_owned());
        }
    }
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if is_page(&path) {
                pages.push(path.strip_prefix(&root)?.to_owned());
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// Returns the path in the repository that a link on `page` names.
fn resolve(page: &Path, link: &str) -> Option<PathBuf> {
    let mut resolved = page.parent()?.to_owned();
    for component in Path::new(link).components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !resolved.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(resolved)
}

pub(crate) fn prove_links() -> Result<()> {
    let root = repository();
    let mut broken = Vec::new();
    let mut links = 0;
    for page in pages()? {
        let text = fs::read_to_string(root.join(&page))?;
        for line in prose(&text) {
            let line = without_code(line);
            for target in targets(&line).filter(|target| !target.contains("://")) {
                links += 1;
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let named = if path.is_empty() { Some(page.clone()) } else { resolve(&page, path) };
                let leads = named.is_some_and(|named| {
                    let named = root.join(named);
                    let has_anchor = || {
                        fs::read_to_string(&named).is_ok_and(|text| anchors(&text).contains(anchor))
                    };
                    named.exists() && (anchor.is_empty() || has_anchor())
                });
                if !leads {
                    broken.push(format!("{}: {target}", page.display()));
                }
            }
        }
    }
    ensure!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
    ensure!(links > 100, "only {links} links were found");
    Ok(())
}

/// Files of the repository that pages name by their full path exist.
pub(crate) fn prove_paths() -> Result<()> {
    let root = repository();
    let mut gone = Vec::new();
    let mut named = 0;
    for page in pages()? {
        let text = fs::read_to_string(root.join(&page))?;
        for span in prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_path = span.starts_with("crates/") && !span.contains([' ', '*', '{', ':']);
            named += usize::from(is_path);
            if is_path && !root.join(span).exists() {
                gone.push(format!("{}: {span}", page.display()));
            }
        }
    }
    ensure!(gone.is_empty(), "pages name files that are not there: {gone:#?}");
    ensure!(named > 10, "only {named} paths were found");
    Ok(())
}

/// The site has every page except those about itself.
pub(crate) fn prove_summary() -> Result<()> {
    let summary = fs::read_to_string(repository().join(SUMMARY))?;
    let listed: BTreeSet<_> = summary
        .lines()
        .flat_map(targets)
        .filter_map(|target| resolve(Path::new(SUMMARY), target))
        .collect();
    let missing: Vec<_> = pages()?
        .into_iter()
        .filter(|page| page != Path::new(SUMMARY) && !listed.contains(page))
        .filter(|page| !page.starts_with("benches/lab/tests"))
        .collect();
    ensure!(missing.is_empty(), "{SUMMARY} lacks {missing:#?}");
    Ok(())
}

/// Code that pages show from a file is in it as they show it.
pub(crate) fn prove_code() -> Result<()> {
    let root = repository();
    let mut blocks = 0;
    for page in pages()? {
        let text = fs::read_to_string(root.join(&page))?;
        for block in text.split("<!-- code: ").skip(1) {
            blocks += 1;
            let shown = page.display();
            let (path, block) = block.split_once(" -->\n```rust,ignore\n").with_context(|| {
                format!("{shown}: a comment with the file of code is not before a block of it")
            })?;
            let code = block.split_once("\n```\n").map_or(block, |(code, _)| code);
            let file = fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?;
            // In the same order; a block may leave out what is between two items.
            let mut rest = file.as_str();
            for part in code.split("\n\n") {
                let found = rest.split_once(part);
                rest = found.with_context(|| format!("{shown}: not in {path}: {part}"))?.1;
            }
        }
    }
    ensure!(blocks >= 10, "only {blocks} blocks of code were found");
    Ok(())
}
