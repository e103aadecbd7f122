//! Error against size as characters: small enough for a terminal, exact enough to choose by. The
//! numbers are in the table above it.

use super::Point;

/// Characters of the plotting area.
const WIDTH: usize = 56;
const HEIGHT: usize = 12;
/// Room for the labels of the axis.
const LABEL: usize = 8;

/// The ends of both axes: bytes from the cheapest to the dearest, errors by factors of ten.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axes {
    /// Bytes at the left and the right end.
    pub(super) bytes: (f64, f64),
    /// Powers of ten at the bottom and at the top.
    pub(super) error: (f64, f64),
}

impl Axes {
    /// Axes that hold all points; errors of zero lie at the bottom.
    pub(super) fn of(points: &[Point]) -> Self {
        let ends = |numbers: &mut dyn Iterator<Item = f64>| {
            numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| {
                (least.min(x), most.max(x))
            })
        };
        let (cheap, dear) = ends(&mut points.iter().map(|point| point.bytes));
        let small = points.iter().map(|point| point.error).filter(|error| *error > 0.0);
        let (least, most) = ends(&mut small.map(f64::log10));
        let (least, most) = if least.is_finite() { (least, most) } else { (-3.0, -1.0) };
        let room = (0.06 * (dear - cheap)).max(1.0);
        Self {
            bytes: ((cheap - room).max(0.0), dear + room),
            error: (least - 0.1, most.max(least + 0.5) + 0.1),
        }
    }

    /// Where a point lies: right and up, from 0 to 1.
    pub(super) fn place(&self, bytes: f64, error: f64) -> (f64, f64) {
        let share = |x: f64, (from, to): (f64, f64)| ((x - from) / (to - from)).clamp(0.0, 1.0);
        let log = if error > 0.0 { error.log10() } else { f64::NEG_INFINITY };
        (share(bytes, self.bytes), share(log, self.error))
    }

    /// Round numbers of error on the axis, largest first.
    pub(super) fn error_ticks(&self) -> Vec<f64> {
        let decades = self.error.0.floor() as i32..=self.error.1.ceil() as i32;
        let mut ticks: Vec<f64> = decades
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
            .filter(|tick| (self.error.0..=self.error.1).contains(&tick.log10()))
            .collect();
        ticks.reverse();
        ticks
    }

    /// Round numbers of bytes on the axis, about five.
    pub(super) fn byte_ticks(&self) -> Vec<f64> {
        let (from, to) = self.bytes;
        let rough = (to - from) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
        let first = (from / step).ceil() as i64;
        (first..).map(|n| n as f64 * step).take_while(|tick| *tick <= to).collect()
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
    for tick in axes.error_ticks() {
        labels[cell(axes.bytes.0, tick).0] = tick.to_string();
    }
    let mut lines = vec![format!("{:>LABEL$}  relative error, logarithmic; · the dial", "")];
    for (label, row) in labels.iter().zip(&grid) {
        let line = format!("{label:>LABEL$} ┤{}", row.iter().collect::<String>());
        lines.push(line.trim_end().to_owned());
    }
    lines.push(format!("{:>LABEL$} └{}", "", "─".repeat(WIDTH)));
    let mut feet = [' '; WIDTH + 8];
    for tick in axes.byte_ticks() {
        let text = tick.to_string();
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

    #[test]
    fn ticks_are_round_and_inside() {
        let axes = Axes { bytes: (100.0, 420.0), error: (-2.1, -0.9) };
        assert_eq!(axes.byte_ticks(), [100.0, 200.0, 300.0, 400.0]);
        assert_eq!(axes.error_ticks(), [0.1, 0.05, 0.02, 0.01]);
        assert_eq!(axes.place(260.0, 10_f64.powf(-1.5)).0, 0.5);
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
