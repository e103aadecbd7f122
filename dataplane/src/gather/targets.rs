//! Whom a gather is for: a selection that the node makes, or a list of ids and names.

use crate::failure::Failure;
use client::Client;
use mesh::cluster::Name;
use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::Read as _,
};
use wire::{
    mesh::{SelectBy, Selection, TARGET_IDS_MAX, Who, parse_lines},
    payload::{
        Text,
        mesh::{Gather, MeshQuery},
    },
};

/// Most bytes of a list: its longest form, with a remark a line.
const LIST_MAX: u64 = 16 << 20;

/// Whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    /// As the node sees it.
    Selected(Selection),
    /// These.
    Listed(Vec<Who>),
}

impl Targets {
    /// Reads a selection, or the file that the text names.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        let fault = match text.parse() {
            Ok(selection) => return Ok(Self::Selected(selection)),
            Err(fault) => fault,
        };
        let mut list = String::new();
        let read =
            File::open(text).and_then(|file| file.take(LIST_MAX + 1).read_to_string(&mut list));
        if let Err(error) = read {
            return Err(Failure::setup(format!("--targets: {fault}; and as a file: {error}")));
        }
        if list.len() as u64 > LIST_MAX {
            return Err(Failure::setup(format!("--targets {text}: longer than {LIST_MAX} bytes")));
        }
        let list = parse_lines(&list)
            .map_err(|fault| Failure::setup(format!("--targets {text}: {fault}")))?;
        if list.is_empty() || list.len() > TARGET_IDS_MAX {
            return Err(Failure::setup(format!(
                "--targets {text}: {} agents; a list has 1 to {TARGET_IDS_MAX}",
                list.len()
            )));
        }
        Ok(Self::Listed(list))
    }

    /// Says it in the GATHER. Names are looked up at the node.
    pub(crate) fn choose(&self, client: &mut Client, ask: &mut Gather) -> Result<(), Failure> {
        match self {
            Self::Selected(selection) => select(selection, ask),
            Self::Listed(list) => {
                ask.select = SelectBy::Ids.code();
                let mut by_name = HashMap::new();
                // A node shows a sector at once, but not always everybody.
                for sector in sectors(list) {
                    let query = MeshQuery { sector, ..MeshQuery::default() };
                    let listing = client.agents(&query).map_err(Failure::run)?;
                    by_name.extend(listing.agents.into_iter().map(|it| (it.name, it.agent_id)));
                }
                ask.ids = ids(list, &by_name)?;
            }
        }
        Ok(())
    }
}

fn select(selection: &Selection, ask: &mut Gather) {
    let by = match selection {
        Selection::All => SelectBy::All,
        Selection::Class(class) => {
            ask.class = class.code();
            SelectBy::Class
        }
        Selection::Sector(sector) => {
            ask.sector = *sector;
            SelectBy::Sector
        }
        Selection::Cluster { sector, cluster } => {
            (ask.sector, ask.cluster) = (*sector, *cluster);
            SelectBy::Cluster
        }
        Selection::Capability(name) => {
            ask.capability = Text::from(name.as_str());
            SelectBy::Capability
        }
    };
    ask.select = by.code();
}

/// The sectors that the names of a list are of.
fn sectors(list: &[Who]) -> BTreeSet<u16> {
    let sector = |who: &Who| match who {
        Who::Id(_) => None,
        Who::Name(text) => Name::parse(text).map(|named| named.name.sector),
    };
    list.iter().filter_map(sector).collect()
}

/// The ids of a list, its names in any of their forms.
fn ids(list: &[Who], by_name: &HashMap<String, [u8; 16]>) -> Result<Vec<[u8; 16]>, Failure> {
    let one = |who: &Who| match who {
        Who::Id(id) => Ok(*id),
        Who::Name(text) => {
            let name = Name::parse(text).map(|named| named.name.to_string());
            let id = name.and_then(|name| by_name.get(&name));
            id.copied().ok_or_else(|| {
                Failure::run(format!("--targets: the node has no agent of the name {text}"))
            })
        }
    };
    list.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn selections_become_fields() {
        let chosen = |text: &str| {
            let mut ask = Gather::default();
            select(&text.parse().expect(text), &mut ask);
            (SelectBy::from_code(ask.select), ask.class, ask.sector, ask.cluster)
        };
        assert_eq!(chosen("all"), (Some(SelectBy::All), 0, 0, 0));
        assert_eq!(chosen("class=D"), (Some(SelectBy::Class), 3, 0, 0));
        assert_eq!(chosen("sector=7"), (Some(SelectBy::Sector), 0, 7, 0));
        assert_eq!(chosen("cluster=7/4"), (Some(SelectBy::Cluster), 0, 7, 4));
        assert_eq!(chosen("capability=x").0, Some(SelectBy::Capability));
    }

    #[test]
    fn y_19_a_list_is_read_from_a_file_and_its_names_are_found() {
        let folder = Folder::new("gather-targets");
        let path = folder.0.join("ids.txt");
        let path = path.to_str().expect("text");
        let id = "00112233-4455-4677-8899-aabbccddeeff";
        std::fs::write(path, format!("{id} # first\nSECTOR7-CLUSTER4-AGENT-12\n")).expect("kept");
        let Targets::Listed(list) = Targets::read(path).expect("a list") else { panic!("a list") };
        assert_eq!(sectors(&list), BTreeSet::from([7]));
        let names = HashMap::from([("S07-C04-A12".to_owned(), [9; 16])]);
        let found = ids(&list, &names).expect("found");
        assert_eq!((found[0][1], found[1]), (0x11, [9; 16]));
        let missing = ids(&list, &HashMap::new()).expect_err("nobody of that name");
        assert!(missing.text().contains("SECTOR7"), "{}", missing.text());
        for bad in ["", "# nobody\n", "hello\n"] {
            std::fs::write(path, bad).expect("kept");
            assert!(matches!(Targets::read(path), Err(Failure::Setup(_))), "{bad}");
        }
        let absent = Targets::read("sector=x").expect_err("neither");
        assert!(absent.text().contains("sector=7"), "{}", absent.text());
    }
}
