//! Tables for a terminal: no colours, as wide as there is room.

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle, presets};
use rustix::termios::tcgetwinsize;

/// Below this cells cannot be read; wider lines are left to the terminal then.
const WIDTH_MIN: u16 = 60;
/// Where output goes to a file or a pipe.
const WIDTH_DEFAULT: u16 = 120;

/// A rule under the header and no other lines: numbers are what there is to see.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Columns of the terminal that standard output is.
#[must_use]
pub fn columns() -> u16 {
    let width = tcgetwinsize(std::io::stdout()).map_or(WIDTH_DEFAULT, |size| size.ws_col);
    if width == 0 { WIDTH_DEFAULT } else { width.max(WIDTH_MIN) }
}

/// A table; the first row is its head.
pub(crate) fn table(rows: &[Vec<String>], columns: u16) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    if let Some((head, rows)) = rows.split_first() {
        table.set_header(head.clone());
        table.add_rows(rows.iter().cloned());
    }
    fitted(table, columns)
}

/// Names and values in a frame.
pub(crate) fn framed(rows: &[[String; 2]], columns: u16) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.add_rows(rows.iter().cloned());
    fitted(table, columns)
}

fn fitted(mut table: Table, columns: u16) -> String {
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns.max(WIDTH_MIN));
    // Padding at the ends of lines would wrap in narrow terminals.
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
