//! Timing that changes for much of a sector at once, while the others stay as they were: a route
//! that moved, or agents that lie together (SEC-10). What they say teaches nobody but themselves
//! for a while. Where all sectors change it is this node or its network, and there is nobody to
//! protect.
//!
//! Sectors are compared within one gather: the slow answer last, so that a stretch of time would
//! have more of them at its end.

use crate::{
    Time,
    limits::{SURGE_FOR, SURGE_LEAST},
};

#[derive(Clone, Copy, Debug, Default)]
struct Sector {
    /// Its answers to the gather that is judged...
    answers: u32,
    /// ...and those of them that missed their forecasts widely: without lies a tenth.
    wide: u32,
    /// Until when it is held apart.
    until: Time,
}

/// All sectors of a node.
#[derive(Debug)]
pub(super) struct Surges(Vec<Sector>);

impl Surges {
    pub(super) fn new(sectors: u16) -> Self {
        Self(vec![Sector::default(); usize::from(sectors)])
    }

    /// True while this sector's timing counts for its own agents only.
    pub(super) fn is_held(&self, now: Time, sector: u16) -> bool {
        self.0.get(usize::from(sector)).is_some_and(|it| now < it.until)
    }

    /// Judges a gather by its answers: of which sector, and whether the forecast was missed widely.
    /// How many sectors begin to be held apart.
    pub(super) fn judge(&mut self, now: Time, answers: impl Iterator<Item = (u16, bool)>) -> u64 {
        self.0.iter_mut().for_each(|it| (it.answers, it.wide) = (0, 0));
        let (mut all, mut all_wide) = (0, 0);
        for (sector, wide) in answers {
            let Some(it) = self.0.get_mut(usize::from(sector)) else { continue };
            it.answers += 1;
            it.wide += u32::from(wide);
            all += 1;
            all_wide += u32::from(wide);
        }
        let mut begun = 0;
        for it in &mut self.0 {
            let (others, others_wide) = (all - it.answers, all_wide - it.wide);
            let changes = it.answers >= SURGE_LEAST && it.wide * 2 >= it.answers;
            if changes && others_wide * 4 < others {
                begun += u64::from(it.until <= now);
                it.until = now.saturating_add(SURGE_FOR);
            }
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SECOND;

    /// A gather of eight sectors with so many answers each, those of the first `wide` sectors wide.
    fn gather(surges: &mut Surges, now: Time, answers: u32, wide: u16) -> u64 {
        let one = |sector| (0..answers).map(move |_| (sector, sector < wide));
        surges.judge(now, (0..8).flat_map(one))
    }

    #[test]
    fn sec_10_a_sector_that_changes_alone_is_held_apart_for_a_while() {
        let mut surges = Surges::new(8);
        assert_eq!(gather(&mut surges, SECOND, SURGE_LEAST - 1, 1), 0);
        assert!(!surges.is_held(SECOND, 0));
        assert_eq!(gather(&mut surges, SECOND, SURGE_LEAST, 1), 1);
        assert!(surges.is_held(SECOND + SURGE_FOR - 1, 0) && !surges.is_held(SECOND, 1));
        assert!(!surges.is_held(SECOND + SURGE_FOR, 0));
        // It goes on while the change does, and is told once.
        assert_eq!(gather(&mut surges, 50 * SECOND, SURGE_LEAST, 1), 0);
        assert!(surges.is_held(50 * SECOND + SURGE_FOR - 1, 0));
    }

    #[test]
    fn sec_10_what_changes_for_many_sectors_is_the_node_s_own() {
        let mut surges = Surges::new(8);
        assert_eq!(gather(&mut surges, SECOND, 300, 8), 0);
        assert_eq!(gather(&mut surges, SECOND, 300, 3), 0);
        assert_eq!(gather(&mut surges, SECOND, 300, 0), 0);
        assert_eq!(gather(&mut surges, SECOND, 300, 2), 2);
    }

    #[test]
    fn a_sector_that_is_alone_has_nobody_to_spare_and_an_unknown_one_is_none() {
        let mut surges = Surges::new(2);
        assert_eq!(surges.judge(SECOND, (0..100).map(|_| (0, true))), 0);
        assert_eq!(surges.judge(SECOND, (0..100).map(|_| (9, true))), 0);
        assert!(!surges.is_held(SECOND, 9));
    }
}
