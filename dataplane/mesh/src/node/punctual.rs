//! How punctual agents were: READY answers of all gathers that ended here, about their moments.

use crate::{gather::tally::Tally, sketch::Sketch};

/// READY answers since the start of the node. Answers to nodes below are theirs to count.
#[derive(Clone, Debug, Default)]
pub struct Punctuality {
    /// How long before the moment, of those in time.
    pub early: Sketch,
    /// How long after it, of the others.
    pub late: Sketch,
}

impl Punctuality {
    /// A gather ended.
    pub(super) fn ended(&mut self, tally: &Tally) {
        self.early.merge(&tally.earliness);
        self.late.merge(&tally.lateness);
    }

    pub(super) fn visit(&self, visit: super::Visit<'_>) {
        let ready = "butterfly_mesh_ready_total";
        visit(ready, "timing", "in_time", self.early.count());
        visit(ready, "timing", "late", self.late.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MS;
    use wire::mesh::AgentClass;

    #[test]
    fn ready_answers_are_kept_by_side_of_the_moment_over_gathers() {
        let (mut all, mut tally) = (Punctuality::default(), Tally::default());
        tally.ready(AgentClass::Edge, 90 * MS, 100 * MS);
        tally.ready(AgentClass::Edge, 100 * MS, 100 * MS);
        tally.ready(AgentClass::Edge, 103 * MS, 100 * MS);
        all.ended(&tally);
        tally.clear();
        tally.ready(AgentClass::Gpu, 7 * MS, 5 * MS);
        all.ended(&tally);
        let mut seen = Vec::new();
        all.visit(&mut |_, _, timing, n| seen.push((timing.to_owned(), n)));
        assert_eq!(seen, [("in_time".to_owned(), 2), ("late".to_owned(), 2)]);
        let late = all.late.quantile(1.0).unwrap();
        assert!(late.abs_diff(3 * MS) < MS / 20, "{late}");
    }
}
