//! What `top` shows and what keys do: a state machine without a terminal, a clock or a node.

use super::{
    feed::{Seen, Want},
    rows::{self, Table},
};
use overview::Rates;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::collections::VecDeque;

/// Seconds of the past that curves have.
const PAST: usize = 240;
/// Letters of a filter.
const FILTER_MAX: usize = 64;
/// Rows of a page.
const PAGE: usize = 10;

/// What a key asks of the world outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing.
    None,
    /// Something else is looked at.
    Ask(Want),
    /// All of the screen is drawn again, where something else has written on it.
    Redraw,
    /// The end.
    Quit,
}

/// Where the person is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Lists beside each other.
    Sectors,
    Workers,
    Gathers,
    Batches,
    /// One sector's clusters.
    Clusters(u16),
    /// One cluster's agents.
    Agents(u16, u16),
    /// One agent, by its name.
    Agent(u16, u16, String),
    /// One gather, by its id.
    Gather(String),
    /// One worker, by its id.
    Worker(String),
}

/// The lists, in the order of the tabs.
pub(super) const TABS: [(Place, &str); 4] = [
    (Place::Sectors, "sectors"),
    (Place::Workers, "workers"),
    (Place::Gathers, "gathers"),
    (Place::Batches, "batches"),
];

/// One level of the way down, and how it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) place: Place,
    /// The row under the cursor, by its id, so that it stays while rows come and go.
    selected: Option<String>,
    /// Where the cursor is where that row is gone.
    cursor: usize,
    pub(super) filter: String,
    /// Sorted by this column; by none before the first.
    pub(super) sort: Option<usize>,
}

impl Level {
    const fn new(place: Place) -> Self {
        Self { place, selected: None, cursor: 0, filter: String::new(), sort: None }
    }
}

/// Everything that is on the screen.
#[derive(Debug)]
pub(super) struct App {
    /// The node, as it was named.
    pub(super) addr: String,
    pub(super) seen: Option<Seen>,
    /// Rates, oldest first.
    pub(super) past: VecDeque<Rates>,
    /// Why the node does not answer, and since when.
    pub(super) lost: Option<(String, u64)>,
    pub(super) is_paused: bool,
    pub(super) is_helping: bool,
    pub(super) is_typing: bool,
    /// From the list to where the person is: never empty.
    way: Vec<Level>,
}

impl App {
    pub(super) fn new(addr: &str) -> Self {
        Self {
            addr: addr.to_owned(),
            seen: None,
            past: VecDeque::new(),
            lost: None,
            is_paused: false,
            is_helping: false,
            is_typing: false,
            way: vec![Level::new(Place::Sectors)],
        }
    }

    /// Where the person is.
    pub(super) fn level(&self) -> &Level {
        // Never empty: the list at its beginning is exchanged, not taken away.
        &self.way[self.way.len() - 1]
    }

    fn level_mut(&mut self) -> &mut Level {
        let last = self.way.len() - 1;
        &mut self.way[last]
    }

    /// The tab that the way begins at.
    pub(super) fn tab(&self) -> usize {
        TABS.iter().position(|(place, _)| *place == self.way[0].place).unwrap_or(0)
    }

    /// How deep below its tab the person is.
    pub(super) fn depth(&self) -> usize {
        self.way.len() - 1
    }

    /// What is shown there.
    pub(super) fn table(&self) -> Table {
        let level = self.level();
        let mut table = match &self.seen {
            None => Table::default(),
            Some(seen) => rows::table(seen, &level.place),
        };
        table.keep(&level.filter);
        if let Some(column) = level.sort {
            table.sort(column);
        }
        table
    }

    /// The row under the cursor.
    pub(super) fn cursor(&self, table: &Table) -> Option<usize> {
        let level = self.level();
        let selected = level.selected.as_ref();
        let same = selected.and_then(|id| table.rows.iter().position(|row| row.id == *id));
        same.or_else(|| Some(level.cursor.min(table.rows.len().checked_sub(1)?)))
    }

    /// The node answered, or did not.
    pub(super) fn node(&mut self, answer: Result<Seen, String>, now_ms: u64) {
        match answer {
            Err(why) => {
                let since = self.lost.take().map_or(now_ms, |(_, since)| since);
                self.lost = Some((why, since));
            }
            Ok(seen) => {
                self.lost = None;
                if self.is_paused {
                    return;
                }
                if self.past.len() == PAST {
                    self.past.pop_front();
                }
                self.past.push_back(seen.overview.now);
                self.seen = Some(seen);
            }
        }
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Act {
        if key.kind == KeyEventKind::Release {
            return Act::None;
        }
        let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if with_control => return Act::Quit,
            KeyCode::Char('l') if with_control => return Act::Redraw,
            _ if self.is_typing => self.type_filter(key.code),
            _ if self.is_helping => self.is_helping = false,
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('?') => self.is_helping = true,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('s') => self.sort_on(),
            KeyCode::Char('m') => return self.open_tab(0),
            KeyCode::Char('w') => return self.open_tab(1),
            KeyCode::Char('g') => return self.open_tab(2),
            KeyCode::Char('b') => return self.open_tab(3),
            KeyCode::Tab | KeyCode::Right => return self.open_tab((self.tab() + 1) % TABS.len()),
            KeyCode::BackTab | KeyCode::Left => {
                return self.open_tab((self.tab() + TABS.len() - 1) % TABS.len());
            }
            KeyCode::Enter => return self.enter(),
            KeyCode::Esc | KeyCode::Backspace => return self.back(),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-(PAGE as isize)),
            KeyCode::PageDown => self.step(PAGE as isize),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            _ => {}
        }
        Act::None
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.level_mut().filter.clear();
            }
            KeyCode::Backspace => {
                self.level_mut().filter.pop();
            }
            KeyCode::Char(letter) if self.level().filter.chars().count() < FILTER_MAX => {
                self.level_mut().filter.push(letter);
            }
            _ => {}
        }
    }

    fn sort_on(&mut self) {
        let columns = self.table().heads.len();
        let level = self.level_mut();
        level.sort = match level.sort {
            None => Some(0),
            Some(column) => Some(column + 1),
        }
        .filter(|column| *column < columns);
    }

    fn step(&mut self, by: isize) {
        let table = self.table();
        let Some(at) = self.cursor(&table) else { return };
        let to = at.saturating_add_signed(by).min(table.rows.len() - 1);
        let id = table.rows[to].id.clone();
        let level = self.level_mut();
        (level.cursor, level.selected) = (to, Some(id));
    }

    fn open_tab(&mut self, tab: usize) -> Act {
        self.way = vec![Level::new(TABS[tab].0.clone())];
        self.ask()
    }

    /// Down to what is under the cursor.
    fn enter(&mut self) -> Act {
        let table = self.table();
        let Some(row) = self.cursor(&table).map(|at| &table.rows[at]) else { return Act::None };
        let Some(place) = row.opens.clone() else { return Act::None };
        // The way back leads to this row.
        let id = row.id.clone();
        self.level_mut().selected = Some(id);
        self.way.push(Level::new(place));
        self.ask()
    }

    fn back(&mut self) -> Act {
        if self.way.len() > 1 {
            self.way.pop();
        } else {
            self.level_mut().filter.clear();
        }
        self.ask()
    }

    fn ask(&self) -> Act {
        let agents_of = match &self.level().place {
            Place::Agents(sector, _) | Place::Agent(sector, ..) => Some(*sector),
            _ => None,
        };
        Act::Ask(Want { agents_of })
    }
}

#[cfg(test)]
pub(super) mod tests;
