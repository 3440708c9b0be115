//! The generated sections of a document.
//!
//! A section lies between `<!-- generated: NAME -->` and `<!-- end: NAME -->`; everything else of
//! the document is written by people and left alone.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::markdown;
use crate::report::Report;
use crate::runner::Profile;
use crate::svg;

/// The picture, beside the document.
const PICTURE: &str = "performance.svg";

/// Replaces what the report's profile can fill: `goals`, or `matrix`.
///
/// # Errors
/// A section is not there.
pub(crate) fn write(path: &Path, report: &Report) -> Result<()> {
    let mut text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let facts = markdown::circumstances(&report.circumstances);
    match report.profile {
        Profile::Goals => {
            let picture = format!("![IOPS and CPU per I/O over depth]({PICTURE})");
            let goals = markdown::goals(&report.goals);
            let mut section = format!("{facts}\n{picture}\n\n{goals}");
            if let Some(sessions) = &report.sessions {
                section += &format!("\n{}", markdown::sessions_text(sessions));
            }
            for done in &report.verified {
                section += &format!("\n{}", markdown::verified_line(done));
            }
            text = replaced(&text, "goals", &section)?;
            text = replaced(&text, "cells", &markdown::rows(&report.rows))?;
            fs::write(path.with_file_name(PICTURE), svg::draw(report))?;
        }
        Profile::Matrix => {
            let section = format!("{facts}\n{}", markdown::rows(&report.rows));
            text = replaced(&text, "matrix", &section)?;
        }
        // Its figures mean nothing.
        Profile::Smoke => {}
    }
    fs::write(path, text)?;
    Ok(())
}

fn replaced(text: &str, name: &str, content: &str) -> Result<String> {
    let begin = format!("<!-- generated: {name} -->");
    let end = format!("<!-- end: {name} -->");
    let missing = || format!("the document has no section {name}");
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!(
        "{before}{begin}\n\n{}\n\n{end}{after}",
        content.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_section_changes() {
        let text = "a\n<!-- generated: x -->\nold\n<!-- end: x -->\nb\n";
        let once = replaced(text, "x", "new").unwrap();
        assert_eq!(
            once,
            "a\n<!-- generated: x -->\n\nnew\n\n<!-- end: x -->\nb\n"
        );
        assert_eq!(replaced(&once, "x", "new").unwrap(), once);
        assert!(replaced(text, "y", "new").is_err());
    }
}
