//! Licences and sources of every dependency, judged by `deny.toml`.
//!
//! With cargo-deny installed it does the work, security advisories included. Without it the two
//! rules that need no database are checked here, from the same file: every licence is on the list,
//! and every dependency comes from the one registry. That advisories were not looked at is said.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{self, cargo_with};

pub(crate) fn run() -> Result<()> {
    if process::succeeds(&mut cargo_with("deny --version")) {
        return process::run(&mut cargo_with("deny --workspace check"));
    }
    println!("cargo-deny is not installed: licences and sources are checked, advisories are not");
    let config = std::fs::read_to_string(process::root().join("deny.toml"))?;
    let allowed = allowed_licences(&config)?;
    let metadata = process::output(&mut cargo_with("metadata --format-version 1 --locked"))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;

    let mut problems = Vec::new();
    let mut registries = BTreeSet::new();
    for package in packages {
        let name = format!("{} {}", text(package, "name"), text(package, "version"));
        match package["source"].as_str() {
            // Our own.
            None => {}
            Some(source) if source.starts_with("registry+") || source.starts_with("sparse+") => {
                registries.insert(source.to_owned());
            }
            Some(source) => problems.push(format!("{name} comes from {source}")),
        }
        let licence = text(package, "license");
        if !is_allowed(licence, &allowed) {
            problems.push(format!(
                "{name} is licensed under {licence:?}, which deny.toml lacks"
            ));
        }
    }
    if registries.len() > 1 {
        problems.push(format!(
            "dependencies come from several registries: {registries:?}"
        ));
    }
    println!("{} packages, {} problems", packages.len(), problems.len());
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

fn allowed_licences(deny_toml: &str) -> Result<BTreeSet<String>> {
    let config: toml::Table = deny_toml.parse().context("deny.toml")?;
    let list = config
        .get("licenses")
        .and_then(|section| section.get("allow"));
    let list = list
        .and_then(toml::Value::as_array)
        .context("deny.toml: no licenses.allow")?;
    Ok(list
        .iter()
        .filter_map(toml::Value::as_str)
        .map(String::from)
        .collect())
}

/// Whether the licence expression can be satisfied with the allowed licences. Understands SPDX
/// expressions with `AND`, `OR`, `WITH` and parentheses, and the old `MIT/Apache-2.0`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let verdict = any_of(&mut rest, allowed);
    verdict && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut verdict = all_of(rest, allowed);
    while take(rest, "OR") {
        // Not `||`: the words have to be consumed in any case.
        verdict |= all_of(rest, allowed);
    }
    verdict
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(rest, allowed);
    while take(rest, "AND") {
        verdict &= one(rest, allowed);
    }
    verdict
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    if take(rest, "(") {
        let verdict = any_of(rest, allowed);
        return take(rest, ")") && verdict;
    }
    let Some((name, tail)) = rest.split_first() else {
        return false;
    };
    *rest = tail;
    let mut name = (*name).to_owned();
    if take(rest, "WITH")
        && let Some((exception, tail)) = rest.split_first()
    {
        *rest = tail;
        name = format!("{name} WITH {exception}");
    }
    allowed.contains(&name)
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, tail)) if *first == word => {
            *rest = tail;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions() {
        let allowed = ["MIT", "Unicode-3.0"]
            .map(String::from)
            .into_iter()
            .collect();
        let cases = [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(GPL-3.0 OR Apache-2.0) AND Unicode-3.0", false),
            ("MIT WITH LLVM-exception", false),
            ("", false),
            ("MIT MIT", false),
            ("(MIT", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression:?}");
        }
    }
}
