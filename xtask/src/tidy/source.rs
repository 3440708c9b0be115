//! Reading Rust sources just well enough: comments and literals blanked, test code recognised.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// One Rust file of the workspace.
pub(super) struct SourceFile {
    /// Path from the top of the repository.
    pub(super) path: PathBuf,
    /// Directory of the crate, from the top: `iscsi`, `tests/target`.
    pub(super) crate_dir: String,
    /// Module path inside the crate: empty for `lib.rs`, `main` for `main.rs`.
    pub(super) module: Vec<String>,
    /// The file holds nothing but tests, benches or examples.
    pub(super) is_test: bool,
    /// The text with comments and literals blanked, line structure kept.
    pub(super) all_code: String,
    /// The same with items under `#[cfg(test)]` blanked as well; empty for test files.
    pub(super) code: String,
}

impl SourceFile {
    /// Builds one from text, as if it had been read.
    pub(super) fn new(crate_dir: &str, path_in_crate: &str, text: &str) -> Self {
        let path = Path::new(crate_dir).join(path_in_crate);
        let all_code = blank_comments_and_literals(text);
        let is_test = is_test_path(path_in_crate);
        let code = if is_test {
            String::new()
        } else {
            blank_tests(&all_code)
        };
        let module = module_of(path_in_crate);
        Self {
            path,
            crate_dir: crate_dir.to_owned(),
            module,
            is_test,
            all_code,
            code,
        }
    }

    /// The lines of non-test code that hold `word` as a whole path segment or path, from 1.
    pub(super) fn lines_with(&self, word: &str) -> Vec<usize> {
        let lines = self.code.lines().enumerate();
        lines
            .filter(|(_, line)| has_word(line, word))
            .map(|(at, _)| at + 1)
            .collect()
    }
}

/// Every Rust file of the workspace's crates.
pub(super) fn load(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for crate_dir in crate_dirs(root)? {
        let mut paths = Vec::new();
        for part in ["src", "tests", "examples", "benches"] {
            collect(&root.join(&crate_dir).join(part), &mut paths)?;
        }
        paths.sort();
        for path in paths {
            let text = fs::read_to_string(&path)?;
            let inside = path.strip_prefix(root.join(&crate_dir))?;
            files.push(SourceFile::new(
                &crate_dir,
                &inside.to_string_lossy(),
                &text,
            ));
        }
    }
    mark_test_modules(&mut files);
    Ok(files)
}

/// Items under these are for tests and fuzzers only.
const TEST_ITEMS: [&str; 2] = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];

/// A file is test code, too, when its `mod name;` stands under one of [`TEST_ITEMS`].
fn mark_test_modules(files: &mut [SourceFile]) {
    let mut modules = Vec::new();
    for file in files.iter() {
        let found = |marker| file.all_code.match_indices(marker);
        for (at, marker) in TEST_ITEMS.into_iter().flat_map(found) {
            let item = file.all_code[at + marker.len()..].split([';', '{']).next();
            let item = item.unwrap_or_default().trim_start();
            let mut words = item.trim_start_matches("pub ").split_whitespace();
            if let (Some("mod"), Some(name)) = (words.next(), words.next()) {
                let mut module = file.module.clone();
                module.push(name.to_owned());
                modules.push((file.crate_dir.clone(), module));
            }
        }
    }
    for file in files.iter_mut() {
        let is_inside = |(crate_dir, module): &(String, Vec<String>)| {
            *crate_dir == file.crate_dir && file.module.starts_with(module)
        };
        if modules.iter().any(is_inside) {
            file.is_test = true;
            file.code.clear();
        }
    }
}

fn crate_dirs(root: &Path) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let manifest: toml::Table = manifest.parse().context("Cargo.toml")?;
    let members = manifest
        .get("workspace")
        .and_then(|section| section.get("members"));
    let members = members
        .and_then(toml::Value::as_array)
        .context("no workspace members")?;
    Ok(members
        .iter()
        .filter_map(toml::Value::as_str)
        .map(String::from)
        .collect())
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

fn is_test_path(path_in_crate: &str) -> bool {
    let parts: Vec<&str> = path_in_crate.split('/').collect();
    parts.first() != Some(&"src")
        || parts
            .iter()
            .any(|part| matches!(*part, "tests" | "tests.rs"))
}

fn module_of(path_in_crate: &str) -> Vec<String> {
    let inner = path_in_crate
        .trim_start_matches("src/")
        .trim_end_matches(".rs");
    let mut module: Vec<String> = inner.split('/').map(String::from).collect();
    if module
        .last()
        .is_some_and(|last| matches!(last.as_str(), "mod" | "lib"))
    {
        module.pop();
    }
    module
}

/// Whether `line` holds `word`, not as a part of a longer identifier.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_identifier) && !after.is_some_and(is_identifier)
    })
}

pub(super) fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Replaces comments, strings and characters by blanks. Line breaks stay where they are.
pub(super) fn blank_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at).filter(|end| *end > at);
        match end {
            Some(end) => {
                let blanks = chars[at..end].iter();
                out.extend(blanks.map(|c| if *c == '\n' { '\n' } else { ' ' }));
                at = end;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `None` if none starts there.
fn token_end(chars: &[char], at: usize) -> Option<usize> {
    let next = |offset: usize| chars.get(at + offset).copied();
    match (chars[at], next(1)) {
        ('/', Some('/')) => Some(find(chars, at, |rest| rest.first() == Some(&'\n'))),
        ('/', Some('*')) => Some(block_comment_end(chars, at)),
        ('"', _) => Some(string_end(chars, at)),
        ('r', Some('"' | '#')) if !follows_identifier(chars, at) => raw_string_end(chars, at),
        ('\'', Some('\\')) => Some(find(chars, at + 3, |rest| rest.first() == Some(&'\'')) + 1),
        // A lifetime has no quote two characters on.
        ('\'', Some(_)) if next(2) == Some('\'') => Some(at + 3),
        _ => None,
    }
}

/// `br"..."` is a raw string as well, `bar"..."` cannot be.
fn follows_identifier(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| chars[at]);
    match before(1) {
        Some('b' | 'c') => before(2).is_some_and(is_identifier),
        other => other.is_some_and(is_identifier),
    }
}

fn find(chars: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    let from = from.min(chars.len());
    (from..chars.len())
        .find(|at| found(&chars[*at..]))
        .unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `None` for a raw identifier (`r#type`).
fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let is_close = |rest: &[char]| {
        rest.first() == Some(&'"')
            && rest.len() > hashes
            && rest[1..=hashes].iter().all(|c| *c == '#')
    };
    Some((find(chars, open + 1, is_close) + 1 + hashes).min(chars.len()))
}

/// Blanks every item under one of [`TEST_ITEMS`] or `#[cfg(all(test, ..))]`.
fn blank_tests(code: &str) -> String {
    let mut out = code.to_owned();
    for marker in TEST_ITEMS.into_iter().chain(["#[cfg(all(test"]) {
        while let Some(start) = out.find(marker) {
            let end = item_end(&out, start);
            let blank: String = out[start..end]
                .chars()
                .map(|c| if c == '\n' { '\n' } else { ' ' })
                .collect();
            out.replace_range(start..end, &blank);
        }
    }
    out
}

/// Where the item that starts at `start` with an attribute ends: after its `;` or its braces.
fn item_end(code: &str, start: usize) -> usize {
    let mut round_and_square = 0i32;
    let mut curly = 0i32;
    for (at, c) in code[start..].char_indices() {
        let end = start + at + c.len_utf8();
        match c {
            '(' | '[' => round_and_square += 1,
            ')' | ']' => round_and_square -= 1,
            '{' => curly += 1,
            '}' => {
                curly -= 1;
                if curly == 0 && round_and_square == 0 {
                    return end;
                }
            }
            ';' | ',' if curly == 0 && round_and_square == 0 => return end,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> String {
        blank_comments_and_literals(text)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        assert_eq!(blanked("a // tokio\nb /* x /* y */ z */ c"), "a b c");
        assert_eq!(blanked(r#"a("tokio \" x", b"y") b"#), "a( , b ) b");
        assert_eq!(blanked("r#\"tokio \" x\"# b br\"\\\" c"), "b b c");
        assert_eq!(blanked("r#type r\"x\" y"), "r#type y");
        assert_eq!(
            blanked(r"fn f<'a>(x: &'a str) { '\'' 'x' '{' }"),
            "fn f<'a>(x: &'a str) { }"
        );
        assert_eq!(blanked("/// doc tokio\nfn a() {}"), "fn a() {}");
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = "one\n/* \n\n */ four \"\n\" five\n#[cfg(test)]\nmod tests {\n tokio }\nnine";
        let file = SourceFile::new("iscsi", "src/a.rs", text);
        assert_eq!(file.lines_with("nine"), [9]);
        assert_eq!(file.lines_with("tokio"), [0; 0]);
        assert_eq!(file.lines_with("five"), [5]);
    }

    #[test]
    fn test_items_are_recognised() {
        for item in [
            "#[cfg(test)]\nmod tests { fn a() { tokio } }",
            "#[cfg(test)] mod tests;",
            "#[cfg(test)]\n#[allow(x)]\nfn f(a: [u8; 4]) -> u8 { tokio }",
            "#[cfg(all(test, feature = \"x\"))] use tokio::x;",
        ] {
            let file = SourceFile::new("iscsi", "src/a.rs", &format!("{item} fn after() {{}}"));
            assert_eq!(file.code.trim(), "fn after() {}", "{item}");
        }
        assert!(SourceFile::new("iscsi", "src/a/tests.rs", "x").is_test);
        assert!(SourceFile::new("iscsi", "src/a/tests/b.rs", "x").is_test);
        assert!(SourceFile::new("iscsi", "examples/a.rs", "x").is_test);
        assert!(!SourceFile::new("tests", "src/a.rs", "x").is_test);
    }

    #[test]
    fn files_of_test_modules_are_test_code() {
        let lib =
            "#[cfg(any(test, fuzzing))]\npub mod testing;\n#[cfg(test)] mod inline { }\nmod real;";
        let mut files = [
            SourceFile::new("mpio", "src/lib.rs", lib),
            SourceFile::new("mpio", "src/testing.rs", "x"),
            SourceFile::new("mpio", "src/testing/more.rs", "x"),
            SourceFile::new("mpio", "src/real.rs", "x"),
            SourceFile::new("scsi", "src/testing.rs", "x"),
        ];
        mark_test_modules(&mut files);
        let found = files.map(|file| file.is_test);
        assert_eq!(found, [false, true, true, false, false]);
    }

    #[test]
    fn modules_of_files() {
        assert_eq!(module_of("src/lib.rs"), [""; 0]);
        assert_eq!(module_of("src/wire/mod.rs"), ["wire"]);
        assert_eq!(module_of("src/wire/bhs.rs"), ["wire", "bhs"]);
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("use tokio::net", "tokio"));
        assert!(has_word("a = Instant::now()", "Instant::now"));
        assert!(!has_word("my_tokio", "tokio"));
        assert!(!has_word("Instant::nowhere", "Instant::now"));
    }
}
