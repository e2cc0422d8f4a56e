//! `docs/hostile-input.md` has every case, and no other.

use anyhow::{Context as _, Result, ensure};

use crate::case::{Case, Containerd, Outcome};

const PAGE: &str = include_str!("../../../../docs/hostile-input.md");

/// Returns the row of a case.
fn row(case: &Case) -> String {
    let name = case.name.split_once("::").map_or(&*case.name, |(_, name)| name);
    let outcome = match &case.outcome {
        Outcome::Unpacks(names) if names.is_empty() => "an empty tree".to_owned(),
        Outcome::Unpacks(_) => "unpacks".to_owned(),
        Outcome::Refused(text) => format!("refused: {text}"),
    };
    let containerd = match case.containerd {
        Containerd::Same => "the same".to_owned(),
        Containerd::Unpacks(why) => format!("unpacks; {why}"),
        Containerd::Refuses(why) => format!("refuses; {why}"),
        Containerd::NotTried(why) => format!("not tried: {why}"),
    };
    format!("| `{name}` | {outcome} | {containerd} |")
}

/// Fails unless the rows below the headings of the page are those of the table.
pub(crate) fn prove(cases: &[Case]) -> Result<()> {
    let items: std::collections::BTreeSet<_> = cases.iter().map(Case::item).collect();
    for item in items {
        let heading = format!("\n### {item}");
        let (_, section) = PAGE
            .split_once(&format!("{heading}\n"))
            .or_else(|| PAGE.split_once(&format!("{heading},")))
            .with_context(|| format!("the page has no heading {item}"))?;
        let section = section.split("\n#").next().unwrap_or_default();
        let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<_> = cases.iter().filter(|case| case.item() == item).map(row).collect();
        ensure!(rows == expected, "the rows of {item} should be\n{}", expected.join("\n"));
    }
    let rows = PAGE.lines().filter(|line| line.starts_with("| `")).count();
    ensure!(rows == cases.len(), "the page has {rows} rows for {} cases", cases.len());
    Ok(())
}
