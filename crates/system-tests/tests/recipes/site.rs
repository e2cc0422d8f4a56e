//! The site that mdBook generates from the pages, and the diagrams in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use testkit::process::run;

use crate::pages::repository;
use crate::world::World;

/// Every link of the site leads to one of its files, and to an existing element if it names one.
pub(crate) fn prove(world: &World) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("site").tempdir_in(world.scratch())?;
    let mdbook = world.tool("mdbook/bin/mdbook")?;
    let oracle = mdbook.ancestors().nth(3).context("the directory of the tools")?;
    let script = repository().join("scripts/book");
    run(Command::new(script).arg(dir.path().join("book")).env("OCI2BK_ORACLE", oracle))?;
    let site = dir.path().join("book/html");
    let mut broken = BTreeSet::new();
    let mut pending = vec![site.clone()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                broken.extend(broken_links(&path)?);
            }
        }
    }
    ensure!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
    for page in ["index.html", "docs/baking.html", "examples/packer/README.html"] {
        ensure!(site.join(page).exists(), "the site has no {page}");
    }
    Ok(())
}

fn broken_links(page: &Path) -> Result<Vec<String>> {
    // These two include pages from other directories.
    if ["print.html", "404.html"].iter().any(|name| page.ends_with(name)) {
        return Ok(Vec::new());
    }
    let html = fs::read_to_string(page)?;
    let links = html.split("href=\"").chain(html.split("src=\"")).skip(1);
    let mut broken = Vec::new();
    for link in links.filter_map(|rest| rest.split('"').next()) {
        if link.contains("://") || link.starts_with("data:") || link.contains('<') {
            continue;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let named: PathBuf = match path {
            "" => page.to_owned(),
            path => page.with_file_name(path),
        };
        let has_anchor = || {
            let id = format!("id=\"{anchor}\"");
            fs::read_to_string(&named).is_ok_and(|html| html.contains(&id))
        };
        if !named.exists() || !(anchor.is_empty() || has_anchor()) {
            broken.push(format!("{}: {link}", page.display()));
        }
    }
    Ok(broken)
}

/// The committed diagrams match their source text.
pub(crate) fn prove_diagrams() -> Result<()> {
    let committed = repository().join("docs/diagrams");
    let drawn = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    run(Command::new("python3").arg(committed.join("draw.py")).arg(drawn.path()))?;
    let mut names = Vec::new();
    for entry in fs::read_dir(drawn.path())? {
        let name = entry?.file_name();
        ensure!(
            fs::read(drawn.path().join(&name))? == fs::read(committed.join(&name))?,
            "{} is not what docs/diagrams/draw.py draws",
            name.display()
        );
        names.push(name);
    }
    ensure!(names.len() == 2, "{names:?} were drawn");
    Ok(())
}
