//! What the output may look like: how wide it is, whether it has colours and more letters than
//! ASCII, and text cut and wrapped to that.

use rustix::termios::tcgetwinsize;
use std::{env, io::IsTerminal as _};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Where output goes to a file or a pipe.
const WIDTH_DEFAULT: usize = 80;
/// Wider lines are hard to read.
const WIDTH_MAX: usize = 100;
/// Narrower ones hold nothing.
const WIDTH_MIN: usize = 20;

/// What the output may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns of a line.
    pub(crate) width: usize,
    /// Escape sequences for colours are understood and wanted.
    pub(crate) colour: bool,
    /// Letters beyond ASCII are understood.
    pub(crate) unicode: bool,
}

impl Screen {
    /// That of standard output.
    pub(crate) fn of_output() -> Self {
        let out = std::io::stdout();
        let is_terminal = out.is_terminal();
        let columns = tcgetwinsize(&out).ok().filter(|_| is_terminal).map(|size| size.ws_col);
        Self::new(columns, |name| env::var(name).ok())
    }

    /// For a terminal of so many columns, or for none.
    pub(crate) fn new(columns: Option<u16>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        // As the C library looks for it.
        let language = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        let language = language.unwrap_or_default().to_ascii_lowercase();
        let is_dumb = set("TERM").is_some_and(|term| term == "dumb");
        // A terminal that does not know its size says 0.
        let width = columns.filter(|columns| *columns > 0).map_or(WIDTH_DEFAULT, usize::from);
        Self {
            width: width.clamp(WIDTH_MIN, WIDTH_MAX),
            colour: columns.is_some() && set("NO_COLOR").is_none() && !is_dumb,
            unicode: language.contains("utf-8") || language.contains("utf8"),
        }
    }

    /// A text in a colour (the code of SGR), or plain.
    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// One of two marks.
    pub(crate) const fn mark(self, unicode: char, ascii: char) -> char {
        if self.unicode { unicode } else { ascii }
    }
}

/// Columns that a text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// A text of somebody else's without what a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// The start of a text that fits, with two dots where something was cut off.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let room = width.saturating_sub(2);
    for letter in text.chars() {
        if columns(&kept) + letter.width().unwrap_or(0) > room {
            break;
        }
        kept.push(letter);
    }
    kept.push_str(&".."[..width.min(2)]);
    kept
}

/// A text cut and filled up to exactly this width.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let mut text = cut(text, width);
    text.extend(std::iter::repeat_n(' ', width.saturating_sub(columns(&text))));
    text
}

/// Lines of whole words, none wider than `width` but for words that are.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if columns(line) + 1 + columns(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.iter().map(|line| cut(line, width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_letters_are_as_the_environment_says() {
        let of = |columns, pairs: &'static [(&str, &str)]| {
            Screen::new(columns, move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let utf = of(Some(72), &[("LANG", "de_DE.UTF-8")]);
        assert_eq!(utf, Screen { width: 72, colour: true, unicode: true });
        assert!(!of(Some(72), &[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")]).unicode);
        assert!(of(None, &[("LC_CTYPE", "C.utf8")]).unicode);
        assert!(!of(Some(72), &[("NO_COLOR", "1")]).colour);
        assert!(of(Some(72), &[("NO_COLOR", "")]).colour, "empty is not set");
        assert!(!of(Some(72), &[("TERM", "dumb")]).colour);
        let pipe = of(None, &[]);
        assert_eq!(pipe, Screen { width: 80, colour: false, unicode: false });
        assert_eq!([Some(5), Some(0), Some(400)].map(|n| of(n, &[]).width), [20, 80, 100]);
        assert_eq!(pipe.paint("31", "text"), "text");
        assert_eq!(utf.paint("31", "text"), "\u{1b}[31mtext\u{1b}[0m");
    }

    #[test]
    fn texts_are_cut_filled_and_wrapped_by_columns() {
        assert_eq!((&*cut("abcdef", 6), &*cut("abcdefg", 6)), ("abcdef", "abcd.."));
        assert_eq!(["abc", "ab"].map(|text| cut(text, 1)), [".", "."]);
        assert_eq!((&*fit("名前", 6), &*fit("名前名前", 5)), ("名前  ", "名.. "));
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a verylongword", 6), ["a", "very.."]);
        assert_eq!(wrap("", 6), [""]);
        assert_eq!(clean("a\u{1b}[31m\nb"), "a?[31m?b");
    }
}
