//! The files of the tree, and Rust sources with comments and literals blanked out.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Largest file that is read as text; larger ones are only weighed.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// One file.
#[derive(Debug)]
pub(crate) struct File {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    /// Size on disk.
    pub(crate) bytes: u64,
    /// Its text, for text files of ordinary size.
    pub(crate) text: Option<String>,
}

/// One Rust source.
#[derive(Debug)]
pub(crate) struct Rust {
    /// Relative to the root.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// The same, byte for byte in place, with comments and the contents of literals replaced by
    /// spaces.
    pub(crate) code: String,
}

impl Rust {
    /// Blanks what is not code.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The line of a byte, counted from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Where `word` stands in the code as a whole word (or path), not as part of a longer one.
    pub(crate) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let part =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        let bytes = self.code.as_bytes();
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            let opens = word.starts_with(|c: char| c.is_alphanumeric());
            let closes = word.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            !((opens && part(before)) || (closes && part(bytes.get(at + word.len()))))
        })
    }

    /// The stretches that only tests compile: items behind `#[cfg(test)]`.
    pub(crate) fn test_stretches(&self) -> Vec<std::ops::Range<usize>> {
        let marks = ["#[cfg(test)]", "#[cfg(all(test"];
        let starts = marks.iter().flat_map(|mark| self.code.match_indices(mark));
        starts.map(|(at, _)| at..item_end(&self.code, at).unwrap_or(self.code.len())).collect()
    }
}

/// The end of the item that starts at `from`: its closing brace, or a semicolon before any brace.
pub(crate) fn item_end(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut around = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => around += 1,
            b')' | b']' => around = around.saturating_sub(1),
            b'{' => depth += 1,
            b'}' if depth <= 1 => return Some(at + 1),
            b'}' => depth -= 1,
            b';' if depth == 0 && around == 0 => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Everything under the root that is not a build output or git's own.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: Vec<File>,
    rust: Vec<Rust>,
}

impl Tree {
    /// Reads the whole tree.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                // As `.gitignore` has it; a link is no file of ours.
                let output = name == "target" || (folder == root && name.starts_with("target-"));
                if output || name == ".git" || entry.file_type()?.is_symlink() {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else {
                    tree.take(root, &entry.path())?;
                }
            }
        }
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.rust.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// A tree of given files, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, text.len() as u64, Some((*text).to_owned()));
        }
        tree
    }

    fn take(&mut self, root: &Path, path: &PathBuf) -> io::Result<()> {
        let bytes = fs::metadata(path)?.len();
        let short = bytes <= TEXT_BYTES_MAX;
        let text = if short { String::from_utf8(fs::read(path)?).ok() } else { None };
        let relative = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        self.add(&relative, bytes, text);
        Ok(())
    }

    fn add(&mut self, path: &str, bytes: u64, text: Option<String>) {
        if let (true, Some(text)) = (path.ends_with(".rs"), &text) {
            self.rust.push(Rust::new(path, text));
        }
        self.files.push(File { path: path.to_owned(), bytes, text });
    }

    /// All files, sorted by path.
    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    /// All Rust sources, sorted by path.
    pub(crate) fn rust(&self) -> &[Rust] {
        &self.rust
    }

    /// The text of a file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path)?.text.as_deref()
    }

    /// Folders of packages (those with a manifest), without the root, with the manifest's text.
    pub(crate) fn packages(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|file| {
            Some((file.path.strip_suffix("/Cargo.toml")?, file.text.as_deref()?))
        })
    }
}

/// Replaces comments and the contents of string and character literals by spaces; lines stay where
/// they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !in_word(bytes, at) => match raw_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match character_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Only whole literals and comments were replaced, so what is left is still UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

/// True where the byte continues a word. The prefixes of byte and C strings (`br"`, `cr"`) do not
/// count.
fn in_word(bytes: &[u8], at: usize) -> bool {
    let part = |at: usize| bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let Some(before) = at.checked_sub(1) else { return false };
    let prefix = matches!(bytes[before], b'b' | b'c');
    part(before) && !(prefix && before.checked_sub(1).is_none_or(|first| !part(first)))
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |len| at + len)
}

fn comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") if depth == 1 => return at + 2,
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"..."` or `r#"..."#`, or `None` where no raw string starts (`r#type`, `read`).
fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let body = at + 1 + hashes;
    if bytes.get(body) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let found = bytes[body + 1..].windows(close.len()).position(|window| window == close);
    Some(found.map_or(bytes.len(), |len| body + 1 + len + close.len()))
}

/// The end of a character literal, or `None` for a lifetime or label.
fn character_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        let close = bytes.get(at + 3..)?.iter().position(|&byte| byte == b'\'')?;
        return Some(at + 3 + close + 1);
    }
    let first = std::str::from_utf8(&bytes[at + 1..bytes.len().min(at + 5)]);
    let valid = match &first {
        Ok(text) => *text,
        Err(error) => {
            std::str::from_utf8(&bytes[at + 1..at + 1 + error.valid_up_to()]).unwrap_or_default()
        }
    };
    let len = valid.chars().next()?.len_utf8();
    (bytes.get(at + 1 + len) == Some(&b'\'')).then_some(at + len + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        let text = "a(\"x // {\"); // b {\nc('{', '\\'', '\\u{7b}', 'é'); /* d /* e */ { */ \
                    f::<'g>();\n\
                    r#\"h \" {\"#; br\"i\"; r#match; let reader = 1;";
        let code = blank(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), text.lines().count());
        for gone in ["x", "b {", "d /", "{", "é", "h ", "i\""] {
            assert!(!code.contains(gone), "{gone:?} is left in {code:?}");
        }
        for kept in ["a(", "c(", "f::<'g>();", "r#match", "let reader = 1;"] {
            assert!(code.contains(kept), "{kept:?} is gone from {code:?}");
        }
    }

    #[test]
    fn words_are_whole() {
        let file = Rust::new("a.rs", "unsafe {} not_unsafe(); unsafely(); std::net::x; mystd::net");
        assert_eq!(file.words("unsafe").collect::<Vec<_>>(), [0]);
        assert_eq!(file.words("std::net").count(), 1);
    }

    #[test]
    fn test_stretches_end_with_their_item() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { {} } }\nfn c() {}";
        let file = Rust::new("a.rs", text);
        let stretches = file.test_stretches();
        assert_eq!(stretches.len(), 1);
        assert!(text[stretches[0].clone()].ends_with("{ fn b() { {} } }"));
    }
}
