//! Aligned columns for people: no borders and no colour, so that `awk` reads them too.

/// Rows under a head.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these headings; a heading that begins with `>` is aligned to the right.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        let head = headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![head], right: headings.iter().map(|h| h.starts_with('>')).collect() }
    }

    /// Adds a row; an empty cell is shown as `-`.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|c| if c.is_empty() { "-".to_owned() } else { c }).collect());
    }

    /// Two spaces between columns, nothing after the last.
    #[must_use]
    pub fn render(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad =
                    " ".repeat(widths.get(column).map_or(0, |w| w.saturating_sub(cell.chars().count())));
                if column > 0 {
                    line.push_str("  ");
                }
                if self.right.get(column).copied().unwrap_or(false) {
                    line.push_str(&pad);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&pad);
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[">ID", "NAME", "STATE"]);
        table.row(["7".into(), "a".into(), "running".into()]);
        table.row(["42".into(), "digits".into(), String::new()]);
        assert_eq!(table.render(), "ID  NAME    STATE\n 7  a       running\n42  digits  -\n");
    }
}
