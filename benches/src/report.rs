//! Medians, ratios and the table. Machines drift by tens of percent within minutes, so the two
//! sides of a comparison are measured in alternation, and the ratio is taken within each pair,
//! before the median.

use std::{io, process::ExitCode};

/// The middle of some values; the mean of the two middle ones for an even count; 0 for none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// The value below which `share` (0 to 1) of the samples lie; 0 for none. Sorts the samples.
pub fn quantile(samples: &mut [u32], share: f64) -> f64 {
    samples.sort_unstable();
    let at = (share * samples.len() as f64) as usize;
    samples.get(at.min(samples.len().saturating_sub(1))).map_or(0.0, |&value| f64::from(value))
}

/// One question, measured on both sides in alternation.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// What was measured.
    pub name: String,
    /// Unit of the values.
    pub unit: &'static str,
    /// The bare floor, one value a round.
    pub floor: Vec<f64>,
    /// The full path, one value a round; empty where only the floor was measured.
    pub ours: Vec<f64>,
}

impl Comparison {
    /// The median of ours / floor, pair by pair.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let pairs = self.ours.iter().zip(&self.floor);
        let ratios: Vec<f64> =
            pairs.filter(|(_, floor)| **floor > 0.0).map(|(ours, floor)| ours / floor).collect();
        median(&ratios)
    }

    /// As one row under [`HEADING`].
    #[must_use]
    pub fn row(&self) -> String {
        let (floor, ours, ratio) = (median(&self.floor), median(&self.ours), self.ratio());
        let Self { name, unit, .. } = self;
        format!("{name:<34} {unit:<6} {floor:>12.2} {ours:>12.2} {ratio:>7.3}")
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        format!(
            "{{\"name\":\"{}\",\"unit\":\"{}\",\"floor\":{:.3},\"ours\":{:.3},\"ratio\":{:.4},\
             \"rounds\":{}}}",
            self.name,
            self.unit,
            median(&self.floor),
            median(&self.ours),
            self.ratio(),
            self.floor.len()
        )
    }
}

/// Heads the rows of [`Comparison::row`].
pub const HEADING: &str =
    "question                           unit          floor         ours   ratio";

/// Ends a bench: the table as JSON where that is asked for, or what went wrong.
#[must_use]
pub fn conclude(bench: &str, outcome: io::Result<(Vec<Comparison>, bool)>) -> ExitCode {
    match outcome {
        Ok((table, json)) => {
            if json {
                let lines: Vec<_> = table.iter().map(Comparison::json).collect();
                println!("[{}]", lines.join(","));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{bench}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let floor = vec![10.0, 20.0, 40.0];
        let ours = vec![9.0, 16.0, 36.0];
        let pairs = Comparison { floor, ours, ..Comparison::default() };
        assert!((pairs.ratio() - 0.9).abs() < 1e-12);
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&mut [], 0.5), 0.0);
        let mut samples: Vec<u32> = (0..100).rev().collect();
        assert_eq!(quantile(&mut samples, 0.5), 50.0);
        assert_eq!(quantile(&mut samples, 1.0), 99.0);
    }
}
