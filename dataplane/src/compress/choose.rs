//! Which coding meets a target in the fewest bytes, found on a sample of the rows before anything
//! is sent.

pub(crate) mod hidden;
mod sets;

use super::ask::{Ask, Wish};
use crate::tensors::Rows;
use codec::basis::Basis;
use serde_json::{Value, json};

/// Rows that a choice is made on.
const SAMPLED: u64 = 64;

/// What was chosen, and what the sample says of it.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// What to ask for.
    pub(super) ask: Ask,
    /// Figures on the sampled rows: `coding`, `k` and perhaps `mass` or `step`, `bytes_per_row`,
    /// `kl_nats` and `retained_mass` or `snr_db`, `rows_sampled`. Null where there was nothing to
    /// choose.
    pub(super) predicted: Value,
}

/// Turns a wish into something to ask.
///
/// # Errors
/// A sentence: the target cannot be met, or the rows cannot be judged.
pub(super) fn choose(
    wish: &Wish,
    tensor: &Rows<'_>,
    basis: Option<&Basis>,
) -> Result<Chosen, String> {
    match *wish {
        Wish::Ask(ask) => Ok(Chosen { ask, predicted: Value::Null }),
        Wish::Kl { target, cap, coding, mass } => {
            let samples = sets::Samples::take(tensor, cap).map_err(|error| error.to_string())?;
            samples.choose(target, coding, mass)
        }
        Wish::Db { target, coding } => {
            let samples = hidden::Samples::take(tensor).map_err(|error| error.to_string())?;
            samples.choose(target, coding, basis)
        }
    }
}

/// The choice as a line for people.
pub(super) fn sentence(predicted: &Value) -> Option<String> {
    let coding = predicted["coding"].as_str()?;
    let number = |key: &str| predicted[key].as_f64();
    let dial = match (predicted["k"].as_u64(), number("step")) {
        (Some(k), _) => {
            let mass = number("mass").map(|mass| format!(" mass {mass}"));
            format!(" k {k}{}", mass.unwrap_or_default())
        }
        (_, Some(step)) => format!(" step {step}"),
        _ => String::new(),
    };
    let quality = match (number("kl_nats"), number("snr_db")) {
        (Some(kl), _) => format!("KL {kl:.5} nats"),
        (_, Some(snr)) => format!("{snr:.2} dB"),
        _ => "no error".to_owned(),
    };
    let bytes = number("bytes_per_row").unwrap_or(0.0);
    let rows = predicted["rows_sampled"].as_u64().unwrap_or(0);
    Some(format!("{coding}{dial}: {bytes:.1} bytes a row, {quality} on {rows} sampled rows"))
}

/// The nearest number with so many digits: what is chosen can be written on a command line.
fn short(number: f32, digits: usize) -> f32 {
    format!("{number:.*e}", digits.saturating_sub(1)).parse().unwrap_or(number)
}

/// A number of f32 as people write it, not as f64 shows it.
pub(crate) fn as_written(number: f32) -> Value {
    json!(number.to_string().parse::<f64>().unwrap_or(f64::NAN))
}

/// Up to [`SAMPLED`] rows, evenly spread.
fn spread(rows: u64) -> impl Iterator<Item = u64> {
    let count = rows.min(SAMPLED);
    (0..count).map(move |index| (u128::from(index) * u128::from(rows) / u128::from(count)) as u64)
}

/// A figure as JSON; what is not finite is null.
fn figures(pairs: &[(&str, f64)]) -> Value {
    let mut all = json!({});
    for (key, value) in pairs {
        all[*key] = json!(value);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_numbers_are_short() {
        assert_eq!(short(0.088_388_35, 3).to_string(), "0.0884");
        assert_eq!(short(1.0 - 0.001_258_9, 5).to_string(), "0.99874");
        assert_eq!(as_written(0.1).to_string(), "0.1");
        assert_eq!(as_written(f32::NAN), Value::Null);
    }

    #[test]
    fn samples_are_spread_over_all_rows() {
        assert_eq!(spread(3).collect::<Vec<_>>(), [0, 1, 2]);
        let many: Vec<u64> = spread(1_000_000).collect();
        assert_eq!((many.len(), many[0], many[63]), (64, 0, 984_375));
        assert!(many.is_sorted_by(|a, b| a < b));
    }
}
