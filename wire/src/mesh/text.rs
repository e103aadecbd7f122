//! Agents and selections of agents as people write them.

use crate::mesh::{AgentClass, CAPABILITY_LEN_MAX};
use core::{fmt, str::FromStr};

/// Whom a gather is for, but for lists of agents: `all`, `class=D`, `sector=7`, `cluster=7/4`,
/// `capability=summarise`. [`Display`](fmt::Display) writes the form that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everyone.
    All,
    /// One class.
    Class(AgentClass),
    /// One sector.
    Sector(u16),
    /// One cluster of a sector.
    Cluster {
        /// The sector.
        sector: u16,
        /// Its number within the sector.
        cluster: u16,
    },
    /// Whoever can do this: 1 to [`CAPABILITY_LEN_MAX`] bytes.
    Capability(String),
}

/// Why a text is not a selection: what was written, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotASelection(String);

impl fmt::Display for NotASelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` selects nobody; write all, class=D, sector=7, cluster=7/4 or capability=NAME",
            self.0
        )
    }
}

impl core::error::Error for NotASelection {}

impl FromStr for Selection {
    type Err = NotASelection;

    fn from_str(text: &str) -> Result<Self, NotASelection> {
        selection(text).ok_or_else(|| NotASelection(text.chars().take(80).collect()))
    }
}

fn selection(text: &str) -> Option<Selection> {
    if text == "all" {
        return Some(Selection::All);
    }
    let (key, value) = text.split_once('=')?;
    match key {
        "class" => AgentClass::from_name(value).map(Selection::Class),
        "sector" => number(value.strip_prefix(['S', 's']).unwrap_or(value)).map(Selection::Sector),
        "cluster" => {
            let (sector, cluster) = value.split_once('/')?;
            Some(Selection::Cluster { sector: number(sector)?, cluster: number(cluster)? })
        }
        "capability" => {
            let fits = (1..=CAPABILITY_LEN_MAX).contains(&value.len());
            fits.then(|| Selection::Capability(value.to_owned()))
        }
        _ => None,
    }
}

/// Digits only: `parse` would also take a plus sign. The last number means "every" on the wire.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|value| *value != u16::MAX);
    if digits { value } else { None }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Class(class) => write!(f, "class={class}"),
            Self::Sector(sector) => write!(f, "sector={sector}"),
            Self::Cluster { sector, cluster } => write!(f, "cluster={sector}/{cluster}"),
            Self::Capability(name) => write!(f, "capability={name}"),
        }
    }
}

/// One agent of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// By its id.
    Id([u8; 16]),
    /// By its name, `S07-C04-A12`, in capitals. Whether it has that form, and whose name it is,
    /// a node knows.
    Name(String),
}

/// A line of a list of agents that names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// Its number, from 1.
    pub line: usize,
    /// Its first characters.
    pub text: String,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}: `{}` is neither an id (32 hexadecimal digits, hyphens between) nor a name \
             (S07-C04-A12)",
            self.line, self.text
        )
    }
}

impl core::error::Error for LineFault {}

/// Reads a list: an id or a name a line. Empty lines, and what follows a `#`, say nothing.
///
/// # Errors
/// The first line that names nobody.
pub fn parse_lines(text: &str) -> Result<Vec<Who>, LineFault> {
    let mut list = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let who = parse_id(entry).map(Who::Id).or_else(|| name(entry));
        let fault = || LineFault { line: at + 1, text: entry.chars().take(80).collect() };
        list.push(who.ok_or_else(fault)?);
    }
    Ok(list)
}

/// Names begin with a letter and have letters, digits and two hyphens at least.
fn name(text: &str) -> Option<Who> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let letter = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let parts = text.split('-').filter(|part| !part.is_empty()).count();
    (plain && letter && text.len() <= 64 && parts >= 3)
        .then(|| Who::Name(text.to_ascii_uppercase()))
}

/// Reads an id: 32 hexadecimal digits, plain or with the hyphens of a UUID. Zero is no id.
#[must_use]
pub fn parse_id(text: &str) -> Option<[u8; 16]> {
    let digits = match text.len() {
        32 => text.to_owned(),
        36 => {
            let hyphen = |at: usize| text.as_bytes()[at] == b'-';
            if ![8, 13, 18, 23].into_iter().all(hyphen) {
                return None;
            }
            text.replace('-', "")
        }
        _ => return None,
    };
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().filter(|id| *id != 0).map(u128::to_be_bytes)
}

/// An id as a UUID is written.
#[must_use]
pub fn id_text(id: &[u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(*id));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_a_selection_is_read_and_written_back() {
        for (text, selection) in [
            ("all", Selection::All),
            ("class=D", Selection::Class(AgentClass::Gpu)),
            ("sector=7", Selection::Sector(7)),
            ("cluster=7/4", Selection::Cluster { sector: 7, cluster: 4 }),
            ("capability=say hi", Selection::Capability("say hi".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(selection.clone()));
            assert_eq!(selection.to_string(), text);
        }
        assert_eq!("class=d".parse(), Ok(Selection::Class(AgentClass::Gpu)));
        assert_eq!("sector=S07".parse(), Ok(Selection::Sector(7)));
        let long = format!("capability={}", "x".repeat(CAPABILITY_LEN_MAX + 1));
        for bad in [
            "",
            "ALL",
            "class=G",
            "class=",
            "sector=+7",
            "sector=65535",
            "sector=",
            "cluster=7",
            "cluster=7/",
            "cluster=7/4/1",
            "capability=",
            "room=7",
            "7",
            long.as_str(),
        ] {
            let fault = bad.parse::<Selection>().expect_err(bad).to_string();
            assert!(fault.contains("cluster=7/4"), "{fault}");
        }
    }

    #[test]
    fn y_19_lists_take_ids_and_names_and_name_the_line_that_is_neither() {
        let text = "# ours\n\n00112233-4455-4677-8899-aabbccddeeff\n\
                    00112233445546778899AABBCCDDEEFF # the same\ns07-c04-a12\n";
        let id = *b"\x00\x11\x22\x33\x44\x55\x46\x77\x88\x99\xAA\xBB\xCC\xDD\xEE\xFF";
        let name = Who::Name("S07-C04-A12".to_owned());
        assert_eq!(parse_lines(text), Ok(vec![Who::Id(id), Who::Id(id), name]));
        assert_eq!(id_text(&id), "00112233-4455-4677-8899-aabbccddeeff");
        for bad in ["S07", "S07-C04", "-S7-C4-A1", "S07 C04 A12", "0".repeat(32).as_str(), "é-1-2"]
        {
            let fault = parse_lines(&format!("all-good-1\n{bad}")).expect_err(bad);
            assert_eq!(fault.line, 2, "{fault}");
        }
    }

    proptest! {
        #[test]
        fn ids_survive_their_text(id in any::<[u8; 16]>()) {
            prop_assume!(id != [0; 16]);
            prop_assert_eq!(parse_id(&id_text(&id)), Some(id));
            prop_assert_eq!(parse_id(&id_text(&id).replace('-', "")), Some(id));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,80}") {
            let _ = parse_id(&text);
            let _ = parse_lines(&text);
            if let Ok(selection) = text.parse::<Selection>() {
                prop_assert_eq!(selection.to_string().parse(), Ok(selection));
            }
        }
    }
}
