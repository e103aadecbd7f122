//! Frames that leave in great numbers, written without a serialiser: a COORDINATE for each of many
//! agents, and the answer to an AGENT_HEARTBEAT.

use crate::{
    HEADER_LEN, Header, Kind,
    check::crc16,
    frame,
    payload::{
        Full, Payload, Sink, encode,
        mesh::{AgentHeartbeat, ArchivedAgentHeartbeat, ArchivedCoordinate, Coordinate},
    },
};
use core::mem::offset_of;
use std::sync::Arc;

/// What differs between the copies of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerAgent {
    /// Recipient.
    pub handle: u32,
    /// Of its registration.
    pub generation: u32,
    /// Microseconds before the target moment at which it was to leave.
    pub lead_us: u32,
    /// Processing time expected, microseconds.
    pub expected_us: u32,
    /// 0 to 1.
    pub confidence: f32,
}

/// A COORDINATE's payload, encoded once, to be copied and patched for each recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    payload: Arc<[u8]>,
    /// When the message was made, by the wall clock and by the sender's monotonic clock.
    created_ns: u64,
    made_ns: u64,
}

/// Where the patched fields begin within the root, and how many bytes they are.
const PATCH_AT: usize = offset_of!(ArchivedCoordinate, sent_ns);
const PATCH_LEN: usize = 28;

// `sent_ns`, `handle`, `generation`, `lead_us`, `expected_us`, `confidence` lie side by side.
const _: () = {
    assert!(offset_of!(ArchivedCoordinate, handle) == PATCH_AT + 8);
    assert!(offset_of!(ArchivedCoordinate, generation) == PATCH_AT + 12);
    assert!(offset_of!(ArchivedCoordinate, lead_us) == PATCH_AT + 16);
    assert!(offset_of!(ArchivedCoordinate, expected_us) == PATCH_AT + 20);
    assert!(offset_of!(ArchivedCoordinate, confidence) == PATCH_AT + 24);
};

impl Template {
    /// Encodes the message. Its per-agent fields do not matter. `made_ns` is the moment of its
    /// `created_ns` on the clock of `sent_ns`.
    ///
    /// # Errors
    /// [`Full`] for payloads that the format cannot carry.
    pub fn new(message: &Coordinate, made_ns: u64) -> Result<Self, Full> {
        let mut payload = Vec::new();
        encode(message, Sink::vec(&mut payload, 0))?;
        Ok(Self { payload: payload.into(), created_ns: message.created_ns, made_ns })
    }

    /// Bytes of every frame made from it.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Writes the frame for one agent at the start of `out` and returns its length, or 0 where
    /// `out` is shorter than [`Self::frame_len`]. Nothing is allocated.
    ///
    /// The header's timestamp is `created_ns` and the time since then on the monotonic clock: the
    /// difference of the two is the message's age (W66), whatever the wall clock did meanwhile.
    #[must_use]
    pub fn write(&self, out: &mut [u8], message_id: u64, sent_ns: u64, agent: &PerAgent) -> usize {
        let len = self.frame_len();
        let Some((head, payload)) = out.get_mut(..len).map(|out| out.split_at_mut(HEADER_LEN))
        else {
            return 0;
        };
        payload.copy_from_slice(&self.payload);
        let root = payload.len() - Coordinate::ROOT_LEN;
        let patch = [
            &sent_ns.to_le_bytes()[..],
            &agent.handle.to_le_bytes(),
            &agent.generation.to_le_bytes(),
            &agent.lead_us.to_le_bytes(),
            &agent.expected_us.to_le_bytes(),
            &agent.confidence.to_le_bytes(),
        ];
        let mut at = root + PATCH_AT;
        for field in patch {
            payload[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        debug_assert_eq!(at, root + PATCH_AT + PATCH_LEN);
        let payload_len = payload.len() as u32;
        let age = sent_ns.saturating_sub(self.made_ns);
        let left_ns = self.created_ns.saturating_add(age);
        let header =
            Header::new(Kind::Coordinate, message_id, left_ns, payload_len, crc16(payload));
        head.copy_from_slice(zerocopy::IntoBytes::as_bytes(&header));
        len
    }
}

/// Bytes of an AGENT_HEARTBEAT's frame.
pub const BEAT_LEN: usize = HEADER_LEN + size_of::<ArchivedAgentHeartbeat>();

/// Writes the answer to a heartbeat at the start of `out`: the asker's `sent_ns` as `origin_ns`,
/// this side's clock when it came and when this leaves. Returns [`BEAT_LEN`], or 0 where `out` is
/// shorter.
#[must_use]
pub fn write_beat_reply(
    out: &mut [u8],
    asked: &ArchivedAgentHeartbeat,
    message_id: u64,
    epoch_ns: u64,
    arrived: u64,
    leaves: u64,
) -> usize {
    let answer = AgentHeartbeat {
        handle: asked.handle.to_native(),
        generation: asked.generation.to_native(),
        hlc: asked.hlc.to_native(),
        origin_ns: asked.sent_ns.to_native(),
        received_ns: arrived,
        sent_ns: leaves,
        ..AgentHeartbeat::default()
    };
    frame::write(out, &answer, message_id, epoch_ns).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{access, open};

    #[repr(align(64))]
    struct Aligned([u8; 8192]);

    #[test]
    fn meshmsg_15_every_copy_is_a_sound_frame_with_its_own_fields() {
        for len in [0, 5, 100, 5_000] {
            let message = Coordinate {
                payload: (0..len).map(|at| at as u8).collect(),
                created_ns: 5_000,
                target_ns: 77,
                verb: 3,
                hold: true,
                ..Coordinate::default()
            };
            let template = Template::new(&message, 1_000_000_000).expect("encodes");
            let mut out = Aligned([0xAA; 8192]);
            let agent = PerAgent {
                handle: 9,
                generation: 2,
                lead_us: 1_234,
                expected_us: 999,
                confidence: 0.5,
            };
            let written = template.write(&mut out.0, 42, 1_000_000_007, &agent);
            assert_eq!(written, template.frame_len());
            let header = Header::peek(&out.0).expect("32 bytes");
            let payload = &out.0[HEADER_LEN..written];
            assert_eq!(header.checksum(), crc16(payload));
            assert_eq!(header.message_id(), 42);
            // Seven nanoseconds old by the monotonic clock.
            assert_eq!(header.timestamp_ns(), 5_007);
            let read = open::<Coordinate>(payload).expect("sound");
            assert_eq!(read.sent_ns, 1_000_000_007);
            assert_eq!((read.handle.to_native(), read.generation.to_native()), (9, 2));
            assert_eq!((read.lead_us.to_native(), read.expected_us.to_native()), (1_234, 999));
            assert_eq!(read.confidence, 0.5);
            assert_eq!(read.payload.len(), len as usize);
            assert_eq!((read.target_ns.to_native(), read.verb, read.hold), (77, 3, true));
            assert_eq!(template.write(&mut out.0[..written - 1], 0, 0, &agent), 0);
        }
    }

    #[test]
    fn meshmsg_14_the_answer_to_a_beat_has_four_timestamps() {
        let mut asked = Aligned([0; 8192]);
        let beat = AgentHeartbeat { handle: 5, generation: 1, sent_ns: 70, ..Default::default() };
        let len = frame::write(&mut asked.0, &beat, 8, 0).expect("room");
        assert_eq!(len, BEAT_LEN);
        let asked = access::<AgentHeartbeat>(&asked.0[HEADER_LEN..len]).expect("sound");
        let mut out = Aligned([0; 8192]);
        assert_eq!(write_beat_reply(&mut out.0, asked, 8, 0, 100, 101), BEAT_LEN);
        let read = access::<AgentHeartbeat>(&out.0[HEADER_LEN..BEAT_LEN]).expect("sound");
        assert_eq!((read.origin_ns.to_native(), read.received_ns.to_native()), (70, 100));
        assert_eq!(read.sent_ns, 101);
    }
}
