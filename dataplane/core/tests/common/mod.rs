//! Slots to play with.
#![allow(dead_code, reason = "each test file uses a part of it")]

use dataplane_core::{
    Geometry,
    driver::{ConnId, WorkerId},
    slot::{Arrived, Sending, SlotTable, Tenant},
};
use wire::{Dtype, Operation, Work};

/// So many small slots, so many chunks of this length.
pub(crate) const fn geometry(slots: u32, chunks: u32, chunk_len: u32) -> Geometry {
    Geometry {
        small_slots: slots,
        small_request: 64,
        small_reply: 256,
        bulk_slots: 0,
        bulk_request: 64,
        bulk_reply: 256,
        chunks,
        chunk_len,
    }
}

/// Echo, or int8 of `Dtype::F32`, of so many bytes.
pub(crate) const fn work(operation: Operation, len: u32) -> Work {
    let dtype = if matches!(operation, Operation::Echo) { Dtype::U8 } else { Dtype::F32 };
    Work {
        operation,
        dtype,
        values: Dtype::F32,
        coding: wire::Coding::Plain,
        source: wire::Source::Inline,
        quality: 0.0,
        streaming: false,
        k: 0,
        rows: 1,
        cols: len / dtype.size() as u32,
        data_offset: 0,
        data_len: len,
        check: None,
    }
}

/// A request that waits for a worker. `None` when no slot is free.
pub(crate) fn arrived(table: &mut SlotTable, work: Work) -> Option<Arrived> {
    let slot = table.receive(false, 0, false)?;
    let tenant = Tenant {
        conn: ConnId(0),
        conn_life: 0,
        message_id: 0,
        sequence: 0,
        arrived: 0,
        deadline: 0,
        work,
        priority: wire::Priority::Normal,
        cost: 0,
        key: 0,
        payload_len: 16,
        lending: 0,
        tries: 0,
        worker: WorkerId(0),
        batch: 0,
        lent_at: 0,
        abandoned: false,
        canary: None,
        lent_id: 0,
    };
    Some(table.arrive(slot, tenant))
}

/// A reply on its way. `None` when no slot is free.
pub(crate) fn sending(table: &mut SlotTable) -> Option<Sending> {
    let slot = arrived(table, work(Operation::Echo, 1))?;
    let id = slot.id();
    let lending = table.lend(slot, WorkerId(0), 0);
    let ready = table.give_back(id, WorkerId(0), lending)?;
    Some(table.send(ready))
}
