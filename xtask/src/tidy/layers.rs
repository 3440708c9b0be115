//! Which module inside a crate may use which.
//!
//! A file may use the modules of its own layer and of those below it, by `crate::..` or by
//! `super::..`. A name that `lib.rs` re-exports counts as the module it comes from.

use std::collections::BTreeMap;

use super::source::is_identifier;
use super::{Findings, SourceFile};

struct Layers {
    crate_dir: &'static str,
    /// From the bottom to the top; modules in one row may use each other.
    rows: &'static [&'static [&'static str]],
}

/// A module that is not here is a problem, so that adding one means thinking about its place.
const LAYERS: &[Layers] = &[
    Layers {
        crate_dir: "iscsi",
        rows: &[
            &["serial"],
            &["name"],
            &["wire"],
            &["text"],
            &["login"],
            &["session"],
            &["discovery"],
            &["net"],
        ],
    },
    Layers {
        crate_dir: "mpio",
        rows: &[
            &[
                "alua",
                "checker",
                "clock",
                "history",
                "identity",
                "marginal",
                "second_fence",
                "signal",
                "stats",
            ],
            &["cache", "path", "queueing", "registration"],
            &["failback", "select"],
            &["classify", "config", "error"],
            &["event", "fence"],
            &["retry", "split", "supervisor", "topology"],
            &["probe", "unit"],
            &["reservation", "size"],
            &["access", "block"],
            &["fencer"],
            &["runtime"],
            &["logical_unit"],
        ],
    },
];

pub(super) fn check(files: &[SourceFile], findings: &mut Findings) {
    for layers in LAYERS {
        let files: Vec<_> = files
            .iter()
            .filter(|file| file.crate_dir == layers.crate_dir && !file.is_test)
            .collect();
        let root = files.iter().find(|file| file.module.is_empty());
        let reexports = root.map(|root| reexports(&root.code)).unwrap_or_default();
        for file in &files {
            check_file(file, layers, &reexports, findings);
        }
    }
}

fn check_file(
    file: &SourceFile,
    layers: &Layers,
    reexports: &BTreeMap<String, String>,
    findings: &mut Findings,
) {
    let rank = |module: &str| layers.rows.iter().position(|row| row.contains(&module));
    // lib.rs only names its modules.
    let Some(own) = file.module.first() else {
        return;
    };
    let Some(own_rank) = rank(own) else {
        let path = file.path.display();
        findings.problem(format!(
            "{path}: module {own} has no place in xtask/src/tidy/layers.rs"
        ));
        return;
    };
    for (line, used) in root_names(file) {
        let module = reexports.get(&used).unwrap_or(&used);
        if rank(module).is_some_and(|used_rank| used_rank > own_rank) {
            let path = file.path.display();
            findings.problem(format!(
                "{path}:{line}: {own} must not use {module}, a layer above it"
            ));
        }
    }
}

/// Every name directly under the crate's root that the file uses, with its line.
fn root_names(file: &SourceFile) -> Vec<(usize, String)> {
    let code = &file.code;
    let mut found = Vec::new();
    for (keyword, depth) in [("crate::", 0), ("super::", file.module.len())] {
        for (at, _) in code.match_indices(keyword) {
            let before = &code[..at];
            if before
                .chars()
                .next_back()
                .is_some_and(|c| is_identifier(c) || c == ':')
            {
                continue;
            }
            let mut rest = &code[at + keyword.len()..];
            let mut supers = usize::from(keyword == "super::");
            while let Some(tail) = rest.strip_prefix("super::") {
                supers += 1;
                rest = tail;
            }
            // `super` from a module at depth n reaches the root after n steps.
            if supers == depth {
                let line = before.matches('\n').count() + 1;
                found.extend(first_names(rest).into_iter().map(|name| (line, name)));
            }
        }
    }
    found
}

/// First segments of a use tree: `a::b` gives `a`; `{a::{b, c}, d}` gives `a` and `d`.
fn first_names(tree: &str) -> Vec<String> {
    let Some(inside) = tree.strip_prefix('{') else {
        return vec![tree.chars().take_while(|c| is_identifier(*c)).collect()];
    };
    let mut depth = 0;
    let mut names = Vec::new();
    let mut fresh = true;
    let mut name = String::new();
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(std::mem::take(&mut name));
                fresh = true;
            }
            c if fresh && is_identifier(c) => name.push(c),
            c if c.is_whitespace() && name.is_empty() => {}
            _ => fresh = false,
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

/// Names that `pub use module::..` puts at the crate's root, with the module.
fn reexports(root_code: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for (at, _) in root_code.match_indices("pub use ") {
        let tree = root_code[at + "pub use ".len()..]
            .split(';')
            .next()
            .unwrap_or_default();
        let tree = tree
            .trim_start_matches("crate::")
            .trim_start_matches("self::");
        let module: String = tree.chars().take_while(|c| is_identifier(*c)).collect();
        // Every identifier in the tree; the module names among them do no harm.
        for name in tree
            .split(|c: char| !is_identifier(c))
            .filter(|name| !name.is_empty())
        {
            if name != module {
                names.insert(name.to_owned(), module.clone());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let root = "pub mod wire;\npub use net::{SessionHandle, handle::LunNexus};\n";
        let files = [
            SourceFile::new("iscsi", "src/lib.rs", root),
            SourceFile::new("iscsi", path, text),
        ];
        let mut findings = Findings::default();
        check(&files, &mut findings);
        findings.problems
    }

    #[test]
    fn upward_imports_are_found_in_every_spelling() {
        for text in [
            "use crate::session::X;",
            "use crate::{name::A, session::{X, Y}};",
            "use super::super::session;",
            "fn f(x: crate::login::X) {}",
            "use crate::SessionHandle;",
            "use crate::{serial, LunNexus};",
            "use crate::{\n    name::A,\n    session,\n};",
        ] {
            assert_eq!(problems("src/wire/bhs.rs", text).len(), 1, "{text}");
        }
        assert_eq!(problems("src/wire/mod.rs", "use super::session;").len(), 1);
    }

    #[test]
    fn downward_and_inner_imports_are_fine() {
        for text in [
            "use crate::{name::A, serial};",
            "use crate::wire::bhs;",
            "use super::session;",
            "use crate::Something;",
            "// use crate::session\nuse scsi::session;",
            "#[cfg(test)] mod tests { use crate::session; }",
        ] {
            assert_eq!(problems("src/wire/bhs.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_new_module_needs_a_place() {
        assert_eq!(problems("src/shiny.rs", "").len(), 1);
    }
}
