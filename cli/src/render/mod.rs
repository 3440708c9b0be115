//! How results look: tables, trees, progress, and text that is safe to show.

pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod tree;

/// Text from a device or a peer, with control characters made visible: a product name must not
/// be able to steer a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|char| {
            let shown = if char.is_control() && char != '\n' {
                None
            } else {
                Some(char)
            };
            let escaped = shown.is_none().then(|| char.escape_default());
            shown.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(super::plain("a\u{1b}[31mé\n"), "a\\u{1b}[31mé\n");
    }
}
