//! What a client asks of a node's mesh: gathers, views, orders about parts.

mod report;
mod view;

pub use report::{ClassPart, Conflict, Phase, Report, Skip};
pub use view::{Agent, Cluster, Ended, Gathers, Global, Listing, Map, Sector};

use crate::{Client, ClientError, sender::epoch_ns};
use std::time::Duration;
use wire::{
    ErrorCode, frame,
    mesh::View,
    payload::{
        Payload,
        mesh::{Circuit, EVERY_SECTOR, Freeze, Gather, GatherReport, MeshQuery, MeshView},
    },
};

/// What a node may take beyond the times that a gather states: planning, the way back.
const GRACE: Duration = Duration::from_secs(10);

/// How long a gather without a timeout of its own may be silent.
const UNBOUNDED: Duration = Duration::from_secs(120);

impl Client {
    /// Sends a GATHER and waits for its final report; reports on the way go to `on_progress` (where
    /// the GATHER asks for them). The wait outlasts the gather's own times, whatever the client's
    /// timeout is. Only for a connection with nothing under way.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientError::Request`] for a GATHER that no frame can carry.
    pub fn gather(
        &mut self,
        ask: &Gather,
        mut on_progress: impl FnMut(&Report),
    ) -> Result<Report, ClientError> {
        let before = self.receiver.patience();
        self.receiver.be_patient(before.map(|least| least.max(patience(ask, epoch_ns()))))?;
        let done = self.ask(ask).and_then(|id| {
            loop {
                let report = Report::read(self.answer(id)?.open::<GatherReport>()?)?;
                if report.is_final {
                    return Ok(report);
                }
                on_progress(&report);
            }
        });
        // What went wrong before says more than what goes wrong now.
        let after = self.receiver.be_patient(before);
        done.and_then(|report| after.map(|()| report))
    }

    /// Asks for agents, sorted and chosen as the query says; its `view` is set here.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn agents(&mut self, query: &MeshQuery) -> Result<Listing, ClientError> {
        let id = self.ask(&agents(query))?;
        Listing::read(self.answer(id)?.open::<MeshView>()?)
    }

    /// Asks for the map: of one sector, or of all.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn map(&mut self, sector: Option<u16>) -> Result<Map, ClientError> {
        let id = self.ask(&map(sector))?;
        Map::read(self.answer(id)?.open::<MeshView>()?)
    }

    /// Asks for the last gathers that ended, newest first.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn gathers(&mut self) -> Result<Gathers, ClientError> {
        let id = self.ask(&gathers())?;
        Gathers::read(self.answer(id)?.open::<MeshView>()?)
    }

    /// Opens, half-opens or closes a breaker and waits until it holds.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn circuit(&mut self, order: &Circuit) -> Result<(), ClientError> {
        self.order(order)
    }

    /// Freezes or thaws a part of the mesh and waits until it holds.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn freeze(&mut self, order: &Freeze) -> Result<(), ClientError> {
        self.order(order)
    }

    /// Sends what has no answer of its own, and a question behind it: the node takes them in order,
    /// so the answer says that the order holds (W69).
    fn order<T: Payload>(&mut self, order: &T) -> Result<(), ClientError> {
        self.ask(order)?;
        let id = self.ask(&MeshQuery { limit: 1, sector: EVERY_SECTOR, ..MeshQuery::default() })?;
        let first = self.receiver.receive()?;
        let Some(refusal) = first.refusal()? else {
            return match first.header.message_id() == id {
                true => Ok(()),
                false => Err(ClientError::protocol("an answer to something else")),
            };
        };
        // The answer to the question still comes, unless the node gives this connection up.
        if !refusal.code.closes() {
            let rest = self.receiver.receive()?;
            if rest.header.message_id() != id {
                return Err(ClientError::protocol("an answer to something else"));
            }
        }
        Err(ClientError::Refused(refusal))
    }

    pub(crate) fn ask<T: Payload>(&mut self, message: &T) -> Result<u64, ClientError> {
        let id = self.sender.take_id();
        let mut bytes = Vec::new();
        frame::append(&mut bytes, message, id, epoch_ns())
            .map_err(|_| ClientError::Request(ErrorCode::PayloadTooLong))?;
        self.sender.send_bytes(&bytes)?;
        Ok(id)
    }
}

/// The question for agents.
pub(crate) fn agents(query: &MeshQuery) -> MeshQuery {
    MeshQuery { view: View::Agents.code(), ..query.clone() }
}

/// The question for the map.
pub(crate) fn map(sector: Option<u16>) -> MeshQuery {
    let sector = sector.unwrap_or(EVERY_SECTOR);
    MeshQuery { view: View::Map.code(), sector, ..MeshQuery::default() }
}

/// The question for the last gathers.
pub(crate) fn gathers() -> MeshQuery {
    MeshQuery { view: View::Gathers.code(), sector: EVERY_SECTOR, ..MeshQuery::default() }
}

/// How long a node may be silent about a gather that is asked for at `now`, nanoseconds since the
/// Unix epoch.
fn patience(ask: &Gather, now: u64) -> Duration {
    let until = Duration::from_nanos(ask.at_epoch_ns.saturating_sub(now))
        .saturating_add(Duration::from_nanos(ask.window_ns));
    let own = if ask.timeout_ns == 0 { UNBOUNDED } else { Duration::from_nanos(ask.timeout_ns) };
    // A timer beyond a day helps nobody, and some systems refuse it.
    own.max(until).saturating_add(GRACE).min(Duration::from_secs(86_400))
}

/// A code that its registry does not have.
pub(crate) fn unknown(what: &str, code: u8) -> ClientError {
    ClientError::protocol(format!("{what} {code} is unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_longer_than_the_gather_it_asked_for() {
        let ask = |at_epoch_ns, window_ns, timeout_ns| {
            patience(&Gather { at_epoch_ns, window_ns, timeout_ns, ..Gather::default() }, 1_000)
        };
        let seconds = |n: u64| n * 1_000_000_000;
        assert_eq!(ask(0, 0, seconds(5)), Duration::from_secs(15));
        assert_eq!(ask(1_000 + seconds(60), seconds(2), seconds(5)), Duration::from_secs(72));
        assert_eq!(ask(500, 0, 0), Duration::from_secs(130), "a moment that has passed");
        assert_eq!(ask(u64::MAX, u64::MAX, u64::MAX), Duration::from_secs(86_400));
    }
}
