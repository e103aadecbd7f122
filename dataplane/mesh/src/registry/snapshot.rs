//! The registry as bytes, for a store that others write, and back (IMPED-13, IMPED-14).
//!
//! Little-endian: magic, version; capability texts; gates that are not as made; the kinds of the
//! clusters in use; one record per agent; CRC-32C of all before it. Times are ages, because the
//! monotonic clock of the next start is another one.

use wire::check::crc32c;
use wire::mesh::{AgentClass, AgentState, CAPABILITIES_MAX};

use super::beat::{SETTLED, believe};
use super::gates::{Circuit, Gate};
use super::index::hash_id;
use super::names::{NO_CAPABILITY, Names};
use super::{Registry, score_of};
use crate::Time;
use crate::cluster::{Seat, band_of, key_of};
use crate::limits::{
    CAPABILITY_NAMES, DRIFT_MAX, HOUR_BUCKETS, LATENCY_MAX, PROBES, PROCESSING_MAX, SCORE_MAX,
    SNAPSHOT_BYTES,
};
use crate::profile::Hourly;

const MAGIC: [u8; 4] = *b"BMRG";
const VERSION: u16 = 1;
/// The cluster is not in the snapshot: no agent can claim a seat under this key.
const NO_KEY: u8 = u8::MAX;

/// Why bytes are no registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotFault {
    /// Longer than any snapshot.
    TooLong,
    /// It ends too early, or goes on after its end.
    BadLength,
    /// Not a snapshot.
    BadMagic,
    /// Of a version this program does not know.
    UnknownVersion(u16),
    /// The check over all bytes does not match.
    BadCheck,
    /// A value that no registry has, or two agents with one id or one seat.
    BadRecord,
    /// More agents or clusters than this registry has room for.
    DoesNotFit,
}

impl Registry {
    /// Everything that should outlive a restart, about 100 bytes per agent.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.len() as usize * 160);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let mut texts = vec![NO_CAPABILITY; CAPABILITY_NAMES];
        out.extend_from_slice(&(self.names.ids().len() as u16).to_le_bytes());
        for (index, id) in self.names.ids().iter().enumerate() {
            texts[usize::from(*id)] = index as u16;
            let text = self.names.text(*id).unwrap_or_default();
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
        put_gate(&mut out, self.gates.global);
        put_gates(&mut out, &self.gates.sectors);
        put_gates(&mut out, &self.gates.clusters);
        let used = (0..self.clusters.count()).filter_map(|it| Some((it, self.clusters.key(it)?)));
        out.extend_from_slice(&(used.clone().count() as u32).to_le_bytes());
        for (cluster, key) in used {
            out.extend_from_slice(&cluster.to_le_bytes());
            out.push(key);
        }
        out.extend_from_slice(&self.len().to_le_bytes());
        for handle in self.iter() {
            self.put_agent(&mut out, now, handle as usize, &texts);
        }
        let check = crc32c(&out);
        out.extend_from_slice(&check.to_le_bytes());
        out
    }

    fn put_agent(&self, out: &mut Vec<u8>, now: Time, at: usize, texts: &[u16]) {
        let columns = &self.columns;
        out.extend_from_slice(&columns.id[at]);
        out.extend_from_slice(&[columns.class[at].code(), columns.state[at].code()]);
        out.extend_from_slice(&columns.generation[at].to_le_bytes());
        out.extend_from_slice(&columns.cluster[at].to_le_bytes());
        out.push(columns.position[at]);
        out.extend_from_slice(&columns.latency[at].to_le_bytes());
        out.extend_from_slice(&columns.processing[at].to_le_bytes());
        out.extend_from_slice(&columns.queue[at].to_le_bytes());
        let age = now.saturating_sub(columns.heartbeat[at]);
        out.extend_from_slice(&age.to_le_bytes());
        for value in [columns.average[at], columns.reported[at], columns.drift[at]] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&columns.context[at].to_le_bytes());
        let held = columns.capabilities[at].iter().filter(|id| **id != NO_CAPABILITY);
        out.push(held.clone().count() as u8);
        for id in held {
            out.extend_from_slice(&texts[usize::from(*id)].to_le_bytes());
        }
        let buckets = columns.outcomes[at].newest_first(now);
        let filled = |bit: &usize| buckets[*bit] != (0, 0);
        let mask = (0..HOUR_BUCKETS).filter(filled).fold(0_u16, |mask, bit| mask | 1 << bit);
        out.extend_from_slice(&mask.to_le_bytes());
        for (good, bad) in (0..HOUR_BUCKETS).filter(filled).map(|bit| buckets[bit]) {
            out.extend_from_slice(&good.to_le_bytes());
            out.extend_from_slice(&bad.to_le_bytes());
        }
    }

    /// The registry that a snapshot was made of, with room for that many agents (as
    /// [`Self::new`]). Nobody is connected: all are offline from `now` on, those in quarantine
    /// stay there. Handles are new; names, history, gates and generations are as they were.
    ///
    /// # Errors
    /// [`SnapshotFault`] for every other sequence of bytes.
    pub fn restore(agents: u32, seed: u64, now: Time, bytes: &[u8]) -> Result<Self, SnapshotFault> {
        if bytes.len() > SNAPSHOT_BYTES {
            return Err(SnapshotFault::TooLong);
        }
        let (body, check) = bytes.split_last_chunk::<4>().ok_or(SnapshotFault::BadLength)?;
        let mut reader = Reader(body);
        if reader.array()? != MAGIC {
            return Err(SnapshotFault::BadMagic);
        }
        match u16::from_le_bytes(reader.array()?) {
            VERSION => {}
            other => return Err(SnapshotFault::UnknownVersion(other)),
        }
        if crc32c(body) != u32::from_le_bytes(*check) {
            return Err(SnapshotFault::BadCheck);
        }
        let mut registry = Self::new(agents, seed);
        let texts = reader.texts()?;
        registry.gates.global = reader.gate()?;
        reader.gates(&mut registry.gates.sectors)?;
        reader.gates(&mut registry.gates.clusters)?;
        let keys = reader.keys(registry.clusters.count())?;
        for _ in 0..u32::from_le_bytes(reader.array()?) {
            registry.take_agent(now, &mut reader, &texts, &keys)?;
        }
        if reader.0.is_empty() { Ok(registry) } else { Err(SnapshotFault::BadLength) }
    }

    fn take_agent<'a>(
        &mut self,
        now: Time,
        reader: &mut Reader<'a>,
        texts: &[&'a str],
        keys: &[u8],
    ) -> Result<(), SnapshotFault> {
        if self.fresh == self.capacity() {
            return Err(SnapshotFault::DoesNotFit);
        }
        let handle = self.fresh;
        let at = handle as usize;
        let columns = &mut self.columns;
        columns.id[at] = reader.array()?;
        let [class, state] = reader.array()?;
        columns.class[at] = AgentClass::from_code(class).ok_or(SnapshotFault::BadRecord)?;
        columns.state[at] = match AgentState::from_code(state) {
            Some(AgentState::Quarantined) => AgentState::Quarantined,
            Some(_) => AgentState::Offline,
            None => return Err(SnapshotFault::BadRecord),
        };
        columns.generation[at] = u32::from_le_bytes(reader.array()?);
        let cluster = u32::from_le_bytes(reader.array()?);
        let seat = Seat { cluster, position: reader.array::<1>()?[0] };
        columns.latency[at] = reader.time(LATENCY_MAX)?;
        columns.processing[at] = reader.time(PROCESSING_MAX)?;
        columns.queue[at] = u32::from_le_bytes(reader.array()?);
        columns.heartbeat[at] = now.saturating_sub(u64::from_le_bytes(reader.array()?));
        columns.average[at] = reader.number(SCORE_MAX)?;
        columns.reported[at] = reader.number(1.0)?;
        columns.drift[at] = reader.number(DRIFT_MAX)?;
        columns.context[at] = u64::from_le_bytes(reader.array()?);
        columns.score[at] =
            score_of(columns.latency[at], columns.processing[at], columns.queue[at]);
        let held = reader.held(texts)?;
        columns.outcomes[at] = Hourly::restore(now, &reader.buckets()?);
        let key = *keys.get(cluster as usize).ok_or(SnapshotFault::DoesNotFit)?;
        let id = self.columns.id[at];
        if id == [0; 16] || self.by_id(&id).is_some() {
            return Err(SnapshotFault::BadRecord);
        }
        if !self.clusters.claim(handle, seat, key) {
            return Err(SnapshotFault::BadRecord);
        }
        self.columns.capabilities[at] =
            self.names.take(held.as_slice()).ok_or(SnapshotFault::BadRecord)?;
        self.seat_restored(now, handle, seat);
        Ok(())
    }

    /// The rest of what makes an agent known.
    fn seat_restored(&mut self, now: Time, handle: u32, seat: Seat) {
        let at = handle as usize;
        self.fresh += 1;
        let columns = &mut self.columns;
        columns.known[at] = true;
        columns.set_seat(at, seat);
        columns.band[at] = band_of(columns.score[at]);
        let key = key_of(columns.class[at], columns.band[at]);
        let settled = self.clusters.key(seat.cluster) == Some(key);
        columns.strayed[at] = if settled { SETTLED } else { now };
        self.counts[usize::from(columns.state[at].code())] += 1;
        self.ids.insert(hash_id(self.seed, &columns.id[at]), handle);
        self.push_gone(now, handle);
    }
}

fn put_gate(out: &mut Vec<u8>, gate: Gate) {
    let (circuit, left) = match gate.circuit {
        Circuit::Closed => (0, 0),
        Circuit::Open => (1, 0),
        Circuit::HalfOpen(left) => (2, left),
    };
    out.extend_from_slice(&[u8::from(gate.frozen), circuit]);
    out.extend_from_slice(&left.to_le_bytes());
}

/// Those that are not as made, with their numbers.
fn put_gates(out: &mut Vec<u8>, gates: &[Gate]) {
    let set = gates.iter().enumerate().filter(|(_, gate)| **gate != Gate::default());
    out.extend_from_slice(&(set.clone().count() as u32).to_le_bytes());
    for (number, gate) in set {
        out.extend_from_slice(&(number as u32).to_le_bytes());
        put_gate(out, *gate);
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], SnapshotFault> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(SnapshotFault::BadLength)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotFault> {
        let (head, rest) = self.0.split_first_chunk().ok_or(SnapshotFault::BadLength)?;
        self.0 = rest;
        Ok(*head)
    }

    fn time(&mut self, most: Time) -> Result<Time, SnapshotFault> {
        let time = u64::from_le_bytes(self.array()?);
        if time <= most { Ok(time) } else { Err(SnapshotFault::BadRecord) }
    }

    fn number(&mut self, most: f32) -> Result<f32, SnapshotFault> {
        let value = f32::from_le_bytes(self.array()?);
        believe(value, most).filter(|it| *it == value).ok_or(SnapshotFault::BadRecord)
    }

    fn texts(&mut self) -> Result<Vec<&'a str>, SnapshotFault> {
        let count = usize::from(u16::from_le_bytes(self.array()?));
        if count > CAPABILITY_NAMES {
            return Err(SnapshotFault::BadRecord);
        }
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            let len = usize::from(self.array::<1>()?[0]);
            let text = core::str::from_utf8(self.bytes(len)?).ok();
            let text = text.filter(|text| Names::valid(&[text])).ok_or(SnapshotFault::BadRecord)?;
            texts.push(text);
        }
        Ok(texts)
    }

    fn gate(&mut self) -> Result<Gate, SnapshotFault> {
        let [frozen, circuit] = self.array()?;
        let left = u16::from_le_bytes(self.array()?);
        let circuit = match (circuit, left) {
            (0, 0) => Circuit::Closed,
            (1, 0) => Circuit::Open,
            (2, left) if left <= PROBES => Circuit::HalfOpen(left),
            _ => return Err(SnapshotFault::BadRecord),
        };
        if frozen > 1 {
            return Err(SnapshotFault::BadRecord);
        }
        Ok(Gate { frozen: frozen == 1, circuit })
    }

    fn gates(&mut self, gates: &mut [Gate]) -> Result<(), SnapshotFault> {
        for _ in 0..u32::from_le_bytes(self.array()?) {
            let number = u32::from_le_bytes(self.array()?) as usize;
            let gate = self.gate()?;
            *gates.get_mut(number).ok_or(SnapshotFault::DoesNotFit)? = gate;
        }
        Ok(())
    }

    /// The kinds of the clusters in use, by cluster.
    fn keys(&mut self, clusters: u32) -> Result<Vec<u8>, SnapshotFault> {
        let mut keys = vec![NO_KEY; clusters as usize];
        for _ in 0..u32::from_le_bytes(self.array()?) {
            let cluster = u32::from_le_bytes(self.array()?) as usize;
            let [key] = self.array()?;
            *keys.get_mut(cluster).ok_or(SnapshotFault::DoesNotFit)? = key;
        }
        Ok(keys)
    }

    fn held(&mut self, texts: &[&'a str]) -> Result<Held<'a>, SnapshotFault> {
        let [count] = self.array()?;
        let mut held = Held { texts: [""; CAPABILITIES_MAX], len: usize::from(count) };
        let slots = held.texts.get_mut(..held.len).ok_or(SnapshotFault::BadRecord)?;
        for slot in slots {
            let index = usize::from(u16::from_le_bytes(self.array()?));
            *slot = texts.get(index).ok_or(SnapshotFault::BadRecord)?;
        }
        Ok(held)
    }

    fn buckets(&mut self) -> Result<[(u16, u16); HOUR_BUCKETS], SnapshotFault> {
        let mask = u16::from_le_bytes(self.array()?);
        if mask >> HOUR_BUCKETS != 0 {
            return Err(SnapshotFault::BadRecord);
        }
        let mut buckets = [(0, 0); HOUR_BUCKETS];
        for bucket in buckets.iter_mut().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1) {
            let (good, bad) = (self.array()?, self.array()?);
            *bucket.1 = (u16::from_le_bytes(good), u16::from_le_bytes(bad));
        }
        Ok(buckets)
    }
}

/// One agent's capabilities.
struct Held<'a> {
    texts: [&'a str; CAPABILITIES_MAX],
    len: usize,
}

impl<'a> Held<'a> {
    fn as_slice(&self) -> &[&'a str] {
        &self.texts[..self.len]
    }
}
