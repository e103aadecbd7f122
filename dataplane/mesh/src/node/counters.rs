//! What the machine counts. Plain numbers with one writer; whoever shows them copies them out.

use wire::mesh::{Decision, SkipReason};

/// One measured value for exposition: name, label pair (or none), value.
pub type Visit<'a> = &'a mut dyn FnMut(&'static str, &'static str, &str, u64);

/// One measured quantity for exposition: name, label pair (or none), value.
pub type Measure<'a> = &'a mut dyn FnMut(&'static str, &'static str, &str, f64);

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $name:literal, $label:literal, $value:literal;)*) => {
        /// The counters of a [`super::Mesh`].
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct MeshCounters {
            $($(#[$doc])* pub $field: u64,)*
            /// Gathers that ended, by decision (the codes of [`Decision`]).
            pub decisions: [u64; Decision::ALL.len()],
            /// Targets without a message, by reason (the codes of [`SkipReason`]).
            pub skips: [u64; SkipReason::ALL.len()],
        }

        impl MeshCounters {
            /// Shows each counter once.
            pub fn visit(&self, visit: Visit<'_>) {
                $(visit($name, $label, $value, self.$field);)*
                for (decision, n) in Decision::ALL.iter().zip(self.decisions) {
                    visit("butterfly_mesh_gathers_total", "decision", decision.name(), n);
                }
                for (reason, n) in SkipReason::ALL.iter().zip(self.skips) {
                    visit("butterfly_mesh_skips_total", "reason", reason.name(), n);
                }
            }
        }
    };
}

counters! {
    /// Agents that were new.
    joined => "butterfly_mesh_registrations_total", "result", "joined";
    /// Agents that came back.
    resumed => "butterfly_mesh_registrations_total", "result", "resumed";
    /// Agents that said again, on the same connection, what was known.
    repeated => "butterfly_mesh_registrations_total", "result", "repeated";
    /// Agents whose id another connection holds.
    name_taken => "butterfly_mesh_registrations_total", "result", "name_taken";
    /// Agents without room, in the registry or on their connection.
    mesh_full => "butterfly_mesh_registrations_total", "result", "mesh_full";
    /// Agents that said something impossible.
    bad_record => "butterfly_mesh_registrations_total", "result", "bad_record";
    /// Heartbeats that were taken.
    beats => "butterfly_mesh_heartbeats_total", "result", "taken";
    /// Heartbeats for handles of an earlier life.
    beats_stale => "butterfly_mesh_heartbeats_total", "result", "stale";
    /// Heartbeats in another's name.
    beats_foreign => "butterfly_mesh_heartbeats_total", "result", "foreign";
    /// Exchanges of times that cannot be, ignored.
    bad_times => "butterfly_mesh_implausible_total", "what", "times";
    /// Numbers that cannot be (negative, NaN, absurd), brought into range or ignored.
    bad_numbers => "butterfly_mesh_implausible_total", "what", "numbers";
    /// Stamps of hybrid clocks too far ahead.
    bad_stamps => "butterfly_mesh_implausible_total", "what", "stamps";
    /// Sums of a child's report that do not add up.
    bad_sums => "butterfly_mesh_implausible_total", "what", "sums";
    /// Frames that are no sound payload of their kind.
    bad_frames => "butterfly_mesh_refusals_total", "what", "bad_frame";
    /// Frames of kinds that only the node sends, or that are not its business.
    unserved => "butterfly_mesh_refusals_total", "what", "unserved";
    /// Gathers that were refused.
    bad_gathers => "butterfly_mesh_refusals_total", "what", "gather";
    /// Orders and questions that were refused.
    bad_orders => "butterfly_mesh_refusals_total", "what", "order";
    /// Orders that the keys of operators allowed.
    orders_signed => "butterfly_mesh_signed_orders_total", "result", "obeyed";
    /// Orders without a signature of a known key, where one is needed.
    orders_unsigned => "butterfly_mesh_signed_orders_total", "result", "unsigned";
    /// Orders under a known key that it did not sign.
    orders_forged => "butterfly_mesh_signed_orders_total", "result", "forged";
    /// Orders signed too long ago, or by a clock that is off.
    orders_stale => "butterfly_mesh_signed_orders_total", "result", "stale";
    /// Orders that came again.
    orders_replayed => "butterfly_mesh_signed_orders_total", "result", "replayed";
    /// Orders beyond what one key may give in a minute.
    orders_rash => "butterfly_mesh_signed_orders_total", "result", "rash";
    /// Orders that wait, or waited in vain, for a second signature.
    orders_held => "butterfly_mesh_signed_orders_total", "result", "held";
    /// Refusals that were not sent, because the connection had so many before.
    unsaid => "butterfly_mesh_refusals_unsaid_total", "", "";
    /// Connections closed for what they sent.
    closed => "butterfly_mesh_closed_total", "", "";
    /// READY answers that counted.
    ready => "butterfly_mesh_answers_total", "state", "ready";
    /// CONFLICT answers that counted.
    conflicts => "butterfly_mesh_answers_total", "state", "conflict";
    /// TRANSIT answers that counted.
    transit => "butterfly_mesh_answers_total", "state", "transit";
    /// Answers beyond the final one.
    duplicates => "butterfly_mesh_answers_total", "state", "duplicate";
    /// Answers in another's name, of an earlier life, or by who was not asked.
    foreign => "butterfly_mesh_answers_total", "state", "foreign";
    /// Answers to gathers that had ended.
    after_end => "butterfly_mesh_answers_total", "state", "after_end";
    /// Answers whose agent's signature held.
    acks_verified => "butterfly_mesh_signed_answers_total", "result", "verified";
    /// Answers without the signature of the agent whose they were said to be.
    acks_forged => "butterfly_mesh_signed_answers_total", "result", "forged";
    /// Agents put into quarantine for what they said.
    quarantined => "butterfly_mesh_quarantines_total", "event", "begun";
    /// Quarantines that had lasted long enough.
    released => "butterfly_mesh_quarantines_total", "event", "ended";
    /// Clusters and sectors whose other agents followed theirs into quarantine.
    isolated => "butterfly_mesh_isolations_total", "", "";
    /// Sectors whose timing changed alone, and was held apart from then on.
    surges => "butterfly_mesh_timing_surges_total", "", "";
    /// Answers to nothing.
    unknown => "butterfly_mesh_answers_total", "state", "unknown";
    /// Gathers that were taken up.
    gathers => "butterfly_mesh_gathers_begun_total", "", "";
    /// Copies given to the shards.
    scheduled => "butterfly_mesh_copies_total", "result", "scheduled";
    /// Copies that left.
    sent => "butterfly_mesh_copies_total", "result", "sent";
    /// Copies that expired before they left.
    expired => "butterfly_mesh_copies_total", "result", "expired";
    /// Copies whose connection was gone.
    gone => "butterfly_mesh_copies_total", "result", "gone";
    /// Copies that the queue had no room for.
    refused => "butterfly_mesh_copies_total", "result", "refused";
    /// Reports of volleys that nobody waits for any more.
    stray_volleys => "butterfly_mesh_stray_volleys_total", "", "";
    /// Agents that became offline by silence.
    silent => "butterfly_mesh_offline_total", "cause", "silent";
    /// Agents whose connection ended.
    unlinked => "butterfly_mesh_offline_total", "cause", "connection";
    /// Agents that moved to another cluster.
    moved => "butterfly_mesh_moves_total", "", "";
    /// Nodes that joined below.
    children_joined => "butterfly_mesh_children_total", "event", "joined";
    /// Nodes below that were lost.
    children_lost => "butterfly_mesh_children_total", "event", "lost";
    /// Nodes that could not join.
    children_refused => "butterfly_mesh_children_total", "event", "refused";
    /// Times this node joined its parent.
    parent_joined => "butterfly_mesh_parent_total", "event", "joined";
    /// Times it lost it.
    parent_lost => "butterfly_mesh_parent_total", "event", "lost";
    /// Summaries taken from nodes below.
    summaries => "butterfly_mesh_summaries_total", "", "";
    /// Orders to breakers that were carried out.
    circuits => "butterfly_mesh_orders_total", "kind", "circuit";
    /// Freezes and thaws that were carried out.
    freezes => "butterfly_mesh_orders_total", "kind", "freeze";
    /// Views that were given.
    views => "butterfly_mesh_views_total", "", "";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_counter_has_a_series_of_its_own_and_a_name_of_the_node() {
        let mut seen = BTreeSet::new();
        MeshCounters::default().visit(&mut |name, label, value, n| {
            assert!(name.starts_with("butterfly_mesh_") && n == 0);
            assert_eq!(label.is_empty(), value.is_empty());
            assert!(seen.insert((name, value.to_owned())), "{name} {value} twice");
        });
        assert!(seen.len() > 40);
    }
}
