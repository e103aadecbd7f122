//! Tables for people: a header row, then rows, wrapped to the width of the terminal.

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use rustix::termios::tcgetwinsize;

/// Widths below this make cells unreadable; wider lines are left to the terminal then.
const WIDTH_MIN: u16 = 60;
/// Where output goes to a file or a pipe.
const WIDTH_DEFAULT: u16 = 120;

/// A rule under the header and no other lines: numbers are what there is to see.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The first row is the header. Every row has as many cells as the first.
pub(crate) fn plain<const N: usize>(rows: &[[String; N]]) -> String {
    let width = tcgetwinsize(std::io::stdout()).map_or(WIDTH_DEFAULT, |size| size.ws_col);
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width.max(WIDTH_MIN));
    if let Some((header, rows)) = rows.split_first() {
        table.set_header(header.clone());
        table.add_rows(rows.iter().cloned());
    }
    // Padding at the ends of lines would wrap in narrow terminals.
    let lines: Vec<String> =
        table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_rows_are_there() {
        let rows = [["what", "found"], ["cores", "2"]].map(|row| row.map(str::to_owned));
        let text = plain(&rows);
        assert!(text.contains("what") && text.contains("cores"), "{text}");
        assert_eq!(plain::<2>(&[]).trim(), "");
    }
}
