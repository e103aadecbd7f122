//! Taking requests back (W83): by an ERROR_REPORT of the asker, or by the end of its connection.

use crate::{
    driver::ConnId,
    memory::{Memory, SlotId},
    shard::{Cx, Shard},
    stats::{Cancel, Place},
    story::Why,
};
use wire::{ErrorCode, HEADER_LEN, Header, Kind, payload::ErrorReport};

/// Longest payload of an ERROR_REPORT that is looked into.
pub(crate) const REPORT_PAYLOAD_MAX: usize = wire::error::FRAME_MAX - HEADER_LEN;

/// A report's archive where it can be read in place.
#[repr(align(16))]
struct Aligned([u8; REPORT_PAYLOAD_MAX]);

impl Shard {
    /// An ERROR_REPORT is complete: takes a request back, or is refused.
    pub(crate) fn reported<M: Memory>(
        &mut self,
        cx: &mut Cx<'_, M>,
        id: ConnId,
        header: &Header,
        payload: &[u8],
    ) {
        let code = match cancels(header, payload) {
            Ok(()) => return self.cancel(cx, id, header.message_id()),
            Err(code) => code,
        };
        let actual = match code {
            ErrorCode::UnservedType => u64::from(header.raw_kind()),
            _ => 0,
        };
        self.report(cx, id, header.message_id(), Kind::ErrorReport, code, actual);
    }

    /// Takes the request of this id back, wherever it is.
    fn cancel<M: Memory>(&mut self, cx: &mut Cx<'_, M>, id: ConnId, message_id: u64) {
        let Some(life) = self.conns.open_mut(id).map(|c| c.life) else { return };
        let found = self.slots.of(id).find(|slot| {
            let tenant = self.slots.tenant(*slot);
            tenant
                .is_some_and(|t| t.message_id == message_id && t.conn_life == life && !t.abandoned)
        });
        let outcome = match found {
            Some(slot) if self.slots.is_lent(slot) => {
                self.abandon(cx, slot, ErrorCode::Cancelled);
                Cancel::Lent
            }
            Some(slot) => match self.batcher.remove(slot) {
                Some(slot) => {
                    self.refuse_arrived(cx, slot, ErrorCode::Cancelled.into());
                    Cancel::Waiting
                }
                // It is answered, and the answer on its way.
                None => Cancel::Unknown,
            },
            None => Cancel::Unknown,
        };
        self.stats.cancel(outcome);
    }

    /// Answers a request that a worker has. Its slot stays with the worker until that returns it;
    /// the asker does not wait for that.
    pub(crate) fn abandon<M: Memory>(&mut self, cx: &mut Cx<'_, M>, slot: SlotId, code: ErrorCode) {
        let Some(tenant) = self.slots.tenant_mut(slot) else { return };
        tenant.abandoned = true;
        let tenant = *tenant;
        self.refuse_tenant(cx, slot, &tenant, Why::at(code, Place::Worker), None);
    }

    /// A connection is gone: nobody waits for what it asked for and no worker has begun.
    pub(crate) fn take_back<M: Memory>(&mut self, cx: &Cx<'_, M>, id: ConnId) {
        let mut gone = core::mem::take(&mut self.gone);
        for slot in self.slots.of(id) {
            gone.extend(self.batcher.remove(slot).map(|slot| (slot, true)));
        }
        for (slot, _) in gone.drain(..) {
            self.drop_gone(cx, slot);
            self.stats.cancel(Cancel::Closed);
        }
        self.gone = gone;
    }
}

/// Whether the frame takes a request back, or what is wrong with it.
fn cancels(header: &Header, payload: &[u8]) -> Result<(), ErrorCode> {
    if header.checksum() != wire::check::crc16(payload) {
        return Err(ErrorCode::BadChecksum);
    }
    let mut aligned = Aligned([0; REPORT_PAYLOAD_MAX]);
    let place = aligned.0.get_mut(..payload.len()).ok_or(ErrorCode::UnservedType)?;
    place.copy_from_slice(payload);
    let report =
        wire::payload::access::<ErrorReport>(place).map_err(wire::payload::PayloadFault::code)?;
    if report.code == ErrorCode::Cancelled.code() { Ok(()) } else { Err(ErrorCode::UnservedType) }
}
