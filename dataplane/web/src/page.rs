//! The page: three files, joined into one that needs nothing else.

const HTML: &str = include_str!("../page/page.html");
const CSS: &str = include_str!("../page/page.css");
const JS: &str = include_str!("../page/page.js");

/// The whole page.
#[must_use]
pub fn html() -> String {
    HTML.replacen("/*css*/", CSS, 1).replacen("/*js*/", JS, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole() {
        let html = html();
        assert!(html.contains(CSS) && html.contains(JS));
        assert!(!html.contains("/*css*/") && !html.contains("/*js*/"));
    }
}
