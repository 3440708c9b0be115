//! Trees with one line per node.

use super::plain;

/// A line with its branches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    text: String,
    children: Vec<Self>,
}

impl Node {
    /// A leaf.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            children: Vec::new(),
        }
    }

    /// Adds a branch.
    #[must_use]
    pub(crate) fn with(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// The whole tree, ending in a newline.
    pub(crate) fn render(&self) -> String {
        let mut out = plain(&self.text).replace('\n', " ");
        out.push('\n');
        self.render_children("", &mut out);
        out
    }

    fn render_children(&self, prefix: &str, out: &mut String) {
        for (index, child) in self.children.iter().enumerate() {
            let last = index + 1 == self.children.len();
            out.push_str(prefix);
            out.push_str(if last { "└─ " } else { "├─ " });
            out.push_str(&plain(&child.text).replace('\n', " "));
            out.push('\n');
            let deeper = format!("{prefix}{}", if last { "   " } else { "│  " });
            child.render_children(&deeper, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Node;

    #[test]
    fn branches_are_drawn() {
        let tree = Node::new("unit")
            .with(
                Node::new("group 1")
                    .with(Node::new("a"))
                    .with(Node::new("b")),
            )
            .with(Node::new("group 2").with(Node::new("c")));
        let lines = "unit\n├─ group 1\n│  ├─ a\n│  └─ b\n└─ group 2\n   └─ c\n";
        assert_eq!(tree.render(), lines);
    }
}
