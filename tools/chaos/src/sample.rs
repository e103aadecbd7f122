//! Figures of a process over time, and whether they stay where they are: the slope of a line fitted
//! through them, with its confidence interval.

use std::fs;

/// One look at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// Seconds since the start.
    pub(crate) at: f64,
    /// Resident memory of the node and its workers, bytes; shared pages count for each.
    pub(crate) resident: f64,
    /// Their share of it, bytes: a page that two have counts half for each.
    pub(crate) proportional: f64,
    /// Open descriptors of the node.
    pub(crate) descriptors: f64,
    /// Threads of the node.
    pub(crate) threads: f64,
    /// Slots that are not free.
    pub(crate) slots: f64,
}

/// A figure's name, how it is read, and by how much it may differ in an hour and still be flat.
pub(crate) type Figure = (&'static str, fn(&Sample) -> f64, f64);

/// What is watched.
pub(crate) const FIGURES: [Figure; 5] = [
    ("resident bytes", |it| it.resident, 4e6),
    ("proportional bytes", |it| it.proportional, 4e6),
    ("descriptors", |it| it.descriptors, 2.0),
    ("threads", |it| it.threads, 1.0),
    ("slots in use", |it| it.slots, 8.0),
];

/// A line through figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) mean: f64,
    /// Change in an hour.
    pub(crate) slope: f64,
    /// Half of the slope's 95 % confidence interval.
    pub(crate) margin: f64,
}

impl Line {
    /// Least squares. `None` for fewer than three points, or all at one moment.
    pub(crate) fn through(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len() as f64;
        if points.len() < 3 {
            return None;
        }
        let mean_of = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean_of(|p| p.0), mean_of(|p| p.1));
        let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
        if spread == 0.0 {
            return None;
        }
        let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
        let rest: f64 = points.iter().map(|p| (p.1 - y - slope * (p.0 - x)).powi(2)).sum();
        let error = (rest / (n - 2.0) / spread).sqrt();
        let hour = 3_600.0;
        // With as many points as a soak has, Student's t is the normal's 1.96; few points get a
        // wider margin, as they should.
        let wide = 1.96 + 2.5 / (n - 2.0);
        Some(Self { mean: y, slope: slope * hour, margin: wide * error * hour })
    }

    /// The change in an hour may be none, or is less than what is let pass.
    pub(crate) fn is_flat(&self, let_pass: f64) -> bool {
        self.slope.abs() - self.margin <= 0.0 || self.slope.abs() <= let_pass
    }
}

/// A line `Name:   1234 kB` of a file of /proc, in bytes.
fn kilobytes(path: &str, name: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    number.unwrap_or(0.0) * 1024.0
}

/// Memory of these processes: resident, proportional.
pub(crate) fn memory(pids: &[i32]) -> (f64, f64) {
    let of = |pid: &i32, name| kilobytes(&format!("/proc/{pid}/smaps_rollup"), name);
    let sum = |name| pids.iter().map(|pid| of(pid, name)).sum();
    (sum("Rss"), sum("Pss"))
}

/// Threads of a process.
pub(crate) fn threads(pid: i32) -> f64 {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_with_its_doubt() {
        let exact: Vec<_> = (0..100).map(|n| (f64::from(n), 5.0 + 2.0 * f64::from(n))).collect();
        let line = Line::through(&exact).expect("enough points");
        assert!((line.slope - 7_200.0).abs() < 1e-6 && line.margin < 1e-6, "{line:?}");
        assert!(!line.is_flat(7_000.0) && line.is_flat(7_300.0));
        // Up and down around a level: no slope within the doubt.
        let level: Vec<_> = (0..100).map(|n| (f64::from(n), f64::from(n % 2))).collect();
        assert!(Line::through(&level).expect("enough points").is_flat(0.0));
        assert_eq!(Line::through(&exact[..2]), None);
        assert_eq!(Line::through(&[(1.0, 1.0); 5]), None);
    }

    #[test]
    fn a_process_has_memory_and_threads() {
        let own = std::process::id().cast_signed();
        let (resident, proportional) = memory(&[own]);
        assert!(resident >= proportional && proportional > 0.0 && threads(own) >= 1.0);
        assert_eq!(memory(&[]), (0.0, 0.0));
    }
}
