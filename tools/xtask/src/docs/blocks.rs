//! The lines of a document that people are told to type.

/// What a line says of itself to the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// It needs what is not here, or takes too long: `# needs: WHAT`, `# takes: WHAT`.
    Elsewhere,
    /// It ends with this exit code: `# fails: N`.
    Fails(i32),
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Of its first line in the document, counted from 1.
    pub(crate) number: usize,
    /// Without the comment behind it; continued lines are one.
    pub(crate) text: String,
    /// Its own, or the one above it in its block.
    pub(crate) marker: Option<Marker>,
}

/// One fenced block marked `sh`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) lines: Vec<Line>,
}

/// All of them, in order.
pub(crate) fn parse(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut standing = None;
    let mut begun: Option<(usize, String)> = None;
    for (at, raw) in document.lines().enumerate() {
        let text = raw.trim();
        let Some(block) = &mut open else {
            if text == "```sh" {
                (open, standing, begun) = (Some(Block::default()), None, None);
            }
            continue;
        };
        if text == "```" {
            blocks.extend(open.take());
            continue;
        }
        let (number, before) = begun.take().unwrap_or((at + 1, String::new()));
        let whole = format!("{before}{text}");
        if let Some(part) = whole.strip_suffix('\\') {
            begun = Some((number, part.to_owned()));
            continue;
        }
        let (command, comment) = comment(&whole);
        let marker = comment.and_then(marker);
        match (command.is_empty(), marker) {
            (true, Some(marker)) => standing = Some(marker),
            (true, None) => {}
            (false, marker) => {
                let marker = marker.or_else(|| standing.clone());
                block.lines.push(Line { number, text: command.to_owned(), marker });
            }
        }
    }
    blocks
}

/// A command and the comment behind it, as a shell parts them.
fn comment(line: &str) -> (&str, Option<&str>) {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '#' && before == ' ' => {
                return (line[..at].trim_end(), Some(line[at + 1..].trim()));
            }
            Some(open) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    (line, None)
}

/// The marker may stand anywhere in the comment.
fn marker(comment: &str) -> Option<Marker> {
    if let Some((_, code)) = comment.split_once("fails: ") {
        let digits = code.split(|c: char| !c.is_ascii_digit()).next()?;
        return digits.parse().ok().map(Marker::Fails);
    }
    ["needs: ", "takes: "].iter().any(|word| comment.contains(word)).then_some(Marker::Elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_lines_are_parted_as_a_shell_does() {
        let text = "# Title\n```sh\nbutterfly serve   # in the background\n\n\
                    butterfly map --addr '[::1]:7171' \\\n    --json\n```\n\
                    ```console\n$ rm -rf /\n```\n```sh\n# needs: a GPU\na \"#b\" c#d\n\
                    e # fails: 3, as it should\n```\n";
        let blocks = parse(text);
        assert_eq!(blocks.len(), 2);
        let line = |number, text: &str, marker| Line { number, text: text.to_owned(), marker };
        assert_eq!(
            blocks[0].lines,
            [
                line(3, "butterfly serve", None),
                line(5, "butterfly map --addr '[::1]:7171' --json", None),
            ]
        );
        assert_eq!(
            blocks[1].lines,
            [
                line(13, "a \"#b\" c#d", Some(Marker::Elsewhere)),
                line(14, "e", Some(Marker::Fails(3))),
            ]
        );
    }

    #[test]
    fn ops_markers_are_words_of_the_comment() {
        assert_eq!(marker("half a minute; takes: minutes"), Some(Marker::Elsewhere));
        assert_eq!(marker("needs: root"), Some(Marker::Elsewhere));
        assert_eq!(marker("needs nothing"), None);
        assert_eq!(marker("fails: x"), None);
    }
}
