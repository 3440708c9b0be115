//! Files of one idea: long ones hide two.

use super::{Findings, SourceFile};

/// Lines of non-test code, blanks and comments not counted.
const WARN_ABOVE: usize = 600;
const FAIL_ABOVE: usize = 1000;

pub(super) fn check(files: &[SourceFile], findings: &mut Findings) {
    for file in files {
        let lines = file
            .code
            .lines()
            .filter(|line| !line.trim().is_empty())
            .count();
        let text = format!("{}: {lines} lines of code", file.path.display());
        if lines > FAIL_ABOVE {
            findings.problem(format!("{text}, more than {FAIL_ABOVE}: split it"));
        } else if lines > WARN_ABOVE {
            findings.warning(format!("{text}, more than {WARN_ABOVE}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_outside_tests_counts() {
        let judge = |path: &str, text: &str| {
            let mut findings = Findings::default();
            check(&[SourceFile::new("iscsi", path, text)], &mut findings);
            (findings.problems.len(), findings.warnings.len())
        };
        let code = "x;\n// comment\n\n";
        assert_eq!(judge("src/a.rs", &code.repeat(600)), (0, 0));
        assert_eq!(judge("src/a.rs", &code.repeat(601)), (0, 1));
        assert_eq!(judge("src/a.rs", &code.repeat(1001)), (1, 0));
        assert_eq!(judge("src/a/tests.rs", &code.repeat(1001)), (0, 0));
    }
}
