//! A table of text: columns as wide as they must be, the last one as wide as it may be.

use std::fmt::Display;

/// What is between two columns.
const GAP: usize = 2;

/// What is left for the last column, however narrow the terminal.
const LEAST: usize = 20;

/// One cell: its text, and how it is shown, which may have colours and is as wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What it says.
    pub(crate) text: String,
    /// What is printed.
    pub(crate) shown: String,
}

impl Cell {
    /// A cell without colours.
    pub(crate) fn plain(text: impl Display) -> Cell {
        let text = text.to_string();
        Cell { shown: text.clone(), text }
    }
}

/// The lines of a table. On a terminal of `width` columns the last column is cut, and ends with `…`.
pub(crate) fn laid_out<const N: usize>(headings: [&str; N], rows: &[[Cell; N]], width: Option<usize>) -> Vec<String> {
    let heading = headings.map(Cell::plain);
    let mut widths = [0; N];
    for row in std::iter::once(&heading).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let before: usize = widths.iter().take(N.saturating_sub(1)).map(|width| width + GAP).sum();
    let last = width.map_or(usize::MAX, |width| width.saturating_sub(before).max(LEAST));
    let line = |row: &[Cell; N]| {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            if index + 1 == N {
                line.push_str(&cut(cell, last));
            } else {
                line.push_str(&cell.shown);
                let gap = widths[index].saturating_sub(cell.text.chars().count()) + GAP;
                line.extend(std::iter::repeat_n(' ', gap));
            }
        }
        line.trim_end().to_owned()
    };
    std::iter::once(&heading).chain(rows).map(line).collect()
}

fn cut(cell: &Cell, width: usize) -> String {
    if cell.text.chars().count() <= width {
        return cell.shown.clone();
    }
    let mut text: String = cell.text.chars().take(width.saturating_sub(1)).collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<[Cell; 3]> {
        let colored = Cell { text: "good".to_owned(), shown: "\u{1b}[32mgood\u{1b}[0m".to_owned() };
        vec![
            [Cell::plain("a"), colored, Cell::plain("one two three four five six")],
            [Cell::plain("longer"), Cell::plain("x"), Cell::plain("")],
        ]
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_colours_take_no_room() {
        assert_eq!(
            laid_out(["ID", "HOW", "WHY"], &rows(), None),
            ["ID      HOW   WHY", "a       \u{1b}[32mgood\u{1b}[0m  one two three four five six", "longer  x",]
        );
    }

    #[test]
    fn only_the_last_column_is_cut() {
        let lines = laid_out(["ID", "HOW", "WHY"], &rows(), Some(36));
        assert!(lines[1].ends_with("  one two three four fi…"), "{lines:?}");
        let narrow = laid_out(["ID", "HOW", "WHY"], &rows(), Some(3));
        assert!(narrow[1].ends_with("  one two three four …"), "{narrow:?}");
    }
}
