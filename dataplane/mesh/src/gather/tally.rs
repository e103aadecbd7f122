//! What a gather counts and measures besides its targets' states.

use crate::{Time, class::CLASSES, sketch::Sketch};
use wire::{
    mesh::{AgentClass, DETAIL_LEN_MAX, NAMES_MAX, SkipReason},
    payload::mesh::{Bin, SkipRow},
};

const REASONS: usize = SkipReason::ALL.len();

/// Targets that got no message for one reason, and the worst of them.
#[derive(Clone, Copy, Debug, Default)]
struct Skips {
    count: u32,
    would_need: Time,
    available: Time,
}

/// One class's part.
#[derive(Debug, Default)]
pub(crate) struct ClassTally {
    /// Targets that could not be asked at all.
    pub unreachable: u32,
    pub in_time: u32,
    pub earliness: Sketch,
    pub leads: Sketch,
}

/// An agent that knows better.
#[derive(Debug)]
pub(crate) struct Quarrel {
    pub handle: u32,
    pub detail: String,
    pub context_hash: u64,
}

/// The books of one gather. Memory is fixed but for the conflicts' details, which are bounded.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub earliness: Sketch,
    pub lateness: Sketch,
    pub spread: Sketch,
    pub prediction_error: Sketch,
    pub fire_error: Sketch,
    pub classes: [ClassTally; CLASSES],
    pub quarrels: Vec<Quarrel>,
    skips: [Skips; REASONS],
    pub in_time: u32,
    pub late: u32,
    pub duplicates: u32,
    pub foreign: u32,
}

impl Tally {
    /// As new, with the memory that it has.
    pub(crate) fn clear(&mut self) {
        for sketch in [
            &mut self.earliness,
            &mut self.lateness,
            &mut self.spread,
            &mut self.prediction_error,
            &mut self.fire_error,
        ] {
            sketch.clear();
        }
        for class in &mut self.classes {
            (class.in_time, class.unreachable) = (0, 0);
            class.earliness.clear();
            class.leads.clear();
        }
        self.quarrels.clear();
        self.skips = [Skips::default(); REASONS];
        (self.in_time, self.late, self.duplicates, self.foreign) = (0, 0, 0, 0);
    }

    /// A target gets no message.
    pub(crate) fn skip(&mut self, reason: SkipReason, would_need: Time, available: Time) {
        let skips = &mut self.skips[usize::from(reason.code())];
        skips.count += 1;
        if would_need > skips.would_need {
            skips.would_need = would_need;
            skips.available = available;
        }
    }

    /// Several targets get no message.
    pub(crate) fn skip_many(&mut self, reason: SkipReason, count: u32) {
        self.skips[usize::from(reason.code())].count += count;
    }

    /// Targets without a message.
    pub(crate) fn skipped(&self) -> u32 {
        self.skips.iter().map(|skips| skips.count).sum()
    }

    /// The reasons that occurred.
    pub(crate) fn skip_rows(&self) -> Vec<SkipRow> {
        let us = |time: Time| u32::try_from(time / 1_000).unwrap_or(u32::MAX);
        let row = |(reason, skips): (&SkipReason, &Skips)| SkipRow {
            count: skips.count,
            would_need_us: us(skips.would_need),
            available_us: us(skips.available),
            reason: reason.code(),
            reserved: [0; 3],
        };
        let all = SkipReason::ALL.iter().zip(&self.skips);
        all.filter(|(_, skips)| skips.count > 0).map(row).collect()
    }

    /// An agent is READY: by the moment, or so much later.
    pub(crate) fn ready(&mut self, class: AgentClass, ready: Time, target: Time) {
        if ready <= target {
            self.in_time += 1;
            self.earliness.add(target - ready);
            let class = &mut self.classes[class as usize];
            class.in_time += 1;
            class.earliness.add(target - ready);
        } else {
            self.late += 1;
            self.lateness.add(ready - target);
        }
    }

    /// An agent knows better. The first ones are kept with what they say.
    pub(crate) fn quarrel(&mut self, handle: u32, detail: &str, context_hash: u64) {
        if self.quarrels.len() < NAMES_MAX {
            let detail = clip(detail, DETAIL_LEN_MAX).to_owned();
            self.quarrels.push(Quarrel { handle, detail, context_hash });
        }
    }
}

/// The start of a text, of at most that many bytes.
pub(crate) fn clip(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// A histogram as reports carry it.
pub(crate) fn bins(sketch: &Sketch) -> Vec<Bin> {
    let bin =
        |(bin, count)| Bin { bin: u32::from(bin), count: u32::try_from(count).unwrap_or(u32::MAX) };
    sketch.bins().map(bin).collect()
}

/// The histogram of a report's bins.
pub(crate) fn unbin(bins: &[Bin]) -> Sketch {
    let bin = |bin: &Bin| (u16::try_from(bin.bin).unwrap_or(u16::MAX), u64::from(bin.count));
    Sketch::from_bins(bins.iter().map(bin))
}
