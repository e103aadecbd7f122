//! The memory sum of a node: what `serve` will take at start, item by item, before it takes it.

use crate::{mesh, plan::Plan, threads, units::Bytes};
use dataplane_core::{
    Identities, Recall, Shard, admission::Admission, recall::Bounds, schedule, trace::Rings,
};
use link::Segment;
use std::sync::Arc;

/// One item and its bytes.
pub(crate) type Item = (&'static str, u64);

/// The layout of the segment that the node shares with its workers.
pub(crate) fn layout(plan: &Plan) -> link::Layout {
    let geometry = plan.geometry();
    link::Layout {
        shards: u16::try_from(plan.shards()).unwrap_or(u16::MAX),
        workers: u16::try_from(plan.workers).unwrap_or(u16::MAX),
        small_slots: geometry.small_slots,
        small_request: geometry.small_request,
        small_reply: geometry.small_reply,
        bulk_slots: geometry.bulk_slots,
        bulk_request: geometry.bulk_request,
        bulk_reply: geometry.bulk_reply,
    }
}

/// The memory that shards and workers share.
///
/// # Errors
/// The OS's: too little of it.
pub(crate) fn segment(plan: &Plan) -> Result<Arc<Segment>, String> {
    // A driver registers no memory that is read-only to its process.
    let create = match plan.devices {
        0 => Segment::create,
        _ => Segment::create_for_devices,
    };
    let segment = create(&layout(plan));
    segment.map(Arc::new).map_err(|error| format!("{error}; lower --bulk-slots or --max-payload"))
}

/// Every item that is more than a page or two, over all shards.
///
/// # Errors
/// A layout that no segment can have, with the limit that it passes.
pub(crate) fn sum(plan: &Plan) -> Result<Vec<Item>, String> {
    let shards = u64::from(plan.shards());
    let geometry = plan.geometry();
    let segment = layout(plan).bytes().map_err(|error| {
        format!("{error}; lower --bulk-slots, --small-slots, --max-payload or --shards")
    })?;
    let mut items: Vec<Item> = segment.parts.into();
    let per_shard = |each: u64| each * shards;
    let driver = threads::config(plan).bytes();
    let taken = driver.into_iter().filter(|(_, bytes)| *bytes > 0);
    items.extend(taken.map(|(name, bytes)| (name, per_shard(bytes))));
    items.push((
        "egress chunks",
        per_shard(u64::from(geometry.chunks) * u64::from(geometry.chunk_len)),
    ));
    items.push(("admission", per_shard(Admission::bytes())));
    if let Some(bounds) = plan.trace.bounds() {
        items.push(("traces", per_shard(Rings::bytes(bounds, geometry.slots()))));
    }
    items.push(("requests remembered", Recall::bytes(Bounds::default())));
    let identities = Shard::bytes_of_identities(plan.identity.places);
    items.push(("identities", Identities::bytes(plan.identity.places) + per_shard(identities)));
    items.push(("send schedule", per_shard(schedule::bytes(plan.mesh.pending_sends))));
    items.push(("mesh registry", u64::from(plan.mesh.agents) * mesh::BYTES_PER_AGENT));
    items.push(("mesh rings", per_shard(mesh::link::BYTES)));
    if !plan.quic.is_empty() {
        items.push(("quic buffers", plan.quic.len() as u64 * dataplane_quic::BYTES));
    }
    if let Some(bytes) = plan.lm_head.as_deref().and_then(|path| path.metadata().ok()) {
        items.push(("lm-head weights", bytes.len()));
    }
    if let Some(bytes) = plan.basis.as_deref().and_then(|path| path.metadata().ok()) {
        items.push(("basis", bytes.len()));
    }
    Ok(items)
}

/// The sum as lines for people, largest items as they come, total last.
pub(crate) fn describe(items: &[Item]) -> String {
    use std::fmt::Write as _;
    let total = items.iter().map(|(_, bytes)| bytes).sum();
    let mut text = String::new();
    for (name, bytes) in items {
        let _ = writeln!(text, "memory {:<22} {:>11}", name, Bytes(*bytes).to_string());
    }
    let _ = write!(text, "memory {:<22} {:>11}", "total", Bytes(total).to_string());
    text
}
