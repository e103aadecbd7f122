//! Names of agents: `S07-C04-A12`, and the forms that mean the same (Y-19).

use core::fmt;

use wire::mesh::AgentClass;

use super::Seat;
use crate::limits::{CLUSTER_AGENTS, SECTOR_CLUSTERS};

/// Bytes of the longest alias that is read.
const NAME_BYTES: usize = 64;

/// An agent by its place: sector, cluster of the sector, agent of the cluster, each from 0. It
/// names a seat: an agent that moves to another cluster has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Sector.
    pub sector: u16,
    /// Cluster of the sector: 0 to 9.
    pub cluster: u8,
    /// Agent of the cluster: 0 to 29.
    pub agent: u8,
}

/// A name as somebody wrote it: some forms say the class too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The place.
    pub name: Name,
    /// The class that the text names.
    pub class: Option<AgentClass>,
}

impl Name {
    /// The seat it names.
    #[must_use]
    pub const fn seat(self) -> Seat {
        let cluster = self.sector as u32 * SECTOR_CLUSTERS as u32 + self.cluster as u32;
        Seat { cluster, position: self.agent }
    }

    /// Reads `S07-C04-A12`, `SECTOR7-CLUSTER4-AGENT-12`, `GPU-SECTOR3-CLUSTER7-A12` and
    /// `SECTOR3-GPU-CLUSTER2-AGENT-07`, in capitals or not. None where it is none of them or names
    /// a cluster or an agent that no sector has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Named> {
        if text.len() > NAME_BYTES {
            return None;
        }
        let mut numbers = [None; PARTS.len()];
        let mut class = None;
        let mut tokens = text.split('-');
        while let Some(token) = tokens.next() {
            let letters = token.find(|it: char| it.is_ascii_digit()).unwrap_or(token.len());
            let (word, digits) = token.split_at(letters);
            if let Some(named) = class_word(token) {
                if class.replace(named).is_some() {
                    return None;
                }
                continue;
            }
            let part = numbers.iter().position(Option::is_none)?;
            if !PARTS[part].iter().any(|it| it.eq_ignore_ascii_case(word)) {
                return None;
            }
            let digits = if digits.is_empty() { tokens.next()? } else { digits };
            numbers[part] = Some(number(digits)?);
        }
        let name = Self {
            sector: numbers[0]?,
            cluster: u8::try_from(numbers[1]?).ok()?,
            agent: u8::try_from(numbers[2]?).ok()?,
        };
        let known =
            usize::from(name.cluster) < SECTOR_CLUSTERS && usize::from(name.agent) < CLUSTER_AGENTS;
        known.then_some(Named { name, class })
    }
}

const PARTS: [[&str; 2]; 3] = [["S", "SECTOR"], ["C", "CLUSTER"], ["A", "AGENT"]];

fn number(digits: &str) -> Option<u16> {
    let plain = digits.len() <= 5 && digits.bytes().all(|it| it.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

fn class_word(word: &str) -> Option<AgentClass> {
    const WORDS: [(&str, AgentClass); 6] = [
        ("EDGE", AgentClass::Edge),
        ("SERVERLESS", AgentClass::Serverless),
        ("PERSISTENT", AgentClass::Persistent),
        ("GPU", AgentClass::Gpu),
        ("LOCAL", AgentClass::Local),
        ("HUMAN", AgentClass::Human),
    ];
    WORDS.iter().find(|(it, _)| it.eq_ignore_ascii_case(word)).map(|(_, class)| *class)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S{:02}-C{:02}-A{:02}", self.sector, self.cluster, self.agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn y_19_one_canonical_form_and_its_aliases() {
        let name = Name { sector: 7, cluster: 4, agent: 12 };
        assert_eq!(name.to_string(), "S07-C04-A12");
        for same in ["S07-C04-A12", "s7-c4-a12", "SECTOR7-CLUSTER4-AGENT-12", "S007-C04-AGENT12"] {
            assert_eq!(Name::parse(same), Some(Named { name, class: None }), "{same}");
        }
        let gpu = Some(AgentClass::Gpu);
        let cases = [("GPU-SECTOR3-CLUSTER7-A12", 7, 12), ("SECTOR3-GPU-CLUSTER2-AGENT-07", 2, 7)];
        for (text, cluster, agent) in cases {
            let name = Name { sector: 3, cluster, agent };
            assert_eq!(Name::parse(text), Some(Named { name, class: gpu }), "{text}");
        }
        let large = Name { sector: 3333, cluster: 9, agent: 29 };
        assert_eq!(large.to_string(), "S3333-C09-A29");
        assert_eq!(Name::parse("S3333-C09-A29").map(|it| it.name), Some(large));
        assert_eq!(large.seat().name(), large);
    }

    #[test]
    fn y_19_other_texts_are_no_names() {
        for text in [
            "",
            "-",
            "S07",
            "S07-C04",
            "S07-C10-A12",
            "S07-C04-A30",
            "C04-S07-A12",
            "S07-C04-A12-",
            "S07-C04-A12-A13",
            "GPU-GPU-S1-C1-A1",
            "S65536-C1-A1",
            "S-C-A",
            "S1-C1-A",
            "S+1-C1-A1",
            "S1-C1-A000001",
            "Ä1-C1-A1",
            "S07C04A12",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        assert_eq!(Name::parse(&"S".repeat(100_000)), None);
    }
}
