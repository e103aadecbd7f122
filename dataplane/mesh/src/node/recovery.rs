//! How soon clusters and sectors recover (KPI-07): an outage begins when 95% or less of the agents
//! are active, and is over when more are.

use crate::{SECOND, Time, limits::HEALTHY_RATE, summary::Summaries};
use std::collections::BTreeMap;

/// A cluster's outage is to be over within this.
const CLUSTER_WITHIN: Time = 300 * SECOND;
/// A sector's within this.
const SECTOR_WITHIN: Time = 900 * SECOND;

/// Outages that were decided: those over in time, and all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    pub in_time: u64,
    pub all: u64,
}

/// The outages under way: since when, or none where it was too long already.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    clusters: BTreeMap<u32, Option<Time>>,
    sectors: BTreeMap<u32, Option<Time>>,
}

impl Recovery {
    /// Looks at fresh summaries. An outage that lasts too long is decided then, not when it ends.
    pub(super) fn look(&mut self, now: Time, summaries: &Summaries) -> Decided {
        let mut decided = Decided::default();
        let clusters = summaries.clusters().iter().map(|it| (it.cluster, it.agents, it.active));
        pass(&mut self.clusters, now, CLUSTER_WITHIN, clusters, &mut decided);
        let sectors = summaries.sectors().iter().map(|it| &it.summary);
        let sectors = sectors.map(|it| (it.sector.into(), it.agents, it.active));
        pass(&mut self.sectors, now, SECTOR_WITHIN, sectors, &mut decided);
        decided
    }
}

/// Places with their agents and active agents. A place without agents is none any more.
fn pass(
    under_way: &mut BTreeMap<u32, Option<Time>>,
    now: Time,
    within: Time,
    places: impl Iterator<Item = (u32, u32, u32)>,
    decided: &mut Decided,
) {
    let before = core::mem::take(under_way);
    for (place, agents, active) in places {
        let is_well = active as f32 > HEALTHY_RATE * agents as f32;
        let since = before.get(&place).copied();
        match (is_well, since) {
            (true, Some(Some(since))) => {
                decided.all += 1;
                decided.in_time += u64::from(now.saturating_sub(since) <= within);
            }
            (true, _) => {}
            (false, Some(Some(since))) if now.saturating_sub(since) > within => {
                decided.all += 1;
                under_way.insert(place, None);
            }
            (false, since) => {
                under_way.insert(place, since.unwrap_or(Some(now)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kpi_07_an_outage_is_decided_once_when_it_ends_or_is_too_long() {
        let mut under_way = BTreeMap::new();
        let mut look = |now: u64, places: &[(u32, u32, u32)]| {
            let mut decided = Decided::default();
            let places = places.iter().copied();
            pass(&mut under_way, now * SECOND, CLUSTER_WITHIN, places, &mut decided);
            (decided.in_time, decided.all)
        };
        assert_eq!(look(0, &[(1, 20, 20), (2, 20, 19)]), (0, 0), "95% are not more than 95%");
        assert_eq!(look(300, &[(1, 20, 0), (2, 20, 20)]), (1, 1), "just in time");
        assert_eq!(look(600, &[(1, 20, 19), (2, 20, 20)]), (0, 0));
        assert_eq!(look(601, &[(1, 20, 19)]), (0, 1), "too long");
        assert_eq!(look(2_000, &[(1, 20, 19)]), (0, 0), "and counted once");
        assert_eq!(look(2_005, &[(1, 20, 20)]), (0, 0));
        assert_eq!(look(2_010, &[(1, 20, 0)]), (0, 0), "a new one");
        assert_eq!(look(2_020, &[]), (0, 0), "gone");
        assert_eq!(look(9_000, &[(1, 20, 20)]), (0, 0));
    }
}
