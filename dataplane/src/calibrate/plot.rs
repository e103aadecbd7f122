//! Error against size as characters: small enough for a terminal, exact enough to choose by. The
//! numbers are in the table above it.

use super::Point;
use plot::{Scale, text::digits};

/// Characters of the plotting area.
const WIDTH: usize = 56;
const HEIGHT: usize = 12;
/// Room for the labels of the axis.
const LABEL: usize = 8;

/// Both axes: bytes evenly, errors by factors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axes {
    /// To the right.
    pub(super) bytes: Scale,
    /// Up.
    pub(super) error: Scale,
}

impl Axes {
    /// Axes that hold all points; errors of zero lie at the bottom.
    pub(super) fn of(points: &[Point]) -> Self {
        Self {
            bytes: Scale::around(points.iter().map(|point| point.bytes)),
            error: Scale::logarithmic(points.iter().map(|point| point.error)),
        }
    }

    /// Where a point lies: right and up, from 0 to 1.
    fn place(&self, bytes: f64, error: f64) -> (f64, f64) {
        (self.bytes.place(bytes), self.error.place(error))
    }
}

/// The plot: letters are the codings of the table, dots the dial between them.
pub(super) fn draw(points: &[Point]) -> String {
    let axes = Axes::of(points);
    let cell = |bytes: f64, error: f64| {
        let (right, up) = axes.place(bytes, error);
        let column = (right * (WIDTH - 1) as f64).round() as usize;
        (HEIGHT - 1 - (up * (HEIGHT - 1) as f64).round() as usize, column)
    };
    let mut grid = [[' '; WIDTH]; HEIGHT];
    let dial: Vec<&Point> = points.iter().filter(|point| point.dial).collect();
    for pair in dial.windows(2) {
        for share in (0..=WIDTH).map(|n| n as f64 / WIDTH as f64) {
            let between = |a: f64, b: f64| a + share * (b - a);
            let log = between(pair[0].error.max(1e-12).ln(), pair[1].error.max(1e-12).ln());
            let (line, column) = cell(between(pair[0].bytes, pair[1].bytes), log.exp());
            grid[line][column] = '·';
        }
    }
    for point in points {
        let (line, column) = cell(point.bytes, point.error);
        // Two in one place: the later one moves aside, so that every letter is there.
        let row = &mut grid[line];
        let free = (column..WIDTH).chain((0..column).rev());
        let at = free.into_iter().find(|at| !row[*at].is_ascii_alphabetic()).unwrap_or(column);
        row[at] = point.mark;
    }
    let mut labels: [String; HEIGHT] = Default::default();
    for tick in axes.error.ticks(6) {
        labels[cell(0.0, tick).0] = digits(tick);
    }
    let mut lines = vec![format!("{:>LABEL$}  relative error, logarithmic; · the dial", "")];
    for (label, row) in labels.iter().zip(&grid) {
        let line = format!("{label:>LABEL$} ┤{}", row.iter().collect::<String>());
        lines.push(line.trim_end().to_owned());
    }
    lines.push(format!("{:>LABEL$} └{}", "", "─".repeat(WIDTH)));
    let mut feet = [' '; WIDTH + 8];
    for tick in axes.bytes.ticks(5) {
        let text = digits(tick);
        let at = cell(tick, 1.0).1;
        if feet[at.saturating_sub(1)..(at + text.len() + 1).min(feet.len())]
            .iter()
            .all(|c| *c == ' ')
        {
            feet[at..].iter_mut().zip(text.chars()).for_each(|(foot, c)| *foot = c);
        }
    }
    let feet: String = feet.iter().collect();
    lines.push(format!("{:>LABEL$}  {} bytes a row", "", feet.trim_end()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(mark: char, bytes: f64, error: f64, dial: bool) -> Point {
        let name = format!("coding-{mark}");
        Point { name, mark, dial, bytes, saving: 0.5, error, snr_db: 30.0, cosine: 0.9 }
    }

    proptest! {
        #[test]
        fn every_coding_is_in_the_plot(
            found in prop::collection::vec((1.0..5000.0_f64, 0.0..2.0_f64, any::<bool>()), 1..20)
        ) {
            let points: Vec<Point> = found
                .iter()
                .zip('a'..)
                .map(|((bytes, error, dial), mark)| point(mark, *bytes, *error, *dial))
                .collect();
            let text = draw(&points);
            let area: String = text.lines().skip(1).take(HEIGHT).filter_map(|line| {
                line.split_once('┤').map(|(_, row)| row.to_owned())
            }).collect();
            for point in &points {
                prop_assert!(area.contains(point.mark), "{}: {text}", point.mark);
            }
            prop_assert!(text.lines().all(|line| line.chars().count() <= 90));
        }
    }
}
