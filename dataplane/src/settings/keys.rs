//! What a person meant by a key that is none.

use super::Settings;
use clap::{Args as _, Command};

/// The message of a file that cannot be read, with the key that was meant in place of a list of all
/// that there are.
pub(super) fn explain(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let unknown =
        error.message().strip_prefix("unknown field `").and_then(|it| it.split('`').next());
    match unknown.and_then(near) {
        Some(near) => {
            let place = text.split(", expected").next().unwrap_or_default();
            format!("{place}; did you mean `{near}`?")
        }
        None => text,
    }
}

/// The key that is spelled most like this one, if any is.
fn near(key: &str) -> Option<String> {
    let flags = Settings::augment_args(Command::new(""));
    let keys = flags.get_arguments().filter_map(|flag| Some(flag.get_long()?.replace('-', "_")));
    let spelled = keys.map(|known| (distance(key, &known), known));
    // A third of it may be wrong.
    spelled.min().filter(|(apart, known)| apart * 3 <= known.len()).map(|(_, known)| known)
}

/// Letters to put in, take out or change until one is the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let changed = corner + usize::from(left != right);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        for (a, b, apart) in [
            ("", "", 0),
            ("", "abc", 3),
            ("shards", "shards", 0),
            ("sharts", "shards", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (apart, apart), "{a} {b}");
        }
    }

    #[test]
    fn a_misspelt_key_is_answered_with_the_one_that_was_meant() {
        let said = |text: &str| explain(&toml::from_str::<Settings>(text).expect_err("unknown"));
        for (line, meant) in [
            ("sharts = 1", "`shards`"),
            ("http-open = true", "`http_open`"),
            ("worker_timout = \"1s\"", "`worker_timeout`"),
        ] {
            let text = said(line);
            assert!(text.contains(&format!("did you mean {meant}?")), "{text}");
            assert!(text.contains("line 1") && !text.contains("expected"), "{text}");
        }
        assert!(said("entirely_different = 1").contains("expected one of"));
        assert!(said("shards = \"two\"").contains("u32"), "{}", said("shards = \"two\""));
    }
}
