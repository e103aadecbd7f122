//! The judge of accounts: nobody has more connections, or more requests with workers, than it is
//! allowed. It counts what clients and workers see, not what the node's table says.

use crate::{
    client::Client,
    driver::{Learned, SimDriver},
    memory::SimMemory,
    net::Socket,
    plan::Plan,
};
use dataplane_core::{
    Identities,
    driver::{Caller, WorkerId},
    memory::SlotId,
};
use std::collections::BTreeMap;

/// What is with workers, and whose it is.
#[derive(Debug, Default)]
pub struct Accounts {
    lent: BTreeMap<SlotId, (WorkerId, String)>,
}

impl Accounts {
    /// After a turn: who has how many requests with workers.
    ///
    /// # Errors
    /// Somebody has too many.
    pub(crate) fn after_turn(
        &mut self,
        plan: &Plan,
        clients: &[Client],
        mem: &SimMemory,
        driver: &SimDriver,
    ) -> Result<(), String> {
        if plan.names.is_empty() {
            return Ok(());
        }
        for learned in &driver.learned {
            match learned {
                Learned::Returned(_, slot) => drop(self.lent.remove(slot)),
                Learned::Down(gone) => self.lent.retain(|_, (worker, _)| worker != gone),
                Learned::Up(..) | Learned::Drain => {}
            }
        }
        for (worker, slots) in &driver.lends {
            for slot in slots {
                let Some(id) = mem.order(*slot).map(|order| order.message_id) else { continue };
                // Where the asker has gone meanwhile, nobody can say whose it was.
                let asker = clients.iter().position(|client| client.pending.contains_key(&id));
                if let Some((name, _)) = asker.and_then(|asker| plan.name(asker)) {
                    self.lent.insert(*slot, (*worker, name.clone()));
                }
            }
        }
        for (name, roles) in &plan.names {
            let most = plan.policy.allowance(name, *roles).requests as usize;
            let held = self.lent.values().filter(|(_, holder)| holder == name).count();
            if held > most {
                return Err(format!("{name} has {held} requests with workers, {most} allowed"));
            }
        }
        Ok(())
    }

    /// Who has how many connections, as far as they were answered.
    ///
    /// # Errors
    /// Somebody has too many.
    pub(crate) fn seats(
        &self,
        plan: &Plan,
        clients: &[Client],
        sockets: &[Socket],
    ) -> Result<(), String> {
        let open = |client: &Client| {
            client.seated && client.socket.is_some_and(|socket| sockets[socket].conn.is_some())
        };
        for (name, roles) in &plan.names {
            let most = plan.policy.allowance(name, *roles).connections as usize;
            let mine = clients.iter().enumerate().filter(|(number, client)| {
                open(client) && plan.name(*number).is_some_and(|(other, _)| other == name)
            });
            let seats = mine.count();
            if seats > most {
                return Err(format!("{name} has {seats} connections, {most} allowed"));
            }
        }
        Ok(())
    }

    /// When nothing more happens: every account is empty.
    ///
    /// # Errors
    /// Whose is not.
    pub(crate) fn at_rest(&self, plan: &Plan, identities: &Identities) -> Result<(), String> {
        let callers = (0..plan.places).map(|place| Caller { identity: place, ..Caller::LOCAL });
        for caller in callers {
            let load = identities.load(caller);
            if load != (0, 0, 0) {
                return Err(format!("left on the account of place {}: {load:?}", caller.identity));
            }
        }
        Ok(())
    }
}
