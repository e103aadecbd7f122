//! The status bar (BAR-01, BAR-02): everyone in one of five standings, in shares that add up.

use serde::{Deserialize, Serialize};
use wire::mesh::Standing;

/// A standing in JSON is its name.
mod by_name {
    use super::Standing;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::borrow::Cow;

    pub(super) fn serialize<S: Serializer>(it: &Standing, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(it.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Standing, D::Error> {
        let name = Cow::<str>::deserialize(from)?;
        Standing::from_name(&name).ok_or_else(|| D::Error::custom(format!("no standing: {name}")))
    }
}

/// One section of the bar.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Part {
    /// Which.
    #[serde(with = "by_name")]
    pub standing: Standing,
    /// How many.
    pub count: u64,
    /// Tenths of a percent of all; the parts' sum is 1000 unless all are empty.
    pub permille: u32,
}

/// The bar: five parts in the order of [`Standing::ALL`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Bar {
    /// What is counted: `agents`, or `workers` where the node has no agents.
    pub of: String,
    /// How many there are.
    pub total: u64,
    /// The parts; empty before anything is known.
    pub parts: Vec<Part>,
}

impl Bar {
    /// The bar of these counts, in the order of [`Standing::ALL`]. What rounding down leaves goes
    /// to the parts that lost most by it, so that the shares add up to the whole.
    #[must_use]
    pub fn new(of: &str, counts: [u64; 5]) -> Self {
        let total: u64 = counts.iter().sum();
        let exact = |count: u64| u128::from(count) * 1_000;
        let whole = u128::from(total.max(1));
        let mut permille = counts.map(|count| (exact(count) / whole) as u32);
        let missing = if total == 0 { 0 } else { 1_000 - permille.iter().sum::<u32>() };
        let mut by_loss: Vec<usize> = (0..counts.len()).collect();
        by_loss.sort_by_key(|i| std::cmp::Reverse(exact(counts[*i]) % whole));
        for i in by_loss.into_iter().take(missing as usize) {
            permille[i] += 1;
        }
        let part =
            |i: usize| Part { standing: Standing::ALL[i], count: counts[i], permille: permille[i] };
        Self { of: of.to_owned(), total, parts: (0..counts.len()).map(part).collect() }
    }
}

impl Bar {
    /// So many of `width` cells for each part, in the order of [`Standing::ALL`]: as the shares
    /// are, but nobody who is there is left without a cell as long as there is room. All are 0
    /// where nobody is there.
    #[must_use]
    pub fn cells(&self, width: usize) -> [usize; 5] {
        let mut cells = [0; 5];
        let present: Vec<&Part> = self.parts.iter().filter(|part| part.count > 0).collect();
        let spare = width.saturating_sub(present.len());
        for part in present.iter().take(width) {
            cells[part.standing as usize] = 1 + spare * part.permille as usize / 1_000;
        }
        // What rounding down leaves goes to the largest part.
        let rest = width.saturating_sub(cells.iter().sum());
        if let Some(largest) = present.iter().max_by_key(|part| part.count) {
            cells[largest.standing as usize] += rest;
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_01_cells_fill_the_width_and_show_everybody() {
        let cells = |counts, width| Bar::new("agents", counts).cells(width);
        assert_eq!(cells([0; 5], 40), [0; 5]);
        assert_eq!(Bar::default().cells(40), [0; 5]);
        assert_eq!(cells([30_000, 1, 0, 0, 0], 10), [9, 1, 0, 0, 0]);
        assert_eq!(cells([1; 5], 3), [1, 1, 1, 0, 0], "no room for all");
        for width in 5..80 {
            let cells = cells([9_999, 1, 20_000, 1, 3_000], width);
            assert_eq!(cells.iter().sum::<usize>(), width);
            assert!(cells.iter().all(|n| *n > 0), "{cells:?}");
        }
    }

    fn shares(counts: [u64; 5]) -> Vec<u32> {
        Bar::new("agents", counts).parts.iter().map(|part| part.permille).collect()
    }

    #[test]
    fn bar_02_the_shares_add_up_to_the_whole() {
        assert_eq!(shares([1, 1, 1, 0, 0]), [334, 333, 333, 0, 0]);
        assert_eq!(shares([0; 5]), [0; 5]);
        let mut counts = [30_000, 7, 1, 1, 991];
        for round in 0..500_u64 {
            counts[round as usize % 5] = counts[round as usize % 5] * 31 % 9_973;
            let sum: u32 = shares(counts).iter().sum();
            assert_eq!(sum, if counts == [0; 5] { 0 } else { 1_000 }, "{counts:?}");
        }
        assert_eq!(shares([u64::MAX / 8; 5]).iter().sum::<u32>(), 1_000);
    }

    #[test]
    fn bar_01_the_parts_stand_from_ready_to_offline() {
        let bar = Bar::new("workers", [1, 2, 3, 4, 5]);
        let names: Vec<_> = bar.parts.iter().map(|part| part.standing.name()).collect();
        assert_eq!(names, ["ready", "trusted", "busy", "unknown", "offline"]);
        assert_eq!(bar.total, 15);
    }
}
