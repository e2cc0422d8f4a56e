//! Tables in pages of the documentation: they are between two marks and are replaced as a whole.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Report, after_edit, markdown, plot};

/// The plot, relative to the repository.
const PLOT: &str = "docs/build-times.svg";

/// The picture of the benefit for a user.
const AFTER_EDIT: &str = "docs/after-edit.svg";

/// Pages that may have marks, relative to the repository.
const PAGES: [&str; 3] = ["README.md", "docs/performance.md", "docs/trade-offs.md"];

/// A file to write.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Its path below the repository.
    pub path: PathBuf,
    /// Its new text.
    pub text: String,
}

/// A page cannot be updated.
#[derive(Debug, Error)]
pub enum PageError {
    /// The page cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The page.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A mark names an unknown table.
    #[error("{page} has the mark lab:{name}, but there is no such table")]
    UnknownTable {
        /// The page.
        page: &'static str,
        /// The name in the mark.
        name: String,
    },
    /// A table has no end mark.
    #[error("{page} has the mark lab:{name}, but no <!-- /lab:{name} --> behind it")]
    NoEnd {
        /// The page.
        page: &'static str,
        /// The name in the mark.
        name: String,
    },
}

/// Returns the pages of the repository with the tables of the report, and the pictures.
///
/// # Errors
/// Returns an error if a page cannot be read, or its marks are wrong.
pub fn pages(report: &Report, repository: &Path) -> Result<Vec<Page>, PageError> {
    let mut pages = vec![
        Page { path: repository.join(PLOT), text: plot::svg(report) },
        Page { path: repository.join(AFTER_EDIT), text: after_edit::svg(report) },
    ];
    for page in PAGES {
        let path = repository.join(page);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| PageError::Read { path: path.clone(), source })?;
        let filled = fill_in(page, &text, |name| table(report, name))?;
        if filled != text {
            pages.push(Page { path, text: filled });
        }
    }
    Ok(pages)
}

fn table(report: &Report, name: &str) -> Option<String> {
    Some(match name {
        "environment" => markdown::environment(report),
        "scenarios" => markdown::scenarios(report),
        "targets" => markdown::targets(report),
        "ways" => markdown::ways(report),
        "before-after" => markdown::before_after(report),
        "after-edit" => after_edit::section(report),
        "plot" => "![Build time of each scenario](build-times.svg)\n".to_owned(),
        _ => return None,
    })
}

/// Replaces the text between `<!-- lab:NAME -->` and `<!-- /lab:NAME -->`.
fn fill_in(
    page: &'static str,
    text: &str,
    table: impl Fn(&str) -> Option<String>,
) -> Result<String, PageError> {
    const BEGIN: &str = "<!-- lab:";
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let Some((name, after)) = after.split_once(" -->") else { break };
        let owned = || name.to_owned();
        let content = table(name).ok_or_else(|| PageError::UnknownTable { page, name: owned() })?;
        let end = format!("<!-- /lab:{name} -->");
        let (_, after) =
            after.split_once(&end).ok_or_else(|| PageError::NoEnd { page, name: owned() })?;
        filled += &format!("{before}{BEGIN}{name} -->\n{content}{end}");
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, PageError> {
        fill_in("PAGE", text, |name| (name == "a").then(|| "| table |\n".to_owned()))
    }

    #[test]
    fn only_what_is_between_marks_is_replaced() {
        let page = "before\n<!-- lab:a -->\nold\n<!-- /lab:a -->\nbetween <!-- other -->\n\
                    <!-- lab:a --><!-- /lab:a --> after\n";
        let filled = fill(page).unwrap();
        assert_eq!(
            filled,
            "before\n<!-- lab:a -->\n| table |\n<!-- /lab:a -->\nbetween <!-- other -->\n\
             <!-- lab:a -->\n| table |\n<!-- /lab:a --> after\n"
        );
        assert_eq!(fill(&filled).unwrap(), filled);
        assert_eq!(fill("no marks").unwrap(), "no marks");
    }

    #[test]
    fn wrong_marks_are_refused() {
        let error = fill("<!-- lab:b -->\n<!-- /lab:b -->").unwrap_err();
        assert_eq!(error.to_string(), "PAGE has the mark lab:b, but there is no such table");
        let error = fill("<!-- lab:a -->\n").unwrap_err();
        assert!(matches!(error, PageError::NoEnd { .. }), "{error}");
    }
}
