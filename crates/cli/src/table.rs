//! Columns for people: left-aligned text, right-aligned numbers.

/// A heading and the rows under it.
#[derive(Debug, Default)]
pub(crate) struct TextTable {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// One cell per heading.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.headings.len(), "one cell per heading");
        self.rows.push(cells);
    }

    pub(crate) fn text(&self) -> String {
        let mut widths: Vec<usize> = self.headings.iter().map(|it| it.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let headings: Vec<String> = self.headings.iter().map(ToString::to_string).collect();
        let mut out = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let width = *width;
                let is_number = cell.starts_with(|it: char| it.is_ascii_digit())
                    && cell.chars().all(|it| it.is_ascii_digit() || it == '.');
                line.push_str(&if is_number {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:<width$}  ")
                });
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
    fn table_aligns_numbers_to_the_right() {
        let mut table = TextTable::new(&["name", "ready"]);
        table.row(vec!["orders".to_owned(), "7".to_owned()]);
        assert_eq!(table.text(), "name    ready\norders      7\n");
    }
}
