//! What the page may do, said to browsers: the styles and scripts that it brings, by their hashes,
//! and talking to this server. Nothing else, from nowhere else.

use sha2::{Digest as _, Sha256};

/// The policy for a page, as the value of `Content-Security-Policy`.
pub(crate) fn policy(html: &str) -> String {
    let sources = |tag| {
        let hashes: Vec<String> = contents(html, tag).map(hash).collect();
        if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        sources("script"),
        sources("style"),
    )
}

/// What stands between `<tag ...>` and `</tag>`, each time.
fn contents<'a>(html: &'a str, tag: &'a str) -> impl Iterator<Item = &'a str> {
    html.split(&format!("<{tag}"))
        .skip(1)
        .filter_map(move |rest| {
            let rest = &rest[rest.find('>')? + 1..];
            Some(&rest[..rest.find(&format!("</{tag}>"))?])
        })
        .collect::<Vec<_>>()
        .into_iter()
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(text)))
}

/// The standard alphabet, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("\u{7f}\u{7f}~", "f39+"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn styles_and_scripts_are_named_by_their_hashes() {
        let html = "<style>a{}</style><script>alert(1)</script><script type=\"module\"></script>";
        let policy = policy(html);
        // echo -n 'alert(1)' | openssl dgst -sha256 -binary | base64
        assert!(
            policy.contains("'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='"),
            "{policy}"
        );
        // Of nothing.
        assert!(
            policy.contains("'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"),
            "{policy}"
        );
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"));
        assert!(super::policy("").contains("script-src 'none'; style-src 'none'"));
    }

    #[test]
    fn the_page_brings_nothing_that_the_policy_forbids() {
        let html = crate::page::html();
        assert_eq!(html.matches("<script").count(), contents(&html, "script").count());
        assert_eq!(html.matches("<style").count(), contents(&html, "style").count());
    }
}
