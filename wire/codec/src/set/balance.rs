//! Rounds some values the other way, so that the set keeps the probability that it had (C8).
//!
//! A reader takes what the set lacks to 1 as the probability of all else. Where little is left, the
//! errors of a few large entries would change it by a large part.

use super::Set;
use super::values::Model;
use kernels::probability;
use std::cmp::Ordering;

/// Room for it. Probabilities are what costs here, so they are computed for all entries at once,
/// whether they are asked for in the end or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Balance {
    exact: Vec<f64>,
    /// What values are rounded to, and the neighbours on the other side of them.
    rounded: Neighbour,
    other: Neighbour,
    numbers: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Neighbour {
    values: Vec<f32>,
    probabilities: Vec<f64>,
}

impl Neighbour {
    fn find(&mut self, set: &Set<'_>, model: &Model, numbers: &[u32]) {
        self.values.resize(numbers.len(), 0.0);
        self.probabilities.resize(numbers.len(), 0.0);
        model.values(numbers, &mut self.values);
        probability::each(&self.values, set.max, set.log_sum, &mut self.probabilities);
    }
}

impl Balance {
    pub(super) fn resize(&mut self, count: usize) {
        self.exact.resize(count, 0.0);
        self.numbers.resize(count, 0);
        for side in [&mut self.rounded, &mut self.other] {
            side.values.resize(count, 0.0);
            side.probabilities.resize(count, 0.0);
        }
    }

    /// The probabilities of values, kept for [`Balance::run`].
    pub(super) fn exact(&mut self, set: &Set<'_>, values: &[f32]) -> &[f64] {
        self.exact.resize(values.len(), 0.0);
        probability::each(values, set.max, set.log_sum, &mut self.exact);
        &self.exact
    }

    /// Changes some of the numbers of a tier, by index. The probabilities of its values are known.
    pub(super) fn run(
        &mut self,
        set: &Set<'_>,
        model: &Model,
        values: &[f32],
        numbers: &mut [u32],
    ) {
        let Some(last_but_one) = model.last_but_one() else { return };
        self.rounded.find(set, model, numbers);
        self.numbers.resize(numbers.len(), 0);
        let rounded = self.rounded.values.iter().zip(values).zip(&*numbers);
        for (other, ((rounded, exact), number)) in self.numbers.iter_mut().zip(rounded) {
            *other = match rounded.total_cmp(exact) {
                Ordering::Greater if *number <= last_but_one => *number + 1,
                Ordering::Less if *number > 0 => *number - 1,
                _ => *number,
            };
        }
        self.other.find(set, model, &self.numbers);
        let Self { exact, rounded, other, numbers: others } = self;
        let (of_rounded, of_other) = (&rounded.probabilities, &other.probabilities);
        let mut excess = 0.0;
        for (rounded, exact) in of_rounded.iter().zip(&*exact) {
            excess += rounded - exact;
        }
        let changes = others.iter().zip(of_rounded.iter().zip(of_other));
        for (number, (other, (of_rounded, of_other))) in numbers.iter_mut().zip(changes) {
            // A larger number is a smaller value.
            let wanted = (*other > *number && excess > 0.0) || (*other < *number && excess < 0.0);
            let without = excess + of_other - of_rounded;
            if wanted && without.abs() < excess.abs() {
                excess = without;
                *number = *other;
            }
        }
    }
}
