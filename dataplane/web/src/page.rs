//! The status page: one document that needs nothing beside itself, of the files in `page/`.

const FRAME: &str = include_str!("../page/page.html");
const STYLE: &str = include_str!("../page/page.css");
/// One script, part by part: each uses names of those before it.
const SCRIPT: [&str; 8] = [
    include_str!("../page/format.js"),
    include_str!("../page/dom.js"),
    include_str!("../page/chart.js"),
    include_str!("../page/standing.js"),
    include_str!("../page/sectors.js"),
    include_str!("../page/gathers.js"),
    include_str!("../page/sections.js"),
    include_str!("../page/live.js"),
];

/// The whole page. It holds one `<style>` and one `<script>`, neither with attributes, so that a
/// policy can allow both by the hash of what stands between their tags.
#[must_use]
pub fn html() -> String {
    FRAME.replacen("/*css*/", STYLE, 1).replacen("/*js*/", &SCRIPT.concat(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the page as it is served without compression.
    const BYTES_MAX: usize = 150 << 10;

    #[test]
    fn it_is_one_small_document() {
        let page = html();
        assert!(page.len() <= BYTES_MAX, "{} bytes", page.len());
        for mark in ["<style>", "</style>", "<script>", "</script>"] {
            assert_eq!(page.matches(mark).count(), 1, "{mark}");
        }
        assert!(!page.contains("/*css*/") && !page.contains("/*js*/"));
    }

    #[test]
    fn it_fetches_nothing_from_elsewhere() {
        // The one address in it names the language of drawings and is never fetched.
        let page = html().replace("http://www.w3.org/2000/svg", "");
        // The picture of its tab is written out in the address.
        let (before, after) = page.split_once("<link rel=\"icon\" href=\"data:").expect("an icon");
        let page = format!("{before}{after}");
        for outside in ["http://", "https://", "src=", "url(", "@import", "<link", "<iframe"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn it_never_makes_markup_or_code_of_text() {
        let page = html();
        let ways =
            ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function("];
        for way in ways {
            assert!(!page.contains(way), "{way}");
        }
        // Styles and handlers in attributes would need a policy that allows them.
        let attribute = |word: &str| {
            word.contains('=') && (word.starts_with("on") || word.starts_with("style"))
        };
        assert_eq!(FRAME.split_whitespace().find(|word| attribute(word)), None);
    }
}
