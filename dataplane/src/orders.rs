//! `butterfly circuit`, `freeze` and `countersign`: orders about parts of the mesh.

use crate::{
    cli::{CircuitArgs, CountersignArgs, FreezeArgs, SignArgs},
    failure::Failure,
    gather::{epoch_ns, random},
    reach::Reach,
    say, trust,
};
use client::{Buffer, Client, ClientError};
use mesh::node::{read_circuit, read_freeze};
use sign::order::Order;
use std::{fs, path::Path};
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind, Payload, frame,
    mesh::{CircuitAction, Scope, Selection, message_id},
    payload::{
        Text,
        mesh::{Circuit, Freeze},
        open,
    },
};

/// Longest file of a saved order.
const SAVED_MAX: usize = 16 << 10;

/// Runs `circuit`.
pub(crate) fn circuit(args: &CircuitArgs) -> Result<(), Failure> {
    let node = Reach::new(&args.addr, &args.security)?;
    let (scope, sector, cluster) = reach(&args.scope)?;
    let now = epoch_ns();
    let mut order = Circuit {
        reason: Text::from(args.reason.as_str()),
        message_id: message_id(now, random()),
        hlc: now & !0xFFFF,
        sector,
        cluster,
        action: args.action.code(),
        scope: scope.code(),
        ..Circuit::default()
    };
    sign(&mut order, &args.sign, args.save.as_deref())?;
    give(&node, |client| client.circuit(&order))?;
    say::out(format!("{}: {}", args.scope, args.action.name().replace('_', "-")));
    Ok(())
}

/// Runs `freeze`.
pub(crate) fn freeze(args: &FreezeArgs) -> Result<(), Failure> {
    let node = Reach::new(&args.addr, &args.security)?;
    let (scope, sector, cluster) = reach(&args.scope)?;
    let now = epoch_ns();
    let mut order = Freeze {
        preserve_state_to: Text::from(args.preserve_state_to.as_str()),
        message_id: message_id(now, random()),
        hlc: now & !0xFFFF,
        sector,
        cluster,
        scope: scope.code(),
        thaw: args.thaw,
        ..Freeze::default()
    };
    sign(&mut order, &args.sign, args.save.as_deref())?;
    give(&node, |client| client.freeze(&order))?;
    say::out(format!("{}: {}", args.scope, if args.thaw { "thawed" } else { "frozen" }));
    Ok(())
}

/// Signs an order, and keeps it where a second operator can find it.
fn sign<T: Order + Payload>(
    order: &mut T,
    args: &SignArgs,
    save: Option<&Path>,
) -> Result<(), Failure> {
    trust::sign(order, args)?;
    let Some(path) = save else { return Ok(()) };
    let mut bytes = Vec::new();
    frame::append(&mut bytes, order, 0, epoch_ns()).map_err(Failure::run)?;
    fs::write(path, bytes)
        .map_err(|error| Failure::setup(format!("--save {}: {error}", path.display())))
}

/// Sends an order and waits until it holds.
fn give(
    node: &Reach,
    order: impl FnOnce(&mut Client) -> Result<(), ClientError>,
) -> Result<(), Failure> {
    let given = node.connect_in_person().and_then(|mut client| order(&mut client));
    given.map_err(|error| match &error {
        ClientError::Refused(refusal) if refusal.code == ErrorCode::Unconfirmed => Failure::run(
            "held: a second operator must sign it within five minutes, by `butterfly countersign` \
             with the file that --save wrote",
        ),
        _ => Failure::run(error),
    })
}

/// Runs `countersign`.
pub(crate) fn countersign(args: &CountersignArgs) -> Result<(), Failure> {
    let node = Reach::new(&args.addr, &args.security)?;
    let name = args.file.display();
    let bytes = fs::read(&args.file).map_err(|error| Failure::setup(format!("{name}: {error}")))?;
    let saved = Saved::read(&bytes)
        .ok_or_else(|| Failure::setup(format!("{name}: no order that --save wrote")))?;
    say::note(saved.to_string());
    let by = SignArgs { sign_key: args.sign_key.clone(), for_node: None };
    match saved {
        Saved::Circuit(mut order) => {
            trust::sign(&mut order, &by)?;
            give(&node, |client| client.circuit(&order))?;
        }
        Saved::Freeze(mut order) => {
            trust::sign(&mut order, &by)?;
            give(&node, |client| client.freeze(&order))?;
        }
    }
    say::out("it holds");
    Ok(())
}

/// An order that waits for its second signature.
#[derive(Debug, PartialEq)]
enum Saved {
    Circuit(Circuit),
    Freeze(Freeze),
}

impl Saved {
    fn read(bytes: &[u8]) -> Option<Self> {
        let kind = Header::peek(bytes)?.kind().ok()?;
        let payload = Buffer::copy_of(bytes.get(HEADER_LEN..).filter(|_| bytes.len() < SAVED_MAX)?);
        match kind {
            Kind::Circuit => {
                open::<Circuit>(payload.as_slice()).ok().map(read_circuit).map(Self::Circuit)
            }
            Kind::Freeze => {
                open::<Freeze>(payload.as_slice()).ok().map(read_freeze).map(Self::Freeze)
            }
            _ => None,
        }
    }
}

/// What the second operator is about to sign.
impl std::fmt::Display for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scope, sector, cluster) = match self {
            Self::Circuit(it) => (it.scope, it.sector, it.cluster),
            Self::Freeze(it) => (it.scope, it.sector, it.cluster),
        };
        match self {
            Self::Circuit(it) => {
                let action = CircuitAction::from_code(it.action).map_or("?", CircuitAction::name);
                write!(f, "circuit {} ", action.replace('_', "-"))?;
            }
            Self::Freeze(it) => f.write_str(if it.thaw { "thaw " } else { "freeze " })?,
        }
        match Scope::from_code(scope) {
            Some(Scope::Global) => f.write_str("all"),
            Some(Scope::Sector) => write!(f, "sector={sector}"),
            _ => write!(f, "cluster={sector}/{cluster}"),
        }?;
        match self {
            Self::Circuit(it) => write!(f, ", reason: {:?}", it.reason.as_str()),
            Self::Freeze(it) => write!(f, ", state to: {:?}", it.preserve_state_to.as_str()),
        }
    }
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
    fn sec_08_a_saved_order_says_what_it_is_and_comes_back_as_it_was() {
        let order = Circuit {
            reason: "smoke".into(),
            scope: Scope::Global.code(),
            action: CircuitAction::HalfOpen.code(),
            signatures: vec![Default::default()],
            ..Circuit::default()
        };
        let mut bytes = Vec::new();
        frame::append(&mut bytes, &order, 0, 1).expect("fits");
        let saved = Saved::read(&bytes).expect("an order");
        assert_eq!(saved.to_string(), "circuit half-open all, reason: \"smoke\"");
        assert_eq!(saved, Saved::Circuit(order));
        for cut in 0..bytes.len() {
            assert!(Saved::read(&bytes[..cut]).is_none(), "{cut}");
        }
    }

    #[test]
    fn meshmsg_17_18_a_part_of_the_mesh_becomes_a_scope() {
        let of = |text: &str| reach(&text.parse().expect(text));
        assert_eq!(of("all"), Ok((Scope::Global, 0, 0)));
        assert_eq!(of("sector=7"), Ok((Scope::Sector, 7, 0)));
        assert_eq!(of("cluster=7/4"), Ok((Scope::Cluster, 7, 4)));
        assert!(of("class=D").is_err());
    }
}
