//! The mesh's payloads out and back.

use proptest::{collection::vec, prelude::*};
use rkyv::util::AlignedVec;
use wire::{
    HEADER_LEN, Header, Payload, check, frame, mesh,
    payload::{
        self, Text,
        mesh::{
            Ack, AgentHeartbeat, AgentRecord, AgentRegistration, Bin, Coordinate, Gather,
            GatherReport, Signature,
        },
    },
};

fn encoded<T: Payload>(value: &T) -> AlignedVec<16> {
    let mut out = Vec::new();
    let len = frame::append(&mut out, value, 7, 8).expect("fits");
    let header = Header::peek(&out).expect("a header");
    assert_eq!(header.kind(), Ok(T::KIND));
    assert_eq!(header.checksum(), check::crc16(&out[HEADER_LEN..]));
    assert_eq!((len, len % 16), (out.len(), 0));
    let mut aligned = AlignedVec::new();
    aligned.extend_from_slice(&out[HEADER_LEN..]);
    aligned
}

prop_compose! {
    fn texts()(list in vec("\\PC{0,12}", 0..5)) -> Vec<Text> {
        list.into_iter().map(Text::from).collect()
    }
}

prop_compose! {
    fn records()(
        capabilities in texts(),
        agent_id: [u8; 16],
        public_key: [u8; 32],
        latency_ms in 0.0..1e4_f32,
        processing_ms in 0.0..1e4_f32,
        class in 0..6_u8,
    ) -> AgentRecord {
        AgentRecord {
            capabilities,
            agent_id,
            public_key,
            latency_ms,
            processing_ms,
            class,
            reserved: [0; 7],
        }
    }
}

fn shown(list: &[Text]) -> Vec<&str> {
    list.iter().map(Text::as_str).collect()
}

proptest! {
    #[test]
    fn registrations_come_back(agents in vec(records(), 0..20)) {
        let value = AgentRegistration { agents, ..Default::default() };
        let bytes = encoded(&value);
        let root = payload::open::<AgentRegistration>(&bytes).expect("valid");
        prop_assert_eq!(root.agents.len(), value.agents.len());
        for (read, written) in root.agents.iter().zip(&value.agents) {
            prop_assert_eq!(read.agent_id, written.agent_id);
            prop_assert_eq!(read.public_key, written.public_key);
            prop_assert_eq!(read.latency_ms.to_native(), written.latency_ms);
            prop_assert_eq!(read.processing_ms.to_native(), written.processing_ms);
            prop_assert_eq!(read.class, written.class);
            let capabilities: Vec<&str> = read.capabilities.iter().map(|text| &**text).collect();
            prop_assert_eq!(capabilities, shown(&written.capabilities));
        }
    }

    #[test]
    fn meshmsg_14_four_timestamps_give_the_offset_that_is_there(
        own in 0..u64::MAX / 4,
        offset in 0..1_u64 << 60,
        there in 1..1_000_000_u64,
        stay in 0..1_000_u64,
    ) {
        // As W64 has it, with the same delay both ways.
        let asked = AgentHeartbeat { sent_ns: own, ..Default::default() };
        let bytes = encoded(&asked);
        let asked = payload::open::<AgentHeartbeat>(&bytes).expect("valid");
        let (arrived, leaves) = (own + offset + there, own + offset + there + stay);
        let mut out = vec![0; mesh::BEAT_LEN];
        prop_assert_eq!(mesh::write_beat_reply(&mut out, asked, 1, 0, arrived, leaves), out.len());
        let mut payload = AlignedVec::<16>::new();
        payload.extend_from_slice(&out[HEADER_LEN..]);
        let answer = payload::open::<AgentHeartbeat>(&payload).expect("valid");
        let (t1, t4) = (answer.origin_ns.to_native(), own + there + stay + there);
        let (t2, t3) = (answer.received_ns.to_native(), answer.sent_ns.to_native());
        let signed = |later: u64, earlier: u64| i128::from(later) - i128::from(earlier);
        prop_assert_eq!((signed(t2, t1) + signed(t3, t4)) / 2, i128::from(offset));
        prop_assert_eq!(signed(t4, t1) - signed(t3, t2), i128::from(2 * there));
    }

    #[test]
    fn meshmsg_15_16_messages_and_answers_come_back(
        body in vec(any::<u8>(), 0..6_000),
        required in texts(),
        detail in "\\PC{0,60}",
        message_id: [u8; 16],
        times: [u64; 6],
        handle: u32,
        confidence in 0.0..=1.0_f32,
        state in prop::sample::select(mesh::Trinary::ALL),
        hold: bool,
    ) {
        let value = Coordinate {
            payload: body,
            requires_capabilities: required,
            message_id,
            target_ns: times[0],
            sent_ns: times[1],
            handle,
            confidence,
            hold,
            ..Default::default()
        };
        let bytes = encoded(&value);
        let root = payload::open::<Coordinate>(&bytes).expect("valid");
        prop_assert_eq!(root.payload.as_slice(), &value.payload[..]);
        let required: Vec<&str> = root.requires_capabilities.iter().map(|text| &**text).collect();
        prop_assert_eq!(required, shown(&value.requires_capabilities));
        prop_assert_eq!((root.message_id, root.handle.to_native()), (message_id, handle));
        prop_assert_eq!(root.target_ns.to_native(), times[0]);
        prop_assert_eq!(root.sent_ns.to_native(), times[1]);
        prop_assert_eq!((root.confidence.to_native(), root.hold), (confidence, hold));

        let ack = Ack {
            conflict_detail: Text::from(detail.as_str()),
            message_id,
            handle,
            received_ns: times[2],
            ready_ns: times[3],
            acted_ns: times[4],
            processing_ns: times[5],
            state: state.code(),
            ..Default::default()
        };
        let bytes = encoded(&ack);
        let root = payload::open::<Ack>(&bytes).expect("valid");
        prop_assert_eq!(&*root.conflict_detail, &detail);
        prop_assert_eq!(mesh::Trinary::from_code(root.state), Some(state));
        prop_assert_eq!(root.received_ns.to_native(), times[2]);
        prop_assert_eq!(root.ready_ns.to_native(), times[3]);
        prop_assert_eq!(root.acted_ns.to_native(), times[4]);
        prop_assert_eq!(root.processing_ns.to_native(), times[5]);
    }

    #[test]
    fn gathers_and_reports_come_back(
        ids in vec(any::<[u8; 16]>(), 0..300),
        capability in "\\PC{0,20}",
        bins in vec(any::<(u32, u32)>(), 0..700),
        names in texts(),
        reason in "\\PC{0,60}",
        sector: u16,
        stamps in vec(any::<(u64, u64)>(), 0..6),
    ) {
        let gather = Gather {
            ids,
            capability: Text::from(capability.as_str()),
            signatures: stamps.iter().map(|(key, stamp_ms)| Signature {
                key_id: key.to_be_bytes(),
                stamp_ms: *stamp_ms,
                signature: [*key as u8; 64],
                ..Signature::default()
            }).collect(),
            sector,
            ..Default::default()
        };
        let bytes = encoded(&gather);
        let root = payload::open::<Gather>(&bytes).expect("valid");
        prop_assert_eq!(root.ids.as_slice(), &gather.ids[..]);
        prop_assert_eq!(&*root.capability, capability.as_str());
        prop_assert_eq!(root.sector.to_native(), sector);
        let read = root.signatures.iter().map(|it| (u64::from_be_bytes(it.key_id), it.stamp_ms));
        let read: Vec<(u64, u64)> = read.map(|(key, stamp)| (key, stamp.to_native())).collect();
        prop_assert!(root.signatures.iter().all(|it| it.signature == [it.key_id[7]; 64]));
        prop_assert_eq!(read, stamps);

        let bins: Vec<Bin> = bins.into_iter().map(|(bin, count)| Bin { bin, count }).collect();
        let report = GatherReport {
            earliness: bins.clone(),
            straggler_names: names,
            reason: Text::from(reason.as_str()),
            ..Default::default()
        };
        let bytes = encoded(&report);
        let root = payload::open::<GatherReport>(&bytes).expect("valid");
        let read: Vec<Bin> = root
            .earliness
            .iter()
            .map(|bin| Bin { bin: bin.bin.to_native(), count: bin.count.to_native() })
            .collect();
        prop_assert_eq!(read, bins);
        let read: Vec<&str> = root.straggler_names.iter().map(|text| &**text).collect();
        prop_assert_eq!((read, &*root.reason), (shown(&report.straggler_names), reason.as_str()));
    }
}
