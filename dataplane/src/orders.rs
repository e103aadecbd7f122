//! `butterfly circuit` and `butterfly freeze`: orders about parts of the mesh.

use crate::{
    cli::{CircuitArgs, FreezeArgs},
    failure::Failure,
    gather::{epoch_ns, random},
    reach::Reach,
    say,
};
use wire::{
    mesh::{Scope, Selection, message_id},
    payload::{
        Text,
        mesh::{Circuit, Freeze},
    },
};

/// Runs `circuit`.
pub(crate) fn circuit(args: &CircuitArgs) -> Result<(), Failure> {
    let node = Reach::new(&args.addr, &args.security)?;
    let (scope, sector, cluster) = reach(&args.scope)?;
    let now = epoch_ns();
    let order = Circuit {
        reason: Text::from(args.reason.as_str()),
        message_id: message_id(now, random()),
        hlc: now & !0xFFFF,
        sector,
        cluster,
        action: args.action.code(),
        scope: scope.code(),
        ..Circuit::default()
    };
    node.connect_in_person().and_then(|mut client| client.circuit(&order)).map_err(Failure::run)?;
    say::out(format!("{}: {}", args.scope, args.action.name().replace('_', "-")));
    Ok(())
}

/// Runs `freeze`.
pub(crate) fn freeze(args: &FreezeArgs) -> Result<(), Failure> {
    let node = Reach::new(&args.addr, &args.security)?;
    let (scope, sector, cluster) = reach(&args.scope)?;
    let now = epoch_ns();
    let order = Freeze {
        preserve_state_to: Text::from(args.preserve_state_to.as_str()),
        message_id: message_id(now, random()),
        hlc: now & !0xFFFF,
        sector,
        cluster,
        scope: scope.code(),
        thaw: args.thaw,
        ..Freeze::default()
    };
    node.connect_in_person().and_then(|mut client| client.freeze(&order)).map_err(Failure::run)?;
    say::out(format!("{}: {}", args.scope, if args.thaw { "thawed" } else { "frozen" }));
    Ok(())
}

/// A scope with its sector and cluster.
fn reach(part: &Selection) -> Result<(Scope, u16, u16), Failure> {
    match part {
        Selection::All => Ok((Scope::Global, 0, 0)),
        Selection::Sector(sector) => Ok((Scope::Sector, *sector, 0)),
        Selection::Cluster { sector, cluster } => Ok((Scope::Cluster, *sector, *cluster)),
        Selection::Class(_) | Selection::Capability(_) => {
            Err(Failure::setup(format!("--scope {part}: write all, sector=7 or cluster=7/4")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meshmsg_17_18_a_part_of_the_mesh_becomes_a_scope() {
        let of = |text: &str| reach(&text.parse().expect(text));
        assert_eq!(of("all"), Ok((Scope::Global, 0, 0)));
        assert_eq!(of("sector=7"), Ok((Scope::Sector, 7, 0)));
        assert_eq!(of("cluster=7/4"), Ok((Scope::Cluster, 7, 4)));
        assert!(of("class=D").is_err());
    }
}
