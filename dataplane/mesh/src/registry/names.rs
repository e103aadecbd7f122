//! Capabilities as 16-bit ids: each text is kept once, as long as an agent has it.

use wire::mesh::{CAPABILITIES_MAX, CAPABILITY_LEN_MAX};

use crate::limits::CAPABILITY_NAMES;

/// No capability.
pub(super) const NO_CAPABILITY: u16 = u16::MAX;

/// The capabilities of one agent: distinct ids in ascending order, the rest is empty.
pub(super) type Held = [u16; CAPABILITIES_MAX];
pub(super) const NOTHING: Held = [NO_CAPABILITY; CAPABILITIES_MAX];

/// True where `held` has all of `required`.
#[inline]
pub(super) fn holds(held: &Held, required: &[u16]) -> bool {
    required.iter().all(|id| held.contains(id))
}

#[derive(Debug)]
struct Text {
    text: Box<str>,
    /// Agents that have it; 0 is a free id.
    users: u32,
}

/// The table of texts.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: Vec<Text>,
    /// Ids in use, in the order of their texts.
    order: Vec<u16>,
    free: Vec<u16>,
}

impl Names {
    /// The id of a text that some agent has.
    pub(super) fn id(&self, text: &str) -> Option<u16> {
        self.search(text).ok().map(|at| self.order[at])
    }

    /// The text of an id in use.
    pub(super) fn text(&self, id: u16) -> Option<&str> {
        self.texts.get(usize::from(id)).filter(|it| it.users > 0).map(|it| &*it.text)
    }

    /// Ids in use, in the order of their texts.
    pub(super) fn ids(&self) -> &[u16] {
        &self.order
    }

    /// True where these texts can be one agent's: few, short, printable.
    pub(super) fn valid(texts: &[&str]) -> bool {
        texts.len() <= CAPABILITIES_MAX
            && texts.iter().all(|text| {
                !text.is_empty()
                    && text.len() <= CAPABILITY_LEN_MAX
                    && !text.contains(char::is_control)
            })
    }

    /// Takes valid texts for one agent. None, and nothing kept, where the table is full.
    pub(super) fn take(&mut self, texts: &[&str]) -> Option<Held> {
        let mut held = NOTHING;
        for (at, text) in texts.iter().enumerate() {
            let known = self.id(text);
            if known.is_some_and(|id| held.contains(&id)) {
                continue;
            }
            let Some(id) = known.or_else(|| self.add(text)) else {
                self.release(&held);
                return None;
            };
            self.texts[usize::from(id)].users += 1;
            held[at] = id;
        }
        held.sort_unstable();
        Some(held)
    }

    /// Gives one agent's capabilities back.
    pub(super) fn release(&mut self, held: &Held) {
        for id in held.iter().filter(|id| **id != NO_CAPABILITY) {
            let text = &mut self.texts[usize::from(*id)];
            text.users -= 1;
            if text.users == 0 {
                let text = core::mem::take(&mut text.text);
                if let Ok(at) = self.order.binary_search_by(|it| self.compare(*it, &text, *id)) {
                    self.order.remove(at);
                }
                self.free.push(*id);
            }
        }
    }

    /// Compares the text of `it` with `text`, which was just taken out of id `gone`.
    fn compare(&self, it: u16, text: &str, gone: u16) -> core::cmp::Ordering {
        if it == gone {
            core::cmp::Ordering::Equal
        } else {
            (*self.texts[usize::from(it)].text).cmp(text)
        }
    }

    fn add(&mut self, text: &str) -> Option<u16> {
        let at = self.search(text).err()?;
        let entry = Text { text: text.into(), users: 0 };
        let id = if let Some(id) = self.free.pop() {
            self.texts[usize::from(id)] = entry;
            id
        } else if self.texts.len() < CAPABILITY_NAMES {
            self.texts.push(entry);
            (self.texts.len() - 1) as u16
        } else {
            return None;
        };
        self.order.insert(at, id);
        Some(id)
    }

    fn search(&self, text: &str) -> Result<usize, usize> {
        self.order.binary_search_by(|id| (*self.texts[usize::from(*id)].text).cmp(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_lives_as_long_as_somebody_has_it() {
        let mut names = Names::default();
        let first = names.take(&["gpu", "llm", "gpu"]).unwrap();
        let second = names.take(&["gpu"]).unwrap();
        let gpu = names.id("gpu").unwrap();
        assert!(holds(&first, &[gpu]) && holds(&second, &[gpu]));
        assert_eq!(first.iter().filter(|id| **id != NO_CAPABILITY).count(), 2);
        names.release(&first);
        assert_eq!((names.id("llm"), names.id("gpu")), (None, Some(gpu)));
        names.release(&second);
        assert!(names.ids().is_empty() && names.text(gpu).is_none());
    }

    #[test]
    fn imped_12_a_full_table_refuses_and_keeps_nothing() {
        let mut names = Names::default();
        let held: Vec<Held> =
            (0..CAPABILITY_NAMES).map(|at| names.take(&[&format!("c{at}")]).unwrap()).collect();
        assert!(names.take(&["c1", "one", "more"]).is_none());
        names.release(&held[7]);
        assert!(names.take(&["one"]).is_some() && names.take(&["more"]).is_none());
        assert!(names.id("c7").is_none());
    }

    #[test]
    fn long_empty_and_unprintable_texts_are_refused() {
        assert!(Names::valid(&["a"; CAPABILITIES_MAX]));
        assert!(!Names::valid(&["a"; CAPABILITIES_MAX + 1]));
        let long = "x".repeat(CAPABILITY_LEN_MAX + 1);
        for text in ["", "a\nb", long.as_str()] {
            assert!(!Names::valid(&[text]));
        }
    }
}
