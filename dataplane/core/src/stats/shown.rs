//! What a shard counts, series by series.

use super::{
    CloseCause, CloseReason, Copy, Place, Show, Source, Stats, Value, Visit,
    load::{Cancel, Retry, Shed},
};
use wire::{ErrorCode, Kind, Operation, Priority, Role};

impl Stats {
    /// What became of requests under load, of those taken back and of retries.
    fn visit_load(&self, visit: Visit<'_>) {
        for priority in Priority::ALL {
            let (batches, sheds) =
                (&self.batch_priorities[*priority as usize], self.sheds_of(*priority));
            visit(
                "butterfly_batches_by_priority_total",
                "priority",
                priority.name(),
                batches.get(),
            );
            visit("butterfly_shed_by_priority_total", "priority", priority.name(), sheds);
        }
        for reason in Shed::ALL {
            visit("butterfly_shed_total", "reason", reason.name(), self.sheds(reason));
        }
        for outcome in Cancel::ALL {
            visit("butterfly_cancels_total", "outcome", outcome.name(), self.cancels(outcome));
        }
        for outcome in Retry::ALL {
            visit("butterfly_retries_total", "outcome", outcome.name(), self.retries(outcome));
        }
    }
}

impl Source for Stats {
    fn visit(&self, visit: Visit<'_>) {
        for op in Operation::ALL {
            let n = self.requests[*op as usize].get();
            visit("butterfly_requests_total", "operation", op.name(), n);
        }
        for code in ErrorCode::ALL {
            visit("butterfly_refusals_total", "reason", code.name(), self.refusals(*code));
        }
        let roles = Role::ALL.iter().map(|role| role.name()).chain(["several", "none"]);
        for (role, counter) in roles.zip(&self.turned_down) {
            visit("butterfly_role_refusals_total", "role", role, counter.get());
        }
        for reason in CloseReason::ALL {
            visit("butterfly_batches_total", "closed_by", reason.name(), self.batches(reason));
        }
        self.visit_load(visit);
        for stage in Copy::ALL {
            let bytes = self.copied_bytes[stage as usize].get();
            visit("butterfly_copies_total", "stage", stage.name(), self.copies(stage));
            visit("butterfly_copied_bytes_total", "stage", stage.name(), bytes);
        }
        for place in Place::ALL {
            visit("butterfly_expired_total", "place", place.name(), self.expired(place));
        }
        for cause in CloseCause::ALL {
            visit("butterfly_connections_closed_total", "cause", cause.name(), self.closes(cause));
        }
        for kind in Kind::ALL.iter().filter(|kind| kind.is_mesh()) {
            visit("butterfly_mesh_frames_total", "kind", kind.name(), self.mesh_frames(*kind));
        }
        let frames = "butterfly_frames_total";
        visit(frames, "lane", "small", self.frames_small.get());
        visit(frames, "lane", "bulk", self.frames_bulk.get());
        visit("butterfly_lane_switches_total", "to", "bulk", self.to_bulk.get());
        visit("butterfly_lane_switches_total", "to", "small", self.to_small.get());
        visit("butterfly_bytes_total", "direction", "in", self.bytes_in.get());
        visit("butterfly_bytes_total", "direction", "out", self.bytes_out.get());
        for (name, counter) in [
            ("butterfly_batched_requests_total", &self.batched),
            ("butterfly_replies_total", &self.replies),
            ("butterfly_pings_total", &self.pings),
            ("butterfly_heartbeats_total", &self.heartbeats),
            ("butterfly_transmits_total", &self.transmits),
            ("butterfly_connections_accepted_total", &self.accepted),
            ("butterfly_connections_open", &self.open),
            ("butterfly_waits_total", &self.waits),
            ("butterfly_reclaimed_total", &self.reclaimed),
            ("butterfly_orphaned_replies_total", &self.orphaned),
            ("butterfly_link_faults_total", &self.link_faults),
            ("butterfly_overdue_total", &self.overdue),
            ("butterfly_asked_to_leave_total", &self.asked_to_leave),
            ("butterfly_turns_total", &self.turns),
            ("butterfly_rows_total", &self.rows_out),
            ("butterfly_row_bytes_total", &self.row_bytes),
            ("butterfly_reply_bytes_total", &self.reply_bytes),
            ("butterfly_mesh_beats_dropped_total", &self.mesh_beats_dropped),
            ("butterfly_mesh_full_total", &self.mesh_full),
            ("butterfly_mesh_sent_total", &self.mesh_sent),
            ("butterfly_mesh_dropped_total", &self.mesh_dropped),
            ("butterfly_schedule_pending", &self.schedule_pending),
            ("butterfly_schedule_fired_total", &self.schedule_fired),
            ("butterfly_schedule_expired_total", &self.schedule_expired),
            ("butterfly_schedule_gone_total", &self.schedule_gone),
            ("butterfly_schedule_refused_total", &self.schedule_refused),
            ("butterfly_schedule_blocked_total", &self.schedule_blocked),
        ] {
            visit(name, "", "", counter.get());
        }
    }

    fn show(&self, show: Show<'_>) {
        for op in Operation::ALL {
            let spread = self.latency(*op).fold();
            show("butterfly_request_seconds", &[("operation", op.name())], Value::Spread(spread));
        }
        let spread = self.fire_error.fold();
        show("butterfly_schedule_fire_error_seconds", &[], Value::Spread(spread));
    }
}
