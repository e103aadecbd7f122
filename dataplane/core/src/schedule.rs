//! Sends at moments to come: volleys, what became of each of their sends, and how well the moments
//! were met.

mod error;
pub mod wheel;

pub use error::FireError;

use crate::{
    driver::{ConnId, Time},
    limits::VOLLEYS_MAX,
    memory::Geometry,
    mesh::longest,
};
use std::vec;
use wheel::Wheel;
use wire::mesh::{PerAgent, Template};

/// One send of a volley.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduledSend {
    /// When it is to leave; a moment that is over means now.
    pub at: Time,
    /// To whom.
    pub conn: ConnId,
    /// Which use of that index.
    pub life: u32,
    /// What differs between the copies of the message.
    pub agent: PerAgent,
}

/// The scheduled sends of one message.
#[derive(Debug)]
pub struct Volley {
    template: Template,
    expires: Time,
    priority: u8,
    sends: Vec<ScheduledSend>,
    /// Made here so that the shard need not.
    report: Box<VolleyReport>,
}

impl Volley {
    /// The volley `number` for `shard`. Sends that are not out when `expires` is over are dropped
    /// (MESHMSG-06; [`Time::MAX`] for never); `priority` is 0 background to 3 critical.
    #[must_use]
    pub fn new(
        number: u32,
        shard: u16,
        template: Template,
        expires: Time,
        priority: u8,
        sends: Vec<ScheduledSend>,
    ) -> Self {
        let report = Box::new(VolleyReport { number, shard, ..VolleyReport::default() });
        Self { template, expires, priority, sends, report }
    }
}

/// What came of a volley: every send is in exactly one of the four counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolleyReport {
    /// Its number.
    pub number: u32,
    /// The shard that had it.
    pub shard: u16,
    /// Left.
    pub sent: u32,
    /// Dropped because the message had expired.
    pub expired: u32,
    /// Dropped because the connection was gone.
    pub gone: u32,
    /// Dropped because the wheel was full, the message too long, or too much unsent for the
    /// connection already.
    pub refused: u32,
    /// How long after its moment each left.
    pub fire_error: FireError,
}

/// What the wheel carries for a send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) conn: ConnId,
    pub(crate) life: u32,
    pub(crate) agent: PerAgent,
    pub(crate) flight: u32,
}

/// A volley under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) template: Template,
    pub(crate) expires: Time,
    priority: u8,
    /// Sends without an outcome.
    left: u32,
    pub(crate) report: Box<VolleyReport>,
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It left, so long after its moment.
    Sent(Time),
    Expired,
    Gone,
    Refused,
}

/// A volley on its way into the wheel.
#[derive(Debug)]
struct Incoming {
    flight: u32,
    sends: vec::IntoIter<ScheduledSend>,
}

/// The scheduled sends of a shard. It has one owner and so no lock.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) wheel: Wheel<Pending>,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    incoming: Option<Incoming>,
    /// For messages that are longer than an egress chunk.
    pub(crate) scratch: Vec<u8>,
    /// The next send found no chunk; it keeps its place.
    pub(crate) blocked: bool,
}

impl Schedule {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            wheel: Wheel::new(capacity),
            flights: (0..VOLLEYS_MAX).map(|_| None).collect(),
            free: (0..VOLLEYS_MAX as u32).rev().collect(),
            incoming: None,
            scratch: Vec::new(),
            blocked: false,
        }
    }

    /// Begins to take a volley. Where no flight is free, or the message can never be sent, the
    /// report comes back with every send refused; for an empty volley it comes back as it is.
    pub(crate) fn begin(
        &mut self,
        volley: Volley,
        geometry: &Geometry,
    ) -> Option<Box<VolleyReport>> {
        let Volley { template, expires, priority, sends, mut report } = volley;
        let left = sends.len() as u32;
        let frame_len = template.frame_len();
        let too_long = frame_len > longest(geometry);
        let flight = if left == 0 || too_long { None } else { self.free.pop() };
        let Some(flight) = flight else {
            report.refused = left;
            return Some(report);
        };
        if frame_len > geometry.chunk_len as usize && frame_len > self.scratch.len() {
            self.scratch.resize(frame_len, 0);
        }
        self.flights[flight as usize] = Some(Flight { template, expires, priority, left, report });
        self.incoming = Some(Incoming { flight, sends: sends.into_iter() });
        None
    }

    /// Whether a volley is still on its way into the wheel: the next has to wait.
    pub(crate) const fn is_taking(&self) -> bool {
        self.incoming.is_some()
    }

    /// Puts more sends of the incoming volley into the wheel, as many as `left` allows, which goes
    /// down by them. Gives the sends that found it full, and the report where the volley thereby
    /// has all its outcomes.
    pub(crate) fn take(&mut self, left: &mut usize) -> (u32, Option<Box<VolleyReport>>) {
        let Some(incoming) = &mut self.incoming else { return (0, None) };
        let flight = incoming.flight;
        let priority = self.flights[flight as usize].as_ref().map_or(0, |f| f.priority);
        let mut refused = 0;
        let count = incoming.sends.len().min(*left);
        *left -= count;
        for send in incoming.sends.by_ref().take(count) {
            let ScheduledSend { at, conn, life, agent } = send;
            let pending = Pending { conn, life, agent, flight };
            refused += u32::from(self.wheel.insert(at, priority, pending).is_err());
        }
        if incoming.sends.len() == 0 {
            self.incoming = None;
        }
        (refused, self.account(flight, refused, |report| report.refused += refused))
    }

    pub(crate) fn flight(&self, flight: u32) -> Option<&Flight> {
        self.flights.get(flight as usize)?.as_ref()
    }

    /// Notes what became of a send; gives the report after the last one.
    pub(crate) fn settle(&mut self, flight: u32, outcome: Outcome) -> Option<Box<VolleyReport>> {
        self.account(flight, 1, |report| match outcome {
            Outcome::Sent(error) => {
                report.sent += 1;
                report.fire_error.record(error);
            }
            Outcome::Expired => report.expired += 1,
            Outcome::Gone => report.gone += 1,
            Outcome::Refused => report.refused += 1,
        })
    }

    fn account(
        &mut self,
        flight: u32,
        sends: u32,
        note: impl FnOnce(&mut VolleyReport),
    ) -> Option<Box<VolleyReport>> {
        let place = self.flights.get_mut(flight as usize)?;
        let under_way = place.as_mut()?;
        note(&mut under_way.report);
        under_way.left -= sends;
        if under_way.left > 0 {
            return None;
        }
        self.free.push(flight);
        place.take().map(|flight| flight.report)
    }
}

/// Bytes that the schedule of a shard reserves for so many sends.
#[must_use]
pub const fn bytes(capacity: u32) -> u64 {
    Wheel::<Pending>::bytes(capacity) + (VOLLEYS_MAX * size_of::<Option<Flight>>()) as u64
}
