//! Tables without frames: columns line up, and every row stays one line for grep and awk.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::plain;

/// Builds a table of cells; `right` names the columns of numbers.
pub(crate) fn table(
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    right: &[usize],
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell).replace('\n', " ")));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up_and_rows_stay_lines() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned()],
            vec!["b\nc".to_owned(), "22".to_owned()],
        ];
        let text = super::table(&["name", "n"], rows, &[1]);
        assert_eq!(text, "name   n\na      1\nb c   22\n");
    }
}
