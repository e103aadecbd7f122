//! The registry's memory: one vector per property of an agent, all made at the start.

use wire::mesh::{AgentClass, AgentState};

use super::names::{Held, NOTHING};
use super::{Link, NO_LINK};
use crate::Time;
use crate::cluster::{NONE, Seat};
use crate::profile::Hourly;

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $empty:expr;)*) => {
        /// Struct of arrays, indexed by handle.
        #[derive(Debug)]
        pub(super) struct Columns {
            $($(#[$doc])* pub(super) $name: Vec<$type>,)*
        }

        impl Columns {
            pub(super) fn new(capacity: usize) -> Self {
                Self { $($name: vec![$empty; capacity],)* }
            }

            /// Bytes of all columns together.
            pub(super) fn bytes(&self) -> usize {
                0 $(+ self.$name.capacity() * size_of::<$type>())*
            }
        }
    };
}

columns! {
    id: [u8; 16] = [0; 16];
    /// Counts the lives of a handle; a reference to an earlier life is stale.
    generation: u32 = 0;
    /// True from registration to removal, connected or not.
    known: bool = false;
    class: AgentClass = AgentClass::Edge;
    state: AgentState = AgentState::Offline;
    link: Link = NO_LINK;
    /// Neighbours in one list: the agents of a link; or those without one, by the time they lost
    /// it; or the free handles (forward only).
    next: u32 = NONE;
    prev: u32 = NONE;
    /// Agents of the link, where this one is the first of its list.
    together: u16 = 0;
    cluster: u32 = 0;
    position: u8 = 0;
    /// Round trip, rolling average (IMPED-03).
    latency: Time = 0;
    /// Rolling average (IMPED-04).
    processing: Time = 0;
    queue: u32 = 0;
    heartbeat: Time = 0;
    /// When it lost its connection or fell silent, or registered.
    since: Time = 0;
    score: f32 = 0.0;
    /// The score's historical average (FAIL-03).
    average: f32 = 0.0;
    /// Success rate of the last hour as the agent reports it.
    reported: f32 = 1.0;
    outcomes: Hourly = Hourly::new();
    drift: f32 = 0.0;
    context: u64 = 0;
    capabilities: Held = NOTHING;
    /// Band the score has been in since `strayed`, where that is not the cluster's.
    band: u8 = 0;
    strayed: Time = 0;
    /// The last selection that chose this agent: nobody is chosen twice.
    mark: u32 = 0;
}

impl Columns {
    pub(super) fn seat(&self, at: usize) -> Seat {
        Seat { cluster: self.cluster[at], position: self.position[at] }
    }

    pub(super) fn set_seat(&mut self, at: usize, seat: Seat) {
        self.cluster[at] = seat.cluster;
        self.position[at] = seat.position;
    }
}
